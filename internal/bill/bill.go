// Package bill is what a deployment costs a month: one set of formulas over the price list of
// internal/prices. infra/costs fills it in from a template, `benchmarks advise` from what its user
// says, and both show the lines that come out.
//
// Amounts are GB of 2^30 bytes, as AWS bills storage and transfer. USD are those of us-east-1, without
// free tiers, taxes and discounts.
package bill

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"github.com/ipfs-aws/ipfs-aws/internal/prices"
)

// GB is the bytes of a GB on AWS's bill.
const GB = 1 << 30

// SecondsPerMonth goes with prices.HoursPerMonth.
const SecondsPerMonth = prices.HoursPerMonth * 3600

// Line is one step of the arithmetic. How shows the numbers that USD was calculated from.
type Line struct {
	What, How string
	USD       float64
}

// Sum adds lines up, in USD.
func Sum(lines []Line) (usd float64) {
	for _, l := range lines {
		usd += l.USD
	}
	return usd
}

// Deployment is what costs money whether it is used or not.
type Deployment struct {
	Tasks          int
	VCPU, MemoryGB float64 // of a task
	DiskGB         float64 // of a task; prices.FreeDisk of them are free
	X86            bool
	JournalGB      float64 // of a task, at most, on EFS One Zone
	BackupCopies   float64 // of the content, in backups of EFS; not among Fixed

	Addresses      int // public IPv4
	NATs           int
	Secrets        int
	AlarmMetrics   int
	Dashboards     int
	Zones          int // of private DNS
	RequestMetrics int // of S3
	Metrics        int // of the nodes
}

// Fixed lists what a deployment costs without any use. All lines are there, also those of 0 USD.
func (d Deployment) Fixed() []Line {
	arch, what := "fargate.arm64", "ARM"
	if d.X86 {
		arch, what = "fargate.x86", "x86"
	}
	task := prices.TaskMonth(d.architecture(), d.VCPU, d.MemoryGB)
	lines := []Line{
		{"Fargate tasks", fmt.Sprintf("%d tasks × %d h × (%.4g vCPU × $%.5g + %.4g GB × $%.5g), %s", d.Tasks, prices.HoursPerMonth,
			d.VCPU, prices.Of(arch+".vcpu-hour"), d.MemoryGB, prices.Of(arch+".gb-hour"), what), float64(d.Tasks) * task},
		{"Disk of the tasks", fmt.Sprintf("%d tasks × max(0, %.4g GB − %d free) × %d h × $%.4g", d.Tasks, d.DiskGB, prices.FreeDisk, prices.HoursPerMonth,
			prices.Of("fargate.disk.gb-hour")), float64(d.Tasks) * prices.DiskMonth(d.DiskGB)},
		hours("Load balancer", 1, "alb.hour"),
		hours("Public IPv4 addresses", d.Addresses, "ipv4.hour"),
		hours("NAT gateways", d.NATs, "nat.hour"),
		each("Secrets", d.Secrets, "secretsmanager.secret-month"),
		each("Alarms", d.AlarmMetrics, "cloudwatch.alarm-month"),
		each("Dashboard", d.Dashboards, "cloudwatch.dashboard-month"),
		each("Private DNS zone", d.Zones, "route53.zone-month"),
		each("S3 request metrics", d.RequestMetrics, "cloudwatch.metric-month"),
		each("Metrics of the nodes", d.Metrics, "cloudwatch.metric-month"),
	}
	journals := Stored("Journals, at most", float64(d.Tasks), d.JournalGB, "efs.onezone.gb-month")
	return append(lines, journals)
}

func (d Deployment) architecture() string {
	if d.X86 {
		return "X86_64"
	}
	return "ARM64"
}

func hours(what string, n int, price string) Line {
	return Line{what, fmt.Sprintf("%d × %d h × $%.4g", n, prices.HoursPerMonth, prices.Of(price)), float64(n) * prices.HoursPerMonth * prices.Of(price)}
}

func each(what string, n int, price string) Line {
	return Line{what, fmt.Sprintf("%d × $%.4g", n, prices.Of(price)), float64(n) * prices.Of(price)}
}

// Stored is what copies of an amount cost a month, at a price per GB-month.
func Stored(what string, copies, gb float64, price string) Line {
	return Line{what, fmt.Sprintf("%.4g copies × %.4g GB × $%.4g", copies, gb, prices.Of(price)), copies * gb * prices.Of(price)}
}

// Requests is what requests of an amount cost: perGB of them for each GB, at a price each.
func Requests(what string, gb, perGB float64, kind, price string) Line {
	return Line{what, fmt.Sprintf("%.4g GB × %.4g %s per GB × $%.4g per 1,000", gb, perGB, kind, 1000*prices.Of(price)), gb * perGB * prices.Of(price)}
}

// perGB is a line of an amount at a price per GB.
func perGB(what string, gb float64, price string) Line {
	return Line{what, fmt.Sprintf("%.4g GB × $%.4g", gb, prices.Of(price)), gb * prices.Of(price)}
}

// Added is what an amount costs on its way in through the REST API: CloudFront carries it to the one node
// that takes it in, which sends each other node its copy. Both zones pay for that.
func Added(gb, copies float64) []Line {
	others := max(0, copies-1)
	cross := prices.Of("transfer.cross-zone.gb")
	return []Line{
		perGB("CloudFront, upload", gb, "cloudfront.upload.gb"),
		perGB("Load balancer, upload", gb, "alb.lcu-hour"),
		{"Copies to other zones", fmt.Sprintf("%.4g GB × %.4g other copies × 2 ways × $%.4g", gb, others, cross), gb * others * 2 * cross},
	}
}

// Served is what an amount costs on its way from the nodes to consumers, none of it from CloudFront's
// cache. CloudFront asks nothing for the first free GB of a month.
func Served(gb, free float64) []Line {
	price := prices.Of("cloudfront.gb")
	return []Line{
		{"CloudFront, download", fmt.Sprintf("max(0, %.4g GB − %.4g free) × $%.4g", gb, free, price), max(0, gb-free) * price},
		perGB("Load balancer, download", gb, "alb.lcu-hour"),
	}
}

// Reads is what requests of consumers cost at CloudFront, each with a run of the function that sorts Accept.
func Reads(n float64) Line {
	request, function := prices.Of("cloudfront.request"), prices.Of("cloudfront.function")
	return Line{"CloudFront, requests", fmt.Sprintf("%.4g × ($%.4g + $%.4g per million)", n, 1e6*request, 1e6*function), n * (request + function)}
}

// Peers is what an amount costs that nodes send to IPFS peers.
func Peers(gb float64) Line { return perGB("Transfer to IPFS peers", gb, "transfer.out.gb") }

// Measured is how many requests layout packs sends for a GB.
type Measured struct {
	PutsPerGB float64 `json:"putsPerGB"` // added
	GetsPerGB float64 `json:"getsPerGB"` // read in order, none of it cached
}

//go:embed measured.json
var measuredFile []byte

// Packs is what benchmarks/results/reference says, copied by `go test ./benchmarks/internal/advise -update`.
var Packs = read[Measured]("measured.json", measuredFile)

//go:embed deployments.json
var deploymentsFile []byte

// Deployments are what the released templates make with their defaults, by name of the template, copied by
// `go test ./costs -update` in infra.
var Deployments = read[map[string]Deployment]("deployments.json", deploymentsFile)

func read[T any](name string, text []byte) (v T) {
	if err := json.Unmarshal(text, &v); err != nil {
		panic(fmt.Sprintf("%s: %v", name, err))
	}
	return v
}
