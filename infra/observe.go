package infra

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"

	"github.com/ipfs-aws/ipfs-aws/internal/prices"
)

// observe adds a topic, alarms that write to it, and a dashboard that answers
// four questions: is it up, is the content well, is it fast, what does it cost.
func observe(stack awscdk.Stack, o Options, p *parameters, s storage, doors []door) {
	resource(stack, "Alarms", "AWS::SNS::Topic", object{})
	resource(stack, "AlarmsPolicy", "AWS::SNS::TopicPolicy", object{"Topics": list{ref("Alarms")}, "PolicyDocument": object{
		"Version": "2012-10-17", "Statement": list{
			object{"Effect": "Allow", "Principal": object{"Service": "cloudwatch.amazonaws.com"}, "Action": "sns:Publish", "Resource": ref("Alarms"),
				"Condition": object{"StringEquals": object{"aws:SourceAccount": ref("AWS::AccountId")}}},
			object{"Effect": "Deny", "Principal": object{"AWS": "*"}, "Action": "sns:Publish", "Resource": ref("Alarms"),
				"Condition": object{"Bool": object{"aws:SecureTransport": "false"}}},
		}}})
	only(p.given("AlarmEmail", ""), resource(stack, "AlarmMail", "AWS::SNS::Subscription", object{
		"TopicArn": ref("Alarms"), "Protocol": "email", "Endpoint": ref("AlarmEmail"),
	}))
	for _, d := range doors {
		doorAlarms(stack, o, p, d)
	}
	storageAlarms(stack, s)
	stateAlarms(stack, s)
	dashboard(stack, s)
}

func alarm(stack awscdk.Stack, id, says, compare string, threshold any, times int, missing string, what object) awscdk.CfnResource {
	what["AlarmDescription"], what["ComparisonOperator"], what["Threshold"] = says, compare, threshold
	what["EvaluationPeriods"], what["TreatMissingData"], what["AlarmActions"] = times, missing, list{ref("Alarms")}
	return resource(stack, id, "AWS::CloudWatch::Alarm", what)
}

const (
	above, below = "GreaterThanThreshold", "LessThanThreshold"
	quiet, loud  = "notBreaching", "breaching" // what no data means
)

// metric is what an alarm looks at; dimensions are names and values in turn.
func metric(space, name, statistic string, seconds int, dimensions ...any) object {
	all := list{}
	for pair := range slices.Chunk(dimensions, 2) {
		all = append(all, object{"Name": pair[0], "Value": pair[1]})
	}
	return object{"Namespace": space, "MetricName": name, "Dimensions": all, "Statistic": statistic, "Period": seconds}
}

func doorAlarms(stack awscdk.Stack, o Options, p *parameters, d door) {
	balancer := func(name, statistic string) object {
		return metric("AWS/ApplicationELB", name, statistic, 60, "LoadBalancer", attribute("Balancer", "LoadBalancerFullName"), "TargetGroup", attribute(d.id+"Targets", "TargetGroupFullName"))
	}
	alarm(stack, d.id+"NotReady", "A task is not ready for 10 minutes ("+d.what+"): look at its log.", below, 3*o.Nodes, 10, loud, balancer("HealthyHostCount", "Minimum"))
	alarm(stack, d.id+"Errors", "The "+d.what+" answers 5xx.", above, 25, 5, quiet, balancer("HTTPCode_Target_5XX_Count", "Sum"))
	// CloudFront has its metrics in us-east-1 only, and an alarm sees its own region: in any other it
	// would be paid for and blind.
	only(p.when("InUsEast1", equal("AWS::Region", "us-east-1")), alarm(stack, d.id+"EdgeErrors", "CloudFront answers over 5 % with 5xx ("+d.what+").", above, 5, 3, quiet,
		metric("AWS/CloudFront", "5xxErrorRate", "Average", 300, "DistributionId", ref(d.id+"Distribution"), "Region", "Global")))
}

// storageAlarms looks at all file systems in one alarm, at the worst of them.
func storageAlarms(stack awscdk.Stack, s storage) {
	worst := func(function, name, statistic string) object {
		var ids []string
		queries := list{}
		for i, fs := range s.systems {
			ids = append(ids, "m"+strconv.Itoa(i))
			queries = append(queries, query(ids[i], "AWS/EFS", name, statistic, 300, "FileSystemId", s.fileSystem(fs)))
		}
		return object{"Metrics": append(list{expression(function + "([" + strings.Join(ids, ",") + "])")}, queries...)}
	}
	// A new file system has 2.1 TiB of credits; a tenth is half an hour at full speed.
	// Other throughput than bursting has no credits, and no data is quiet.
	alarm(stack, "EfsCredits", "EFS has used up nine tenths of its burst credits and will be slow: choose elastic.", below, 231e9, 3, quiet, worst("MIN", "BurstCreditBalance", "Minimum"))
	alarm(stack, "EfsBusy", "EFS is at its limit of operations.", above, 95, 3, quiet, worst("MAX", "PercentIOLimit", "Maximum"))
	if s.bucket {
		alarm(stack, "S3Requests", "S3 requests run at more than S3RequestBudget a month.", above, ref("S3RequestBudget"), 3, quiet, requestDollars(s))
	}
}

// metricsSpace is internal/container.CloudWatchNamespace: what the nodes write to their logs in CloudWatch's embedded
// metric format is there. All nodes of a stack write the same metrics, each of which is billed once.
const metricsSpace = "ipfs-aws"

// stateAlarms are about what no request shows: content that is not where it should be.
func stateAlarms(stack awscdk.Stack, s storage) {
	worst := func(name string, seconds int) object {
		return metric(metricsSpace, name, "Maximum", seconds, "Stack", ref("AWS::StackName"))
	}
	alarm(stack, "PinsFailed", "Pins are in error on a node, for another reason than that no peer has the content: cluster-aws ctl status --filter error.", above, 0, 4, quiet, worst("PinsFailed", 300))
	alarm(stack, "PinsWithoutContent", "Blocks of a pin were not found for 6 hours: cluster-aws ctl status says which.", above, 0, 6, quiet, worst("PinsWithoutContent", 3600))
	if s.bucket {
		alarm(stack, "UploadsStuck", "What was added has waited for its upload for over 10 minutes: the node's log says why.", above, 600, 3, quiet, worst("UploadsWaiting", 300))
		alarm(stack, "Damaged", "Blocks, packs or files of a journal are damaged: run datastore verify (infra/RUNBOOKS.md).", above, 0, 1, quiet, worst("Damaged", 300))
	}
}

// requestDollars is what the S3 requests of the last hour would cost in a month.
func requestDollars(s storage) object {
	dollars := func(f float64) string { return strconv.FormatFloat(f*prices.HoursPerMonth, 'f', -1, 64) }
	queries := list{expression(fmt.Sprintf("(FILL(put,0)+FILL(list,0))*%s+(FILL(get,0)+FILL(head,0))*%s", dollars(prices.Of("s3.put")), dollars(prices.Of("s3.get"))))}
	for _, name := range []string{"Put", "List", "Get", "Head"} {
		queries = append(queries, query(strings.ToLower(name), "AWS/S3", name+"Requests", "Sum", 3600, "BucketName", s.blocks(), "FilterId", requestMetrics))
	}
	return object{"Metrics": queries}
}

func expression(text string) object { return object{"Id": "all", "Expression": text} }

// query is a metric that an expression looks at.
func query(id, space, name, statistic string, seconds int, dimensions ...any) object {
	m := metric(space, name, statistic, seconds, dimensions...)
	delete(m, "Statistic")
	delete(m, "Period")
	return object{"Id": id, "ReturnData": false, "MetricStat": object{"Metric": m, "Stat": statistic, "Period": seconds}}
}

// dashboard has three rows of three graphs. Its body is a text in which
// CloudFormation puts names; "..." repeats what the metric above has there.
func dashboard(stack awscdk.Stack, s storage) {
	var widgets list
	row := func(title string, graphs ...object) {
		widgets = append(widgets, object{"type": "text", "width": 24, "height": 1, "properties": object{"markdown": "## " + title}})
		for _, g := range graphs {
			widgets = append(widgets, object{"type": "metric", "width": 8, "height": 6, "properties": g})
		}
	}
	graph := func(title, region, statistic string, metrics ...list) object {
		return object{"title": title, "region": region, "stat": statistic, "metrics": metrics}
	}
	const here, global = "${AWS::Region}", "us-east-1"
	balancer := func(name string) []list {
		return []list{{"AWS/ApplicationELB", name, "LoadBalancer", "${B}", "TargetGroup", "${G}"}, {"...", "${A}"}}
	}
	cloudFront := func(name string) []list {
		return []list{{"AWS/CloudFront", name, "Region", "Global", "DistributionId", "${GatewayDistribution}"}, {"...", "${ApiDistribution}"}}
	}
	efs := func(name string) (all []list) {
		for i := range s.systems {
			m := list{"...", "${F" + strconv.Itoa(i) + "}"}
			if i == 0 {
				m = list{"AWS/EFS", name, "FileSystemId", m[1]}
			}
			all = append(all, m)
		}
		return all
	}
	row("Is it up?",
		graph("Ready: gateway, API", here, "Minimum", balancer("HealthyHostCount")...),
		graph("Errors of the nodes", here, "Sum", balancer("HTTPCode_Target_5XX_Count")...),
		graph("Errors of CloudFront, %", global, "Average", cloudFront("5xxErrorRate")...))
	state := func(names ...string) (all []list) {
		for i, name := range names {
			m := list{".", name, ".", "."} // as above
			if i == 0 {
				m = list{metricsSpace, name, "Stack", "${AWS::StackName}"}
			}
			all = append(all, m)
		}
		return all
	}
	content := []object{graph("Pins: in error, without content", here, "Maximum", state("PinsFailed", "PinsWithoutContent")...)}
	if s.bucket {
		content = append(content, graph("Seconds that uploads wait", here, "Maximum", state("UploadsWaiting")...),
			graph("Damaged blocks, packs, files", here, "Maximum", state("Damaged")...))
	}
	row("Is the content well?", content...)
	row("Is it fast?",
		graph("Seconds to answer, 99 %", here, "p99", balancer("TargetResponseTime")...),
		graph("EFS: % of its operations", here, "Maximum", efs("PercentIOLimit")...),
		graph("Requests to the nodes", here, "Sum", balancer("RequestCount")...))
	storage := graph("EFS: metered bytes", here, "Sum", efs("MeteredIOBytes")...)
	if s.bucket {
		storage = object{"title": "S3 requests: dollars a month", "region": here, "annotations": object{"alarms": list{"${S3Requests.Arn}"}}}
	}
	row("What does it cost?", storage,
		graph("Bytes to consumers", global, "Sum", cloudFront("BytesDownloaded")...),
		graph("Requests of consumers", global, "Sum", cloudFront("Requests")...))

	body, err := json.Marshal(object{"widgets": widgets})
	if err != nil {
		panic(err) // texts and numbers
	}
	names := object{
		"B": attribute("Balancer", "LoadBalancerFullName"), "G": attribute("GatewayTargets", "TargetGroupFullName"), "A": attribute("ApiTargets", "TargetGroupFullName"),
	}
	for i, fs := range s.systems {
		names["F"+strconv.Itoa(i)] = s.fileSystem(fs)
	}
	resource(stack, "Dashboard", "AWS::CloudWatch::Dashboard", object{"DashboardBody": object{"Fn::Sub": list{string(body), names}}})
}
