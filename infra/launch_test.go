package infra

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs-aws/ipfs-aws/infra/template"
)

// What a first launch meets: zones, regions, rules, names, images, order.

// No zone is looked up by its place in a list: lists differ by account, and change.
func TestZonesAreNamed(t *testing.T) {
	each(t, func(t *testing.T, name string, l template.Launch) {
		for _, letter := range letters {
			must(t, "type", l.Parameters["Zone"+letter].Type, "AWS::EC2::AvailabilityZone::Name")
			if name != "baked" && l.Parameters["Zone"+letter].Default != nil {
				t.Errorf("Zone%s has a default, which is a zone of somebody else's account", letter)
			}
		}
		text, err := json.Marshal(l.Template)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "Fn::GetAZs") {
			t.Error("Fn::GetAZs: its order is not guaranteed")
		}
	})
}

// Each rule is broken by one set of values, and kept by another.
func TestRules(t *testing.T) {
	const (
		acl  = "arn:aws:wafv2:us-east-1:1:global/webacl/a/1"
		cert = "arn:aws:acm:us-east-1:123456789012:certificate/0a"
	)
	type values = map[string]string
	tried := map[string]map[bool]bool{}
	try := func(template string, v values, says string) {
		t.Helper()
		l := launched(t, template)
		for k, x := range v {
			l.Values[k] = x
		}
		broken, err := l.Broken()
		if err != nil {
			t.Fatal(err)
		}
		must(t, fmt.Sprint(template, " ", v), strings.Join(broken, " "), says)
		for id, r := range l.Rules {
			if tried[id] == nil {
				tried[id] = map[bool]bool{}
			}
			tried[id][slices.Contains(broken, r.Assertions[0].AssertDescription)] = true
		}
	}
	const region = "us-west-1 has no three zones with both CloudFront VPC origins and EFS One Zone: choose another region, such as us-west-2."
	const list = "CloudFront's prefix list of this region is not known here: give PrefixList (infra/README.md has the command)."
	for _, name := range released {
		try(name, nil, "")
		try(name, values{"ZoneB": "us-east-1a"}, "ZoneA, ZoneB and ZoneC must differ: each zone has its own subnets, storage and tasks.")
		try(name, values{"AWS::Region": "us-west-1", "PrefixList": "pl-1"}, region)
		try(name, values{"AWS::Region": "us-west-1"}, list+" "+region)
		try(name, values{"AWS::Region": "eu-south-1"}, list)
		try(name, values{"AWS::Region": "eu-south-1", "PrefixList": "pl-1"}, "")
		try(name, values{"GatewayWebAclArn": acl, "ApiWebAclArn": acl}, "GatewayWebAclArn and ApiWebAclArn must differ: each door has limits of its own, and a CloudFront plan wants a web ACL for each.")
		try(name, values{"GatewayWebAclArn": acl, "ApiWebAclArn": acl + "2"}, "")
		try(name, values{"CertificateArn": cert}, domainsAndCertificate)
		try(name, values{"PeersOverHttps": "on", "Copies": "2"}, "PeersOverHttps needs Copies=all: the URL leads to any node, so each must have all content.")
		try(name, values{"PeersOverHttps": "on"}, "")
	}
	try("onezone-vpc", values{"TaskSubnetB": "subnet-1"}, "TaskSubnetA, TaskSubnetB and TaskSubnetC must differ: each is in a zone of its own.")
	try("onezone-vpc", values{"InnerSubnetB": "subnet-6"}, "InnerSubnetA, InnerSubnetB and InnerSubnetC must differ: each is in a zone of its own.")
	try("guard", nil, "")
	try("guard", values{"AWS::Region": "eu-west-1"}, "Launch this template in us-east-1: CloudFront's web ACLs are nowhere else.")
	try("guard", values{"MonthlyBudget": "10"}, "MonthlyBudget needs AlarmEmail.")
	try("guard", values{"MonthlyBudget": "10", "AlarmEmail": "me@example.org"}, "")
	for id, both := range tried {
		if len(both) != 2 {
			t.Errorf("rule %s was tried one way only", id)
		}
	}
	for _, name := range append(slices.Clone(released), "guard") {
		for id := range launched(t, name).Rules {
			if tried[id] == nil {
				t.Errorf("rule %s of %s was not tried", id, name)
			}
		}
	}
}

// The command line refuses the same domains and certificates as the templates' rule.
func TestDomainsTwice(t *testing.T) {
	const cert = "arn:aws:acm:us-east-1:123456789012:certificate/0a"
	for _, gateway := range []string{"", "a.example.org"} {
		for _, api := range []string{"", "a.example.org", "b.example.org"} {
			for _, certificate := range []string{"", cert} {
				var words []string
				l := launched(t, OneZone)
				for _, v := range [][3]string{{"gateway-domain", "GatewayDomain", gateway}, {"api-domain", "ApiDomain", api}, {"certificate", "CertificateArn", certificate}} {
					if v[2] != "" {
						words = append(words, v[0]+"="+v[2])
						l.Values[v[1]] = v[2]
					}
				}
				_, err := Parse(nil, words)
				broken, err2 := l.Broken()
				if err2 != nil {
					t.Fatal(err2)
				}
				says := ""
				if err != nil {
					says = err.Error()
				}
				must(t, strings.Join(words, " "), says, strings.Join(broken, " "))
				if (says == "") != (len(words) == 0 || len(words) == 3 && gateway != api) {
					t.Errorf("%v: %q", words, says)
				}
			}
		}
	}
}

// Names that are global to an account have stack and region in them, and fit.
func TestNamesAreTheStacksOwn(t *testing.T) {
	const longest = 40 // what the README allows of a stack's name
	each(t, func(t *testing.T, _ string, l template.Launch) {
		for _, region := range regions(l) {
			l.Values["AWS::Region"], l.Values["AWS::StackName"], l.Values["PinningApi"] = region, strings.Repeat("s", longest), "on"
			for kind, path := range map[string][]any{
				"AWS::CloudFront::CachePolicy": {"CachePolicyConfig", "Name"}, "AWS::CloudFront::ResponseHeadersPolicy": {"ResponseHeadersPolicyConfig", "Name"},
				"AWS::CloudFront::Function": {"Name"}, "AWS::CloudFront::VpcOrigin": {"VpcOriginEndpointConfig", "Name"},
			} {
				for _, id := range l.OfType(kind) {
					name := fmt.Sprint(at(get(t, l, id), path...))
					if !strings.HasPrefix(name, l.Values["AWS::StackName"]+"-"+region) || len(name) > 64 {
						t.Errorf("%s is called %s, %d characters", id, name, len(name))
					}
				}
			}
		}
	})
}

// ECS may pull the repositories that are named, whatever registry of ECR they are in, and no others.
func TestRepositories(t *testing.T) {
	const host = "123456789012.dkr" + ".ecr.eu-west-1.amazonaws.com/"
	for image, repository := range map[string]string{
		host + "ipfs-aws:1":                             "ipfs-aws",
		host + "ipfs-aws@sha256:" + digest:              "ipfs-aws",
		host + "cache/team/ipfs-aws:1@sha256:" + digest: "cache/team/ipfs-aws",
		"registry.example.org/team/ipfs-aws:1":          "-",
	} {
		l := launched(t, OneZone)
		l.Values["NodeImage"] = image
		pull := at(get(t, l, "ExecutionRole"), "Policies", 0, "PolicyDocument", "Statement", 0)
		must(t, image, at(pull, "Resource", 0), "arn:aws:ecr:*:*:repository/"+repository)
		for _, action := range []string{"ecr:BatchGetImage", "ecr:BatchImportUpstreamImage"} {
			if !strings.Contains(fmt.Sprint(at(pull, "Action")), action) {
				t.Errorf("ECS may not %s", action)
			}
		}
	}
}

// waitsFor are the resources that must be there before another, by its references and DependsOn.
func waitsFor(l template.Launch, id string, seen map[string]bool) {
	var walk func(v any)
	visit := func(name string) {
		if _, ok := l.Resources[name]; ok && !seen[name] {
			seen[name] = true
			waitsFor(l, name, seen)
		}
	}
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			for _, m := range regexp.MustCompile(`\$\{([A-Za-z0-9]+)`).FindAllStringSubmatch(v, -1) {
				visit(m[1])
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if name, ok := v["Ref"].(string); ok {
				visit(name)
			}
			if a, ok := v["Fn::GetAtt"].([]any); ok {
				visit(a[0].(string))
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	r := l.Resources[id]
	walk(r.Properties)
	switch d := r.DependsOn.(type) {
	case string:
		visit(d)
	case []any:
		for _, e := range d {
			visit(e.(string))
		}
	}
}

// A task starts when the way to its image is there, and ends before it goes; so do NAT gateways, and what has
// a public address. Services follow each other.
func TestOrder(t *testing.T) {
	each(t, func(t *testing.T, name string, l template.Launch) {
		if strings.HasSuffix(name, "-vpc") {
			return // the network is there
		}
		outOf := func(subnet string) (route string) {
			for _, id := range l.OfType("AWS::EC2::SubnetRouteTableAssociation") {
				if a := get(t, l, id); at(a, "SubnetId") == subnet {
					for _, r := range l.OfType("AWS::EC2::Route") {
						if at(get(t, l, r), "RouteTableId") == at(a, "RouteTableId") {
							return r
						}
					}
				}
			}
			t.Fatalf("%s has no way out", subnet)
			return ""
		}
		needs := func(id string, others ...string) {
			t.Helper()
			seen := map[string]bool{}
			waitsFor(l, id, seen)
			for _, o := range others {
				if !seen[o] {
					t.Errorf("%s does not wait for %s", id, o)
				}
			}
		}
		for _, id := range l.OfType("AWS::ECS::Service") {
			route := outOf(at(get(t, l, id), "NetworkConfiguration", "AwsvpcConfiguration", "Subnets", 0).(string))
			needs(id, route, "InternetOfVpc", "S3Endpoint", "GatewayListener", "ApiListener", "PinningListener", "TaskGroupPeers")
			if nat := at(get(t, l, route), "NatGatewayId"); nat != nil {
				needs(id, nat.(string))
			}
		}
		for _, id := range l.OfType("AWS::EC2::NatGateway") {
			needs(id, outOf(at(get(t, l, id), "SubnetId").(string)), "InternetOfVpc")
		}
		for _, id := range append(l.OfType("AWS::EC2::EIP"), l.OfType("AWS::CloudFront::VpcOrigin")...) {
			needs(id, "InternetOfVpc")
		}
	})
	each(t, func(t *testing.T, _ string, l template.Launch) {
		services := l.OfType("AWS::ECS::Service")
		longest := 0
		for _, id := range services {
			seen := map[string]bool{}
			waitsFor(l, id, seen)
			before := 0
			for s := range seen {
				if l.Resources[s].Type == "AWS::ECS::Service" {
					before++
				}
			}
			longest = max(longest, before)
			s := get(t, l, id)
			must(t, "grace: ECS does not kill what is not ready", at(s, "HealthCheckGracePeriodSeconds"), float64(2147483647))
			must(t, "tags", fmt.Sprint(at(s, "PropagateTags"), at(s, "EnableECSManagedTags")), "SERVICEtrue")
		}
		must(t, "services before the last one", longest, len(services)-1)
	})
}

// CloudFront waits longer for an answer than the nodes do, and the balancer longer still.
func TestTimes(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		l.Values["PinningApi"] = "on"
		idle := at(get(t, l, "Balancer"), "LoadBalancerAttributes", 0)
		must(t, "balancer", fmt.Sprint(at(idle, "Key"), at(idle, "Value")), "idle_timeout.timeout_seconds150")
		for _, id := range l.OfType("AWS::CloudFront::Distribution") {
			for _, origin := range at(get(t, l, id), "DistributionConfig", "Origins").([]any) {
				must(t, "CloudFront", at(origin, "VpcOriginConfig", "OriginReadTimeout"), 120)
			}
		}
	})
}

// The console shows every parameter in a group, with a label.
func TestInterface(t *testing.T) {
	for _, name := range append(slices.Clone(released), "guard") {
		l := launched(t, name)
		shown := map[string]int{}
		for _, g := range at(l.Metadata, "AWS::CloudFormation::Interface", "ParameterGroups").([]any) {
			for _, p := range at(g, "Parameters").([]any) {
				shown[p.(string)]++
			}
		}
		for id := range l.Parameters {
			if shown[id] != 1 || at(l.Metadata, "AWS::CloudFormation::Interface", "ParameterLabels", id, "default") == nil {
				t.Errorf("%s: parameter %s is in %d groups, or has no label", name, id, shown[id])
			}
		}
		must(t, name+": parameters shown", len(shown), len(l.Parameters))
	}
}

// What a stack takes from one that is gone is what the tasks get, and nothing is made in its place.
func TestExistingStorage(t *testing.T) {
	l := launched(t, "private")
	l.Values["ExistingFileSystemA"], l.Values["ExistingBucket"], l.Values["ExistingSeed"] = "fs-0a", "old-blocks", "arn:aws:secretsmanager:us-east-1:1:secret:seed"
	l.Values["ExistingSwarmKey"], l.Values["ExistingClusterSecret"] = "arn:aws:secretsmanager:us-east-1:1:secret:swarm", "arn:aws:secretsmanager:us-east-1:1:secret:cluster"
	for _, id := range []string{"FileSystemA", "Blocks", "BlocksPolicy", "Seed", "SwarmKey", "SwarmKeyDigits", "ClusterSecret"} {
		made, err := l.Exists(id)
		if err != nil || made {
			t.Errorf("%s is made: %v", id, err)
		}
	}
	d := get(t, l, "NodeATask")
	must(t, "volume", at(d, "Volumes", 0, "EFSVolumeConfiguration", "FilesystemId"), "fs-0a")
	must(t, "mount target", at(get(t, l, "MountA"), "FileSystemId"), "fs-0a")
	must(t, "access point", at(get(t, l, "NodeARepo"), "FileSystemId"), "fs-0a")
	must(t, "another zone's", at(get(t, l, "MountB"), "FileSystemId"), "FileSystemB")
	must(t, "bucket", env(at(d, "ContainerDefinitions", 0))["IPFS_S3_BUCKET"], "old-blocks")
	role := fmt.Sprint(at(get(t, l, "NodeARole"), "Policies"))
	readable := fmt.Sprint(at(get(t, l, "ExecutionRole"), "Policies"))
	for _, want := range []string{"file-system/fs-0a", "arn:aws:s3:::old-blocks/node-a/*"} {
		if !strings.Contains(role, want) {
			t.Errorf("the role of the node does not reach %s: %s", want, role)
		}
	}
	for _, secret := range []string{"seed", "swarm", "cluster"} {
		want := "arn:aws:secretsmanager:us-east-1:1:secret:" + secret
		if !strings.Contains(readable, want) || !strings.Contains(fmt.Sprint(at(d, "ContainerDefinitions")), want) {
			t.Errorf("%s is not given to the tasks, or ECS may not read it", want)
		}
	}
	// Nothing that is made refers to what is not.
	for id := range l.Resources {
		made, err := l.Exists(id)
		if err != nil {
			t.Fatal(err)
		}
		if !made {
			continue
		}
		text := fmt.Sprint(get(t, l, id))
		for _, gone := range []string{"FileSystemA.Arn", "Blocks.Arn", "FileSystemId:FileSystemA"} {
			if strings.Contains(text, gone) {
				t.Errorf("%s refers to %s", id, gone)
			}
		}
	}
}

// Peers are sent to the gateway's distribution, or to its own domain.
func TestPeersOverHttps(t *testing.T) {
	each(t, func(t *testing.T, name string, l template.Launch) {
		url := func() string { return env(at(get(t, l, tasks(l)[0]), "ContainerDefinitions", 0))["IPFS_GATEWAY_URL"] }
		if name == "private" {
			must(t, "parameter of a private network", l.Parameters["PeersOverHttps"].Type, "")
			must(t, "URL", url(), "")
			return
		}
		must(t, "by default", url(), "")
		l.Values["PeersOverHttps"], l.Values["CertificateArn"] = "on", ""
		must(t, "URL", url(), "https://GatewayDistribution.DomainName")
		l.Values["CertificateArn"], l.Values["GatewayDomain"] = "arn", "ipfs.example.org"
		must(t, "URL", url(), "https://ipfs.example.org")
	})
}

// A node forgets what no pin needs: gc is on, with a limit in bytes that the user may choose, and a gateway
// that serves only what is here. Commands run with the same settings (TestHands).
func TestStorageIsBounded(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		must(t, "default", l.Parameters["GatewayNoFetch"].Default, "true")
		for _, max := range []string{storageMax, "2TiB"} {
			l.Values["StorageMax"] = max
			for _, id := range tasks(l) {
				e := env(at(get(t, l, id), "ContainerDefinitions", 0))
				must(t, id, e["IPFS_GC"]+" "+e["IPFS_STORAGE_MAX"]+" "+e["IPFS_CONFIG_Gateway_NoFetch"], "on "+max+" true")
			}
		}
		accepted := regexp.MustCompile(l.Parameters["StorageMax"].AllowedPattern)
		for value, ok := range map[string]bool{storageMax: true, "2TB": true, "0GB": false, "500": false, "": false, "1PB": false} {
			if accepted.MatchString(value) != ok {
				t.Errorf("StorageMax=%s: accepted is %v", value, !ok)
			}
		}
	})
}

// The cache fits on the disk, with room for image and index; the default is free.
func TestCacheFitsTheDisk(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		for _, v := range l.Parameters["CacheSize"].AllowedValues {
			l.Values["CacheSize"] = fmt.Sprint(v)
			var cache, disk int
			fmt.Sscanf(l.Values["CacheSize"], "%dGiB", &cache)
			for _, id := range l.OfType("AWS::ECS::TaskDefinition") {
				d := get(t, l, id)
				disk = 20
				if given := at(d, "EphemeralStorage", "SizeInGiB"); given != nil {
					fmt.Sscan(fmt.Sprint(given), &disk)
					if disk < 21 || disk > 200 {
						t.Errorf("a disk of %d GiB, and Fargate has 21 to 200", disk)
					}
				}
				if disk-cache < 12 {
					t.Errorf("%s: a cache of %d GiB on a disk of %d", id, cache, disk)
				}
			}
		}
		must(t, "the default", at(get(t, launched(t, OneZone), "NodeATask"), "EphemeralStorage"), nil)
	})
}

// The pinning service API is a path of the API's distribution, and nothing of it is there when it is off.
func TestPinningApi(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		state := func() string {
			c := at(get(t, l, "ApiDistribution"), "DistributionConfig")
			s := get(t, l, "NodeA")
			sidecar := at(get(t, l, "NodeATask"), "ContainerDefinitions", 1)
			balancers, _ := at(s, "LoadBalancers").([]any)
			origins, _ := at(c, "Origins").([]any)
			return fmt.Sprint(at(c, "CacheBehaviors", 0, "PathPattern"), " ", at(c, "CacheBehaviors", 0, "TargetOriginId"), " ", len(origins), " ", len(balancers), " ",
				env(sidecar)["CLUSTER_PINSVCAPI_ENABLED"], " ", env(sidecar)["CLUSTER_PINSVCAPI_HTTPLISTENMULTIADDRESS"])
		}
		must(t, "off", state(), "<nil> <nil> 1 2  ")
		l.Values["PinningApi"] = "on"
		must(t, "on", state(), "/psa/* pinning 2 3 true /ip4/0.0.0.0/tcp/9097")
	})
	out, err := exec.Command("node", "-e", pinningFunction+`
console.log(['/psa/pins', '/psa/pins/a%2Fb', '/psa/', '/psax/pins', '/pins'].map(function (u) { return handler({request: {uri: u}}).uri }).join(' '))`).Output()
	if err != nil {
		t.Fatal(err)
	}
	must(t, "paths", strings.TrimSpace(string(out)), "/pins /pins/a%2Fb / /psax/pins /pins")
}

// A distribution can be put under a CloudFront flat-rate plan: nothing that plans exclude, a web ACL and a function of
// its own, none of which another distribution has.
func TestPlanEligible(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		l.Values["PinningApi"], l.Values["GatewayWebAclArn"], l.Values["ApiWebAclArn"] = "on", "acl-g", "acl-a"
		if broken, err := l.Broken(); err != nil || len(broken) > 0 {
			t.Errorf("%v, %v", broken, err)
		}
		users := map[string]string{}
		for _, id := range l.OfType("AWS::CloudFront::Distribution") {
			c := at(get(t, l, id), "DistributionConfig")
			text := jsonOf(t, c)
			for _, no := range []string{"LambdaFunctionAssociations", "RealtimeLogConfigArn", "ForwardedValues", "OriginAccessIdentity", "FieldLevelEncryptionId", "ContinuousDeploymentPolicyId", "IamCertificateId", `"SslSupportMethod":"vip"`} {
				if strings.Contains(text, no) {
					t.Errorf("%s has %s, which no plan allows", id, no)
				}
			}
			own := []string{fmt.Sprint(at(c, "WebACLId"))}
			behaviors, _ := at(c, "CacheBehaviors").([]any)
			for _, b := range append(behaviors, at(c, "DefaultCacheBehavior")) {
				functions, _ := at(b, "FunctionAssociations").([]any)
				for _, f := range functions {
					own = append(own, fmt.Sprint(at(f, "FunctionARN")))
				}
			}
			for _, o := range own {
				if o == "" || users[o] != "" && users[o] != id {
					t.Errorf("%s shares %q with %s", id, o, users[o])
				}
				users[o] = id
			}
		}
		must(t, "web ACLs and functions", len(users), 4)
	})
	text := jsonOf(t, launched(t, "guard").Template)
	for _, no := range []string{"ManagedRuleGroupStatement", "Captcha"} {
		if strings.Contains(text, no) {
			t.Errorf("the web ACLs have %s, which not every plan allows", no)
		}
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A command of the operator's runs with the storage, role and settings of a node, and needs nobody else.
func TestHands(t *testing.T) {
	each(t, func(t *testing.T, _ string, l template.Launch) {
		for _, task := range tasks(l) {
			node := strings.TrimSuffix(task, "Task")
			d := get(t, l, task)
			for i, id := range []string{node + "NodeHands", node + "ClusterHands"} {
				h := get(t, l, id)
				must(t, id+" alone", len(at(h, "ContainerDefinitions").([]any)), 1)
				c, own := at(h, "ContainerDefinitions", 0), at(d, "ContainerDefinitions", i)
				for _, same := range []string{"Environment", "Secrets", "MountPoints", "Image"} {
					must(t, id+" "+same, at(c, same), at(own, same))
				}
				must(t, id+" volumes", at(h, "Volumes"), at(d, "Volumes"))
				must(t, id+" role", at(h, "TaskRoleArn"), at(d, "TaskRoleArn"))
				must(t, id+" waits for none", fmt.Sprint(at(c, "DependsOn"), at(c, "HealthCheck")), "<nil> <nil>")
			}
		}
	})
}
