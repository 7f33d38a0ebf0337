package topology

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// repoConfig is a kubo config file as a generic tree, so that whatever this
// program does not know stays as it is.
type repoConfig map[string]any

func readRepoConfig(repo string) (repoConfig, error) {
	path := filepath.Join(repo, "config")
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the repo's config: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	c := repoConfig{}
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("read the repo's config %s: %w", path, err)
	}
	return c, nil
}

// set puts a value at a dotted path, making what is missing on the way.
func (c repoConfig) set(path string, value any) {
	at := map[string]any(c)
	parts := strings.Split(path, ".")
	for _, p := range parts[:len(parts)-1] {
		next, ok := at[p].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[p] = next
		}
		at = next
	}
	at[parts[len(parts)-1]] = value
}

func (c repoConfig) peerID() (string, error) {
	identity, _ := c["Identity"].(map[string]any)
	id, _ := identity["PeerID"].(string)
	if id == "" {
		return "", fmt.Errorf("the repo's config has no Identity.PeerID")
	}
	return id, nil
}

// neighbour is another task's node.
type neighbour struct {
	id    string
	swarm int // port
}

// localise makes the node a member of this topology and of nothing else: its
// own ports on loopback, its neighbours as its only peers, and everything off
// that would ask the network outside.
func (c repoConfig) localise(p TaskPorts, neighbours []neighbour, s3Endpoint string) {
	peering := []any{}
	for _, n := range neighbours {
		peering = append(peering, map[string]any{"ID": n.id, "Addrs": []any{multiaddr(n.swarm)}})
	}
	for path, value := range map[string]any{
		"Addresses.API":            multiaddr(p.RPC),
		"Addresses.Gateway":        multiaddr(p.Gateway),
		"Addresses.Swarm":          []any{multiaddr(p.Swarm)},
		"Addresses.Announce":       []any{},
		"Addresses.AppendAnnounce": []any{},
		"Addresses.NoAnnounce":     []any{},

		"Peering.Peers": peering,
		"Bootstrap":     []any{},

		"AutoConf.Enabled":         false,
		"DNS.Resolvers":            map[string]any{},
		"Routing.DelegatedRouters": []any{},
		"Ipns.DelegatedPublishers": []any{},
		"AutoTLS.Enabled":          false,
		"AutoNAT.ServiceMode":      "disabled",
		"Discovery.MDNS.Enabled":   false,
		"HTTPRetrieval.Enabled":    false,
		"Gateway.NoDNSLink":        true,

		"Routing.Type":                      "dht",
		"Routing.LoopbackAddressesOnLanDHT": true,
		"Provide.Strategy":                  "roots",

		"Swarm.AddrFilters":          []any{},
		"Swarm.DisableNatPortMap":    true,
		"Swarm.EnableHolePunching":   false,
		"Swarm.RelayClient.Enabled":  false,
		"Swarm.RelayService.Enabled": false,

		"Plugins.Plugins.telemetry.Config.Mode": "off",
		"Internal.ShutdownTimeout":              nodeShutdown.String(),
	} {
		c.set(path, value)
	}
	if s3Endpoint != "" {
		pointAt(c["Datastore"], s3Endpoint)
	}
}

// pointAt moves every S3 store of a datastore spec to another endpoint: where
// the server listens may change from one start to the next.
func pointAt(spec any, endpoint string) {
	switch spec := spec.(type) {
	case map[string]any:
		if spec["type"] == "s3ds" {
			spec["regionEndpoint"] = endpoint
		}
		for _, v := range spec {
			pointAt(v, endpoint)
		}
	case []any:
		for _, v := range spec {
			pointAt(v, endpoint)
		}
	}
}
