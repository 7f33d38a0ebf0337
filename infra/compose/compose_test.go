package compose

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/ipfs-aws/ipfs-aws/infra/template"
)

// What is in a task definition is in the compose file.
func TestMake(t *testing.T) {
	for _, variant := range []string{"onezone", "standard", "s3"} {
		tpl, err := template.Read("../templates/" + variant + ".json")
		if err != nil {
			t.Fatal(err)
		}
		made, err := Make(template.Launch{Template: tpl, Values: Values})
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Services map[string]object
			Volumes  object
			Secrets  object
		}
		if err := json.Unmarshal(made.Compose, &file); err != nil {
			t.Fatal(err)
		}
		want := map[string][2]int{"onezone": {16, 3}, "standard": {16, 3}, "s3": {18, 5}}[variant]
		if len(file.Services) != want[0] || len(file.Secrets) != want[1] {
			t.Errorf("%s: %d services and %d secrets", variant, len(file.Services), len(file.Secrets))
		}
		for _, n := range []string{"node-a", "node-b", "node-c"} {
			same := func(what string, got any, want string) {
				t.Helper()
				if fmt.Sprint(got) != want {
					t.Errorf("%s, %s, %s: %v, want %s", variant, n, what, got, want)
				}
			}
			ipfs, cluster := file.Services[n+"-ipfs"], file.Services[n+"-cluster"]
			same("name", at(file.Services[n], "networks", "default", "aliases"), "["+n+".ipfs.internal]")
			same("network", ipfs["network_mode"], "service:"+n)
			same("image", ipfs["image"], "ipfs-aws:${VERSION:-0.1.0-dev}")
			same("memory", ipfs["mem_limit"], "3328m")
			same("health", at(ipfs, "healthcheck", "test"), "[CMD ipfs-aws health --live]")
			same("read-only", ipfs["read_only"], "true")
			same("time to stop", ipfs["stop_grace_period"], "120s")
			same("mounts", ipfs["volumes"], "["+n+"-repo:/data/ipfs /data/cache]")
			same("start order", at(cluster, "depends_on", n+"-ipfs", "condition"), "service_healthy")
			same("secret", at(cluster, "environment", "CLUSTER_SEED_FILE"), "/run/secrets/cluster_seed")
			hands := file.Services[n+"-ipfs-hands"]
			same("hands are started by hand", hands["profiles"], "[hands]")
			same("hands have the node's storage", hands["volumes"], fmt.Sprint(ipfs["volumes"]))
			same("and its settings", hands["environment"], fmt.Sprint(ipfs["environment"]))
			same("the sidecar's too", file.Services[n+"-cluster-hands"]["volumes"], fmt.Sprint(cluster["volumes"]))
			same("peer", at(cluster, "environment", "CLUSTER_PEERNAME"), n)
			if variant == "s3" {
				same("S3", at(ipfs, "environment", "IPFS_S3_ENDPOINT"), "http://s3:7070")
			}
		}
		for name, secret := range file.Secrets {
			if got := fmt.Sprint(at(secret, "file")); got != "${STATE_DIR:-../.compose}/secrets/"+name {
				t.Errorf("%s: the file of the secret %s is %s", variant, name, got)
			}
		}
		var edge struct{ Gateway, API struct{ Targets []target } }
		if err := json.Unmarshal(made.Edge, &edge); err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(edge.Gateway.Targets[1]), "{node-b http://node-b.ipfs.internal:8080 http://node-b.ipfs.internal:8099/readyz}"; len(edge.Gateway.Targets) != 3 || got != want {
			t.Errorf("%s: behind the gateway: %v", variant, edge.Gateway.Targets)
		}
		if got, want := fmt.Sprint(edge.API.Targets[2]), "{node-c http://node-c.ipfs.internal:9094 http://node-c.ipfs.internal:9098/readyz}"; len(edge.API.Targets) != 3 || got != want {
			t.Errorf("%s: behind the API: %v", variant, edge.API.Targets)
		}
	}
}
