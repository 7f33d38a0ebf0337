package advise

import (
	"fmt"
	"math"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
	"github.com/ipfs-aws/ipfs-aws/internal/bill"
	"github.com/ipfs-aws/ipfs-aws/internal/prices"
)

// imageAndIndexGB is what the disk of a task has next to the cache, as in the templates.
const imageAndIndexGB = 12

// sum adds lines up. Each line's amount is computed from the very numbers that it shows.
type sum struct{ lines []Line }

func (s *sum) add(what string, usd float64, how string, args ...any) {
	s.lines = append(s.lines, Line{What: what, How: fmt.Sprintf(how, args...), USD: usd})
}

func (s *sum) take(lines ...Line) { s.lines = append(s.lines, lines...) }

func total(v variant, m measured, u Use, d Deployment) Bill {
	b := Bill{Store: v.name, Deployment: d.Name, Latency: m.latency}
	var s sum
	copies := float64(d.Tasks)
	read := u.ServedGB + u.PeersGB
	missed := read
	if v.cached {
		cached := min(u.Files, d.CacheGB*copies/u.StoredGB*u.Files/copies)
		hit := HitRate(u.Files, cached, u.Exponent)
		missed = read * (1 - hit)
		s.add("Reads past the cache", 0, "each task's cache of %.4g GB holds %.4g of %.4g files; Zipf %.3g: %.1f %% of reads are hits, so %.4g of %.4g GB come from the bucket", d.CacheGB, cached, u.Files, u.Exponent, 100*hit, missed, read)
	}
	var standard bill.Deployment
	switch {
	case v.class != nil:
		standard = bill.Deployments["s3"]
		s.s3(v, m, u, copies, missed)
	case v.efs != nil:
		standard = bill.Deployments["onezone"]
		if v.efs.Name == efsmodel.Regional.Name {
			standard = bill.Deployments["standard"]
		}
		b.Refused = s.efs(v, m, u, copies, read)
		if backups := standard.BackupCopies; backups > 0 {
			s.take(bill.Stored("Backups", backups, u.StoredGB, "efs.backup.gb-month"))
		}
	}
	s.take(bill.Added(u.AddedGB, copies)...)
	s.take(bill.Served(u.ServedGB, u.FreeGB)...)
	s.take(bill.Reads(u.ServedGB / u.StoredGB * u.Files))
	s.take(bill.Peers(u.PeersGB))
	for _, l := range d.of(standard, v.cached).Fixed() {
		if l.USD != 0 {
			s.take(l)
		}
	}
	if d.NAT {
		s.add("NAT gateways, by GB", u.PeersGB*prices.Of("nat.gb"), "%.4g GB to peers × $%.4g; S3 and EFS do not go through them", u.PeersGB, prices.Of("nat.gb"))
	}
	b.Lines = s.lines
	b.Total = bill.Sum(b.Lines)
	switch {
	case b.Refused != "" || u.LatencyMS == 0:
	case math.IsNaN(b.Latency):
		b.Refused = "its latency was not measured: run it"
	case b.Latency > u.LatencyMS:
		b.Refused = fmt.Sprintf("%.0f ms instead of %.0f", b.Latency, u.LatencyMS)
	}
	return b
}

// of is the template's deployment with the tasks of this one. What surrounds the tasks, such as secrets and alarms, stays.
func (d Deployment) of(t bill.Deployment, cached bool) bill.Deployment {
	t.Tasks, t.VCPU, t.MemoryGB, t.X86 = d.Tasks, d.CPU, d.GB, d.X86
	t.Addresses, t.NATs = d.Tasks, 0 // a NAT gateway has an address, too
	if d.NAT {
		t.NATs = d.Tasks
	}
	if cached {
		t.DiskGB = d.CacheGB + imageAndIndexGB
	}
	return t
}

func (s *sum) s3(v variant, m measured, u Use, copies, missed float64) {
	c := v.class
	stored := u.StoredGB * copies
	if v.tiers {
		read, unread := stored*(1-u.UnreadPart), stored*u.UnreadPart
		s.add("Storage, read within 90 days", read*c.StoredGB, "%.4g copies × %.4g GB × %.3g × $%.4g", copies, u.StoredGB, 1-u.UnreadPart, c.StoredGB)
		last := s3model.Tiers[len(s3model.Tiers)-1]
		s.add("Storage, unread for 90 days", unread*last.USD, "%.4g copies × %.4g GB × %.3g × $%.4g", copies, u.StoredGB, u.UnreadPart, last.USD)
		objects := stored * m.objectsPerGB
		s.add("Watching objects", objects*c.ObjectMonth, "%.4g GB × %.4g objects per GB × $%.4g per 1,000", stored, m.objectsPerGB, c.ObjectMonth*1000)
	} else {
		s.add("Storage", stored*c.StoredGB, "%.4g copies × %.4g GB × $%.4g", copies, u.StoredGB, c.StoredGB)
	}
	added := u.AddedGB * copies
	for _, op := range s3model.Ops {
		if n := m.addRequests[op]; n > 0 {
			s.add("Adding: "+string(op), added*n*c.USD[op], "%.4g copies × %.4g GB × %.4g %s per GB (measured) × $%.4g per 1,000", copies, u.AddedGB, n, op, c.USD[op]*1000)
		}
	}
	for _, op := range s3model.Ops {
		if n := m.readRequests[op]; n > 0 {
			s.add("Reading: "+string(op), missed*n*c.USD[op], "%.4g GB × %.4g %s per GB (measured) × $%.4g per 1,000", missed, n, op, c.USD[op]*1000)
		}
	}
	for _, op := range s3model.Ops {
		if n := m.wantRequests[op]; n > 0 {
			s.add("Wants for absent blocks: "+string(op), u.Wants*copies*bill.SecondsPerMonth*n*c.USD[op], "%.4g tasks × %.4g a second × %d s × %.4g %s each (measured) × $%.4g per 1,000", copies, u.Wants, bill.SecondsPerMonth, n, op, c.USD[op]*1000)
		}
	}
	if c.WrittenGB > 0 {
		s.add("Bytes written", added*m.addMoved*c.WrittenGB, "%.4g GB × %.4g (measured) × $%.4g", added, m.addMoved, c.WrittenGB)
		s.add("Bytes read", missed*m.readMoved*c.ReadGB, "%.4g GB × %.4g (measured) × $%.4g", missed, m.readMoved, c.ReadGB)
	}
}

// efs returns why the file system does not do, or "".
func (s *sum) efs(v variant, m measured, u Use, copies, read float64) (refused string) {
	price := "efs.onezone.gb-month"
	if v.efs.Name == efsmodel.Regional.Name {
		price = "efs.standard.gb-month"
	}
	s.take(bill.Stored("Storage", copies, u.StoredGB, price))
	// what a file system has to carry on average, a byte read counting a third
	const mibPerGB = bill.GB >> 20
	needMiB := (u.AddedGB + read/copies/3) * mibPerGB / bill.SecondsPerMonth
	baseMiB := u.StoredGB * float64(efsmodel.BurstingPerGiB) / (1 << 20)
	switch v.mode {
	case "elastic":
		for i, way := range []struct{ name, price string }{{"read", "efs.elastic.read.gb"}, {"written", "efs.elastic.write.gb"}} {
			usd := prices.Of(way.price)
			s.add("Adding: metered as "+way.name, copies*u.AddedGB*m.addMetered[i]*usd, "%.4g copies × %.4g GB × %.4g metered per byte (measured) × $%.4g", copies, u.AddedGB, m.addMetered[i], usd)
			s.add("Reading: metered as "+way.name, read*m.readMetered[i]*usd, "%.4g GB × %.4g metered per byte (measured, cold) × $%.4g", read, m.readMetered[i], usd)
			s.add("Wants for absent blocks: metered as "+way.name, copies*u.Wants*bill.SecondsPerMonth*m.wantMetered[i]/bill.GB*usd, "%.4g tasks × %.4g a second × %d s × %.4g bytes metered each (measured) × $%.4g per GB", copies, u.Wants, bill.SecondsPerMonth, m.wantMetered[i], usd)
		}
	case "provisioned":
		// four times the average: traffic has a day and a night
		want, usd := math.Ceil(4*needMiB), prices.Of("efs.provisioned.mibps-month")
		extra := max(0, want-baseMiB)
		s.add("Provisioned throughput", copies*extra*usd, "%.4g file systems × max(0, %.4g MiB/s − %.4g that come with %.4g GB) × $%.4g; %.4g is 4 × the average of %.3g", copies, want, baseMiB, u.StoredGB, usd, want, needMiB)
	case "bursting":
		s.add("Throughput", 0, "comes with what is stored: %.4g GB × 50 KiB/s per GB = %.4g MiB/s; needed on average: (%.4g GB added + %.4g GB read ÷ %.4g ÷ 3) ÷ a month = %.3g MiB/s", u.StoredGB, baseMiB, u.AddedGB, read, copies, needMiB)
		if needMiB > max(baseMiB, 1) {
			return fmt.Sprintf("burst credits run out: %.3g MiB/s are needed, %.3g come in", needMiB, max(baseMiB, 1))
		}
	}
	return ""
}
