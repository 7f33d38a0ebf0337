// Package costs works out what a template costs a month, from the resources in it
// and the price file.
package costs

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/infra/prices"
	"github.com/ipfs-aws/ipfs-aws/infra/template"
)

// Row is a line of the table: what it is, and USD for each variant.
type Row struct {
	What string
	USD  []float64
}

// gibPerTiB: AWS bills storage by the GB of 2^30 bytes.
const gibPerTiB = 1024

// gbPerTiB: and transfer too, as its bills show.
const gbPerTiB = 1024

// requestMetricsPerFilter is how many metrics S3 has for a filter of requests,
// each billed while there are requests of its kind: 8 kinds of requests, errors
// and latencies that an IPFS node makes.
const requestMetricsPerFilter = 10

// Table is what the templates cost with their default parameters, in us-east-1.
func Table(launches []template.Launch) (fixed, used []Row, err error) {
	columns := make([]map[string]float64, len(launches))
	names, uses := []string{}, []string{}
	for i, l := range launches {
		columns[i] = map[string]float64{}
		put := func(list *[]string, what string, usd float64) {
			if _, twice := columns[i][what]; twice {
				columns[i][what] += usd
				return
			}
			columns[i][what] = usd
			for _, n := range *list {
				if n == what {
					return
				}
			}
			*list = append(*list, what)
		}
		if err := column(l, func(what string, usd float64) { put(&names, what, usd) }, func(what string, usd float64) { put(&uses, what, usd) }); err != nil {
			return nil, nil, err
		}
	}
	rows := func(names []string) (out []Row) {
		for _, n := range names {
			r := Row{What: n}
			for _, c := range columns {
				r.USD = append(r.USD, c[n])
			}
			out = append(out, r)
		}
		return out
	}
	return rows(names), rows(uses), nil
}

func column(l template.Launch, fixed, used func(string, float64)) error {
	month := func(name string) float64 { return prices.HoursPerMonth * prices.Of(name) }
	// What the default parameters do not make costs nothing.
	count := func(kind string) float64 {
		made, err := l.Made(kind)
		if err != nil {
			panic(err) // a condition of the template that cannot be worked out; tests read each
		}
		return float64(len(made))
	}
	tasks, public := 0.0, 0.0
	for _, id := range l.OfType("AWS::ECS::Service") {
		s, err := l.Resource(id)
		if err != nil {
			return err
		}
		d, err := l.Resource(fmt.Sprint(s["TaskDefinition"]))
		if err != nil {
			return err
		}
		cpu, err1 := strconv.ParseFloat(fmt.Sprint(d["Cpu"]), 64)
		memory, err2 := strconv.ParseFloat(fmt.Sprint(d["Memory"]), 64)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("size of %s: %v, %v", id, d["Cpu"], d["Memory"])
		}
		tasks++
		architecture := fmt.Sprint(d["RuntimePlatform"].(map[string]any)["CpuArchitecture"])
		fixed("Fargate tasks, "+l.Parameters["TaskSize"].Default.(string), prices.TaskMonth(architecture, cpu/1024, memory/1024))
		if strings.Contains(fmt.Sprint(s["NetworkConfiguration"]), "AssignPublicIp:ENABLED") {
			public++
		}
	}
	public += count("AWS::EC2::EIP")
	fixed("Load balancer", month("alb.hour")+month("alb.lcu-hour"))
	fixed("Public IPv4 addresses", public*month("ipv4.hour"))
	if n := count("AWS::EC2::NatGateway"); n > 0 {
		fixed("NAT gateways", n*month("nat.hour"))
	}
	fixed("Secrets", count("AWS::SecretsManager::Secret")*prices.Of("secretsmanager.secret-month"))
	fixed("Alarms", alarmMetrics(l)*prices.Of("cloudwatch.alarm-month"))
	fixed("Dashboard", count("AWS::CloudWatch::Dashboard")*prices.Of("cloudwatch.dashboard-month"))
	fixed("Private DNS zone", count("AWS::ServiceDiscovery::PrivateDnsNamespace")*prices.Of("route53.zone-month"))
	bucket := count("AWS::S3::Bucket") > 0
	if bucket {
		fixed("S3 request metrics", requestMetricsPerFilter*prices.Of("cloudwatch.metric-month"))
	} else {
		fixed("S3 request metrics", 0)
	}

	copies := tasks // a pin is on all nodes, as Copies says by default
	onezone := count("AWS::EFS::FileSystem") > 1
	elastic := l.Parameters["EfsThroughput"].Default == "elastic"
	store, backup := prices.Of("efs.standard.gb-month"), prices.Of("efs.backup.gb-month")
	if onezone {
		store = prices.Of("efs.onezone.gb-month")
	}
	written, read := 0.0, 0.0
	if elastic {
		written = prices.Of("efs.elastic.write.gb")
	}
	if bucket {
		store, backup = prices.Of("s3.gb-month"), 0
		// 1 TiB is 32,768 packs of 32 MiB; each is one PUT.
		written += gibPerTiB * 1024 / 32 * prices.Of("s3.put") / gibPerTiB
		// Reads come in spans of up to 16 MiB.
		read = prices.Of("s3.get") * 1024 / 16
	}
	used(fmt.Sprintf("1 TiB pinned, %.0f copies, a month", copies), copies*gibPerTiB*store)
	backed := 0.0 // copies in the backups
	switch l.Parameters["EfsBackups"].Default {
	case "one":
		backed = 1
	case "all":
		backed = copies
	}
	used("… backups of it, as EfsBackups is by default", backed*gibPerTiB*backup)
	// CloudFront carries it to the one node that takes it in, which sends each other its copy; both zones pay.
	used("1 TiB added through the REST API, once", copies*gibPerTiB*written+
		gbPerTiB*(prices.Of("cloudfront.upload.gb")+prices.Of("alb.lcu-hour")+(copies-1)*2*prices.Of("transfer.cross-zone.gb")))
	used("… of which what the storage asks", copies*gibPerTiB*written)
	used("1 TiB served to consumers, none of it from CloudFront's cache", gbPerTiB*(prices.Of("cloudfront.gb")+prices.Of("alb.lcu-hour")+read))
	used("… with a CloudFront flat-rate plan, from AWS's side of CloudFront", gbPerTiB*(prices.Of("alb.lcu-hour")+read))
	used("1 TiB served to IPFS peers", gbPerTiB*(prices.Of("transfer.out.gb")+read))
	million := 1e6 * (prices.Of("cloudfront.request") + prices.Of("cloudfront.function"))
	used("1 million reads, all from CloudFront's cache", million)
	if bucket {
		million += 1e6 * prices.Of("s3.get")
	}
	used("1 million reads, none from any cache", million)
	return nil
}

// alarmMetrics counts the metrics that alarms look at, which is what is billed.
func alarmMetrics(l template.Launch) (n float64) {
	made, err := l.Made("AWS::CloudWatch::Alarm")
	if err != nil {
		panic(err) // as above
	}
	for _, id := range made {
		all, ok := l.Resources[id].Properties["Metrics"].([]any)
		if !ok {
			n++
			continue
		}
		for _, m := range all {
			if _, ok := m.(map[string]any)["MetricStat"]; ok {
				n++
			}
		}
	}
	return n
}

// Markdown is the table of the README.
func Markdown(variants []string, launches []template.Launch) (string, error) {
	fixed, used, err := Table(launches)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	line := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	table := func(title string, rows []Row, sum bool) {
		line(append([]string{title}, variants...)...)
		line(append([]string{"---"}, strings.Split(strings.Repeat("---: ", len(variants)-1)+"---:", " ")...)...)
		total := make([]float64, len(variants))
		for _, r := range rows {
			cells := []string{r.What}
			for i, usd := range r.USD {
				total[i] += usd
				cells = append(cells, fmt.Sprintf("%.2f", usd))
			}
			line(cells...)
		}
		if sum {
			cells := []string{"**together**"}
			for _, usd := range total {
				cells = append(cells, fmt.Sprintf("**%.2f**", usd))
			}
			line(cells...)
		}
		b.WriteString("\n")
	}
	table("Fixed, USD a month", fixed, true)
	table("By use, USD", used, false)
	return b.String(), nil
}
