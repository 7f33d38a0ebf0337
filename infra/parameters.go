package infra

import (
	"fmt"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ipfs-aws/ipfs-aws/infra/prices"
)

// parameters are what a user may choose when the stack is launched or updated.
type parameters struct {
	stack awscdk.Stack

	nodeImage, clusterImage, imageTag awscdk.CfnParameter
	size, running                     awscdk.CfnParameter
	zones                             [3]awscdk.CfnParameter
	copies, gatewayNoFetch            awscdk.CfnParameter
	throughput, mibps, backups        awscdk.CfnParameter
	cacheSize                         awscdk.CfnParameter
	gatewayDomain, apiDomain          awscdk.CfnParameter
	certificate, priceClass, webACL   awscdk.CfnParameter
	prefixList                        awscdk.CfnParameter
	logDays, alarmEmail               awscdk.CfnParameter
	requestBudget, monthlyBudget      awscdk.CfnParameter

	conditions map[string]awscdk.CfnCondition
}

// size of a task: what Fargate has, and how its memory is divided.
type size struct {
	Name                       string
	CPU, Memory, Node, Cluster int // units of 1/1024 vCPU; MiB
}

// sizes are steps at which Fargate's ratio of memory is 4 GB a vCPU. The sidecar
// needs 259 MiB with 100,000 pins (docs/cluster.md), the node what is left.
var sizes = []size{
	{"small", 512, 2048, 1536, 512},
	{"medium", 1024, 4096, 3328, 768},
	{"large", 2048, 8192, 7168, 1024},
	{"xlarge", 4096, 16384, 14336, 2048},
}

func newParameters(stack awscdk.Stack, o Options) *parameters {
	p := &parameters{stack: stack, conditions: map[string]awscdk.CfnCondition{}}
	text := func(id, value, description string, pattern string, accepted ...string) awscdk.CfnParameter {
		props := &awscdk.CfnParameterProps{Type: jsii.String("String"), Default: value, Description: jsii.String(description)}
		if len(accepted) > 0 {
			props.AllowedValues = jsii.Strings(accepted...)
		}
		if pattern != "" {
			props.AllowedPattern = jsii.String(pattern)
			props.ConstraintDescription = jsii.String("See the description of " + id + ".")
		}
		return awscdk.NewCfnParameter(stack, jsii.String(id), props)
	}
	number := func(id string, value, least, most float64, description string) awscdk.CfnParameter {
		return awscdk.NewCfnParameter(stack, jsii.String(id), &awscdk.CfnParameterProps{
			Type: jsii.String("Number"), Default: value, MinValue: &least, MaxValue: &most, Description: jsii.String(description),
		})
	}

	const image = `^$|^[a-z0-9][a-zA-Z0-9._/:@-]+$`
	p.imageTag = text("ImageTag", Version, "Tag (release) of both images in this account's ECR, repositories ipfs-aws and cluster-aws. Change it to upgrade.", `^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	p.nodeImage = text("NodeImage", "", "Image of the node, with its registry. Empty: ipfs-aws in this account's ECR. Another registry must let anybody pull.", image)
	p.clusterImage = text("ClusterImage", "", "The same of the sidecar. Empty: cluster-aws in this account's ECR.", image)

	var names, costs []string
	for _, s := range sizes {
		vcpu, gb := float64(s.CPU)/1024, float64(s.Memory)/1024
		names = append(names, s.Name)
		costs = append(costs, fmt.Sprintf("%s %g vCPU, %g GB ($%.0f)", s.Name, vcpu, gb, prices.TaskMonth(o.architecture(), vcpu, gb)))
	}
	p.size = text("TaskSize", "medium", "Size of a task, and what it costs a month: "+strings.Join(costs, ", ")+fmt.Sprintf(". There are %d tasks.", 3*o.Nodes), "", names...)
	p.running = number("TasksPerNode", 1, 0, 1, "1: the nodes run. 0: they are stopped, for a restore or to save money; nothing is lost.")
	for i, z := range o.Zones {
		p.zones[i] = number("Zone"+string(rune('A'+i)), float64(z), 0, maxZone, "Which of the region's zones, counted from 0, is the stack's. Never change it in a stack that has content.")
	}

	p.copies = text("Copies", "all", "On how many nodes a pin is kept unless it says otherwise. Storage is paid for each copy. Fewer than all spreads them over zones.", "", "all", "1", "2", "3")
	p.gatewayNoFetch = text("GatewayNoFetch", "false", "false: the gateway fetches from the network what no node of this stack has, as IPFS gateways do. true: it serves only what its own node has, so nobody can fill disk and bill.", "", "false", "true")
	p.cacheSize = text("CacheSize", "8GiB", "Of what was read, kept on the disk of each task (20 GiB are free) so that storage is not asked again.", `^[0-9]+(MiB|GiB)$`)

	p.throughput = text("EfsThroughput", o.Throughput, fmt.Sprintf("bursting: in the price of storage, 50 KiB/s per GiB stored. elastic: as needed; read %s, written %s. provisioned: %s and file system.",
		prices.Say("efs.elastic.read.gb"), prices.Say("efs.elastic.write.gb"), prices.Say("efs.provisioned.mibps-month")), "", "bursting", "elastic", "provisioned")
	p.mibps = number("EfsProvisionedMiBps", float64(o.MiBps), 0, 1024, fmt.Sprintf("MiB/s of each file system with provisioned throughput, %s: 0 with any other.", prices.Say("efs.provisioned.mibps-month")))
	p.backups = text("EfsBackups", "ENABLED", "Daily backups of EFS, kept 35 days; "+prices.Say("efs.backup.gb-month")+".", "", "ENABLED", "DISABLED")

	const domain = `^$|^([a-z0-9]([a-z0-9-]*[a-z0-9])?[.])+[a-z]{2,}$`
	p.gatewayDomain = text("GatewayDomain", o.GatewayDomain, "Own domain of the gateway. Empty: CloudFront's. Point it to the distribution (CNAME or alias).", domain)
	p.apiDomain = text("ApiDomain", o.APIDomain, "Own domain of the REST API, likewise.", domain)
	p.certificate = text("CertificateArn", o.Certificate, "ACM certificate in us-east-1 for the own domains. ACM's are free.", `^$|^arn:aws[a-z-]*:acm:us-east-1:[0-9]{12}:certificate/[0-9a-f-]+$`)
	p.priceClass = text("PriceClass", "PriceClass_All", "Where CloudFront serves from. All: everywhere, "+prices.Say("cloudfront.gb")+" and up. 100: North America and Europe, the cheapest.", "", "PriceClass_All", "PriceClass_200", "PriceClass_100")
	p.webACL = text("ApiWebAclArn", "", fmt.Sprintf("AWS WAF web ACL (global) for the REST API. Empty: none. %s, %s, %s.", prices.Say("waf.acl-month"), prices.Say("waf.rule-month"), prices.Say("waf.request")), `^$|^arn:aws[a-z-]*:wafv2:us-east-1:.+$`)
	p.prefixList = text("CloudFrontPrefixList", "", "ID of com.amazonaws.global.cloudfront.origin-facing in this region. Empty: the one this template knows.", `^$|^pl-[0-9a-f]+$`)

	p.logDays = text("LogDays", "30", "How many days logs are kept. Taking them in: "+prices.Say("cloudwatch.logs.gb")+".", "", "7", "14", "30", "90", "365")
	p.alarmEmail = text("AlarmEmail", "", "Where alarms are sent; the address gets a mail to confirm. Empty: nowhere.", `^$|^[^@ ]+@[^@ ]+$`)
	if o.Storage == S3 {
		p.requestBudget = number("S3RequestBudget", 20, 1, 1000000, "USD a month that S3 requests may cost: an alarm says when they run at more.")
	}
	p.monthlyBudget = number("MonthlyBudget", 0, 0, 10000000, "USD a month that the whole account may cost: AWS Budgets writes to AlarmEmail at 80 % and at a forecast of 100 %. 0: no budget. Free of charge.")
	p.rules()
	return p
}

// rules are checked before CloudFormation makes anything: who launches a template
// without the command line meets them instead of Parse.
func (p *parameters) rules() {
	rule := func(id, says string, must awscdk.ICfnConditionExpression) {
		awscdk.NewCfnRule(p.stack, jsii.String(id), &awscdk.CfnRuleProps{
			Assertions: &[]*awscdk.CfnRuleAssertion{{Assert: must, AssertDescription: jsii.String(says)}},
		})
	}
	differ := func(a, b awscdk.CfnParameter) awscdk.ICfnConditionExpression { return not(equal(ref(a), *ref(b))) }
	rule("ZonesDiffer", "ZoneA, ZoneB and ZoneC must differ: each zone has its own subnets, storage and tasks.", awscdk.Fn_ConditionAnd(
		differ(p.zones[0], p.zones[1]), differ(p.zones[1], p.zones[2]), differ(p.zones[0], p.zones[2])))
	rule("ThroughputHasMiBps", "EfsThroughput provisioned needs EfsProvisionedMiBps, and no other has it.", not(awscdk.Fn_ConditionOr(
		awscdk.Fn_ConditionAnd(equal(ref(p.throughput), "provisioned"), equal(ref(p.mibps), "0")),
		awscdk.Fn_ConditionAnd(not(equal(ref(p.throughput), "provisioned")), not(equal(ref(p.mibps), "0"))))))
	rule("DomainHasCertificate", "GatewayDomain and ApiDomain need CertificateArn, of an ACM certificate in us-east-1.", awscdk.Fn_ConditionOr(
		not(equal(ref(p.certificate), "")),
		awscdk.Fn_ConditionAnd(equal(ref(p.gatewayDomain), ""), equal(ref(p.apiDomain), ""))))
	rule("BudgetHasAddress", "MonthlyBudget needs AlarmEmail to write to.", awscdk.Fn_ConditionOr(
		equal(ref(p.monthlyBudget), "0"), not(equal(ref(p.alarmEmail), ""))))
}

// given is a condition that holds when a parameter is not the empty value.
func (p *parameters) given(a awscdk.CfnParameter, empty string) awscdk.CfnCondition {
	return p.when("Has"+*a.Node().Id(), not(equal(ref(a), empty)))
}

func (p *parameters) when(id string, holds awscdk.ICfnConditionExpression) awscdk.CfnCondition {
	if p.conditions[id] == nil {
		p.conditions[id] = awscdk.NewCfnCondition(p.stack, jsii.String(id), &awscdk.CfnConditionProps{Expression: holds})
	}
	return p.conditions[id]
}

// choose is one of two values in a template. nil leaves the property out.
func choose(c awscdk.CfnCondition, yes, no any) awscdk.IResolvable {
	if no == nil {
		no = awscdk.Aws_NO_VALUE()
	}
	return awscdk.Fn_ConditionIf(c.LogicalId(), yes, no)
}

func chooseText(c awscdk.CfnCondition, yes, no any) *string {
	return awscdk.Token_AsString(choose(c, yes, no), nil)
}

// ref is the value of a parameter of any type.
func ref(p awscdk.CfnParameter) *string { return awscdk.Token_AsString(p.Value(), nil) }

func equal(a *string, b string) awscdk.ICfnConditionExpression {
	return awscdk.Fn_ConditionEquals(a, b)
}

func not(c awscdk.ICfnConditionExpression) awscdk.ICfnConditionExpression {
	return awscdk.Fn_ConditionNot(c)
}
