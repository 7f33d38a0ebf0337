package bill

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Each formula, by hand.
func TestByHand(t *testing.T) {
	d := Deployment{Tasks: 3, VCPU: 1, MemoryGB: 4, DiskGB: 42, JournalGB: 1, Addresses: 3, NATs: 3, Secrets: 4, AlarmMetrics: 12, Dashboards: 1, Zones: 1, RequestMetrics: 10, Metrics: 4}
	want := map[string]float64{
		"Fargate tasks": 3 * 730 * (0.03238 + 4*0.00356), "Disk of the tasks": 3 * 22 * 730 * 0.000111, "Load balancer": 730 * 0.0225,
		"Public IPv4 addresses": 3 * 730 * 0.005, "NAT gateways": 3 * 730 * 0.045, "Secrets": 1.60, "Alarms": 1.20, "Dashboard": 3, "Private DNS zone": 0.50,
		"S3 request metrics": 3, "Metrics of the nodes": 1.20, "Journals, at most": 3 * 0.16,
	}
	for _, l := range d.Fixed() {
		require.InDelta(t, want[l.What], l.USD, 1e-9, l.What)
		require.NotEmpty(t, l.How)
		delete(want, l.What)
	}
	require.Empty(t, want)
	d.X86 = true
	require.InDelta(t, 3*730*(0.04048+4*0.004445), d.Fixed()[0].USD, 1e-9)

	require.InDelta(t, 1024*0.02+1024*0.008+1024*2*2*0.01, Sum(Added(1024, 3)), 1e-9)
	require.InDelta(t, 1024*0.028, Sum(Added(1024, 1)), 1e-9, "no other copy")
	require.InDelta(t, 1024*(0.085+0.008), Sum(Served(1024, 0)), 1e-9)
	require.InDelta(t, 24*0.085+1024*0.008, Sum(Served(1024, 1000)), 1e-9)
	require.InDelta(t, 10*0.008, Sum(Served(10, 1000)), 1e-9, "free")
	require.InDelta(t, 1.10, Reads(1e6).USD, 1e-9)
	require.InDelta(t, 1024*0.09, Peers(1024).USD, 1e-9)
	require.InDelta(t, 3*1024*0.023, Stored("", 3, 1024, "s3.gb-month").USD, 1e-9)
	require.InDelta(t, 1024*32*0.000005, Requests("", 1024, 32, "PUT", "s3.put").USD, 1e-9)
}
