package suite

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
)

// DefaultClass as Store.S3 is the storage class that the run was asked for.
const DefaultClass = "default"

// EFS is a kind of file system.
type EFS struct {
	Profile    efsmodel.Profile
	Throughput efsmodel.Throughput
}

// Name is how results call it.
func (e EFS) Name() string {
	name := "efs-" + e.Profile.Name + "-" + e.Throughput.Mode
	if e.Throughput.Mode == "bursting" && e.Throughput.CreditBytes == 0 {
		name += "-spent"
	}
	return name
}

// Store is a blockstore that can be measured.
type Store struct {
	Name, Title, What string
	// Rank orders stores in lists and reports.
	Rank int
	// S3 is the storage class of its bucket; "" if it has none.
	S3 string
	// EFS is the file system that holds the whole repo; nil: the local disk.
	EFS *EFS
	// Baseline is the store that it is compared with; "" if it is one itself.
	Baseline string
	// Stock is true if it is measured inside upstream's kubo, not ipfs-aws.
	Stock bool

	// Spec is the store in kubo's config, without its mountpoint.
	Spec func(*Place) map[string]any
	// DiskSpec is what kubo writes of it into datastore_spec.
	DiskSpec func(spec map[string]any) (map[string]any, error)
	// Open opens it without kubo. It is closed with Close.
	Open func(context.Context, *Place) (ds.Batching, error)
	// Cold makes the closed store what a new task on the same data would find; nil: nothing but the page cache has to go.
	Cold func(context.Context, *Place) error
}

// Kinds of workloads: what their bytes are.
const (
	Add   = "add"   // content that was added
	Serve = "serve" // content that was asked for
	Other = "other" // nothing that has bytes
)

// Workload is work that can be done with every store. Either function may be nil: then it is not done at that level.
type Workload struct {
	Name, Title, What string
	// Rank orders workloads, also in time: what adds comes before what removes.
	Rank      int
	Kind      string
	Datastore func(*Run) error
	Kubo      func(*Run) error
}

var (
	stores    []*Store
	workloads []*Workload
)

// RegisterStore makes a store known. It panics if that cannot be right, for it is called from init.
func RegisterStore(s Store) {
	if s.Name == "" || s.Spec == nil || s.DiskSpec == nil || s.Open == nil || slices.ContainsFunc(stores, func(o *Store) bool { return o.Name == s.Name }) {
		panic(fmt.Sprintf("store %q: has no name, no spec or no open, or is there twice", s.Name))
	}
	stores = append(stores, &s)
	slices.SortStableFunc(stores, func(a, b *Store) int { return a.Rank - b.Rank })
}

// RegisterWorkload makes a workload known.
func RegisterWorkload(w Workload) {
	if w.Name == "" || w.Datastore == nil && w.Kubo == nil || slices.ContainsFunc(workloads, func(o *Workload) bool { return o.Name == w.Name }) {
		panic(fmt.Sprintf("workload %q: has no name, nothing to do, or is there twice", w.Name))
	}
	workloads = append(workloads, &w)
	slices.SortStableFunc(workloads, func(a, b *Workload) int { return a.Rank - b.Rank })
}

// Stores are all stores, by rank.
func Stores() []*Store { return stores }

// Workloads are all workloads, by rank.
func Workloads() []*Workload { return workloads }

// find picks by name, in the order of all. "all" is all of them.
func find[T any](what string, all []*T, nameOf func(*T) string, names []string) ([]*T, error) {
	known := make([]string, len(all))
	for i, v := range all {
		known[i] = nameOf(v)
	}
	for _, n := range names {
		if n != "all" && !slices.Contains(known, n) {
			return nil, fmt.Errorf("%s %q is not known: use all, or some of %s", what, n, strings.Join(known, ", "))
		}
	}
	var found []*T
	for i, v := range all {
		if slices.Contains(names, "all") || slices.Contains(names, known[i]) {
			found = append(found, v)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no %s is named: use all, or some of %s", what, strings.Join(known, ", "))
	}
	return found, nil
}

// FindStores returns the stores of these names.
func FindStores(names []string) ([]*Store, error) {
	return find("store", stores, func(s *Store) string { return s.Name }, names)
}

// FindWorkloads returns the workloads of these names.
func FindWorkloads(names []string) ([]*Workload, error) {
	return find("workload", workloads, func(w *Workload) string { return w.Name }, names)
}

// model names the models behind a store.
func (s *Store) model(class s3model.Class) string {
	var m []string
	if s.EFS != nil {
		m = append(m, s.EFS.Name())
	}
	if s.S3 != "" {
		m = append(m, "s3-"+class.Name)
	}
	if len(m) == 0 {
		return "local disk"
	}
	return strings.Join(m, " + ")
}
