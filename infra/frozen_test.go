package infra

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs-aws/ipfs-aws/infra/template"
)

// kind is what CloudFormation says of a type of resource.
type kind struct {
	CreateOnly []string // properties whose change replaces the resource; a path has its parts between /
	UnknownIn  []string `json:",omitempty"` // regions of the templates' mapping that do not have the type
}

const kindsFile = "testdata/types.json"

// kinds are those of the committed file, which cfn-lint's schemas gave.
func kinds(t *testing.T) map[string]kind {
	t.Helper()
	text, err := os.ReadFile(kindsFile)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]kind
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// schemas asks cfn-lint's copy of AWS's schemas for kinds.
const schemas = `
import importlib, json, sys
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER as schemas
types, regions = json.load(sys.stdin)
known = {r: importlib.import_module("cfnlint.data.schemas.providers." + r.replace("-", "_")).types for r in regions}
out = {}
for t in types:
    s = schemas.get_resource_schema("us-east-1", t).schema
    out[t] = {"CreateOnly": sorted(p[len("/properties/"):] for p in s.get("createOnlyProperties", []))}
    unknown = [r for r in sorted(regions) if t not in known[r]]
    if unknown:
        out[t]["UnknownIn"] = unknown
print(json.dumps(out))
`

func regions(l template.Launch) []string { return sortedKeys(l.Mappings["PrefixLists"]) }

// No region of the mapping lacks a type of the templates, and the committed list is what AWS's schemas say.
func TestTypes(t *testing.T) {
	main, once := map[string]bool{}, map[string]bool{}
	for name := range variants {
		for _, r := range launched(t, name).Resources {
			main[r.Type] = true
		}
	}
	for _, r := range launched(t, "guard").Resources {
		once[r.Type] = true
	}
	all := sortedKeys(main)
	for _, k := range sortedKeys(once) {
		if !main[k] {
			all = append(all, k)
		}
	}
	question, err := json.Marshal([]any{all, regions(launched(t, OneZone))})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-c", schemas)
	cmd.Stdin = strings.NewReader(string(question))
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		var said map[string]kind
		if err := json.Unmarshal(out, &said); err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(said, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		equalFile(t, kindsFile, append(text, '\n'))
	case errors.As(err, &exit) && !strings.Contains(string(exit.Stderr), "No module named 'cfnlint'"):
		t.Fatalf("cfn-lint's schemas: %v\n%s", err, exit.Stderr)
	default:
		t.Logf("SKIPPED: the comparison with AWS's schemas, since cfn-lint is not installed; the committed list counts")
	}
	known := kinds(t)
	for _, k := range all {
		entry, ok := known[k]
		switch {
		case !ok:
			t.Errorf("%s is not in %s: go test -run TestTypes -update, with cfn-lint", k, kindsFile)
		case main[k] && len(entry.UnknownIn) > 0:
			t.Errorf("%s is unknown in %v: a template with it is refused there as a whole", k, entry.UnknownIn)
		case slices.Contains(entry.UnknownIn, "us-east-1"):
			t.Errorf("%s is unknown in us-east-1", k)
		}
	}
	// It would have found the budget, which was in the main templates once.
	if got := known["AWS::Budgets::Budget"].UnknownIn; !slices.Contains(got, "eu-north-1") || !slices.Contains(got, "ap-northeast-3") {
		t.Errorf("AWS::Budgets::Budget is said to be unknown in %v only", got)
	}
}

// cfn-lint finds nothing in any variant.
func TestLint(t *testing.T) {
	lint, err := exec.LookPath("cfn-lint")
	if err != nil {
		t.Skip("SKIPPED: cfn-lint is not installed")
	}
	run := func(regions []string, files ...string) string {
		out, err := exec.Command(lint, slices.Concat([]string{"--format", "parseable", "--include-checks", "W", "--regions"}, regions, []string{"--template"}, files)...).CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatalf("%s: %v", lint, err)
		}
		return string(out)
	}
	var files []string
	for name := range variants {
		files = append(files, filepath.Join("testdata", name+".json"))
	}
	slices.Sort(files)
	// One region: thirty took more than four minutes and were not done. What differs by region is which types there are (TestTypes).
	for _, f := range append(files, "testdata/guard.json") {
		if says := run([]string{"us-east-1"}, f); says != "" {
			t.Error(says)
		}
	}
	// It would say so: the budget is unknown in eu-north-1.
	if says := run([]string{"eu-north-1"}, "testdata/guard.json"); !strings.Contains(says, "AWS::Budgets::Budget") {
		t.Errorf("a type that eu-north-1 does not have is not found: %q", says)
	}
}

// holders are types that hold content or identity: what is gone with one does not come back.
var holders = map[string]bool{
	"AWS::EFS::FileSystem": true, "AWS::EFS::AccessPoint": true, "AWS::S3::Bucket": true, "AWS::SecretsManager::Secret": true,
}

// lasting is what an update must not change of a resource: CloudFormation would replace it.
type lasting struct {
	Type       string
	Properties map[string]any `json:",omitempty"`
}

// frozen is what lasts of a template, as it is written. Task definitions are replaced by design.
func frozen(tpl *template.Template, known map[string]kind) map[string]lasting {
	all := map[string]lasting{}
	for id, r := range tpl.Resources {
		if r.Type == "AWS::ECS::TaskDefinition" {
			continue
		}
		l := lasting{Type: r.Type, Properties: map[string]any{}}
		paths := known[r.Type].CreateOnly
		if r.Type == "AWS::SecretsManager::Secret" {
			paths = append(slices.Clone(paths), "GenerateSecretString") // a new value, which no schema says
		}
		for _, path := range paths {
			v := any(r.Properties)
			for part := range strings.SplitSeq(path, "/") {
				v = at(v, part)
			}
			if v != nil {
				l.Properties[path] = v
			}
		}
		all[id] = l
	}
	return all
}

// replaced says what an update from one release to the next would take from a stack, and how much of it
// holds something.
func replaced(before, after map[string]lasting) (lost, other []string) {
	for _, id := range sortedKeys(before) {
		b := before[id]
		a, still := after[id]
		what := ""
		switch {
		case !still:
			what = id + " is gone"
		case a.Type != b.Type:
			what = id + " is another type"
		default:
			for _, p := range slices.Sorted(maps.Keys(b.Properties)) {
				if !reflect.DeepEqual(a.Properties[p], b.Properties[p]) {
					what = id + "." + p + " changes"
				}
			}
			for _, p := range slices.Sorted(maps.Keys(a.Properties)) {
				if _, had := b.Properties[p]; !had {
					what = id + "." + p + " is new"
				}
			}
		}
		switch {
		case what == "":
		case holders[b.Type]:
			lost = append(lost, what)
		default:
			other = append(other, what)
		}
	}
	return lost, other
}

func readFrozen(t *testing.T, path string) map[string]lasting {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *update {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]lasting
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// An update from the last release to this one replaces nothing that holds data or identity. -update writes what is
// new, and what is replaced without loss; what holds something stays until it is edited by hand.
func TestNothingIsReplaced(t *testing.T) {
	known := kinds(t)
	each(t, func(t *testing.T, name string, l template.Launch) {
		path := filepath.Join("testdata", "frozen", name+".json")
		before, after := readFrozen(t, path), frozen(l.Template, known)
		lost, other := replaced(before, after)
		if len(lost) > 0 {
			t.Fatalf("an update would lose what is in it: %s", strings.Join(lost, "; "))
		}
		if len(other) > 0 && !*update {
			t.Errorf("an update would replace: %s. If a stack stands that, go test -run TestNothingIsReplaced -update", strings.Join(other, "; "))
		}
		text, err := json.MarshalIndent(after, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		equalFile(t, path, append(text, '\n'))
	})
}

// The comparison would find each way to lose something.
func TestReplacedIsFound(t *testing.T) {
	known := kinds(t)
	for says, change := range map[string]func(*template.Template){
		"Seed.GenerateSecretString changes": func(tpl *template.Template) {
			tpl.Resources["Seed"].Properties["GenerateSecretString"].(map[string]any)["PasswordLength"] = 63
		},
		"FileSystemA.AvailabilityZoneName changes": func(tpl *template.Template) {
			tpl.Resources["FileSystemA"].Properties["AvailabilityZoneName"] = "us-east-1a"
		},
		"FileSystemB.Encrypted changes": func(tpl *template.Template) { tpl.Resources["FileSystemB"].Properties["Encrypted"] = false },
		"Blocks.BucketName is new":      func(tpl *template.Template) { tpl.Resources["Blocks"].Properties["BucketName"] = "mine" },
		"Blocks is gone":                func(tpl *template.Template) { delete(tpl.Resources, "Blocks") },
		"NodeARepo.RootDirectory/Path changes": func(tpl *template.Template) {
			tpl.Resources["NodeARepo"].Properties["RootDirectory"].(map[string]any)["Path"] = "/other"
		},
	} {
		before := frozen(launched(t, S3).Template, known)
		next := launched(t, S3).Template
		change(next)
		lost, other := replaced(before, frozen(next, known))
		must(t, says, strings.Join(lost, "; ")+strings.Join(other, "; "), says)
	}
}

// No parameter replaces what holds data or identity, except those that say where it is; these the stack
// policy keeps (stack-policy.json).
func TestParametersReplaceNothing(t *testing.T) {
	known := kinds(t)
	samples := map[string]string{
		"NodeImage": "other:2", "ClusterImage": "other:2", "ApiDomain": "a.example.org", "GatewayDomain": "g.example.org", "CertificateArn": "arn:aws:acm:us-east-1:1:certificate/a",
		"ApiWebAclArn": "arn:aws:wafv2:us-east-1:1:a", "GatewayWebAclArn": "arn:aws:wafv2:us-east-1:1:b", "AlarmEmail": "me@example.org", "PrefixList": "pl-1", "StorageMax": "2TiB",
		"Vpc": "vpc-1", "VpcAddresses": "10.9.0.0/16",
	}
	where := func(p string) bool {
		return strings.HasPrefix(p, "Zone") || strings.HasPrefix(p, "ExistingFileSystem") || strings.HasPrefix(p, "ExistingS") || p == "ExistingBucket" || p == "ExistingClusterSecret"
	}
	state := func(l template.Launch) map[string]any {
		out := map[string]any{}
		for id, r := range l.Resources {
			yes, err := l.Exists(id)
			if err != nil {
				t.Fatal(err)
			}
			if !holders[r.Type] || !yes {
				continue
			}
			all := get(t, l, id)
			for _, path := range append(slices.Clone(known[r.Type].CreateOnly), "GenerateSecretString") {
				v := any(all)
				for part := range strings.SplitSeq(path, "/") {
					v = at(v, part)
				}
				out[id+" "+path] = v
			}
		}
		return out
	}
	each(t, func(t *testing.T, name string, l template.Launch) {
		before := state(l)
		for id, p := range l.Parameters {
			values := p.AllowedValues
			switch {
			case where(id):
				values = nil
			case p.MinValue != nil:
				values = []any{*p.MinValue, *p.MaxValue}
			case strings.Contains(id, "Subnet"):
				values = []any{"subnet-9"}
			case values == nil && samples[id] != "":
				values = []any{samples[id]}
			case values == nil:
				t.Errorf("there is no sample for parameter %s", id)
			}
			for _, v := range values {
				other := launched(t, name)
				other.Values[id] = fmt.Sprint(v)
				if after := state(other); !reflect.DeepEqual(before, after) {
					t.Errorf("%s=%v replaces or removes what holds something", id, v)
				}
			}
		}
		other := launched(t, name) // and it would be seen
		other.Values["ZoneA"], other.Values["ExistingSeed"] = "us-east-1f", "arn:aws:secretsmanager:x"
		if reflect.DeepEqual(before, state(other)) {
			t.Error("other zones and secrets change nothing: this test sees nothing")
		}
	})
}

// The stack policy denies to replace or remove whatever holds something, by its type, so that it keeps what
// later releases add, too.
func TestStackPolicy(t *testing.T) {
	policy := object{"Statement": list{
		object{"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"},
		object{"Effect": "Deny", "Principal": "*", "Action": list{"Update:Replace", "Update:Delete"}, "Resource": "*",
			"Condition": object{"StringEquals": object{"ResourceType": sortedKeys(holders)}}},
	}}
	text, err := json.MarshalIndent(policy, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	equalFile(t, "stack-policy.json", append(text, '\n'))
	each(t, func(t *testing.T, _ string, l template.Launch) {
		for id, r := range l.Resources {
			if strings.HasPrefix(r.DeletionPolicy, "Retain") && !holders[r.Type] && r.Type != "AWS::Logs::LogGroup" && r.Type != "AWS::S3::BucketPolicy" {
				t.Errorf("%s is kept when the stack is deleted, and the stack policy does not know %s", id, r.Type)
			}
		}
	})
}
