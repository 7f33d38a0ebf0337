package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/internal/local/topology"
)

// pin is the state of one CID on every peer, as the cluster API tells it.
type pin struct {
	CID     string             `json:"cid"`
	Name    string             `json:"name"`
	PeerMap map[string]peerPin `json:"peer_map"`
}

type peerPin struct {
	Peer   string `json:"peername"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

// settled says whether all peers have answered for the pin, and each that is to
// have the content has it.
func (p pin) settled(peers int) bool {
	if len(p.PeerMap) < peers {
		return false
	}
	for _, s := range p.PeerMap {
		if s.Status != "pinned" && s.Status != "remote" {
			return false
		}
	}
	return true
}

// line is the pin on one line.
func (p pin) line() string {
	var peers []string
	for id, s := range p.PeerMap {
		one := cmp.Or(s.Peer, id) + " " + s.Status
		if s.Error != "" {
			one += " (" + strings.Join(strings.Fields(s.Error), " ") + ")"
		}
		peers = append(peers, one)
	}
	slices.Sort(peers)
	return fmt.Sprintf("%s  %s  %s", p.CID, cmp.Or(p.Name, "-"), strings.Join(peers, ", "))
}

func pinsCommand() *cobra.Command {
	var dir string
	var watch, asJSON bool
	cmd := &cobra.Command{
		Use:   "pins [CID]",
		Short: "Show what is pinned where",
		Long: `pins lists every pin, or one, with its state on each task. With --watch it prints
a pin again whenever its state changes, until every pin has settled.`,
		Example: "  local-cluster pins\n  local-cluster pins --watch bafy…",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := status(dir)
			if err != nil {
				return err
			}
			shown := map[string]string{}
			for {
				pins, err := listPins(cmd.Context(), s, args)
				if err != nil {
					return err
				}
				settled, err := show(cmd.OutOrStdout(), pins, len(s.Tasks), shown, asJSON)
				if err != nil || settled || !watch {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(time.Second):
				}
			}
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", defaultDir, "folder of the running topology")
	f.BoolVar(&watch, "watch", false, "follow changes until every pin has settled")
	f.BoolVar(&asJSON, "json", false, "print a JSON object per pin")
	return cmd
}

// show prints the pins that are not as they were shown last, and says whether
// all have settled.
func show(w io.Writer, pins []pin, peers int, shown map[string]string, asJSON bool) (settled bool, err error) {
	settled = true
	for _, p := range pins {
		settled = settled && p.settled(peers)
		line := p.line()
		if shown[p.CID] == line {
			continue
		}
		shown[p.CID] = line
		if asJSON {
			err = json.NewEncoder(w).Encode(p)
		} else {
			_, err = fmt.Fprintln(w, line)
		}
		if err != nil {
			return false, err
		}
	}
	return settled, nil
}

// listPins asks for all pins, or for the one that is named.
func listPins(ctx context.Context, s *topology.Status, cids []string) ([]pin, error) {
	url := s.API + "/pins"
	if len(cids) > 0 {
		url += "/" + cids[0]
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(s.User, s.Password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, unreachable(s.API, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	if res.StatusCode != http.StatusOK {
		return nil, refusal("list the pins", res)
	}
	var pins []pin
	for d := json.NewDecoder(res.Body); ; {
		var p pin
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pins, nil
		} else if err != nil {
			return nil, fmt.Errorf("list the pins: the answer broke off: %w", err)
		}
		pins = append(pins, p)
	}
}
