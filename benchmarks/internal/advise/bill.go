package advise

import (
	"fmt"
	"math"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
)

// secondsPerMonth goes with hoursPerMonth.
const secondsPerMonth = hoursPerMonth * 3600

// sum adds lines up. Each line's amount is computed from the very numbers that it shows.
type sum struct{ lines []Line }

func (s *sum) add(what string, usd float64, how string, args ...any) {
	s.lines = append(s.lines, Line{what, fmt.Sprintf(how, args...), usd})
}

func bill(v variant, m measured, u Use, d Deployment) Bill {
	b := Bill{Store: v.name, Deployment: d.Name, Latency: m.latency}
	var s sum
	copies := float64(d.Tasks)
	served := u.ServedGB
	missed := served
	if v.cached {
		cached := min(u.Files, d.CacheGB*copies/u.StoredGB*u.Files/copies)
		hit := HitRate(u.Files, cached, u.Exponent)
		missed = served * (1 - hit)
		s.add("reads past the cache", 0, "each task's cache of %.4g GB holds %.4g of %.4g files; Zipf %.3g: %.1f %% of reads are hits, so %.4g of %.4g GB come from the bucket", d.CacheGB, cached, u.Files, u.Exponent, 100*hit, missed, served)
	}
	switch {
	case v.class != nil:
		s.s3(v, m, u, copies, missed)
	case v.efs != nil:
		b.Refused = s.efs(v, m, u, copies, served)
	}
	s.fixed(u, d, v)
	b.Lines = s.lines
	for _, l := range s.lines {
		b.Total += l.USD
	}
	switch {
	case b.Refused != "" || u.LatencyMS == 0:
	case math.IsNaN(b.Latency):
		b.Refused = "its latency was not measured: run it"
	case b.Latency > u.LatencyMS:
		b.Refused = fmt.Sprintf("%.0f ms instead of %.0f", b.Latency, u.LatencyMS)
	}
	return b
}

func (s *sum) s3(v variant, m measured, u Use, copies, missed float64) {
	c := v.class
	stored := u.StoredGB * copies
	if v.tiers {
		read, unread := stored*(1-u.UnreadPart), stored*u.UnreadPart
		s.add("storage, read within 90 days", read*c.StoredGB, "%.4g copies × %.4g GB × %.3g × $%.4g", copies, u.StoredGB, 1-u.UnreadPart, c.StoredGB)
		last := s3model.Tiers[len(s3model.Tiers)-1]
		s.add("storage, unread for 90 days", unread*last.USD, "%.4g copies × %.4g GB × %.3g × $%.4g", copies, u.StoredGB, u.UnreadPart, last.USD)
		objects := stored * m.objectsPerGB
		s.add("watching objects", objects*c.ObjectMonth, "%.4g GB × %.4g objects per GB × $%.4g per 1,000", stored, m.objectsPerGB, c.ObjectMonth*1000)
	} else {
		s.add("storage", stored*c.StoredGB, "%.4g copies × %.4g GB × $%.4g", copies, u.StoredGB, c.StoredGB)
	}
	added := u.AddedGB * copies
	for _, op := range s3model.Ops {
		if n := m.addRequests[op]; n > 0 {
			s.add("adding: "+string(op), added*n*c.USD[op], "%.4g copies × %.4g GB × %.4g %s per GB (measured) × $%.4g per 1,000", copies, u.AddedGB, n, op, c.USD[op]*1000)
		}
	}
	for _, op := range s3model.Ops {
		if n := m.readRequests[op]; n > 0 {
			s.add("serving: "+string(op), missed*n*c.USD[op], "%.4g GB × %.4g %s per GB (measured) × $%.4g per 1,000", missed, n, op, c.USD[op]*1000)
		}
	}
	for _, op := range s3model.Ops {
		if n := m.wantRequests[op]; n > 0 {
			s.add("wants for absent blocks: "+string(op), u.Wants*copies*secondsPerMonth*n*c.USD[op], "%.4g tasks × %.4g a second × %d s × %.4g %s each (measured) × $%.4g per 1,000", copies, u.Wants, secondsPerMonth, n, op, c.USD[op]*1000)
		}
	}
	if c.WrittenGB > 0 {
		s.add("bytes written", added*m.addMoved*c.WrittenGB, "%.4g GB × %.4g (measured) × $%.4g", added, m.addMoved, c.WrittenGB)
		s.add("bytes read", missed*m.readMoved*c.ReadGB, "%.4g GB × %.4g (measured) × $%.4g", missed, m.readMoved, c.ReadGB)
	}
}

// efs returns why the file system does not do, or "".
func (s *sum) efs(v variant, m measured, u Use, copies, served float64) (refused string) {
	price := efsmodel.OneZoneGBMonth
	if v.efs.Name == efsmodel.Regional.Name {
		price = efsmodel.RegionalGBMonth
	}
	s.add("storage", copies*u.StoredGB*price, "%.4g copies × %.4g GB × $%.4g", copies, u.StoredGB, price)
	// what a file system has to carry on average, a byte read counting a third
	needMiB := (u.AddedGB + served/copies/3) * 1e9 / (1 << 20) / secondsPerMonth
	baseMiB := u.StoredGB * 1e9 / (1 << 30) * float64(efsmodel.BurstingPerGiB) / (1 << 20)
	switch v.mode {
	case "elastic":
		for i, way := range []struct {
			name string
			usd  float64
		}{{"read", efsmodel.ElasticReadGB}, {"written", efsmodel.ElasticWrittenGB}} {
			s.add("adding: metered as "+way.name, copies*u.AddedGB*m.addMetered[i]*way.usd, "%.4g copies × %.4g GB × %.4g metered per byte (measured) × $%.4g", copies, u.AddedGB, m.addMetered[i], way.usd)
			s.add("serving: metered as "+way.name, served*m.readMetered[i]*way.usd, "%.4g GB × %.4g metered per byte (measured, cold) × $%.4g", served, m.readMetered[i], way.usd)
			s.add("wants for absent blocks: metered as "+way.name, copies*u.Wants*secondsPerMonth*m.wantMetered[i]/1e9*way.usd, "%.4g tasks × %.4g a second × %d s × %.4g bytes metered each (measured) × $%.4g per 10⁹", copies, u.Wants, secondsPerMonth, m.wantMetered[i], way.usd)
		}
	case "provisioned":
		// four times the average: traffic has a day and a night
		want := math.Ceil(4 * needMiB)
		extra := max(0, want-baseMiB)
		s.add("provisioned throughput", copies*extra*efsmodel.ProvisionedMiBpsMonth, "%.4g file systems × max(0, %.4g MiB/s − %.4g that come with %.4g GB) × $%.4g; %.4g is 4 × the average of %.3g", copies, want, baseMiB, u.StoredGB, efsmodel.ProvisionedMiBpsMonth, want, needMiB)
	case "bursting":
		s.add("throughput", 0, "comes with what is stored: %.4g GB × 50 KiB/s per GiB = %.4g MiB/s; needed on average: (%.4g GB added + %.4g GB served ÷ %.4g ÷ 3) ÷ a month = %.3g MiB/s", u.StoredGB, baseMiB, u.AddedGB, served, copies, needMiB)
		if needMiB > max(baseMiB, 1) {
			return fmt.Sprintf("burst credits run out: %.3g MiB/s are needed, %.3g come in", needMiB, max(baseMiB, 1))
		}
	}
	return ""
}

// fixed are the parts that every blockstore needs.
func (s *sum) fixed(u Use, d Deployment, v variant) {
	n := float64(d.Tasks)
	cpu, gb, arch := armCPUHour, armGBHour, "ARM"
	if d.X86 {
		cpu, gb, arch = x86CPUHour, x86GBHour, "x86"
	}
	s.add("Fargate "+arch, n*hoursPerMonth*(d.CPU*cpu+d.GB*gb), "%.4g tasks × %d h × (%.4g vCPU × $%.5g + %.4g GB × $%.5g)", n, hoursPerMonth, d.CPU, cpu, d.GB, gb)
	if extra := d.CacheGB + 5 - ephemeralFree; v.cached && extra > 0 {
		s.add("disk of the tasks", n*extra*hoursPerMonth*ephemeralGBHour, "%.4g tasks × (%.4g GB cache + 5 − %d free) × %d h × $%.4g", n, d.CacheGB, ephemeralFree, hoursPerMonth, ephemeralGBHour)
	}
	s.add("load balancer", hoursPerMonth*albHour+u.ServedGB*lcuHour, "%d h × $%.4g + %.4g GB × $%.4g per GB (capacity units)", hoursPerMonth, albHour, u.ServedGB, lcuHour)
	if d.NAT {
		s.add("NAT gateways", n*hoursPerMonth*natHour, "%.4g zones × %d h × $%.4g; S3 goes by its gateway endpoint, free of charge", n, hoursPerMonth, natHour)
	} else {
		s.add("public IPv4 addresses", n*hoursPerMonth*ipv4Hour, "%.4g tasks × %d h × $%.4g", n, hoursPerMonth, ipv4Hour)
	}
	s.add("CloudFront", max(0, u.ServedGB-cdnFreeGB)*cdnGB, "max(0, %.4g GB − %d free) × $%.4g", u.ServedGB, cdnFreeGB, cdnGB)
}
