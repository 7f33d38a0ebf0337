package compose

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/ipfs-aws/ipfs-aws/infra/template"
)

func launch(t *testing.T, variant string) template.Launch {
	t.Helper()
	tpl, err := template.Read("../templates/" + variant + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return template.Launch{Template: tpl, Values: map[string]string{
		"NodeImage": "ipfs-aws:1", "ClusterImage": "cluster-aws:1", "AWS::Region": "us-east-1", "AWS::StackName": "ipfs", "AWS::AccountId": "1", "AWS::Partition": "aws"}}
}

// What is in a task definition is in the compose file.
func TestMake(t *testing.T) {
	for _, variant := range []string{"onezone", "standard", "s3"} {
		l := launch(t, variant)
		text, err := Make(l, Options{HolderImage: "holder", S3Image: "versitygw", SecretsDir: "/secrets", Namespace: "ipfs.internal"})
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Services map[string]object
			Volumes  object
			Secrets  object
		}
		if err := json.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		want := map[string][2]int{"onezone": {9, 3}, "standard": {9, 3}, "s3": {11, 5}}[variant]
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
			same("image", ipfs["image"], "ipfs-aws:1")
			same("health", at(ipfs, "healthcheck", "test"), "[CMD ipfs-aws health --live]")
			same("read-only", ipfs["read_only"], "true")
			same("time to stop", ipfs["stop_grace_period"], "120s")
			same("mounts", ipfs["volumes"], "["+n+"-repo:/data/ipfs "+n+"-cache:/data/cache]")
			same("start order", at(cluster, "depends_on", n+"-ipfs", "condition"), "service_healthy")
			same("secret", at(cluster, "environment", "CLUSTER_SEED_FILE"), "/run/secrets/Seed")
			same("peer", at(cluster, "environment", "CLUSTER_PEERNAME"), n)
			if variant == "s3" {
				same("S3", at(ipfs, "environment", "IPFS_S3_ENDPOINT"), "http://s3:7070")
			}
		}
		for name := range file.Secrets {
			if names, _ := Secrets(l); !slices.Contains(names, name) {
				t.Errorf("%s is not among %v", name, names)
			}
		}
	}
}
