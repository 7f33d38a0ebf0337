// Package costs counts in a template what costs money, and shows what it comes to by the formulas of
// internal/bill.
package costs

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/infra/template"
	"github.com/ipfs-aws/ipfs-aws/internal/bill"
	"github.com/ipfs-aws/ipfs-aws/internal/prices"
)

// Row is a line of the table: what it is, and USD for each template.
type Row struct {
	What string
	USD  []float64
}

const (
	// tib is a TiB in the GB that AWS bills.
	tib = 1024
	// requestMetrics is how many metrics S3 has for a filter of requests, each billed while there are
	// requests of its kind: 8 kinds of requests, errors and latencies that an IPFS node makes.
	requestMetrics = 10
	// journalGB is how much waits in a journal at most: IPFS_S3_JOURNAL_SIZE is 1GiB.
	journalGB = 1
)

// Deployed counts what a launch makes that costs money whether it is used or not.
func Deployed(l template.Launch) (bill.Deployment, error) {
	var d bill.Deployment
	var wrong error
	count := func(kind string) int {
		made, err := l.Made(kind)
		if err != nil {
			wrong = err
		}
		return len(made)
	}
	for _, id := range l.OfType("AWS::ECS::Service") {
		s, err := l.Resource(id)
		if err != nil {
			return d, err
		}
		task, err := l.Resource(fmt.Sprint(s["TaskDefinition"]))
		if err != nil {
			return d, err
		}
		cpu, err1 := strconv.ParseFloat(fmt.Sprint(task["Cpu"]), 64)
		memory, err2 := strconv.ParseFloat(fmt.Sprint(task["Memory"]), 64)
		if err1 != nil || err2 != nil {
			return d, fmt.Errorf("size of %s: %v, %v", id, task["Cpu"], task["Memory"])
		}
		d.Tasks++
		d.VCPU, d.MemoryGB, d.DiskGB = cpu/1024, memory/1024, prices.FreeDisk
		if disk, ok := task["EphemeralStorage"].(map[string]any); ok {
			d.DiskGB = disk["SizeInGiB"].(float64)
		}
		d.X86 = fmt.Sprint(task["RuntimePlatform"].(map[string]any)["CpuArchitecture"]) == "X86_64"
		if strings.Contains(fmt.Sprint(s["NetworkConfiguration"]), "AssignPublicIp:ENABLED") {
			d.Addresses++
		}
	}
	d.NATs = count("AWS::EC2::NatGateway")
	d.Addresses += count("AWS::EC2::EIP")
	d.Secrets = count("AWS::SecretsManager::Secret")
	d.AlarmMetrics = alarmMetrics(l)
	d.Dashboards = count("AWS::CloudWatch::Dashboard")
	d.Zones = count("AWS::ServiceDiscovery::PrivateDnsNamespace")
	d.Metrics = nodeMetrics(l)
	if bucket(l) {
		d.RequestMetrics, d.JournalGB = requestMetrics, journalGB
	} else if which := l.Parameters["EfsBackups"].Default; which == "one" {
		d.BackupCopies = 1
	} else if which == "all" {
		d.BackupCopies = float64(d.Tasks)
	}
	return d, wrong
}

func bucket(l template.Launch) bool { return len(l.OfType("AWS::S3::Bucket")) > 0 }

// alarmMetrics counts the metrics that alarms look at, which is what is billed.
func alarmMetrics(l template.Launch) (n int) {
	for _, id := range l.OfType("AWS::CloudWatch::Alarm") {
		if made, err := l.Exists(id); err != nil || !made {
			continue
		}
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

// nodeMetrics counts the metrics of the nodes: each has an alarm.
func nodeMetrics(l template.Launch) int {
	names := map[string]bool{}
	for _, id := range l.OfType("AWS::CloudWatch::Alarm") {
		if p := l.Resources[id].Properties; p["Namespace"] == "ipfs-aws" {
			names[fmt.Sprint(p["MetricName"])] = true
		}
	}
	return len(names)
}

// storage is what blocks cost where a template keeps them.
type storage struct {
	price            string  // of a GB-month
	putsPer, getsPer float64 // requests for a GB
	written          float64 // USD for a GB written, of an EFS with elastic throughput
}

func storageOf(l template.Launch) storage {
	s := storage{price: "efs.standard.gb-month"}
	if len(l.OfType("AWS::EFS::FileSystem")) > 1 {
		s.price = "efs.onezone.gb-month"
	}
	if l.Parameters["EfsThroughput"].Default == "elastic" {
		s.written = prices.Of("efs.elastic.write.gb")
	}
	if bucket(l) {
		s.price, s.putsPer, s.getsPer = "s3.gb-month", bill.Packs.PutsPerGB, bill.Packs.GetsPerGB
	}
	return s
}

// column is one template's part of the table.
func column(l template.Launch) (fixed, used []bill.Line, err error) {
	d, err := Deployed(l)
	if err != nil {
		return nil, nil, err
	}
	copies := float64(d.Tasks) // a pin is on all nodes, as Copies says by default
	s := storageOf(l)
	added := copies*tib*s.written + bill.Requests("", copies*tib, s.putsPer, "PUT", "s3.put").USD
	read := bill.Requests("", tib, s.getsPer, "GET", "s3.get").USD
	cached, uncached := bill.Reads(1e6).USD, 0.0
	if s.getsPer > 0 {
		uncached = 1e6 * prices.Of("s3.get")
	}
	line := func(what string, usd float64) { used = append(used, bill.Line{What: what, USD: usd}) }
	line(fmt.Sprintf("1 TiB pinned, %.0f copies, a month", copies), bill.Stored("", copies, tib, s.price).USD)
	line("… backups of it, as EfsBackups is by default", bill.Stored("", d.BackupCopies, tib, "efs.backup.gb-month").USD)
	line("1 TiB added through the REST API, once", bill.Sum(bill.Added(tib, copies))+added)
	line("… of which what the storage asks", added)
	line("1 TiB served to consumers, none of it from CloudFront's cache", bill.Sum(bill.Served(tib, 0))+read)
	line("… with a CloudFront flat-rate plan, from AWS's side of CloudFront", bill.Sum(bill.Served(tib, tib))+read)
	line("1 TiB served to IPFS peers", bill.Peers(tib).USD+read)
	// A TiB in blocks of 256 KiB, each a request. A plan has so many of them, whatever they carry.
	line("… with PeersOverHttps, none of it from CloudFront's cache", bill.Sum(bill.Served(tib, 0))+bill.Reads(4<<20).USD+read)
	line("1 million reads, all from CloudFront's cache", cached)
	line("1 million reads, none from any cache", cached+uncached)
	return d.Fixed(), used, nil
}

// Table is what the templates cost with their default parameters, in us-east-1. Fixed rows that are 0 for all are left out.
func Table(launches []template.Launch) (fixed, used []Row, err error) {
	put := func(rows []Row, i int, lines []bill.Line) []Row {
		for j, line := range lines {
			if i == 0 {
				rows = append(rows, Row{What: line.What})
			}
			rows[j].USD = append(rows[j].USD, line.USD)
		}
		return rows
	}
	for i, l := range launches {
		f, u, err := column(l)
		if err != nil {
			return nil, nil, err
		}
		fixed, used = put(fixed, i, f), put(used, i, u)
	}
	var some []Row
	for _, r := range fixed {
		for _, usd := range r.USD {
			if usd != 0 {
				some = append(some, r)
				break
			}
		}
	}
	return some, used, nil
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
	table("By choice, USD a month more", chosen(launches), false)
	return b.String(), nil
}

// chosen are parameters and options that move the fixed part of the bill.
func chosen(launches []template.Launch) (rows []Row) {
	for _, c := range []struct {
		what string
		make func(*bill.Deployment)
	}{
		{"egress=nat (and $0.045 for each GB through it)", func(d *bill.Deployment) { d.NATs = d.Tasks }},
		{"TaskSize=medium", func(d *bill.Deployment) { d.MemoryGB = 8 }},
		{"TaskSize=large", func(d *bill.Deployment) { d.VCPU, d.MemoryGB = 2, 8 }},
		{"CacheSize=180GiB", func(d *bill.Deployment) { d.DiskGB = 192 }},
		{"cpu=x86", func(d *bill.Deployment) { d.X86 = true }},
	} {
		r := Row{What: c.what}
		for _, l := range launches {
			d, _ := Deployed(l) // column has looked at the error
			other := d
			c.make(&other)
			r.USD = append(r.USD, bill.Sum(other.Fixed())-bill.Sum(d.Fixed()))
		}
		rows = append(rows, r)
	}
	guard := Row{What: "guard.json: two web ACLs of a rule each"}
	for range launches {
		guard.USD = append(guard.USD, 2*(prices.Of("waf.acl-month")+prices.Of("waf.rule-month")))
	}
	return append(rows, guard)
}
