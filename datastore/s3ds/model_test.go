package s3ds

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"pgregory.net/rapid"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
)

// state is what a key may hold: one value if the last write was acknowledged, more if writes failed, which may have happened or
// not. nil stands for absent.
type state [][]byte

func (s state) allows(v []byte, present bool) bool {
	return slices.ContainsFunc(s, func(want []byte) bool {
		if !present {
			return want == nil
		}
		return want != nil && bytes.Equal(want, v)
	})
}

// TestRandomHistories compares the datastore with a map while the bucket fails now and then, before or after it did its work: what was
// acknowledged is there, what was not may be, and no failure is reported as absence.
func TestRandomHistories(t *testing.T) {
	keys := make([]ds.Key, 6)
	for i := range keys {
		keys[i] = ds.NewKey(fmt.Sprintf("dir%d/key%d", i%2, i))
	}
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		inner := mem.New()
		f := faulty.Wrap(inner)
		d := New(f, Config{RootDirectory: "root", Workers: 3})
		model := map[ds.Key]state{}
		for _, k := range keys {
			model[k] = state{nil}
		}
		anyKey := func() ds.Key { return rapid.SampledFrom(keys).Draw(rt, "key") }
		anyValue := func() []byte {
			return append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(rt, "value")...)
		}
		// wrote updates the model with the outcome of a write of v (nil for a delete).
		wrote := func(k ds.Key, v []byte, err error) {
			if err == nil {
				model[k] = state{v}
			} else {
				model[k] = append(slices.Clone(model[k]), v)
			}
		}
		legal := func(err error) {
			if err != nil && !errors.Is(err, errInjected) && !errors.Is(err, faulty.ErrReset) {
				rt.Fatalf("error that nobody injected: %v", err)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"heal": func(*rapid.T) { f.Set() },
			"disturb": func(rt *rapid.T) {
				f.Set(faulty.Rule{
					Op: rapid.SampledFrom(bucket.Ops).Draw(rt, "op"), After: rapid.IntRange(0, 3).Draw(rt, "after"),
					Times: rapid.IntRange(1, 3).Draw(rt, "times"), Err: errInjected, Late: rapid.Bool().Draw(rt, "late"),
				})
			},
			"break bodies": func(*rapid.T) { f.Set(faulty.Rule{Op: bucket.OpGet, Times: 1, Body: faulty.Reset}) },
			"put": func(*rapid.T) {
				k, v := anyKey(), anyValue()
				err := d.Put(ctx, k, v)
				legal(err)
				wrote(k, v, err)
			},
			"delete": func(*rapid.T) {
				k := anyKey()
				err := d.Delete(ctx, k)
				legal(err)
				wrote(k, nil, err)
			},
			"batch": func(rt *rapid.T) {
				b, err := d.Batch(ctx)
				if err != nil {
					rt.Fatal(err)
				}
				last := map[ds.Key][]byte{}
				for range rapid.IntRange(0, 8).Draw(rt, "operations") {
					k := anyKey()
					if rapid.Bool().Draw(rt, "delete") {
						last[k], err = nil, b.Delete(ctx, k)
					} else {
						last[k] = anyValue()
						err = b.Put(ctx, k, last[k])
					}
					if err != nil {
						rt.Fatalf("a small batch sends nothing before Commit: %v", err)
					}
				}
				err = b.Commit(ctx)
				legal(err)
				for k, v := range last {
					wrote(k, v, err)
				}
			},
			"get": func(*rapid.T) {
				k := anyKey()
				v, err := d.Get(ctx, k)
				if errors.Is(err, ds.ErrNotFound) {
					if !model[k].allows(nil, false) {
						rt.Fatalf("%s: acknowledged and not found", k)
					}
					return
				}
				legal(err)
				if err == nil && !model[k].allows(v, true) {
					rt.Fatalf("%s: got %x, want one of %x", k, v, model[k])
				}
			},
			"has": func(*rapid.T) {
				k := anyKey()
				have, err := d.Has(ctx, k)
				legal(err)
				if err != nil {
					return
				}
				absent := model[k].allows(nil, false)
				present := slices.ContainsFunc(model[k], func(v []byte) bool { return v != nil })
				if have && !present || !have && !absent {
					rt.Fatalf("%s: has says %v, may hold %x", k, have, model[k])
				}
			},
			"query": func(rt *rapid.T) {
				prefix := rapid.SampledFrom([]string{"", "/dir0", "/dir1"}).Draw(rt, "prefix")
				r, err := d.Query(ctx, query.Query{Prefix: prefix, KeysOnly: rapid.Bool().Draw(rt, "keys only")})
				if err != nil {
					rt.Fatal(err)
				}
				entries, err := r.Rest()
				legal(err)
				if err != nil {
					return
				}
				seen := map[ds.Key]bool{}
				for _, e := range entries {
					seen[ds.RawKey(e.Key)] = true
				}
				for k := range maps.Keys(model) {
					under := prefix == "" || ds.RawKey(prefix).IsAncestorOf(k)
					absent := model[k].allows(nil, false)
					present := slices.ContainsFunc(model[k], func(v []byte) bool { return v != nil })
					if seen[k] && (!under || !present) || !seen[k] && under && !absent {
						rt.Fatalf("%s: listed under %q: %v, may hold %x", k, prefix, seen[k], model[k])
					}
				}
			},
			"": func(rt *rapid.T) {
				// What is in the bucket, looked at past all faults.
				clean := New(inner, Config{RootDirectory: "root"})
				for _, k := range keys {
					v, err := clean.Get(ctx, k)
					if err != nil && !errors.Is(err, ds.ErrNotFound) {
						rt.Fatal(err)
					}
					if !model[k].allows(v, err == nil) {
						rt.Fatalf("%s: the bucket holds %x (%v), want one of %x", k, v, err, model[k])
					}
				}
			},
		})
	})
}

var errInjected = errors.New("injected")
