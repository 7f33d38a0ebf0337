package infra

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ipfs-aws/ipfs-aws/internal/prices"
)

// parameters are what a user may choose when the stack is launched or updated.
type parameters struct {
	stack      awscdk.Stack
	conditions map[string]awscdk.CfnCondition
	groups     list   // of AWS::CloudFormation::Interface
	labels     object // by parameter
}

// size of a task: what Fargate has, and how its memory is divided.
type size struct {
	Name                       string
	CPU, Memory, Node, Cluster int // units of 1/1024 vCPU; MiB
}

// sizes go together in Fargate however processors and memory are combined, which
// is what CloudFormation's validation asks. The sidecar needs 259 MiB with 100,000 pins (docs/cluster.md), the node what is left.
var sizes = []size{
	{"small", 1024, 4096, 3328, 768},
	{"medium", 1024, 8192, 7168, 1024},
	{"large", 2048, 8192, 7168, 1024},
}

// The disk of a task has 20 GiB for nothing and 200 at most. The default cache leaves 12 of them for
// the image, and with S3 for the index (50 bytes a block: some 230 million); a larger cache gets a
// disk that leaves as much.
const (
	freeDisk  = 20
	smallDisk = 8
)

var caches = []int{smallDisk, 30, 80, 180} // GiB

func diskOf(cache int) int { return cache + freeDisk - smallDisk }

// storageMax is the default of what a node may hold. What no pin needs costs money until 90 % of it are
// used: up to $72 a month and node on EFS One Zone, if everything were unpinned. A collection reads what
// is pinned, so the limit should be above that.
const (
	storageMax   = "500GiB"
	storageMaxGB = 500 // AWS bills storage by the GB of 2^30 bytes
)

// storedPrice is USD for a GB-month of blocks.
func storedPrice(o Options) float64 {
	return prices.Of(map[string]string{OneZone: "efs.onezone.gb-month", Standard: "efs.standard.gb-month", S3: "s3.gb-month"}[o.Storage])
}

func newParameters(stack awscdk.Stack, o Options) *parameters {
	p := &parameters{stack: stack, conditions: map[string]awscdk.CfnCondition{}, labels: object{}}
	const webACL = "^$|^arn:aws[a-z-]*:wafv2:us-east-1:.+$"

	p.group("Images")
	for _, image := range [][3]string{{"NodeImage", "ipfs-aws", o.NodeImage}, {"ClusterImage", "cluster-aws", o.ClusterImage}} {
		var value any
		if image[2] != "" {
			value = image[2]
		}
		p.add(image[0], "Image of "+image[1], "String", value, "Registry/"+image[1]+":TAG or @sha256:DIGEST, of an ECR that the account may read, or public. Change it to upgrade.",
			awscdk.CfnParameterProps{AllowedPattern: jsii.String("^[^ ]+[:@][^ /]+$")})
	}

	p.group("Zones: three that infra/README.md's command prints; never change them")
	for i, z := range o.Zones {
		var value any
		if z != "" {
			value = z
		}
		p.add("Zone"+letters[i], "Zone "+letters[i], "AWS::EC2::AvailabilityZone::Name", value, "Where node-"+strings.ToLower(letters[i])+" and its storage are. Not each zone has what the stack needs: see infra/README.md.", awscdk.CfnParameterProps{})
	}

	p.group("Tasks and content")
	var names, costs []string
	for _, s := range sizes {
		vcpu, gb := float64(s.CPU)/1024, float64(s.Memory)/1024
		names = append(names, s.Name)
		costs = append(costs, fmt.Sprintf("%s %g vCPU, %g GB, $%.0f", s.Name, vcpu, gb, prices.TaskMonth(o.architecture(), vcpu, gb)))
	}
	p.oneOf("TaskSize", "Size of a task", "small", fmt.Sprintf("Of each of the %d tasks, a month: %s.", 3*o.Nodes, strings.Join(costs, "; ")), names...)
	p.number("TasksPerNode", "Run the nodes", 1, 0, 1, "0 stops all nodes, for a restore or to save money; nothing is lost.")
	p.oneOf("Copies", "Copies of a pin", "all", "On how many nodes a pin is kept, unless it says otherwise; storage is paid for each. Zones differ.", "all", "1", "2", "3")
	p.add("StorageMax", "Storage of a node", "String", storageMax, "What a node may hold, pinned or not. From 90 % on it removes what no pin needs and no one has touched for an hour. No quota: pins beyond it are kept. "+
		fmt.Sprintf("Full, a month and node: %s costs $%.0f.", storageMax, storageMaxGB*storedPrice(o)), awscdk.CfnParameterProps{AllowedPattern: jsii.String("^[1-9][0-9]*(GB|GiB|TB|TiB)$")})
	p.oneOf("GatewayNoFetch", "Gateway serves own content only", "true", "true: the gateway serves only what its node has, so that strangers fill neither disk nor bill. false: it fetches what anyone asks for and keeps it.", "true", "false")
	var disks, diskCosts []string
	for _, c := range caches {
		disks = append(disks, strconv.Itoa(c)+"GiB")
		diskCosts = append(diskCosts, fmt.Sprintf("%dGiB $%.2f", c, prices.DiskMonth(float64(diskOf(c)))))
	}
	p.oneOf("CacheSize", "Cache of blocks", disks[0], "Of what was read, on each task's own disk, which grows with it. A month and task: "+strings.Join(diskCosts, ", ")+".", disks...)
	if o.Egress == "nat" {
		p.labels["TaskSize"] = object{"default": fmt.Sprintf("Size of a task (this template has NAT gateways: %s, and %s)", prices.Say("nat.hour"), prices.Say("nat.gb"))}
	}

	p.group("EFS")
	p.oneOf("EfsThroughput", "Throughput", o.Throughput, fmt.Sprintf("bursting: free, 50 KiB/s per GiB stored. elastic: read %s, written %s. provisioned: %s.",
		prices.Say("efs.elastic.read.gb"), prices.Say("efs.elastic.write.gb"), prices.Say("efs.provisioned.mibps-month")), "bursting", "elastic", "provisioned")
	p.number("EfsProvisionedMiBps", "Provisioned throughput", float64(max(o.MiBps, 1)), 1, 1024, "MiB/s of each file system, if provisioned, "+prices.Say("efs.provisioned.mibps-month")+".")
	backups := fmt.Sprintf("Daily backups by AWS Backup, %s.", prices.Say("efs.backup.gb-month"))
	switch o.Storage {
	case OneZone:
		p.oneOf("EfsBackups", "Backups", "one", backups+" one: of zone A, which has everything if Copies is all.", "one", "all", "none")
	case Standard:
		p.oneOf("EfsBackups", "Backups", "none", backups+" all: of the one file system, with every copy in it.", "none", "all")
	default:
		p.oneOf("EfsBackups", "Backups", "all", backups+" Of journals, pins and keys, not of the bucket.", "all", "none")
	}

	p.group("Front doors")
	const domain = "^$|^[a-z0-9.-]+[.][a-z]{2,}$"
	p.text("GatewayDomain", "Domain of the gateway", o.GatewayDomain, "Such as ipfs.example.com. Empty: CloudFront's own domain.", domain)
	p.text("ApiDomain", "Domain of the REST API", o.APIDomain, "Such as pin.example.com. Empty: CloudFront's own domain.", domain)
	p.text("CertificateArn", "Certificate", o.Certificate, "ACM certificate for both domains, in us-east-1. Free.", "^$|^arn:aws[a-z-]*:acm:us-east-1:.+$")
	for _, d := range [][2]string{{"Gateway", "gateway"}, {"Api", "REST API"}} {
		p.text(d[0]+"WebAclArn", "Web ACL of the "+d[1], "", fmt.Sprintf("AWS WAF web ACL that limits requests per address, such as templates/guard.json's. Empty: none. %s, %s, %s.",
			prices.Say("waf.acl-month"), prices.Say("waf.rule-month"), prices.Million("waf.request")), webACL)
	}
	if !o.Private {
		p.oneOf("PeersOverHttps", "IPFS peers use the gateway", "off", "on: nodes announce the gateway, and peers fetch blocks there, from CloudFront's cache, and not from the nodes. Worth it with a CloudFront flat-rate plan. Needs Copies=all.", "off", "on")
	}
	p.oneOf("PinningApi", "Pinning service API", "off", "on: the IPFS pinning service API is at /psa of the REST API's URL, with the same password.", "off", "on")

	p.group("Watching")
	p.oneOf("LogDays", "Keep logs", "30", "Days. "+prices.Say("cloudwatch.logs.gb")+".", "7", "14", "30", "90", "365")
	p.text("AlarmEmail", "Mail address for alarms", "", "Alarms go there, after a mail to confirm. Empty: nowhere.", "^$|^[^@ ]+@[^@ ]+$")
	if o.Storage == S3 {
		p.number("S3RequestBudget", "Alarm on S3 requests", 20, 1, 1000000, "USD a month; an alarm when S3 requests run at more.")
	}

	p.group("Network")
	if o.Existing {
		p.add("Vpc", "VPC", "AWS::EC2::VPC::Id", nil, "It needs an internet gateway and DNS names, and best an S3 gateway endpoint. One stack per VPC.", awscdk.CfnParameterProps{})
		p.add("VpcAddresses", "Addresses of the VPC", "String", nil, "Such as 10.1.0.0/16.", awscdk.CfnParameterProps{AllowedPattern: jsii.String("^[0-9.]+/[0-9]+$")})
		tasks := "public"
		if o.Egress == "nat" {
			tasks = "private, with a route to a NAT gateway"
		}
		for _, letter := range letters {
			p.add("TaskSubnet"+letter, "Subnet of the tasks, zone "+letter, "AWS::EC2::Subnet::Id", nil, "In Zone"+letter+", "+tasks+".", awscdk.CfnParameterProps{})
		}
		for _, letter := range letters {
			p.add("InnerSubnet"+letter, "Subnet of balancer and EFS, zone "+letter, "AWS::EC2::Subnet::Id", nil, "In Zone"+letter+". A private one will do.", awscdk.CfnParameterProps{})
		}
	}
	p.text("PrefixList", "CloudFront's prefix list", "", "ID of com.amazonaws.global.cloudfront.origin-facing in this region. Empty: known for most regions.", "^$|^pl-[0-9a-f]+$")

	p.group("Existing storage and secrets, of a stack that is gone (empty: new ones)")
	for z, letter := range letters {
		id, what := fileSystemOf(o, z), "zone "+letter
		if o.Storage == Standard {
			what = "all zones"
		}
		if o.Storage != Standard || z == 0 {
			p.text("Existing"+id, "File system of "+what, "", "ID of an EFS file system without mount targets.", "^$|^fs-[0-9a-f]+$")
		}
	}
	if o.Storage == S3 {
		p.text("ExistingBucket", "Bucket", "", "Name of a bucket in this region, with the prefixes of the nodes.", "^$|^[a-z0-9.-]{3,63}$")
	}
	for _, s := range keptSecrets(o) {
		p.text("Existing"+s, "Secret "+s, "", "ARN of a secret in this account and region.", "^$|^arn:aws[a-z-]*:secretsmanager:.+$")
	}
	p.rules(o)
	stack.AddMetadata(jsii.String("AWS::CloudFormation::Interface"), object{"ParameterGroups": p.groups, "ParameterLabels": p.labels})
	return p
}

// group opens a group of parameters in the console.
func (p *parameters) group(label string) {
	p.groups = append(p.groups, object{"Label": object{"default": label}, "Parameters": list{}})
}

func (p *parameters) add(id, label, kind string, value any, description string, props awscdk.CfnParameterProps) {
	props.Type, props.Default, props.Description = &kind, value, &description
	awscdk.NewCfnParameter(p.stack, &id, &props)
	last := p.groups[len(p.groups)-1].(object)
	last["Parameters"] = append(last["Parameters"].(list), id)
	p.labels[id] = object{"default": label}
}

func (p *parameters) text(id, label, value, description, pattern string) {
	p.add(id, label, "String", value, description, awscdk.CfnParameterProps{AllowedPattern: &pattern})
}

func (p *parameters) oneOf(id, label, value, description string, accepted ...string) {
	p.add(id, label, "String", value, description, awscdk.CfnParameterProps{AllowedValues: jsii.Strings(accepted...)})
}

func (p *parameters) number(id, label string, value, least, most float64, description string) {
	p.add(id, label, "Number", value, description, awscdk.CfnParameterProps{MinValue: &least, MaxValue: &most})
}

// rules are checked before CloudFormation makes anything: who launches a template
// without the command line meets them instead of Parse.
func (p *parameters) rules(o Options) {
	rule := func(id, says string, must awscdk.ICfnConditionExpression) {
		awscdk.NewCfnRule(p.stack, jsii.String(id), &awscdk.CfnRuleProps{
			Assertions: &[]*awscdk.CfnRuleAssertion{{Assert: must, AssertDescription: jsii.String(says)}},
		})
	}
	empty := func(ids ...string) awscdk.ICfnConditionExpression {
		var all []awscdk.ICfnConditionExpression
		for _, id := range ids {
			all = append(all, equal(id, ""))
		}
		if len(all) == 1 {
			return all[0]
		}
		return awscdk.Fn_ConditionAnd(all...)
	}
	here := awscdk.Token_AsString(ref("AWS::Region"), nil)

	rule("ZonesDiffer", "ZoneA, ZoneB and ZoneC must differ: each zone has its own subnets, storage and tasks.", awscdk.Fn_ConditionAnd(
		not(same("ZoneA", "ZoneB")), not(same("ZoneB", "ZoneC")), not(same("ZoneA", "ZoneC"))))
	rule("RegionHasZones", unfitRegion+" has no three zones with both CloudFront VPC origins and EFS One Zone: choose another region, such as us-west-2.",
		not(equal("AWS::Region", unfitRegion)))
	rule("PrefixListIsKnown", "CloudFront's prefix list of this region is not known here: give PrefixList (infra/README.md has the command).", awscdk.Fn_ConditionOr(
		not(empty("PrefixList")), awscdk.Fn_ConditionContains(jsii.Strings(sortedKeys(prefixLists)...), here)))
	rule("DomainsAndCertificate", domainsAndCertificate, awscdk.Fn_ConditionOr(
		empty("CertificateArn", "GatewayDomain", "ApiDomain"),
		awscdk.Fn_ConditionAnd(not(empty("CertificateArn")), not(empty("GatewayDomain")), not(empty("ApiDomain")), not(same("GatewayDomain", "ApiDomain")))))
	rule("WebAclsDiffer", "GatewayWebAclArn and ApiWebAclArn must differ: each door has limits of its own, and a CloudFront plan wants a web ACL for each.", awscdk.Fn_ConditionOr(
		empty("GatewayWebAclArn"), not(same("GatewayWebAclArn", "ApiWebAclArn"))))
	if !o.Private {
		rule("PeersFindAll", "PeersOverHttps needs Copies=all: the URL leads to any node, so each must have all content.", awscdk.Fn_ConditionOr(
			equal("PeersOverHttps", "off"), equal("Copies", "all")))
	}
	if o.Existing {
		for _, kind := range []string{"TaskSubnet", "InnerSubnet"} {
			rule(kind+"sDiffer", kind+"A, "+kind+"B and "+kind+"C must differ: each is in a zone of its own.", awscdk.Fn_ConditionAnd(
				not(same(kind+"A", kind+"B")), not(same(kind+"B", kind+"C")), not(same(kind+"A", kind+"C"))))
		}
	}
}

// given is a condition that holds when a parameter is not the empty value.
func (p *parameters) given(parameter, empty string) awscdk.CfnCondition {
	return p.when("Has"+parameter, not(equal(parameter, empty)))
}

// own is a condition that holds when the stack makes something itself, since Existing… is empty.
func (p *parameters) own(id string) awscdk.CfnCondition {
	return p.when("Own"+id, equal("Existing"+id, ""))
}

func (p *parameters) when(id string, holds awscdk.ICfnConditionExpression) awscdk.CfnCondition {
	if p.conditions[id] == nil {
		p.conditions[id] = awscdk.NewCfnCondition(p.stack, &id, &awscdk.CfnConditionProps{Expression: holds})
	}
	return p.conditions[id]
}

func equal(parameter, value string) awscdk.ICfnConditionExpression {
	return awscdk.Fn_ConditionEquals(ref(parameter), value)
}

func same(a, b string) awscdk.ICfnConditionExpression {
	return awscdk.Fn_ConditionEquals(ref(a), ref(b))
}

func not(c awscdk.ICfnConditionExpression) awscdk.ICfnConditionExpression {
	return awscdk.Fn_ConditionNot(c)
}
