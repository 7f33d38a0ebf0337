package infra

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/ipfs-aws/ipfs-aws/internal/prices"
)

// GuardName is the name of the stack that Guard makes.
const GuardName = "ipfs-guard"

// NewGuard adds what guards an account's bill and cannot be in the stack of the nodes: a web ACL of
// CloudFront exists in us-east-1 only, and so does, of the regions that matter here, a budget (a template
// with a type that a region does not know is refused there as a whole). It is launched first, in us-east-1.
func NewGuard(app awscdk.App) awscdk.Stack {
	stack := awscdk.NewStack(app, jsii.String(GuardName), &awscdk.StackProps{
		Description:                 jsii.String("ipfs-aws " + Version + ": limits for both front doors and a budget; launch it in us-east-1"),
		Synthesizer:                 awscdk.NewLegacyStackSynthesizer(),
		SuppressTemplateIndentation: jsii.Bool(true),
	})
	p := &parameters{stack: stack, conditions: map[string]awscdk.CfnCondition{}, labels: object{}}
	p.group("Requests that one address may send in five minutes; more are answered with 403")
	price := fmt.Sprintf(" A web ACL and its rule: $%g a month, and %s.", prices.Of("waf.acl-month")+prices.Of("waf.rule-month"), prices.Million("waf.request"))
	p.number("GatewayRate", "To the gateway", 3000, 10, 2000000000, "Of a page with a hundred pictures, 3000 are six visits a minute."+price)
	p.number("ApiRate", "To the REST API", 3000, 10, 2000000000, "A cluster-aws ctl that pins one after the other sends some ten a second."+price)
	p.group("Budget of the account")
	p.number("MonthlyBudget", "USD a month", 0, 0, 10000000, "Of the whole account; a mail when 80 % are spent, and when 100 % are forecast. 0: none. Free.")
	p.text("AlarmEmail", "Mail address", "", "Where those mails go.", "^$|^[^@ ]+@[^@ ]+$")
	stack.AddMetadata(jsii.String("AWS::CloudFormation::Interface"), object{"ParameterGroups": p.groups, "ParameterLabels": p.labels})

	rule := func(id, says string, must awscdk.ICfnConditionExpression) {
		awscdk.NewCfnRule(stack, jsii.String(id), &awscdk.CfnRuleProps{Assertions: &[]*awscdk.CfnRuleAssertion{{Assert: must, AssertDescription: jsii.String(says)}}})
	}
	rule("InUsEast1", "Launch this template in us-east-1: CloudFront's web ACLs are nowhere else.", equal("AWS::Region", "us-east-1"))
	rule("BudgetHasAddress", "MonthlyBudget needs AlarmEmail.", awscdk.Fn_ConditionOr(equal("MonthlyBudget", "0"), not(equal("AlarmEmail", ""))))

	for _, d := range []string{"Gateway", "Api"} {
		visible := func(name string) object {
			return object{"CloudWatchMetricsEnabled": true, "SampledRequestsEnabled": true, "MetricName": name}
		}
		resource(stack, d+"WebAcl", "AWS::WAFv2::WebACL", object{
			"Scope": "CLOUDFRONT", "DefaultAction": object{"Allow": object{}}, "VisibilityConfig": visible(d + "WebAcl"),
			"Rules": list{object{
				"Name": "rate", "Priority": 0, "Action": object{"Block": object{}}, "VisibilityConfig": visible(d + "Rate"),
				"Statement": object{"RateBasedStatement": object{"AggregateKeyType": "IP", "EvaluationWindowSec": 300, "Limit": ref(d + "Rate")}},
			}},
		})
		output(stack, d+"WebAclArn", "Parameter "+d+"WebAclArn of the stack of the nodes", attribute(d+"WebAcl", "Arn"))
	}
	tell := func(kind string, percent int) object {
		return object{
			"Notification": object{"NotificationType": kind, "ComparisonOperator": "GREATER_THAN", "Threshold": percent},
			"Subscribers":  list{object{"SubscriptionType": "EMAIL", "Address": ref("AlarmEmail")}},
		}
	}
	only(p.given("MonthlyBudget", "0"), resource(stack, "Budget", "AWS::Budgets::Budget", object{
		"Budget":                       object{"BudgetType": "COST", "TimeUnit": "MONTHLY", "BudgetLimit": object{"Amount": ref("MonthlyBudget"), "Unit": "USD"}},
		"NotificationsWithSubscribers": list{tell("ACTUAL", 80), tell("FORECASTED", 100)},
	}))
	return stack
}
