// Package advise turns an amount of content and of use into a monthly bill for each blockstore and deployment, with every step of
// the arithmetic, and picks the cheapest that holds a wanted latency.
//
// How many requests a blockstore sends per GB is not assumed: it is taken from measured results (the committed reference, or a run of
// one's own). What a request, a GB and an hour cost is in this file, in s3model/figures.go and in efsmodel/profile.go.
package advise

// Prices of what surrounds a blockstore, us-east-1, USD.
const (
	// hoursPerMonth is how AWS reckons a month: 365 × 24 ÷ 12.
	hoursPerMonth = 730

	// Fargate, Linux on ARM and on x86: aws.amazon.com/fargate/pricing, 2026-11.
	armCPUHour, armGBHour = 0.03238, 0.00356
	x86CPUHour, x86GBHour = 0.04048, 0.004445
	// ephemeralGBHour is for each GB of a task's own disk above the 20 that come with it; ibidem.
	ephemeralGBHour = 0.000111
	ephemeralFree   = 20

	// albHour is an Application Load Balancer without its capacity units, lcuHour one unit, which is 1 GB an hour:
	// aws.amazon.com/elasticloadbalancing/pricing, 2026-11.
	albHour, lcuHour = 0.0225, 0.008

	// ipv4Hour is a public IPv4 address, natHour and natGB a NAT gateway: aws.amazon.com/vpc/pricing, 2026-11.
	ipv4Hour       = 0.005
	natHour, natGB = 0.045, 0.045

	// cdnGB is CloudFront in North America and Europe beyond the first TB: aws.amazon.com/cloudfront/pricing, 2026-11.
	cdnGB, cdnFreeGB = 0.085, 1000
)
