package infra

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs-aws/ipfs-aws/infra/template"
)

// These tests read the templates as they are released and the snapshots of the
// other variants, which TestSnapshots proves to be what synth gives.

type props = map[string]any

// launched is a variant with the parameters that have no default.
func launched(t *testing.T, name string) template.Launch {
	t.Helper()
	tpl, err := template.Read("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return template.Launch{Template: tpl, Values: map[string]string{
		"NodeImage": "registry/ipfs-aws:1", "ClusterImage": "registry/cluster-aws:1", "ZoneA": "us-east-1a", "ZoneB": "us-east-1b", "ZoneC": "us-east-1d",
		"Vpc": "vpc-1", "VpcAddresses": "10.9.0.0/16", "TaskSubnetA": "subnet-1", "TaskSubnetB": "subnet-2", "TaskSubnetC": "subnet-3",
		"InnerSubnetA": "subnet-4", "InnerSubnetB": "subnet-5", "InnerSubnetC": "subnet-6",
		"AWS::Region": "us-east-1", "AWS::StackName": "ipfs", "AWS::AccountId": "123456789012", "AWS::Partition": "aws",
	}}
}

func each(t *testing.T, f func(t *testing.T, name string, l template.Launch)) {
	for name := range variants {
		t.Run(name, func(t *testing.T) { f(t, name, launched(t, name)) })
	}
}

func get(t *testing.T, l template.Launch, id string) props {
	t.Helper()
	r, err := l.Resource(id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// at follows a path of names and numbers.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func must(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestRow1And2TwoDistributions(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		api := at(get(t, l, "ApiDistribution"), "DistributionConfig")
		must(t, "API over HTTPS", at(api, "DefaultCacheBehavior", "ViewerProtocolPolicy"), "https-only")
		must(t, "API is not cached", at(api, "DefaultCacheBehavior", "CachePolicyId"), cachingDisabled)
		must(t, "API gets Authorization", at(api, "DefaultCacheBehavior", "OriginRequestPolicyId"), allViewer)
		must(t, "API takes every method", len(at(api, "DefaultCacheBehavior", "AllowedMethods").([]any)), 7)

		gateway := at(get(t, l, "GatewayDistribution"), "DistributionConfig")
		must(t, "gateway over HTTPS", at(gateway, "DefaultCacheBehavior", "ViewerProtocolPolicy"), "redirect-to-https")
		must(t, "gateway's own cache", at(gateway, "DefaultCacheBehavior", "CachePolicyId"), "GatewayCache")
		cache := at(get(t, l, "GatewayCache"), "CachePolicyConfig")
		must(t, "least time", at(cache, "MinTTL"), 0)
		must(t, "time when the node says nothing", at(cache, "DefaultTTL"), 0)
		must(t, "immutable for a year", at(cache, "MaxTTL"), float64(31536000))
		key := at(cache, "ParametersInCacheKeyAndForwardedToOrigin")
		must(t, "format= and its like", at(key, "QueryStringsConfig", "QueryStringBehavior"), "all")
		must(t, "Accept", at(key, "HeadersConfig", "Headers"), "[Accept Host]")
		headers := at(get(t, l, "GatewayHeaders"), "ResponseHeadersPolicyConfig", "SecurityHeadersConfig")
		must(t, "security headers", len(headers.(props)), 3)
	})
}

func TestRow3OneBalancer(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		must(t, "balancers", l.OfType("AWS::ElasticLoadBalancingV2::LoadBalancer"), "[Balancer]")
		must(t, "not on the internet", at(get(t, l, "Balancer"), "Scheme"), "internal")
		in := at(get(t, l, "BalancerGroup"), "SecurityGroupIngress").([]any)
		must(t, "rules with the prefix list, which weighs 55 of 60", len(in), 1)
		must(t, "from CloudFront only", at(in, 0, "SourcePrefixListId"), "pl-3b927c52")
		must(t, "ports", fmt.Sprint(at(in, 0, "FromPort"), at(in, 0, "ToPort")), "8080 8082")
		for door, ports := range map[string][3]string{"Gateway": {"8080", "8080", "8099"}, "Api": {"8081", "9094", "9098"}, "Pinning": {"8082", "9097", "9098"}} {
			listener, group := get(t, l, door+"Listener"), get(t, l, door+"Targets")
			must(t, "listener", at(listener, "Port"), ports[0])
			must(t, "listener's group", at(listener, "DefaultActions", 0, "TargetGroupArn"), door+"Targets")
			must(t, "target port", at(group, "Port"), ports[1])
			must(t, "readiness", fmt.Sprint(at(group, "HealthCheckPath"), at(group, "HealthCheckPort")), "/readyz"+ports[2])
			origin := at(get(t, l, door+"Origin"), "VpcOriginEndpointConfig")
			must(t, "VPC origin", fmt.Sprint(at(origin, "Arn"), at(origin, "HTTPPort")), "Balancer"+ports[0])
			if door == "Pinning" {
				continue // TestPinningApi
			}
			must(t, "origin of distribution", at(get(t, l, door+"Distribution"), "DistributionConfig", "Origins", 0, "VpcOriginConfig", "VpcOriginId"), door+"Origin.Id")
		}
	})
}

func TestRow4Services(t *testing.T) {
	each(t, func(t *testing.T, name string, l template.Launch) {
		services := l.OfType("AWS::ECS::Service")
		want := 3
		if name == "two-nodes" {
			want = 6
		}
		must(t, "services", len(services), want)
		zones := map[any]int{}
		for _, id := range services {
			s := get(t, l, id)
			must(t, "tasks", at(s, "DesiredCount"), 1)
			must(t, "stop before start", fmt.Sprint(at(s, "DeploymentConfiguration", "MinimumHealthyPercent"), at(s, "DeploymentConfiguration", "MaximumPercent")), "0 100")
			must(t, "circuit breaker", at(s, "DeploymentConfiguration", "DeploymentCircuitBreaker"), "map[Enable:true Rollback:true]")
			subnet := at(s, "NetworkConfiguration", "AwsvpcConfiguration", "Subnets").([]any)
			must(t, "subnets", len(subnet), 1)
			zones[zoneOf(t, l, subnet[0])]++
			must(t, "groups", at(s, "LoadBalancers", 0, "TargetGroupArn").(string)+at(s, "LoadBalancers", 1, "TargetGroupArn").(string), "GatewayTargetsApiTargets")
		}
		must(t, "spread", zones, map[any]int{"us-east-1a": want / 3, "us-east-1b": want / 3, "us-east-1d": want / 3})
	})
}

// tasks are the definitions of the nodes' own tasks.
func tasks(l template.Launch) (out []string) {
	for _, id := range l.OfType("AWS::ECS::TaskDefinition") {
		if strings.HasSuffix(id, "Task") {
			out = append(out, id)
		}
	}
	return out
}

func TestRow5Tasks(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		for _, id := range tasks(l) {
			d := get(t, l, id)
			containers := at(d, "ContainerDefinitions").([]any)
			must(t, "containers", len(containers), 2)
			must(t, "start order", at(containers, 1, "DependsOn"), "[map[Condition:HEALTHY ContainerName:ipfs]]")
			for _, c := range containers {
				must(t, "stop time, of which 120 s is the most", at(c, "StopTimeout"), 120)
				must(t, "read-only", at(c, "ReadonlyRootFilesystem"), true)
			}
			name := at(get(t, l, strings.TrimSuffix(id, "Task")+"Name"), "Name")
			must(t, "name of the peer", env(containers[1])["CLUSTER_PEERNAME"], name)
			if !strings.Contains(env(containers[1])["CLUSTER_PEERS"], fmt.Sprintf("%v=/dns4/%v.ipfs.internal/tcp/9096", name, name)) {
				t.Errorf("%v is not among the peers", name)
			}
			must(t, "time to live of names", at(get(t, l, strings.TrimSuffix(id, "Task")+"Name"), "DnsConfig", "DnsRecords", 0, "TTL"), 10)
		}
	})
}

// zoneOf is the zone of a subnet: of the stack's own, or of one that is a parameter (launched has them in
// the order of the zones).
func zoneOf(t *testing.T, l template.Launch, subnet any) any {
	t.Helper()
	if i := strings.Index("subnet-1 subnet-2 subnet-3 subnet-4 subnet-5 subnet-6", fmt.Sprint(subnet)); i >= 0 {
		return []any{"us-east-1a", "us-east-1b", "us-east-1d"}[i/9%3]
	}
	return at(get(t, l, subnet.(string)), "AvailabilityZone")
}

// Rows 6 and 9: zone of file system, mount target, subnet and service agree; each
// node has access points of its own.
func TestRow6And9Storage(t *testing.T) {
	each(t, func(t *testing.T, name string, l template.Launch) {
		systems := l.OfType("AWS::EFS::FileSystem")
		oneForAll := slices.Contains(variants[name], "storage=standard")
		must(t, "file systems", len(systems), map[bool]int{true: 1, false: 3}[oneForAll])
		zoneOfMount := map[string]map[any]bool{}
		for _, id := range l.OfType("AWS::EFS::MountTarget") {
			m := get(t, l, id)
			fs, z := at(m, "FileSystemId").(string), zoneOf(t, l, at(m, "SubnetId"))
			if zoneOfMount[fs] == nil {
				zoneOfMount[fs] = map[any]bool{}
			}
			zoneOfMount[fs][z] = true
		}
		paths := map[string]bool{}
		for _, id := range l.OfType("AWS::ECS::Service") {
			s := get(t, l, id)
			z := zoneOf(t, l, at(s, "NetworkConfiguration", "AwsvpcConfiguration", "Subnets", 0))
			d := get(t, l, at(s, "TaskDefinition").(string))
			for _, v := range at(d, "Volumes").([]any) {
				efs := at(v, "EFSVolumeConfiguration")
				if efs == nil {
					continue
				}
				fs := at(efs, "FilesystemId").(string)
				if !zoneOfMount[fs][z] {
					t.Errorf("%s in %v uses %s, which has no mount target there", id, z, fs)
				}
				if own := at(get(t, l, fs), "AvailabilityZoneName"); !oneForAll && own != z {
					t.Errorf("%s in %v uses %s in %v", id, z, fs, own)
				} else if oneForAll && own != nil {
					t.Errorf("%s is in one zone", fs)
				}
				must(t, "TLS", at(efs, "TransitEncryption"), "ENABLED")
				must(t, "IAM", at(efs, "AuthorizationConfig", "IAM"), "ENABLED")
				point := get(t, l, at(efs, "AuthorizationConfig", "AccessPointId").(string))
				must(t, "access point's file system", at(point, "FileSystemId"), fs)
				must(t, "access point's user", at(point, "PosixUser"), "map[Gid:1000 Uid:1000]")
				path := fs + at(point, "RootDirectory", "Path").(string)
				if paths[path] {
					t.Errorf("two volumes are %s", path)
				}
				paths[path] = true
			}
		}
		for _, fs := range systems {
			statement := at(get(t, l, fs), "FileSystemPolicy", "Statement", 0)
			must(t, "policy: nothing is allowed", len(at(get(t, l, fs), "FileSystemPolicy", "Statement").([]any)), 1)
			must(t, "policy: TLS only", fmt.Sprint(at(statement, "Effect"), at(statement, "Condition")), "Denymap[Bool:map[aws:SecureTransport:false]]")
			must(t, "encrypted", at(get(t, l, fs), "Encrypted"), true)
		}
	})
}

func TestRow7Bucket(t *testing.T) {
	l := launched(t, S3)
	b := get(t, l, "Blocks")
	must(t, "private", at(b, "PublicAccessBlockConfiguration"), "map[BlockPublicAcls:true BlockPublicPolicy:true IgnorePublicAcls:true RestrictPublicBuckets:true]")
	must(t, "uploads that were broken off", at(b, "LifecycleConfiguration", "Rules", 0, "AbortIncompleteMultipartUpload", "DaysAfterInitiation"), 7)
	must(t, "what was deleted can be had back", at(b, "VersioningConfiguration", "Status"), "Enabled")
	must(t, "for a week", at(b, "LifecycleConfiguration", "Rules", 1, "NoncurrentVersionExpiration", "NoncurrentDays"), 7)
	must(t, "TLS only", at(get(t, l, "BlocksPolicy"), "PolicyDocument", "Statement", 0, "Condition"), "map[Bool:map[aws:SecureTransport:false]]")
	must(t, "endpoint", at(get(t, l, "S3Endpoint"), "VpcEndpointType"), "Gateway")
	prefixes := map[string]bool{}
	for _, id := range tasks(l) {
		e := env(at(get(t, l, id), "ContainerDefinitions", 0))
		must(t, "blockstore", e["IPFS_BLOCKSTORE"]+" "+e["IPFS_S3_BUCKET"], "s3 Blocks")
		prefixes[e["IPFS_S3_PREFIX"]] = true
		role := fmt.Sprint(at(get(t, l, strings.TrimSuffix(id, "Task")+"Role"), "Policies"))
		if !strings.Contains(role, ":s3:::Blocks/"+e["IPFS_S3_PREFIX"]+"/*") {
			t.Errorf("%s may not write its prefix: %s", id, role)
		}
	}
	must(t, "prefixes", len(prefixes), 3)
}

func TestRow8Throughput(t *testing.T) {
	each(t, func(t *testing.T, name string, l template.Launch) {
		for mode, mibps := range map[string]any{"bursting": nil, "elastic": nil, "provisioned": "64"} {
			l.Values["EfsThroughput"], l.Values["EfsProvisionedMiBps"] = mode, "64"
			for _, fs := range l.OfType("AWS::EFS::FileSystem") {
				must(t, "mode", at(get(t, l, fs), "ThroughputMode"), mode)
				must(t, "MiB/s with "+mode, at(get(t, l, fs), "ProvisionedThroughputInMibps"), mibps)
			}
		}
		p := l.Parameters["EfsThroughput"]
		must(t, "values", p.AllowedValues, "[bursting elastic provisioned]")
		if strings.Count(p.Description, "$") != 3 {
			t.Errorf("what it costs is not beside it: %s", p.Description)
		}
	})
}

func env(container any) map[string]string {
	out := map[string]string{}
	list, _ := at(container, "Environment").([]any)
	for _, e := range list {
		out[fmt.Sprint(at(e, "Name"))] = fmt.Sprint(at(e, "Value"))
	}
	return out
}

// Every reference, volume, port and target resolves.
func TestEverythingResolves(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		for id, r := range l.Resources {
			get(t, l, id) // an unknown name is an error
			waits, _ := r.DependsOn.([]any)
			for _, d := range waits {
				if _, ok := l.Resources[d.(string)]; !ok {
					t.Errorf("%s depends on %v, which is not there", id, d)
				}
			}
		}
		for name, o := range l.Outputs {
			if _, err := l.Resolve(o.Value); err != nil {
				t.Errorf("output %s: %v", name, err)
			}
		}
		for _, id := range l.OfType("AWS::ECS::Service") {
			s := get(t, l, id)
			d := get(t, l, at(s, "TaskDefinition").(string))
			ports, volumes := map[string]bool{}, map[string]bool{}
			for _, v := range at(d, "Volumes").([]any) {
				volumes[at(v, "Name").(string)] = true
			}
			for _, c := range at(d, "ContainerDefinitions").([]any) {
				for _, p := range at(c, "PortMappings").([]any) {
					ports[fmt.Sprint(at(c, "Name"), at(p, "ContainerPort"))] = true
				}
				for _, m := range at(c, "MountPoints").([]any) {
					if !volumes[at(m, "SourceVolume").(string)] {
						t.Errorf("%s mounts %v, which is no volume", id, at(m, "SourceVolume"))
					}
				}
			}
			for _, b := range at(s, "LoadBalancers").([]any) {
				if !ports[fmt.Sprint(at(b, "ContainerName"), at(b, "ContainerPort"))] {
					t.Errorf("%s: the balancer's target %v has no such port", id, b)
				}
			}
		}
	})
}

// Secrets are generated or composed in the account; roles read those of their
// tasks and nothing else.
func TestSecrets(t *testing.T) {
	staticKey := regexp.MustCompile(`AKIA[0-9A-Z]{16}|(?i)(secret_access_key|secretkey)`)
	each(t, func(t *testing.T, _ string, l template.Launch) {
		text, err := json.Marshal(l.Template)
		if err != nil {
			t.Fatal(err)
		}
		if found := staticKey.Find(text); found != nil {
			t.Errorf("a static key: %s", found)
		}
		for _, id := range l.OfType("AWS::SecretsManager::Secret") {
			s := get(t, l, id)
			value, _ := at(s, "SecretString").(string)
			if at(s, "GenerateSecretString") == nil && !strings.Contains(value, "{{resolve:secretsmanager:") {
				t.Errorf("%s has its value in the template", id)
			}
		}
		readable := fmt.Sprint(at(get(t, l, "ExecutionRole"), "Policies"))
		for _, id := range l.OfType("AWS::ECS::TaskDefinition") {
			for _, c := range at(get(t, l, id), "ContainerDefinitions").([]any) {
				secrets, _ := at(c, "Secrets").([]any)
				for _, s := range secrets {
					from := at(s, "ValueFrom").(string)
					if l.Resources[from].Type != "AWS::SecretsManager::Secret" || !strings.Contains(readable, from) {
						t.Errorf("%v comes from %s, which is no secret that ECS may read", at(s, "Name"), from)
					}
				}
				for name, value := range env(c) {
					if regexp.MustCompile(`SECRET|SEED|CREDENTIALS|_KEY`).MatchString(name) {
						t.Errorf("%s=%s is not secret", name, value)
					}
				}
			}
		}
	})
}

var nodeOf = regexp.MustCompile("(Task|NodeHands|ClusterHands)$")

func TestLeastPrivilege(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		for _, id := range l.OfType("AWS::IAM::Role") {
			for _, p := range at(get(t, l, id), "Policies").([]any) {
				for _, s := range at(p, "PolicyDocument", "Statement").([]any) {
					actions, _ := at(s, "Action").([]any)
					for _, a := range actions {
						if strings.Contains(a.(string), "*") {
							t.Errorf("%s may %v", id, a)
						}
					}
					if at(s, "Resource") == "*" && fmt.Sprint(actions) != "[ecr:GetAuthorizationToken]" {
						t.Errorf("%s may %v on everything", id, actions)
					}
				}
			}
		}
		for _, id := range l.OfType("AWS::ECS::TaskDefinition") {
			d := get(t, l, id)
			must(t, "execution", at(d, "ExecutionRoleArn"), "ExecutionRole.Arn")
			must(t, "task", at(d, "TaskRoleArn"), nodeOf.ReplaceAllString(id, "")+"Role.Arn")
		}
	})
}

func TestOpenToTheWorld(t *testing.T) {
	each(t, func(t *testing.T, name string, l template.Launch) {
		var open []string
		for _, id := range append(l.OfType("AWS::EC2::SecurityGroup"), l.OfType("AWS::EC2::SecurityGroupIngress")...) {
			g := get(t, l, id)
			rules, _ := at(g, "SecurityGroupIngress").([]any)
			for _, r := range append(rules, g) {
				from, to := at(r, "FromPort"), at(r, "ToPort")
				if from != nil && from.(float64) <= 5001 && to.(float64) >= 5001 {
					t.Errorf("%s opens the RPC", id)
				}
				if at(r, "CidrIp") == "0.0.0.0/0" || at(r, "CidrIpv6") != nil {
					open = append(open, fmt.Sprint(id, " ", at(r, "IpProtocol"), " ", from, " ", to))
				}
			}
		}
		want := []string{"TaskGroup tcp 4001 4001", "TaskGroup udp 4001 4001"}
		if name == "private" {
			want = nil
		}
		slices.Sort(open)
		must(t, "open", open, want)
	})
}

func TestWhatHoldsDataStays(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		for id, r := range l.Resources {
			switch r.Type {
			case "AWS::EFS::FileSystem", "AWS::S3::Bucket", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup":
				must(t, id, r.DeletionPolicy+" "+r.UpdateReplacePolicy, "RetainExceptOnCreate Retain")
			}
		}
	})
}

// One click: no bootstrap, no asset, and a user is told what each parameter does.
func TestReleased(t *testing.T) {
	for _, name := range released {
		l := launched(t, name)
		text, err := json.Marshal(l.Template)
		if err != nil {
			t.Fatal(err)
		}
		for _, no := range []string{"cdk-bootstrap", "BootstrapVersion", "AssetParameters", "AWS::Lambda", "cdk-hnb"} {
			if strings.Contains(string(text), no) {
				t.Errorf("%s: %s", name, no)
			}
		}
		for id, p := range l.Parameters {
			if p.Description == "" || !strings.HasPrefix(p.Type, "AWS::") && p.AllowedPattern == "" && p.AllowedValues == nil && (p.MinValue == nil || p.MaxValue == nil) {
				t.Errorf("%s: parameter %s does not say what it is, or what it takes", name, id)
			}
		}
		for _, id := range []string{"TaskSize", "StorageMax", "CacheSize", "EfsThroughput", "EfsProvisionedMiBps", "EfsBackups", "GatewayWebAclArn", "ApiWebAclArn", "LogDays"} {
			if !strings.Contains(l.Parameters[id].Description, "$") {
				t.Errorf("%s: %s moves the bill and does not say how far", name, id)
			}
		}
	}
}

func TestAlarmsAndDashboard(t *testing.T) {
	each(t, func(t *testing.T, name string, l template.Launch) {
		must := func(id string) {
			if _, ok := l.Resources[id]; !ok {
				t.Errorf("there is no %s", id)
			}
		}
		for _, id := range []string{"GatewayNotReady", "ApiNotReady", "GatewayErrors", "ApiErrors", "GatewayEdgeErrors", "ApiEdgeErrors", "EfsCredits", "EfsBusy", "PinsFailed", "PinsWithoutContent"} {
			must(id)
		}
		if strings.Contains(fmt.Sprint(variants[name]), "storage=s3") {
			for _, id := range []string{"S3Requests", "UploadsStuck", "Damaged"} {
				must(id)
			}
		}
		for _, id := range l.OfType("AWS::CloudWatch::Alarm") {
			if fmt.Sprint(at(get(t, l, id), "AlarmActions")) != "[Alarms]" {
				t.Errorf("%s tells nobody", id)
			}
		}
		var board struct {
			Widgets []struct{ Properties struct{ Markdown string } }
		}
		body := at(get(t, l, "Dashboard"), "DashboardBody").(string)
		if err := json.Unmarshal([]byte(body), &board); err != nil {
			t.Fatalf("the dashboard's body: %v", err)
		}
		for _, question := range []string{"Is it up?", "Is the content well?", "Is it fast?", "What does it cost?"} {
			if !strings.Contains(body, question) {
				t.Errorf("the dashboard does not answer %q", question)
			}
		}
	})
}

// What alarms and dashboard look at in the namespace of the nodes is what the programs write, and the tasks are told to.
func TestMetricsOfTheNodes(t *testing.T) {
	var programs string
	for _, path := range []string{"../cmd/ipfs-aws/cloudwatch.go", "../cluster/cmd/cluster-aws/cloudwatch.go", "../internal/container/cloudwatch.go"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		programs += string(text)
	}
	if !strings.Contains(programs, `CloudWatchNamespace = "`+metricsSpace+`"`) {
		t.Errorf("the programs do not write to %s", metricsSpace)
	}
	each(t, func(t *testing.T, _ string, l template.Launch) {
		seen := 0
		for _, id := range l.OfType("AWS::CloudWatch::Alarm") {
			a := get(t, l, id)
			if at(a, "Namespace") != metricsSpace {
				continue
			}
			seen++
			name := fmt.Sprint(at(a, "MetricName"))
			if !strings.Contains(programs, `{"`+name+`", `) {
				t.Errorf("%s looks at %s, which no program writes", id, name)
			}
			must(t, id, at(a, "Dimensions", 0, "Value"), "ipfs")
			if !strings.Contains(fmt.Sprint(l.Resources["Dashboard"]), name) {
				t.Errorf("the dashboard does not show %s", name)
			}
		}
		must(t, "alarms", seen >= 2, true)
		for _, id := range tasks(l) {
			for i, variable := range []string{"IPFS_CLOUDWATCH_STACK", "CLUSTER_CLOUDWATCH_STACK"} {
				must(t, id, env(at(get(t, l, id), "ContainerDefinitions", i))[variable], "ipfs")
			}
		}
	})
}
