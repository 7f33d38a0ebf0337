package ctl

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/ipfs-cluster/ipfs-cluster/api"
)

// print writes a result in the chosen encoding.
func (s *session) print(v any) error {
	w := s.cmd.OutOrStdout()
	if s.encoding == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "    ")
		return enc.Encode(v)
	}
	_, err := io.WriteString(w, text(v))
	return err
}

func (s *session) printAdded(a api.AddedOutput, quiet bool) error {
	if quiet && s.encoding == "text" {
		_, err := fmt.Fprintln(s.cmd.OutOrStdout(), a.Cid)
		return err
	}
	return s.print(a)
}

// text is what a person reads.
func text(v any) string {
	var b strings.Builder
	switch r := v.(type) {
	case api.ID:
		textID(&b, r)
	case api.GlobalPinInfo:
		textStatus(&b, r)
	case api.Pin:
		textPin(&b, r)
	case api.AddedOutput:
		fmt.Fprintf(&b, "added %s %s\n", r.Cid, r.Name)
	case api.Version:
		fmt.Fprintln(&b, r.Version)
	case []string:
		for _, one := range r {
			fmt.Fprintln(&b, one)
		}
	case []api.AddedOutput:
		for _, one := range r {
			b.WriteString(text(one))
		}
	case []api.Metric:
		for _, m := range r {
			value := m.Value
			if m.Name == "freespace" && m.Weight > 0 {
				value = humanize.Bytes(uint64(m.Weight))
			}
			fmt.Fprintf(&b, "%s | %s: %s | Expires in: %s\n", m.Peer, m.Name, value, humanize.Time(time.Unix(0, m.Expire)))
		}
	case []api.Alert:
		for _, a := range r {
			fmt.Fprintf(&b, "%s: %s. Expired at: %s. Triggered at: %s\n", a.Peer, a.Name, humanize.Time(time.Unix(0, a.Expire)), humanize.Time(a.TriggeredAt))
		}
	case api.BandwidthByProtocol:
		for _, k := range slices.Sorted(maps.Keys(r)) {
			fmt.Fprintf(&b, "%25s: In: %7s. Out: %7s. RateIn: %.2fB/s. RateOut: %.2fB/s\n", k,
				humanize.Bytes(uint64(r[k].TotalIn)), humanize.Bytes(uint64(r[k].TotalOut)), r[k].RateIn, r[k].RateOut)
		}
	case api.GlobalRepoGC:
		textGC(&b, r)
	default:
		fmt.Fprintf(&b, "%+v\n", r)
	}
	return b.String()
}

func textID(b *strings.Builder, id api.ID) {
	if id.Error != "" {
		fmt.Fprintf(b, "%s | ERROR: %s\n", id.ID, id.Error)
		return
	}
	fmt.Fprintf(b, "%s | %s | Sees %d other peers\n  > Addresses:\n", id.ID, id.Peername, len(id.ClusterPeers)-1)
	list := func(addrs []api.Multiaddr) {
		var lines []string
		for _, a := range addrs {
			lines = append(lines, "    - "+a.String()+"\n")
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
	}
	list(id.Addresses)
	if id.IPFS.Error != "" {
		fmt.Fprintf(b, "  > IPFS ERROR: %s\n", id.IPFS.Error)
		return
	}
	fmt.Fprintf(b, "  > IPFS: %s\n", id.IPFS.ID)
	list(id.IPFS.Addresses)
}

func textStatus(b *strings.Builder, info api.GlobalPinInfo) {
	fmt.Fprint(b, info.Cid)
	if info.Name != "" {
		fmt.Fprintf(b, " | %s", info.Name)
	}
	b.WriteString(":\n")
	for _, id := range slices.Sorted(maps.Keys(info.PeerMap)) {
		p := info.PeerMap[id]
		name := p.PeerName
		if name == "" {
			name = id
		}
		fmt.Fprintf(b, "    > %-20s : %s", name, strings.ToUpper(p.Status.String()))
		if p.Error != "" {
			fmt.Fprintf(b, ": %s", p.Error)
		}
		fmt.Fprintf(b, " | %s | Attempts: %d | Priority: %t\n", p.TS.Format(time.RFC3339), p.AttemptCount, p.PriorityPin)
	}
}

func textPin(b *strings.Builder, pin api.Pin) {
	kind := strings.ToUpper(pin.Type.String())
	depth := fmt.Sprintf("Recursive-%d", pin.MaxDepth)
	switch pin.MaxDepth {
	case 0:
		depth = "Direct"
	case -1:
		depth = "Recursive"
	}
	if pin.Mode == api.PinModeDirect {
		kind += "-DIRECT"
	}
	where := "Repl. Factor: -1 | Allocations: [everywhere]"
	if !pin.IsPinEverywhere() {
		peers := api.PeersToStrings(pin.Allocations)
		slices.Sort(peers)
		where = fmt.Sprintf("Repl. Factor: %d--%d | Allocations: %s", pin.ReplicationFactorMin, pin.ReplicationFactorMax, peers)
	}
	metadata, expires, added := "no", "∞", "unknown"
	if len(pin.Metadata) > 0 {
		metadata = "yes"
	}
	if !pin.ExpireAt.IsZero() {
		expires = pin.ExpireAt.Format(time.DateTime)
	}
	if !pin.Timestamp.IsZero() {
		added = pin.Timestamp.Format(time.DateTime)
	}
	fmt.Fprintf(b, "%s | %s | %s | %s | %s | Metadata: %s | Exp: %s | Added: %s\n", pin.Cid, pin.Name, kind, where, depth, metadata, expires, added)
}

func textGC(b *strings.Builder, r api.GlobalRepoGC) {
	for _, id := range slices.Sorted(maps.Keys(r.PeerMap)) {
		one := r.PeerMap[id]
		if one.Peername != "" {
			id = one.Peername
		}
		if one.Error != "" {
			fmt.Fprintf(b, "%-15s | ERROR: %s\n", id, one.Error)
		} else {
			fmt.Fprintf(b, "%-15s\n", id)
		}
		b.WriteString("  > CIDs:\n")
		for _, k := range one.Keys {
			if k.Error != "" {
				fmt.Fprintf(b, "    - ERROR: %s\n", k.Error)
			} else {
				fmt.Fprintf(b, "    - %s\n", k.Key)
			}
		}
	}
}

// writeDot writes a connection graph in the language of Graphviz.
func writeDot(w io.Writer, g api.ConnectGraph, allIPFS bool) error {
	var b strings.Builder
	b.WriteString("digraph cluster {\n")
	for _, id := range slices.Sorted(maps.Keys(g.ClusterLinks)) {
		name := g.IDtoPeername[id]
		if name == "" {
			name = id
		}
		fmt.Fprintf(&b, "  %q [label=%q shape=box];\n", "C"+id, name)
		for _, to := range g.ClusterLinks[id] {
			fmt.Fprintf(&b, "  %q -> %q;\n", "C"+id, "C"+to.String())
		}
		if node, ok := g.ClustertoIPFS[id]; ok {
			fmt.Fprintf(&b, "  %q [label=\"IPFS\"];\n  %q -> %q [style=dotted];\n", "I"+node.String(), "C"+id, "I"+node.String())
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.IPFSLinks)) {
		for _, to := range g.IPFSLinks[id] {
			if _, inside := g.IPFSLinks[to.String()]; inside || allIPFS {
				fmt.Fprintf(&b, "  %q -> %q;\n", "I"+id, "I"+to.String())
			}
		}
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}
