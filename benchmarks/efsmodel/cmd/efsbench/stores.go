package main

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	flatfs "github.com/ipfs/go-ds-flatfs"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/datastore/efs"
)

const (
	shardFunc = efs.DefaultShardFunc
	blockSize = 4096
)

var ctx = context.Background()

type bench struct {
	flags              flags
	only               *regexp.Regexp
	base, backing, mnt string
	mount              *efsmodel.Mounted
	rows               []row
	next               atomic.Int64 // number of the next block
	kubos              *kubos
}

// store is one of the two that are compared.
type store struct {
	name string // of its folder in the mount
	open func(dir string) (ds.Batching, error)
}

var (
	stock = store{"stock", func(dir string) (ds.Batching, error) {
		d, err := flatfs.Open(dir, true)
		return d, err
	}}
	ours = store{"efs", func(dir string) (ds.Batching, error) {
		d, err := efs.Open(efs.Config{
			Path: dir, ShardFunc: shardFunc,
			NamesDurable: true, // as on NFS, which the model stands for
		})
		return d, err
	}}
	both = []store{stock, ours}
)

func block(n int64, size int) (ds.Key, []byte) {
	value := make([]byte, size)
	binary.LittleEndian.PutUint64(value, uint64(n))
	sum := sha256.Sum256(value)
	mh := append([]byte{0x12, 0x20}, sum[:]...)
	return ds.NewKey(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(mh)), value
}

// fill makes a flatfs store of the wanted number of blocks behind the mount.
func (b *bench) fill(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	fun, err := flatfs.ParseShardFunc(shardFunc)
	if err != nil {
		return err
	}
	if err := flatfs.WriteShardFunc(dir, fun); err != nil {
		return err
	}
	for n := range int64(b.flags.blocks) {
		key, value := block(-1-n, blockSize)
		name := key.String()[1:]
		shard := filepath.Join(dir, fun.Func()(name))
		if err := os.Mkdir(shard, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := os.WriteFile(filepath.Join(shard, name+".data"), value, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// sample is one run of some work: how much it did and in what time.
type sample struct {
	seconds float64
	count   int
	stats   efsmodel.Stats
}

// timed runs f on the model's clock.
func (b *bench) timed(dilation float64, count int, f func() error) (sample, error) {
	if err := errors.Join(b.mount.Reset(), b.mount.SetDilation(dilation)); err != nil {
		return sample{}, err
	}
	start := time.Now()
	err := f()
	took := time.Since(start)
	st, serr := b.mount.Stats()
	err = errors.Join(err, serr, b.mount.SetDilation(0))
	return sample{seconds(took, dilation), count, st}, err
}

// all measures everything.
func (b *bench) all() error {
	for _, s := range both {
		if err := b.fill(filepath.Join(b.backing, s.name)); err != nil {
			return err
		}
	}
	// One open each beforehand: both then have what they leave on disk.
	for _, s := range both {
		d, err := s.open(filepath.Join(b.mnt, s.name))
		if err != nil {
			return err
		}
		if err := d.Close(); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		name string
		run  func(string) error
	}{
		{"64 writers, 4 KiB", func(n string) error { return b.writers(n, 30, 64, 4096, 384, 6144) }},
		{"64 writers, 256 KiB", func(n string) error { return b.writers(n, 8, 64, 256<<10, 384, 2048) }},
		{"batch of 1,024 × 4 KiB", b.batches},
		{"one writer, 4 KiB", func(n string) error { return b.writers(n, 1.5, 1, 4096, 100, 200) }},
		{"one writer, 256 KiB", func(n string) error { return b.writers(n, 1.5, 1, 256<<10, 100, 200) }},
		{"metered bytes per 4 KiB block", b.metered},
		{"Has and GetSize, hit and miss", b.asks},
		{"listing", b.listing},
		{"open, persisted index", b.openIndexed},
		{"open, nothing persisted", b.openBare},
		{"kubo add", b.kuboAdd},
		{"kubo gc", b.kuboGC},
	} {
		if !b.only.MatchString(step.name) {
			continue
		}
		if !b.flags.json {
			fmt.Fprintf(os.Stderr, "%s …\n", step.name)
		}
		if err := step.run(step.name); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// compare takes samples of both stores in turn and adds a row with the rate of
// each, in units of count per second, or, with inverse, in seconds.
func (b *bench) compare(r row, inverse bool, take func(s store) (sample, error)) ([]sample, []sample, error) {
	samples := map[string][]sample{}
	for range b.flags.samples {
		for _, s := range both {
			sample, err := take(s)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", s.name, err)
			}
			samples[s.name] = append(samples[s.name], sample)
		}
	}
	value := func(samples []sample) float64 {
		var v []float64
		for _, s := range samples {
			if inverse {
				v = append(v, s.seconds)
			} else {
				v = append(v, float64(s.count)/s.seconds)
			}
		}
		return median(v)
	}
	r.Stock, r.Efs = value(samples["stock"]), value(samples["efs"])
	r.Ratio = r.Efs / r.Stock
	if inverse {
		r.Ratio = r.Stock / r.Efs
	}
	b.rows = append(b.rows, r)
	return samples["stock"], samples["efs"], nil
}

// with opens a store, without waiting times, and closes it after f.
func (b *bench) with(s store, f func(d ds.Batching) (sample, error)) (sample, error) {
	d, err := s.open(filepath.Join(b.mnt, s.name))
	if err != nil {
		return sample{}, err
	}
	res, err := f(d)
	return res, errors.Join(err, d.Close())
}

// remove deletes blocks again, so that every sample finds the same store.
func (b *bench) remove(d ds.Batching, from, to int64, size int) error {
	for n := from; n < to; n++ {
		key, _ := block(n, size)
		if err := d.Delete(ctx, key); err != nil {
			return err
		}
	}
	return d.Sync(ctx, ds.NewKey("/"))
}

// writers measures Puts of so many writers at once, nStock and nEfs of them in all.
func (b *bench) writers(name string, target float64, writers, size, nStock, nEfs int) error {
	_, efsSamples, err := b.compare(row{Name: name, Target: target, Unit: "puts/s"}, false, func(s store) (sample, error) {
		n := nStock
		if s.name == ours.name {
			n = nEfs
		}
		return b.with(s, func(d ds.Batching) (sample, error) { return b.puts(d, writers, size, n) })
	})
	if err == nil && size >= 256<<10 && writers > 1 {
		var rates []float64
		for _, s := range efsSamples {
			rates = append(rates, float64(s.count*size)/s.seconds/(1<<20))
		}
		b.rows[len(b.rows)-1].Note = fmt.Sprintf("%.0f MiB/s of the client's limit", median(rates))
	}
	return err
}

func (b *bench) puts(d ds.Batching, writers, size, n int) (sample, error) {
	from := b.next.Add(int64(n)) - int64(n)
	type kv struct {
		key   ds.Key
		value []byte
	}
	work := make(chan kv, n)
	for i := range int64(n) {
		key, value := block(from+i, size)
		work <- kv{key, value}
	}
	close(work)
	res, err := b.timed(b.flags.dilation, n, func() error {
		var wg sync.WaitGroup
		errs := make(chan error, writers)
		for range writers {
			wg.Go(func() {
				for w := range work {
					if err := d.Put(ctx, w.key, w.value); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		close(errs)
		return <-errs
	})
	return res, errors.Join(err, b.remove(d, from, from+int64(n), size))
}

func (b *bench) batches(name string) error {
	const n = 1024
	_, _, err := b.compare(row{Name: name, Target: 45, Unit: "puts/s"}, false, func(s store) (sample, error) {
		return b.with(s, func(d ds.Batching) (sample, error) {
			from := b.next.Add(n) - n
			res, err := b.timed(b.flags.dilation, n, func() error {
				batch, err := d.Batch(ctx)
				if err != nil {
					return err
				}
				for i := range int64(n) {
					key, value := block(from+i, blockSize)
					if err := batch.Put(ctx, key, value); err != nil {
						return err
					}
				}
				return batch.Commit(ctx)
			})
			return res, errors.Join(err, b.remove(d, from, from+n, blockSize))
		})
	})
	return err
}

// metered compares what Elastic throughput is billed for while 1,000 blocks are
// put, until their files are closed, and notes what it is with the store's Close.
func (b *bench) metered(name string) error {
	const n = 1000
	r := row{Name: name, Target: 0.75, Share: true, Unit: "bytes"}
	per := map[string]float64{}
	for _, s := range both {
		d, err := s.open(filepath.Join(b.mnt, s.name))
		if err != nil {
			return err
		}
		from := b.next.Add(n) - n
		res, err := b.timed(0, n, func() error {
			for i := range int64(n) {
				key, value := block(from+i, blockSize)
				if err := d.Put(ctx, key, value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		bytes := func(st efsmodel.Stats) float64 { return float64(st.MeteredRead+st.MeteredWritten) / n }
		per[s.name] = bytes(res.stats)
		if err := d.Close(); err != nil {
			return err
		}
		closed, err := b.mount.Stats()
		if err != nil {
			return err
		}
		r.Note += fmt.Sprintf("%s: %.2f requests, $%.2f per million, %.0f bytes with Close; ",
			s.name, float64(res.stats.Total())/n, res.stats.USD()/n*1e6, bytes(closed))
		if _, err := b.with(s, func(d ds.Batching) (sample, error) {
			return sample{}, b.remove(d, from, from+n, blockSize)
		}); err != nil {
			return err
		}
	}
	r.Stock, r.Efs = per["stock"], per["efs"]
	r.Ratio = r.Efs / r.Stock
	b.rows = append(b.rows, r)
	return nil
}

// asks counts the requests of Has and GetSize.
func (b *bench) asks(name string) error {
	const n = 500
	r := row{Name: name, Target: 0, Lower: true, Unit: "requests"}
	counts := map[string]float64{}
	for _, s := range both {
		_, err := b.with(s, func(d ds.Batching) (sample, error) {
			res, err := b.timed(b.flags.dilation, n, func() error {
				for i := range int64(n) {
					hit, _ := block(-1-i, blockSize)
					miss, _ := block(-1-i-int64(b.flags.blocks), blockSize)
					_, err := d.GetSize(ctx, hit)
					_, err2 := d.Has(ctx, hit)
					_, err3 := d.Has(ctx, miss)
					_, err4 := d.GetSize(ctx, miss)
					if errors.Is(err4, ds.ErrNotFound) {
						err4 = nil
					}
					if err := errors.Join(err, err2, err3, err4); err != nil {
						return err
					}
				}
				return nil
			})
			counts[s.name] = float64(res.stats.Total()) / n / 4
			return res, err
		})
		if err != nil {
			return err
		}
	}
	r.Stock, r.Efs = counts["stock"], counts["efs"]
	b.rows = append(b.rows, r)
	return nil
}

func (b *bench) listing(name string) error {
	_, _, err := b.compare(row{Name: fmt.Sprintf("listing %d keys", b.flags.blocks), Target: 200, Unit: "s"}, true, func(s store) (sample, error) {
		return b.with(s, func(d ds.Batching) (sample, error) {
			return b.timed(b.flags.dilation, 1, func() error {
				res, err := d.Query(ctx, query.Query{KeysOnly: true})
				if err != nil {
					return err
				}
				n := 0
				for {
					r, ok := res.NextSync()
					if !ok {
						break
					}
					if r.Error != nil {
						return r.Error
					}
					n++
				}
				if n != b.flags.blocks {
					return fmt.Errorf("listed %d keys of %d", n, b.flags.blocks)
				}
				return res.Close()
			})
		})
	})
	return err
}

func (b *bench) openTime(dilation float64, s store) (sample, error) {
	var d ds.Batching
	res, err := b.timed(dilation, 1, func() (err error) {
		d, err = s.open(filepath.Join(b.mnt, s.name))
		return err
	})
	if err != nil {
		return res, err
	}
	return res, d.Close()
}

func (b *bench) openIndexed(string) error {
	_, _, err := b.compare(row{Name: "open, with what Close left", Target: 0.1, Lower: true, Unit: "s"}, true, func(s store) (sample, error) {
		return b.openTime(b.flags.dilation, s)
	})
	return err
}

func (b *bench) openBare(string) error {
	_, _, err := b.compare(row{Name: "open, with nothing left", Target: 10, Unit: "s"}, true, func(s store) (sample, error) {
		for _, name := range []string{flatfs.DiskUsageFile, efs.IndexFile} {
			err := os.Remove(filepath.Join(b.mnt, s.name, name))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return sample{}, err
			}
		}
		return b.openTime(b.flags.dilation, s)
	})
	return err
}
