package infra

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/cloudformationinclude"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
)

var update = flag.Bool("update", false, "rewrite the released templates and the snapshots")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Setenv("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")
	Quietly()
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// Whatever CDK_VALIDATION was, this program runs with the one value that the CDK knows. With any other
// the tests that synthesize do not end.
func TestQuietly(t *testing.T) {
	const inner = "CDK_VALIDATION_SAY"
	if os.Getenv(inner) != "" {
		fmt.Printf("it is %q\n", os.Getenv("CDK_VALIDATION"))
		return
	}
	must(t, "here", os.Getenv("CDK_VALIDATION"), "false")
	for _, before := range []string{"", "false", "false ", "true"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestQuietly$")
		cmd.Env = append(os.Environ(), inner+"=1", "CDK_VALIDATION="+before)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), `it is "false"`) {
			t.Errorf("%q stays: %v\n%s", before, err, out)
		}
	}
}

// variants are what is looked at: the released templates, and what else options
// make of them.
var variants = map[string][]string{
	OneZone + "-vpc": {"network=existing"}, Standard + "-vpc": {"network=existing", "storage=standard"}, S3 + "-vpc": {"network=existing", "storage=s3"},
	OneZone: nil, Standard: {"storage=standard"}, S3: {"storage=s3"},
	"nat-x86":     {"egress=nat", "cpu=x86"},
	"private":     {"private=true", "storage=s3"},
	"two-nodes":   {"nodes=2", "storage=standard"},
	"provisioned": {"throughput=provisioned", "mibps=10"},
	"baked":       {"zones=us-east-1a,us-east-1b,us-east-1d", "node-image=registry/ipfs-aws@sha256:" + digest, "cluster-image=registry/cluster-aws@sha256:" + digest},
	"domains":     {"gateway-domain=ipfs.example.org", "api-domain=pin.example.org", "certificate=arn:aws:acm:us-east-1:123456789012:certificate/0a"},
}

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

var released = []string{OneZone, Standard, S3, OneZone + "-vpc", Standard + "-vpc", S3 + "-vpc"}

// synth is the template of a variant, as the cdk command would write it.
func synth(t *testing.T, words []string) []byte {
	t.Helper()
	o, err := Parse(nil, words)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	app := NewApp(dir, false)
	New(app, StackName, o)
	app.Synth(nil)
	text, err := os.ReadFile(filepath.Join(dir, StackName+".template.json"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// guard is the template of what is launched once in an account.
func guard(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	app := NewApp(dir, false)
	NewGuard(app)
	app.Synth(nil)
	text, err := os.ReadFile(filepath.Join(dir, GuardName+".template.json"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What CloudFormation takes from a bucket, and what of it as a text in a request.
const fromBucket, inline = 1_000_000, 51_200

// A snapshot shows a reviewer what a change does to each variant.
func TestSnapshots(t *testing.T) {
	snapshot := func(name string, text []byte, release bool) {
		var out bytes.Buffer
		if err := json.Indent(&out, text, "", " "); err != nil {
			t.Fatal(err)
		}
		equalFile(t, filepath.Join("testdata", name+".json"), append(out.Bytes(), '\n'))
		if release {
			equalFile(t, filepath.Join("templates", name+".json"), text)
		}
		if len(text) > fromBucket {
			t.Errorf("%s has %d bytes, and %d is what CloudFormation takes", name, len(text), fromBucket)
		}
		t.Logf("%s: %d bytes", name, len(text))
	}
	for name, words := range variants {
		snapshot(name, synth(t, words), slices.Contains(released, name))
	}
	text := guard(t)
	snapshot("guard", text, true)
	if len(text) > inline {
		t.Errorf("guard has %d bytes, and the README gives it as --template-body, which takes %d", len(text), inline)
	}
}

func equalFile(t *testing.T, path string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what synth gives: go test -run TestSnapshots -update, and read the difference", path)
	}
}

// report is what CloudFormation's validation says of an app, warnings included.
func report(t *testing.T, build func(awscdk.App)) (violations []string, suppressed int) {
	t.Helper()
	dir := t.TempDir()
	app := NewApp(dir, true)
	build(app)
	func() {
		defer func() { _ = recover() }() // an error ends the synth; the report is there
		app.Synth(nil)
	}()
	text, err := os.ReadFile(filepath.Join(dir, "validation-report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		PluginReports []struct {
			Violations           []struct{ RuleName, Description string }
			SuppressedViolations []any
		}
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	for _, p := range r.PluginReports {
		suppressed += len(p.SuppressedViolations)
		for _, v := range p.Violations {
			violations = append(violations, v.RuleName+": "+v.Description)
		}
	}
	return violations, suppressed
}

// CloudFormation's validation finds nothing, not even a warning, and would speak if there were something: one
// stack of the same app is wrong on purpose. It tries every combination of conditions, which does not
// end with those of the main templates: TestLint looks at these.
func TestValidation(t *testing.T) {
	// All in one app: the engine takes longer to start than to look.
	violations, suppressed := report(t, func(app awscdk.App) {
		NewGuard(app)
		control := awscdk.NewStack(app, jsii.String("control"), &awscdk.StackProps{Synthesizer: awscdk.NewLegacyStackSynthesizer()})
		resource(control, "FileSystem", "AWS::EFS::FileSystem", object{"ThroughputMode": "slow"})
	})
	spoke := false
	for _, v := range violations {
		if strings.Contains(v, "ThroughputMode: 'slow' is not one of") {
			spoke = true
			continue
		}
		t.Error(v)
	}
	if !spoke {
		t.Error("a throughput mode that does not exist was not found, so nothing was looked at")
	}
	if suppressed != 0 {
		t.Errorf("%d findings are suppressed", suppressed)
	}
}

// accepted are the rules of cdk-nag's AwsSolutions that this architecture breaks
// on purpose.
var accepted = map[string]string{
	"AwsSolutions-VPC7": "flow logs are billed by volume, and a swarm opens thousands of connections an hour: a bill nobody foresees",
	"AwsSolutions-EC23": "the swarm port is open to anybody, since peers are anybody; TestOpenToTheWorld holds it to that port",
	"AwsSolutions-ECS2": "settings are environment variables here; those that are secret come from Secrets Manager (TestSecrets)",
	"AwsSolutions-ECS4": "Container Insights costs more than the alarms of this stack and says less of readiness",
	"AwsSolutions-IAM5": "ecr:GetAuthorizationToken knows no resource, and a node has a prefix of the bucket, which ends in *",
	"AwsSolutions-ELB2": "the balancer is internal; its access log would be a bucket and a bill for what CloudFront's metrics tell",
	"AwsSolutions-CFR1": "which countries may read is the user's decision",
	"AwsSolutions-CFR3": "access logs name readers and cost storage: the user's decision",
	"AwsSolutions-CFR4": "CloudFront's own domain has a fixed TLS policy; with a certificate the template asks for TLS 1.2",
	"AwsSolutions-S1":   "a log of each request for a block would cost more than the block",
	"AwsSolutions-SMG4": "cluster secret, seed and swarm key must change in all tasks at once: README tells how",
}

// The AwsSolutions rules see typed resources, so they look at the template as one
// who includes it would.
func TestNag(t *testing.T) {
	broken := map[string]bool{}
	for _, name := range released {
		dir := t.TempDir()
		app := NewApp(dir, false)
		stack := awscdk.NewStack(app, jsii.String("ipfs"), &awscdk.StackProps{Synthesizer: awscdk.NewLegacyStackSynthesizer()})
		cloudformationinclude.NewCfnInclude(stack, jsii.String("Template"), &cloudformationinclude.CfnIncludeProps{TemplateFile: jsii.String("templates/" + name + ".json")})
		awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(&cdknag.NagPackProps{ReportFormats: &[]cdknag.NagReportFormat{cdknag.NagReportFormat_JSON}}), nil)
		func() {
			defer func() { _ = recover() }()
			app.Synth(nil)
		}()
		files, err := filepath.Glob(filepath.Join(dir, "AwsSolutions-*-NagReport.json"))
		if err != nil || len(files) != 1 {
			t.Fatalf("reports of cdk-nag: %v, %v", files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		var r struct {
			Lines []struct{ RuleID, ResourceID, Compliance, RuleInfo string }
		}
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatal(err)
		}
		if len(r.Lines) < 20 {
			t.Fatalf("%s: cdk-nag has looked at %d things only", name, len(r.Lines))
		}
		for _, l := range r.Lines {
			if l.Compliance == "Compliant" {
				continue
			}
			broken[l.RuleID] = true
			if accepted[l.RuleID] == "" {
				t.Errorf("%s: %s: %s %s: %s", name, l.RuleID, l.Compliance, l.ResourceID, l.RuleInfo)
			}
		}
	}
	for rule := range accepted {
		if !broken[rule] {
			t.Errorf("nothing breaks %s any more: take it off the list", rule)
		}
	}
}
