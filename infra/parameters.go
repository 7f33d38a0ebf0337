package infra

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ipfs-aws/ipfs-aws/infra/prices"
)

// parameters are what a user may choose when the stack is launched or updated.
type parameters struct {
	stack      awscdk.Stack
	conditions map[string]awscdk.CfnCondition
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

func newParameters(stack awscdk.Stack, o Options) *parameters {
	p := &parameters{stack: stack, conditions: map[string]awscdk.CfnCondition{}}
	add := func(id, kind string, value any, description string, props awscdk.CfnParameterProps) {
		props.Type, props.Default, props.Description = &kind, value, &description
		awscdk.NewCfnParameter(stack, &id, &props)
	}
	text := func(id, value, description, pattern string) {
		add(id, "String", value, description, awscdk.CfnParameterProps{AllowedPattern: &pattern})
	}
	oneOf := func(id, value, description string, accepted ...string) {
		add(id, "String", value, description, awscdk.CfnParameterProps{AllowedValues: jsii.Strings(accepted...)})
	}
	number := func(id string, value, least, most float64, description string) {
		add(id, "Number", value, description, awscdk.CfnParameterProps{MinValue: &least, MaxValue: &most})
	}

	for _, image := range [][2]string{{"NodeImage", "ipfs-aws"}, {"ClusterImage", "cluster-aws"}} {
		add(image[0], "String", nil, "Registry/"+image[1]+":"+Version+", of your ECR (see infra/README.md) or where anybody may pull. Change it to upgrade.",
			awscdk.CfnParameterProps{AllowedPattern: jsii.String("^[^ ]+[:@][^ /]+$")})
	}
	var names, costs []string
	for _, s := range sizes {
		vcpu, gb := float64(s.CPU)/1024, float64(s.Memory)/1024
		names = append(names, s.Name)
		costs = append(costs, fmt.Sprintf("%s %g vCPU, %g GB, $%.0f", s.Name, vcpu, gb, prices.TaskMonth(o.architecture(), vcpu, gb)))
	}
	oneOf("TaskSize", "small", fmt.Sprintf("Of each of the %d tasks, a month: %s.", 3*o.Nodes, strings.Join(costs, "; ")), names...)
	number("TasksPerNode", 1, 0, 1, "0 stops all nodes, for a restore or to save money; nothing is lost.")
	for i, z := range o.Zones {
		number("Zone"+letters[i], float64(z), 0, maxZone, "Which of the region's zones, from 0. Never change it.")
	}
	oneOf("Copies", "all", "On how many nodes a pin is kept, unless it says otherwise; storage is paid for each. Zones differ.", "all", "1", "2", "3")
	oneOf("GatewayNoFetch", "false", "true: the gateway serves only what its node has, so that strangers fill neither disk nor bill.", "false", "true")
	text("CacheSize", "8GiB", "Of what was read, on each task's own disk; 20 GiB are free.", "^[0-9]+(MiB|GiB)$")

	oneOf("EfsThroughput", o.Throughput, fmt.Sprintf("bursting: free, 50 KiB/s per GiB stored. elastic: read %s, written %s. provisioned: %s.",
		prices.Say("efs.elastic.read.gb"), prices.Say("efs.elastic.write.gb"), prices.Say("efs.provisioned.mibps-month")), "bursting", "elastic", "provisioned")
	number("EfsProvisionedMiBps", float64(max(o.MiBps, 1)), 1, 1024, "MiB/s of each file system, if provisioned, "+prices.Say("efs.provisioned.mibps-month")+".")
	oneOf("EfsBackups", "ENABLED", "Daily backups of EFS, "+prices.Say("efs.backup.gb-month")+".", "ENABLED", "DISABLED")

	const domain = "^[a-z0-9.-]+[.][a-z]{2,}$"
	text("GatewayDomain", cmp.Or(o.GatewayDomain, exampleGateway), "Own domain of the gateway, if there is a certificate.", domain)
	text("ApiDomain", cmp.Or(o.APIDomain, exampleAPI), "The same of the REST API.", domain)
	text("CertificateArn", o.Certificate, "ACM certificate for both domains, in us-east-1. Empty: CloudFront's domains. Free.", "^$|^arn:aws[a-z-]*:acm:us-east-1:.+$")
	text("ApiWebAclArn", "", fmt.Sprintf("AWS WAF web ACL (global) for the REST API. Empty: none. %s, %s, %s, a month.", prices.Say("waf.acl-month"), prices.Say("waf.rule-month"), prices.Say("waf.request")), "^$|^arn:aws[a-z-]*:wafv2:us-east-1:.+$")

	oneOf("LogDays", "30", "Days that logs are kept. "+prices.Say("cloudwatch.logs.gb")+".", "7", "14", "30", "90", "365")
	text("AlarmEmail", "", "Where alarms go, after a mail to confirm. Empty: nowhere.", "^$|^[^@ ]+@[^@ ]+$")
	if o.Storage == S3 {
		number("S3RequestBudget", 20, 1, 1000000, "USD a month; an alarm when S3 requests run at more.")
	}
	number("MonthlyBudget", 0, 0, 10000000, "USD a month of the whole account; a mail to AlarmEmail at 80 %. 0: none. Free.")
	p.rules()
	return p
}

// What the domains are until somebody names his.
const exampleGateway, exampleAPI = "ipfs.example.com", "pin.example.com"

// rules are checked before CloudFormation makes anything: who launches a template
// without the command line meets them instead of Parse.
func (p *parameters) rules() {
	rule := func(id, says string, must awscdk.ICfnConditionExpression) {
		awscdk.NewCfnRule(p.stack, jsii.String(id), &awscdk.CfnRuleProps{
			Assertions: &[]*awscdk.CfnRuleAssertion{{Assert: must, AssertDescription: jsii.String(says)}},
		})
	}
	rule("ZonesDiffer", "ZoneA, ZoneB and ZoneC must differ: each zone has its own subnets, storage and tasks.", awscdk.Fn_ConditionAnd(
		not(same("ZoneA", "ZoneB")), not(same("ZoneB", "ZoneC")), not(same("ZoneA", "ZoneC"))))
	rule("DomainHasCertificate", "Own domains need CertificateArn.", awscdk.Fn_ConditionOr(
		not(equal("CertificateArn", "")), awscdk.Fn_ConditionAnd(equal("GatewayDomain", exampleGateway), equal("ApiDomain", exampleAPI))))
	rule("BudgetHasAddress", "MonthlyBudget needs AlarmEmail.", awscdk.Fn_ConditionOr(equal("MonthlyBudget", "0"), not(equal("AlarmEmail", ""))))
}

// given is a condition that holds when a parameter is not the empty value.
func (p *parameters) given(parameter, empty string) awscdk.CfnCondition {
	return p.when("Has"+parameter, not(equal(parameter, empty)))
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
