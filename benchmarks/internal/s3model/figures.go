package s3model

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipfs-aws/ipfs-aws/internal/bill"
	"github.com/ipfs-aws/ipfs-aws/internal/prices"
)

// Op is a class of requests that S3 bills, and delays, alike.
type Op string

// The classes. A copy, post or multipart call is none that a blockstore sends; it would count as PUT.
const (
	Put    Op = "PUT"
	Get    Op = "GET"
	Head   Op = "HEAD"
	List   Op = "LIST"
	Delete Op = "DELETE"
)

// Ops are all classes, in the order in which reports show them.
var Ops = []Op{Put, Get, Head, List, Delete}

// Class is a storage class: how fast it is, and what it costs.
type Class struct {
	Name  string
	Title string

	// FirstByte is the median time to the first byte of an answer, Sigma the shape of the lognormal distribution around it: at
	// 0.35, one request in 100 takes more than e^(2.326 × 0.35) = 2.3 medians.
	FirstByte map[Op]time.Duration
	Sigma     float64
	// ConnBytes and ClientBytes are bytes per second: of one request, and of all requests of one task together.
	ConnBytes, ClientBytes float64
	// Reads (GET, HEAD, LIST) and Writes (PUT, DELETE) are requests per second and prefix, beyond which S3 answers SlowDown.
	Reads, Writes float64

	// USD is the price of one request.
	USD map[Op]float64
	// ReadGB and WrittenGB are USD per GB (2³⁰ bytes) that passes, StoredGB per GB and month.
	ReadGB, WrittenGB, StoredGB float64
	// ObjectMonth is USD per object of at least 128 KB and month, for watching it.
	ObjectMonth float64

	Sources []Source
}

// Source says where a figure comes from, and when it was read there.
type Source struct{ What, Where, Read string }

const ms = time.Millisecond

// clientBytes is the network of one task: 10 Gbit/s is what AWS gives as "up to" for the instances that Fargate tasks of 2 vCPU and
// more are compared with. AWS publishes no figure for Fargate itself, so this is an assumption. 10e9/8 bytes.
const clientBytes = 1.25e9

var (
	// Standard is S3 Standard, seen from the same region.
	Standard = Class{
		Name: "standard", Title: "S3 Standard",
		FirstByte: map[Op]time.Duration{Get: 25 * ms, Head: 25 * ms, Put: 40 * ms, Delete: 40 * ms, List: 50 * ms},
		Sigma:     0.35,
		ConnBytes: 90e6, ClientBytes: clientBytes,
		Reads: 5500, Writes: 3500,
		USD:      requests("s3.put", "s3.get"),
		StoredGB: prices.Of("s3.gb-month"),
		Sources: []Source{
			{"first byte: medians of 25, 40 and 50 ms, sigma 0.35", "assumption of this project for small objects in the same region; the AWS performance guide says 100 to 200 ms for applications in general, so the model is kind to stores that send many requests", "2026-11"},
			{"90 MB/s per request", "docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html (85 to 90 MB/s per connection)", "2026-11"},
			{"3,500 writes and 5,500 reads per second and prefix", "docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html", "2026-11"},
			{"1.25 GB/s per task", "assumption: 10 Gbit/s; AWS publishes none for Fargate", "2026-11"},
			{"$0.005 per 1,000 PUT and LIST, $0.0004 per 1,000 GET and HEAD, DELETE free, $0.023 per GB-month (first 50 TB)", "aws.amazon.com/s3/pricing, us-east-1", "2026-08"},
		},
	}

	// IntelligentTiering is as fast as Standard while its objects are read; what is stored is billed by how long ago it was read.
	IntelligentTiering = Class{
		Name: "intelligent-tiering", Title: "S3 Intelligent-Tiering",
		FirstByte: Standard.FirstByte, Sigma: Standard.Sigma, ConnBytes: Standard.ConnBytes, ClientBytes: Standard.ClientBytes,
		Reads: Standard.Reads, Writes: Standard.Writes,
		USD:         Standard.USD,
		StoredGB:    prices.Of("s3.tiering.frequent.gb-month"), // see Tiers
		ObjectMonth: prices.Of("s3.tiering.object-month"),
		Sources: []Source{
			{"speed as S3 Standard", "aws.amazon.com/s3/storage-classes/intelligent-tiering (same latency and throughput in the three synchronous tiers)", "2026-11"},
			{"requests as S3 Standard; $0.023, $0.0125 (30 days unread) and $0.004 (90 days unread) per GB-month; $0.0025 per 1,000 objects of 128 KB or more and month", "aws.amazon.com/s3/pricing, us-east-1", "2026-08"},
		},
	}

	// Express is S3 Express One Zone, seen from the same zone.
	Express = Class{
		Name: "express", Title: "S3 Express One Zone",
		FirstByte: map[Op]time.Duration{Get: 4 * ms, Head: 4 * ms, Put: 6 * ms, Delete: 6 * ms, List: 8 * ms},
		Sigma:     0.25,
		ConnBytes: 90e6, ClientBytes: clientBytes,
		Reads: 2_000_000, Writes: 200_000,
		USD:    requests("s3.express.put", "s3.express.get"),
		ReadGB: prices.Of("s3.express.read.gb"), WrittenGB: prices.Of("s3.express.write.gb"), StoredGB: prices.Of("s3.express.gb-month"),
		Sources: []Source{
			{"first byte: medians of 4, 6 and 8 ms, sigma 0.25", "assumption within what AWS says: consistent single-digit milliseconds (docs.aws.amazon.com/AmazonS3/latest/userguide/s3-express-one-zone.html)", "2026-11"},
			{"90 MB/s per request, 1.25 GB/s per task", "assumption: as S3 Standard", "2026-11"},
			{"2,000,000 reads and 200,000 writes per second and bucket", "docs.aws.amazon.com/AmazonS3/latest/userguide/s3-express-optimizing-performance-design-patterns.html", "2026-11"},
			{"$0.00113 per 1,000 PUT and LIST, $0.00003 per 1,000 GET and HEAD, $0.0032 per GB written, $0.0006 per GB read, $0.11 per GB-month", "aws.amazon.com/s3/pricing, us-east-1", "2026-08"},
		},
	}

	// Classes are all classes.
	Classes = []Class{Standard, IntelligentTiering, Express}
)

// Tier is a tier of Intelligent-Tiering: what has not been read for After days is in it.
type Tier struct {
	Name  string
	After int
	USD   float64 // per GB-month
}

// Tiers are the tiers of Intelligent-Tiering that are read without waiting, sources as there.
var Tiers = []Tier{
	{"frequent", 0, prices.Of("s3.tiering.frequent.gb-month")},
	{"infrequent", 30, prices.Of("s3.tiering.infrequent.gb-month")},
	{"archive instant", 90, prices.Of("s3.tiering.archive.gb-month")},
}

// EgressGB is what a GB costs that leaves the region, in USD. The budget of a real bucket counts it for every byte received, because
// nothing here can know where it runs.
var EgressGB = prices.Of("transfer.out.gb")

// requests are USD by class of request, by names of the price list. DELETE is free.
func requests(writes, reads string) map[Op]float64 {
	w, r := prices.Of(writes), prices.Of(reads)
	return map[Op]float64{Put: w, List: w, Get: r, Head: r, Delete: 0}
}

// FindClass returns a class by its name.
func FindClass(name string) (Class, error) {
	i := slices.IndexFunc(Classes, func(c Class) bool { return c.Name == name })
	if i < 0 {
		var names []string
		for _, c := range Classes {
			names = append(names, c.Name)
		}
		return Class{}, fmt.Errorf("S3 class %q is not known: use one of %s", name, strings.Join(names, ", "))
	}
	return Classes[i], nil
}

// Cost is what counts cost in this class: USD for requests and for bytes that pass.
func (c Class) Cost(n Counts) float64 {
	var usd float64
	for op, k := range n.Requests {
		usd += float64(k) * c.USD[op]
	}
	return usd + float64(n.BytesOut)/bill.GB*c.ReadGB + float64(n.BytesIn)/bill.GB*c.WrittenGB
}
