// Package record is what a run writes down: results.json. It knows how to read, check and write it, and what statistics
// may be made of it; it measures nothing.
//
// Every measurement is a Sample, and nothing is left out of it: each latency, each step, each counter. Whatever a report shows can be
// computed again from this file alone. The file is replaced as a whole after every unit of work, so that a run that is killed has
// lost the unit it was at, and no more.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
)

// Schema is the version of the format. A reader refuses others.
const Schema = 1

// FileName is the name of the file in a folder of results.
const FileName = "results.json"

// Levels at which a store is measured.
const (
	Datastore = "datastore" // the Go interface, in the benchmark's process
	Kubo      = "kubo"      // a daemon, through its commands and HTTP
)

// Levels are both levels.
var Levels = []string{Datastore, Kubo}

// Results are all results of a run.
type Results struct {
	Schema    int          `json:"schema" doc:"version of this format: 1"`
	Settings  Settings     `json:"settings" doc:"what was asked for; --resume takes it from here"`
	Machine   Machine      `json:"machine" doc:"where it ran"`
	Versions  []Version    `json:"versions" doc:"of the software that was measured"`
	Started   time.Time    `json:"started" doc:"when the run began"`
	Finished  *time.Time   `json:"finished,omitempty" doc:"when it was complete; absent while it is not"`
	Stopped   string       `json:"stopped,omitempty" doc:"why it is not complete: interrupted, budget reached, an error"`
	SpentUSD  float64      `json:"spentUSD" doc:"what was spent at real servers, in USD, reckoned from above; 0 with models"`
	Stores    []Store      `json:"stores" doc:"what was measured, in the order of the report"`
	Workloads []Workload   `json:"workloads" doc:"and with what work"`
	Skipped   []Skipped    `json:"skipped" doc:"what could not be measured here, and why"`
	Ceilings  []Ceiling    `json:"ceilings" doc:"what each model lets through at most: by formula, and measured here without a store"`
	Samples   []Sample     `json:"samples" doc:"every single measurement"`
	Mismatch  []Difference `json:"mismatch" doc:"where a store's own counters and the server's differ; empty, or the metering is wrong"`
	Agreed    int          `json:"agreed" doc:"how many times a store's own request counters were compared with the server's and were equal"`
}

// Settings are what a run was asked for.
type Settings struct {
	Profile   string   `json:"profile" doc:"name of the profile that the rest began from"`
	Scale     float64  `json:"scale" doc:"factor on all sizes of the profile"`
	Samples   int      `json:"samples" doc:"rounds, each with one sample of everything"`
	Dilation  float64  `json:"dilation" doc:"how many times slower than the real service the models ran; times below have it taken out"`
	Stores    []string `json:"stores" doc:"names of stores"`
	Workloads []string `json:"workloads" doc:"names of workloads"`
	Levels    []string `json:"levels" doc:"datastore, kubo"`
	S3Class   string   `json:"s3Class" doc:"storage class of the S3 stores that do not name their own"`
	Endpoint  string   `json:"endpoint,omitempty" doc:"real S3 server, if one was used"`
	Bucket    string   `json:"bucket,omitempty" doc:"real bucket, if one was used"`
	Region    string   `json:"region,omitempty" doc:"its region"`
	EFSPath   string   `json:"efsPath,omitempty" doc:"real EFS mount, if one was used"`
	MaxUSD    float64  `json:"maxUSD" doc:"what could be spent at real servers"`
	Parallel  int      `json:"parallel" doc:"stores measured at the same time; above 1 the times mean nothing"`
	Sizes     Sizes    `json:"sizes" doc:"of the work, scale included"`
}

// Sizes are how much work there is.
type Sizes struct {
	FileBytes       int64   `json:"fileBytes" doc:"bytes of the large file that is added, read, ranged over and pinned"`
	TreeFiles       int     `json:"treeFiles" doc:"small files of 1 to 50 KiB that are added at once"`
	GatewayFiles    int     `json:"gatewayFiles" doc:"files of 1 to 50 KiB that the gateway serves"`
	GatewayRequests int     `json:"gatewayRequests" doc:"requests at each step of concurrency"`
	GatewayClients  int     `json:"gatewayClients" doc:"highest concurrency that is tried"`
	Ranges          int     `json:"ranges" doc:"Range requests of 1 MiB"`
	Blocks          int     `json:"blocks" doc:"random single blocks that are read"`
	WantsPerSecond  float64 `json:"wantsPerSecond" doc:"wants for absent blocks per second"`
	WantsSeconds    float64 `json:"wantsSeconds" doc:"for how long, in seconds of the model"`
	GarbageBlocks   int     `json:"garbageBlocks" doc:"blocks that gc removes"`
	IdleSeconds     float64 `json:"idleSeconds" doc:"how long idle is watched, in real seconds"`
	SealSeconds     float64 `json:"sealSeconds" doc:"sealAge of packs: how long a block waits for others before it is uploaded, in real seconds"`
	Compaction      bool    `json:"compaction" doc:"whether gc waits for compaction, so that its requests count"`
}

// Machine is where a run took place.
type Machine struct {
	CPU      string  `json:"cpu" doc:"model of the processor"`
	Cores    int     `json:"cores" doc:"that Go may use"`
	MemoryGB float64 `json:"memoryGB" doc:"in 2^30 bytes"`
	OS       string  `json:"os" doc:"operating system and kernel"`
	Arch     string  `json:"arch" doc:"GOARCH"`
	Load     string  `json:"load" doc:"load average when the run began"`
}

// Version is of a piece of software.
type Version struct {
	Name    string `json:"name" doc:"module or program"`
	Version string `json:"version" doc:"as it is built in"`
}

// Store is a store that was measured.
type Store struct {
	Name     string `json:"name" doc:"as on the command line"`
	Title    string `json:"title" doc:"as in the report"`
	What     string `json:"what" doc:"what it is, in one sentence"`
	Model    string `json:"model" doc:"the models behind it: S3 class, EFS profile and throughput mode, or local disk"`
	Baseline string `json:"baseline,omitempty" doc:"the store that it is compared with"`
	Program  string `json:"program" doc:"what runs it at level kubo"`
}

// Workload is work that was done.
type Workload struct {
	Name  string `json:"name" doc:"as on the command line"`
	Title string `json:"title" doc:"as in the report"`
	What  string `json:"what" doc:"what is done and measured"`
	Kind  string `json:"kind" doc:"add, serve or other: how bytes are to be read"`
}

// Skipped is something that could not be measured.
type Skipped struct {
	Store string `json:"store" doc:"name"`
	Why   string `json:"why" doc:"one line"`
}

// Ceiling is what a model lets through.
type Ceiling struct {
	Model          string  `json:"model" doc:"as in stores"`
	Formula        string  `json:"formula" doc:"how limitBytes was computed"`
	LimitBytes     float64 `json:"limitBytes" doc:"bytes per second that the model allows one task"`
	ReadBytes      float64 `json:"readBytes" doc:"bytes per second of the model's time that plain clients read here, without a store"`
	WriteBytes     float64 `json:"writeBytes" doc:"the same, written"`
	SmallPerSecond float64 `json:"smallPerSecond" doc:"small reads per second of the model's time, 64 at a time, here, without a store"`
}

// Sample is one measurement. Times are the model's: what the clock said, divided by the dilation.
type Sample struct {
	Round     int              `json:"round" doc:"from 0 on"`
	Store     string           `json:"store" doc:"name"`
	Level     string           `json:"level" doc:"datastore or kubo"`
	Workload  string           `json:"workload" doc:"name"`
	At        time.Time        `json:"at" doc:"when it began"`
	Seconds   float64          `json:"seconds" doc:"how long it took"`
	Bytes     int64            `json:"bytes" doc:"bytes of content added or asked for"`
	Ops       int64            `json:"ops" doc:"operations: files, reads, wants, … as the workload says"`
	Latencies []float64        `json:"latencies" doc:"milliseconds of each operation, in the order in which they ended"`
	Steps     []Step           `json:"steps,omitempty" doc:"what rises, step by step"`
	S3        *s3model.Counts  `json:"s3,omitempty" doc:"at the S3 server, uploads that the work left behind included"`
	EFS       *EFS             `json:"efs,omitempty" doc:"at the EFS server, likewise"`
	USD       float64          `json:"usd" doc:"what the requests and metered bytes of this sample cost"`
	Client    map[string]int64 `json:"client,omitempty" doc:"what the store itself counted, where it does: requests by class, retries, and bytes asked by callers, from the bucket, from its cache"`
	PeakRSS   int64            `json:"peakRSS,omitempty" doc:"most resident bytes of the daemon during the work; level kubo"`
	CPU       float64          `json:"cpu,omitempty" doc:"processor seconds of the daemon; level kubo"`
}

// Step is a part of a sample under one condition.
type Step struct {
	Clients   int       `json:"clients" doc:"concurrent clients"`
	Seconds   float64   `json:"seconds" doc:"how long it took"`
	Ops       int64     `json:"ops" doc:"operations"`
	Bytes     int64     `json:"bytes" doc:"bytes of content asked for"`
	Latencies []float64 `json:"latencies" doc:"milliseconds of each operation"`
}

// EFS is what a file system has counted.
type EFS struct {
	Requests       map[efsmodel.Kind]int64 `json:"requests" doc:"by kind"`
	BytesRead      int64                   `json:"bytesRead" doc:"transferred"`
	BytesWritten   int64                   `json:"bytesWritten" doc:"transferred"`
	MeteredRead    int64                   `json:"meteredRead" doc:"bytes that Elastic throughput is billed for"`
	MeteredWritten int64                   `json:"meteredWritten" doc:"bytes that Elastic throughput is billed for"`
}

// Total is the number of all requests.
func (e *EFS) Total() (n int64) {
	for _, k := range e.Requests {
		n += k
	}
	return n
}

// Difference is where two counters differ.
type Difference struct {
	Round  int              `json:"round" doc:"of the sample"`
	Store  string           `json:"store" doc:"name"`
	Level  string           `json:"level" doc:"datastore or kubo"`
	Server map[string]int64 `json:"server" doc:"requests that the server saw since the store was opened"`
	Client map[string]int64 `json:"client" doc:"requests that the store says it has sent"`
}

// Key names a measurement across stores and rounds.
type Key struct{ Store, Level, Workload string }

// Key is what is measured by s.
func (s *Sample) Key() Key { return Key{s.Store, s.Level, s.Workload} }

// Has reports whether a round has a sample of k.
func (r *Results) Has(round int, k Key) bool {
	return slices.ContainsFunc(r.Samples, func(s Sample) bool { return s.Round == round && s.Key() == k })
}

// Of returns the samples of k, by round.
func (r *Results) Of(k Key) []Sample {
	var of []Sample
	for _, s := range r.Samples {
		if s.Key() == k {
			of = append(of, s)
		}
	}
	slices.SortFunc(of, func(a, b Sample) int { return a.Round - b.Round })
	return of
}

// DropMismatched forgets what was measured where the counters differed, so that it is measured once more. It returns how many samples
// that were.
func (r *Results) DropMismatched() (dropped int) {
	had := len(r.Samples)
	for _, m := range r.Mismatch {
		r.Samples = slices.DeleteFunc(r.Samples, func(s Sample) bool { return s.Round == m.Round && s.Store == m.Store && s.Level == m.Level })
	}
	r.Mismatch = nil
	return had - len(r.Samples)
}

// Validate reports everything that is wrong with r: what a report could not be made of.
func (r *Results) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if r.Schema != Schema {
		bad("schema is %d; this program reads %d", r.Schema, Schema)
	}
	if r.Settings.Dilation <= 0 || r.Settings.Samples < 1 {
		bad("settings: dilation %g and samples %d must be more than 0", r.Settings.Dilation, r.Settings.Samples)
	}
	stores, workloads := map[string]bool{}, map[string]bool{}
	for _, s := range r.Stores {
		stores[s.Name] = true
	}
	for _, w := range r.Workloads {
		workloads[w.Name] = true
		if !slices.Contains([]string{"add", "serve", "other"}, w.Kind) {
			bad("workload %s: kind is %q", w.Name, w.Kind)
		}
	}
	seen := map[string]bool{}
	for i, s := range r.Samples {
		id := fmt.Sprintf("samples[%d] (%s, %s, %s, round %d)", i, s.Store, s.Level, s.Workload, s.Round)
		switch {
		case !stores[s.Store]:
			bad("%s: the store is not among stores", id)
		case !workloads[s.Workload]:
			bad("%s: the workload is not among workloads", id)
		case !slices.Contains(Levels, s.Level):
			bad("%s: no such level", id)
		case s.Round < 0 || s.Round >= r.Settings.Samples:
			bad("%s: rounds are 0 to %d", id, r.Settings.Samples-1)
		case s.Seconds <= 0:
			bad("%s: took %g s", id, s.Seconds)
		case s.Bytes < 0 || s.Ops < 0 || s.USD < 0:
			bad("%s: bytes %d, ops %d, usd %g must not be negative", id, s.Bytes, s.Ops, s.USD)
		case seen[fmt.Sprint(s.Round, s.Key())]:
			bad("%s: is there twice", id)
		}
		seen[fmt.Sprint(s.Round, s.Key())] = true
		if s.S3 != nil {
			for op, n := range s.S3.Requests {
				if !slices.Contains(s3model.Ops, op) || n < 0 {
					bad("%s: %d requests of class %q", id, n, op)
				}
			}
		}
	}
	return errors.Join(errs...)
}

// Read reads the results in a folder, or in a file.
func Read(path string) (*Results, error) {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		path = filepath.Join(path, FileName)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	defer f.Close()
	var r Results
	dec := json.NewDecoder(f)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("read results in %s: %w", path, err)
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("results in %s: %w", path, err)
	}
	return &r, nil
}

// Write replaces the results in a folder.
func (r *Results) Write(dir string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(path+".new", append(compact(data), '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return os.Rename(path+".new", path)
}
