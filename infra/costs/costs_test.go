package costs

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/ipfs-aws/ipfs-aws/infra/template"
	"github.com/ipfs-aws/ipfs-aws/internal/bill"
)

var update = flag.Bool("update", false, "rewrite the table in the README")

const begin, end = "<!-- costs: made by go test ./costs -update -->\n", "<!-- end of costs -->\n"

func launches(t *testing.T, names []string) (out []template.Launch) {
	for _, n := range names {
		tpl, err := template.Read("../templates/" + n + ".json")
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, template.Launch{Template: tpl, Values: map[string]string{"NodeImage": "x", "ClusterImage": "x", "ZoneA": "a", "ZoneB": "b", "ZoneC": "c", "AWS::Region": "us-east-1", "AWS::StackName": "ipfs", "AWS::AccountId": "1", "AWS::Partition": "aws"}})
	}
	return out
}

// The README's table is what templates and price file give.
func TestReadme(t *testing.T) {
	names := []string{"onezone", "standard", "s3"}
	table, err := Markdown(names, launches(t, names))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("the README has no place for the table")
	}
	if *update {
		if err := os.WriteFile("../README.md", []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if old != table {
		t.Errorf("the README's table is not what the templates cost: go test ./costs -update\n%s", table)
	}
}

// The benchmarks' advise starts from what the released templates make.
func TestDeployments(t *testing.T) {
	names := []string{"onezone", "standard", "s3"}
	all := map[string]bill.Deployment{}
	for i, l := range launches(t, names) {
		d, err := Deployed(l)
		if err != nil {
			t.Fatal(err)
		}
		all[names[i]] = d
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const path = "../../internal/bill/deployments.json"
	want := string(text) + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not what the templates make (%v): go test ./costs -update", path, err)
	}
}

// Sums done by hand, so that the table is not only compared with itself.
func TestByHand(t *testing.T) {
	fixed, used, err := Table(launches(t, []string{"onezone", "s3"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		rows        []Row
		what        string
		onezone, s3 float64
	}{
		{fixed, "Fargate tasks", 3 * 730 * (0.03238 + 4*0.00356), 3 * 730 * (0.03238 + 4*0.00356)},
		{fixed, "Public IPv4 addresses", 3 * 730 * 0.005, 3 * 730 * 0.005},
		{used, "1 TiB pinned, 3 copies, a month", 3 * 1024 * 0.16, 3 * 1024 * 0.023},
		{used, "1 million reads, none from any cache", 1.1, 1.5},
		// Through the front door: CloudFront to the origin, two copies to other zones (each way), the balancer.
		{used, "1 TiB added through the REST API, once", 1024*0.02 + 2*1024*2*0.01 + 1024*0.008, 1024*0.02 + 2*1024*2*0.01 + 1024*0.008 + 3*1024*bill.Packs.PutsPerGB*0.000005},
		{fixed, "Load balancer", 730 * 0.0225, 730 * 0.0225},
		{used, "… backups of it, as EfsBackups is by default", 1024 * 0.05, 0},
	} {
		found := false
		for _, r := range want.rows {
			if r.What == want.what {
				found = true
				if abs(r.USD[0]-want.onezone) > 0.005 || abs(r.USD[1]-want.s3) > 0.005 {
					t.Errorf("%s: %v, by hand %v and %v", r.What, r.USD, want.onezone, want.s3)
				}
			}
		}
		if !found {
			t.Errorf("there is no row %q", want.what)
		}
	}
}

func abs(f float64) float64 { return max(f, -f) }
