package infra

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsbudgets"
	cw "github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/ipfs-aws/ipfs-aws/infra/prices"
)

// observe adds a topic, alarms that write to it, and a dashboard that answers
// three questions: is it up, is it fast, what does it cost.
func observe(stack awscdk.Stack, o Options, p *parameters, s *storage, n *nodes, e *edge) {
	topic := awssns.NewTopic(stack, jsii.String("Alarms"), &awssns.TopicProps{EnforceSSL: jsii.Bool(true)})
	topic.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{
			awsiam.NewServicePrincipal(jsii.String("cloudwatch.amazonaws.com"), nil), awsiam.NewServicePrincipal(jsii.String("budgets.amazonaws.com"), nil)},
		Actions: jsii.Strings("sns:Publish"), Resources: jsii.Strings(*topic.TopicArn()),
		Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID()}},
	}))
	mail := awssns.NewCfnSubscription(stack, jsii.String("AlarmMail"), &awssns.CfnSubscriptionProps{
		TopicArn: topic.TopicArn(), Protocol: jsii.String("email"), Endpoint: p.alarmEmail.ValueAsString(),
	})
	mail.CfnOptions().SetCondition(p.given(p.alarmEmail, ""))

	m := metrics{o: o, s: s, e: e}
	alarms(stack, p, m, topic)
	dashboard(stack, m)
	budget(stack, p)
}

// metrics are what alarms and dashboard look at.
type metrics struct {
	o Options
	s *storage
	e *edge
}

func metric(space, name, statistic string, minutes float64, dimensions map[string]*string) cw.Metric {
	return cw.NewMetric(&cw.MetricProps{
		Namespace: &space, MetricName: &name, Statistic: &statistic, Period: awscdk.Duration_Minutes(&minutes), DimensionsMap: &dimensions,
	})
}

func (m metrics) balancer(name, statistic string, of door) cw.Metric {
	return metric("AWS/ApplicationELB", name, statistic, 1, map[string]*string{
		"LoadBalancer": m.e.balancer.LoadBalancerFullName(), "TargetGroup": of.targets.TargetGroupFullName(),
	})
}

func (m metrics) efs(name, statistic string, i int) cw.Metric {
	return metric("AWS/EFS", name, statistic, 5, map[string]*string{"FileSystemId": m.s.systems[i].AttrFileSystemId()})
}

// cloudFront has its metrics in us-east-1 only, wherever the stack is.
func (m metrics) cloudFront(name, statistic string, of door) cw.Metric {
	return cw.NewMetric(&cw.MetricProps{
		Namespace: jsii.String("AWS/CloudFront"), MetricName: &name, Statistic: &statistic, Period: awscdk.Duration_Minutes(jsii.Number(5)), Region: jsii.String("us-east-1"),
		DimensionsMap: &map[string]*string{"DistributionId": of.distribution.DistributionId(), "Region": jsii.String("Global")},
	})
}

// requestDollars is what the S3 requests of the last hour would cost in a month.
func (m metrics) requestDollars() cw.MathExpression {
	using := map[string]cw.IMetric{}
	var dear, cheap []string
	for _, name := range []string{"PutRequests", "ListRequests", "PostRequests", "GetRequests", "HeadRequests"} {
		id := strings.ToLower(strings.TrimSuffix(name, "Requests"))
		using[id] = metric("AWS/S3", name, "Sum", 60, map[string]*string{"BucketName": m.s.bucket.BucketName(), "FilterId": jsii.String(requestMetrics)})
		if id == "get" || id == "head" {
			cheap = append(cheap, "FILL("+id+",0)")
		} else {
			dear = append(dear, "FILL("+id+",0)")
		}
	}
	decimal := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	return cw.NewMathExpression(&cw.MathExpressionProps{
		Expression: jsii.String(fmt.Sprintf("%d*((%s)*%s+(%s)*%s)", prices.HoursPerMonth, strings.Join(dear, "+"), decimal(prices.Of("s3.put")), strings.Join(cheap, "+"), decimal(prices.Of("s3.get")))),
		Label:      jsii.String("S3 requests, USD a month at this rate"), UsingMetrics: &using, Period: awscdk.Duration_Hours(jsii.Number(1)),
	})
}

func alarms(stack awscdk.Stack, p *parameters, m metrics, topic awssns.Topic) {
	add := func(id, says string, what cw.IMetric, compare cw.ComparisonOperator, threshold any, times float64, missing cw.TreatMissingData) cw.CfnAlarm {
		a := cw.NewAlarm(stack, jsii.String(id), &cw.AlarmProps{
			AlarmDescription: &says, Metric: what, ComparisonOperator: compare, Threshold: jsii.Number(0), EvaluationPeriods: &times, TreatMissingData: missing,
		})
		c := a.Node().DefaultChild().(cw.CfnAlarm)
		c.AddPropertyOverride(jsii.String("Threshold"), threshold)
		c.SetAlarmActions(jsii.Strings(*topic.TopicArn()))
		return c
	}
	const (
		above, below = cw.ComparisonOperator_GREATER_THAN_THRESHOLD, cw.ComparisonOperator_LESS_THAN_THRESHOLD
		quiet, loud  = cw.TreatMissingData_NOT_BREACHING, cw.TreatMissingData_BREACHING
	)
	all := float64(3 * m.o.Nodes)
	running := p.when("IsRunning", equal(ref(p.running), "1"))
	for _, d := range []struct {
		id, what string
		door     door
	}{{"Gateway", "gateway", m.e.gateway}, {"Api", "REST API", m.e.api}} {
		add(d.id+"NotReady", "A task has not been ready for 10 minutes ("+d.what+"): look at its log.", m.balancer("HealthyHostCount", "Minimum", d.door), below, all, 10, loud).CfnOptions().SetCondition(running)
		add(d.id+"Errors", "The "+d.what+" answers with errors (5xx).", m.balancer("HTTPCode_Target_5XX_Count", "Sum", d.door), above, 25, 5, quiet)
		add(d.id+"EdgeErrors", "More than 5 % of what CloudFront answers for the "+d.what+" are errors (5xx).", regionless(m, d.door), above, 5, 3, quiet).
			CfnOptions().SetCondition(p.when("SeesCloudFront", equal(awscdk.Aws_REGION(), "us-east-1")))
	}
	for i, fs := range m.s.systems {
		id := *fs.Node().Id()
		// A new file system has 2.1 TiB of credits; a tenth is 18 minutes at full speed.
		add(id+"Credits", "EFS has used up nine tenths of its burst credits, and will be slow: store more, or choose elastic.", m.efs("BurstCreditBalance", "Minimum", i), below, 231e9, 3, quiet).
			CfnOptions().SetCondition(p.when("IsBursting", equal(ref(p.throughput), "bursting")))
		add(id+"Busy", "EFS is at its limit of operations.", m.efs("PercentIOLimit", "Maximum", i), above, 95, 3, quiet)
	}
	if m.s.bucket != nil {
		add("S3Requests", "S3 requests run at more than S3RequestBudget a month.", m.requestDollars(), above, p.requestBudget.Value(), 3, quiet)
	}
}

// regionless is CloudFront's rate of errors as an alarm takes it: alarms may not
// name a region, and this one exists in us-east-1 only.
func regionless(m metrics, of door) cw.Metric {
	return metric("AWS/CloudFront", "5xxErrorRate", "Average", 5, map[string]*string{"DistributionId": of.distribution.DistributionId(), "Region": jsii.String("Global")})
}

func dashboard(stack awscdk.Stack, m metrics) {
	title := func(text string) cw.IWidget {
		return cw.NewTextWidget(&cw.TextWidgetProps{Markdown: jsii.String("## " + text), Width: jsii.Number(24), Height: jsii.Number(1)})
	}
	graph := func(text string, left ...cw.IMetric) cw.IWidget {
		return cw.NewGraphWidget(&cw.GraphWidgetProps{Title: &text, Width: jsii.Number(8), Left: &left})
	}
	global := func(text string, left ...cw.IMetric) cw.IWidget {
		return cw.NewGraphWidget(&cw.GraphWidgetProps{Title: &text, Width: jsii.Number(8), Left: &left, Region: jsii.String("us-east-1")})
	}
	var io, limits []cw.IMetric
	for i := range m.s.systems {
		io = append(io, m.efs("MeteredIOBytes", "Sum", i))
		limits = append(limits, m.efs("PercentIOLimit", "Maximum", i))
	}
	g, a := m.e.gateway, m.e.api
	cost := graph("EFS: metered bytes", io...)
	if m.s.bucket != nil {
		cost = graph("S3: dollars a month", m.requestDollars())
	}
	board := cw.NewDashboard(stack, jsii.String("Dashboard"), nil)
	board.AddWidgets(title("Is it up?"))
	board.AddWidgets(
		graph("Ready", m.balancer("HealthyHostCount", "Minimum", g), m.balancer("HealthyHostCount", "Minimum", a)),
		graph("Errors", m.balancer("HTTPCode_Target_5XX_Count", "Sum", g), m.balancer("HTTPCode_Target_5XX_Count", "Sum", a)),
		global("CloudFront: errors, %", m.cloudFront("5xxErrorRate", "Average", g), m.cloudFront("5xxErrorRate", "Average", a)))
	board.AddWidgets(title("Is it fast?"))
	board.AddWidgets(
		graph("Seconds to answer: half, 99 %", m.balancer("TargetResponseTime", "p50", g), m.balancer("TargetResponseTime", "p99", g)),
		graph("EFS: % of its operations", limits...),
		graph("Requests to the nodes", m.balancer("RequestCount", "Sum", g), m.balancer("RequestCount", "Sum", a)))
	board.AddWidgets(title("What does it cost?"))
	board.AddWidgets(
		cost,
		global("CloudFront: bytes to consumers", m.cloudFront("BytesDownloaded", "Sum", g)),
		global("CloudFront: requests", m.cloudFront("Requests", "Sum", g), m.cloudFront("Requests", "Sum", a)))
}

func budget(stack awscdk.Stack, p *parameters) {
	tell := func(kind string, percent float64) map[string]any {
		return map[string]any{
			"notification": &awsbudgets.CfnBudget_NotificationProperty{NotificationType: &kind, ComparisonOperator: jsii.String("GREATER_THAN"), Threshold: &percent},
			"subscribers":  []any{&awsbudgets.CfnBudget_SubscriberProperty{SubscriptionType: jsii.String("EMAIL"), Address: p.alarmEmail.ValueAsString()}},
		}
	}
	b := awsbudgets.NewCfnBudget(stack, jsii.String("Budget"), &awsbudgets.CfnBudgetProps{
		Budget: &awsbudgets.CfnBudget_BudgetDataProperty{
			BudgetType: jsii.String("COST"), TimeUnit: jsii.String("MONTHLY"),
			BudgetLimit: &awsbudgets.CfnBudget_SpendProperty{Amount: p.monthlyBudget.ValueAsNumber(), Unit: jsii.String("USD")},
		},
		NotificationsWithSubscribers: []any{tell("ACTUAL", 80), tell("FORECASTED", 100)},
	})
	b.CfnOptions().SetCondition(p.given(p.monthlyBudget, "0"))
}

func decimal(n int) string { return strconv.Itoa(n) }
