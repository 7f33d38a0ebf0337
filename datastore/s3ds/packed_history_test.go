package s3ds

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	mh "github.com/multiformats/go-multihash"
	"pgregory.net/rapid"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/faulty"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/gate"
)

// history is a store that lives through crashes, and what it has acknowledged.
type history struct {
	rt     *rapid.T
	t      *testing.T
	m      *machine
	p      *Packed
	blocks []put
	names  []ds.Key
	model  map[ds.Key]state
	c      func(*Config)
}

func newHistory(t *testing.T, rt *rapid.T, c func(*Config)) *history {
	h := &history{rt: rt, t: t, m: newMachine(), model: map[ds.Key]state{}, c: c}
	for i := range 14 {
		data := bytes.Repeat([]byte{byte(i)}, 1+i*i*13)
		key, _ := block(t, data, mh.SHA2_256)
		h.blocks = append(h.blocks, put{key, data})
		h.model[key] = state{nil}
	}
	f := unixfsFile(t, 1, 5, 10, 2) // so that there are nodes to be gathered
	for _, one := range f.nodes {
		h.blocks = append(h.blocks, one)
		h.model[one.key] = state{nil}
	}
	for i := range 2 {
		key := ds.NewKey(fmt.Sprintf("dir/name%d", i))
		h.names = append(h.names, key)
		h.model[key] = state{nil}
	}
	h.start()
	return h
}

// start opens the store, and gets over what stops that for a while.
func (h *history) start() {
	h.rt.Helper()
	for range 20 {
		if h.try() {
			return
		}
	}
	h.rt.Fatalf("the store does not open")
}

func (h *history) try() bool {
	s := h.m.site()
	s.c.PackSize, s.c.JournalSize, s.c.Uploads, s.c.CacheSize = 4096, 64<<10, 2, 8<<20
	h.c(&s.c)
	s.o.writeWait, s.o.pause = 100*time.Millisecond, time.Millisecond
	s.takeOver() // the disk may have been wiped, or the id was not durable
	p, err := s.tryOpen(h.t)
	if h.crashed() {
		if p != nil {
			_ = p.Close()
		}
		return false
	}
	if err != nil {
		h.legal(err)
		h.m.bad.Set()
		return false
	}
	h.p = p
	return true
}

// crashed goes over to what a crash left, if there was one.
func (h *history) crashed() bool {
	after := h.m.stopped()
	if after == nil {
		return false
	}
	h.m = after
	for _, one := range h.blocks { // a delete may be undone
		h.undelete(one)
	}
	return true
}

func (h *history) undelete(one put) {
	if s := h.model[one.key]; s.allows(nil, false) {
		h.model[one.key] = state{nil, one.value}
	}
}

// over ends an operation: if the machine stopped during it, whether it happened is not known, and a new process starts. It
// reports whether the store that did the operation is still there.
func (h *history) over() bool {
	if h.m.stopped() == nil {
		return true
	}
	_ = h.p.Close() // what it does is lost
	h.crashed()
	h.start()
	return false
}

// wrote updates the model with the outcome of a write of v, nil for a delete.
func (h *history) wrote(key ds.Key, v []byte, err error, alive bool) {
	h.legal(err)
	if err == nil && alive {
		h.model[key] = state{v}
		return
	}
	h.model[key] = append(slices.Clone(h.model[key]), v)
}

func (h *history) legal(err error) {
	h.rt.Helper()
	if err != nil && h.m.stopped() == nil && !errors.Is(err, errInjected) && !errors.Is(err, faulty.ErrReset) && !errors.Is(err, errWaited) {
		h.rt.Fatalf("error that nobody injected: %v", err)
	}
}

func (h *history) anyBlock() put {
	return h.blocks[rapid.IntRange(0, len(h.blocks)-1).Draw(h.rt, "block")]
}

// check compares one key with the model.
func (h *history) check(key ds.Key) {
	h.rt.Helper()
	v, err := h.p.Get(h.t.Context(), key)
	size, sizeErr := h.p.GetSize(h.t.Context(), key)
	if h.m.stopped() != nil {
		return
	}
	if err != nil && !errors.Is(err, ds.ErrNotFound) {
		h.legal(err)
		return
	}
	if !h.model[key].allows(v, err == nil) {
		h.rt.Fatalf("%s: got %d bytes (%v), may hold %s", key, len(v), err, describeState(h.model[key]))
	}
	if (err == nil) != (sizeErr == nil) || err == nil && size != len(v) {
		if len(h.model[key]) == 1 {
			h.rt.Fatalf("%s: get says %d bytes (%v), size says %d (%v)", key, len(v), err, size, sizeErr)
		}
	}
}

func describeState(s state) string {
	text := ""
	for _, v := range s {
		if v == nil {
			text += " nothing"
		} else {
			text += fmt.Sprintf(" %d bytes", len(v))
		}
	}
	return text
}

func (h *history) checkAll() {
	h.rt.Helper()
	for key := range h.model {
		h.check(key)
	}
}

// anything is worth a pack, if it is there.
func anything(nodes []gathered) bool { return len(nodes) > 0 }

// flush waits until all is uploaded. An upload may write what the index expects in its segment to another one, which is
// sealed as well: its age would do it, but the clock stands still.
func (h *history) flush() {
	h.rt.Helper()
	h.m.bad.Set()
	if err := h.p.j.Seal(h.t.Context()); err != nil {
		h.legal(err)
	}
	for began := time.Now(); h.m.stopped() == nil; {
		changed := h.p.up.watch()
		st := h.p.j.Stats()
		if st.Segments == 0 {
			return
		}
		if time.Since(began) > time.Minute {
			h.rt.Fatalf("not uploaded after a minute: %+v, %d uploads under way, last trouble %v", st, h.p.uploading(), h.p.up.trouble())
		}
		if st.Ready == 0 && st.Unsealed == 0 && h.p.uploading() == 0 {
			h.legal(h.p.j.Seal(h.t.Context()))
		}
		select {
		case <-changed:
		case <-time.After(time.Millisecond): // the machine may stop without a word
		}
	}
}

func (h *history) actions() map[string]func(*rapid.T) {
	ctx := h.t.Context()
	seed := func() uint64 { return rapid.Uint64().Draw(h.rt, "seed") }
	return map[string]func(*rapid.T){
		"put": func(*rapid.T) {
			one := h.anyBlock()
			err := h.p.Put(ctx, one.key, one.value)
			h.wrote(one.key, one.value, err, h.over())
		},
		"put again and again": func(*rapid.T) {
			one := h.anyBlock()
			for range 3 {
				err := h.p.Put(ctx, one.key, one.value)
				h.wrote(one.key, one.value, err, h.over())
			}
		},
		"put name": func(rt *rapid.T) {
			key := rapid.SampledFrom(h.names).Draw(rt, "name")
			v := append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(rt, "value")...)
			err := h.p.Put(ctx, key, v)
			h.wrote(key, v, err, h.over())
		},
		"batch": func(rt *rapid.T) {
			b, err := h.p.Batch(ctx)
			if err != nil {
				rt.Fatal(err)
			}
			last := map[ds.Key][]byte{}
			for range rapid.IntRange(1, 10).Draw(rt, "operations") {
				one := h.anyBlock()
				if rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
					last[one.key], err = nil, b.Delete(ctx, one.key)
				} else {
					last[one.key], err = one.value, b.Put(ctx, one.key, one.value)
				}
				if err != nil {
					rt.Fatalf("a small batch sends nothing before Commit: %v", err)
				}
			}
			err = b.Commit(ctx)
			alive := h.over()
			for key, v := range last {
				h.wrote(key, v, err, alive)
			}
		},
		"delete": func(*rapid.T) {
			key := h.anyBlock().key
			err := h.p.Delete(ctx, key)
			h.wrote(key, nil, err, h.over())
		},
		"delete name": func(rt *rapid.T) {
			key := rapid.SampledFrom(h.names).Draw(rt, "name")
			err := h.p.Delete(ctx, key)
			h.wrote(key, nil, err, h.over())
		},
		"gc": func(*rapid.T) {
			b, err := h.p.Batch(ctx)
			if err != nil {
				h.rt.Fatal(err)
			}
			var dead []ds.Key
			for _, one := range h.blocks {
				if rapid.Bool().Draw(h.rt, "dead") {
					dead = append(dead, one.key)
					if err := b.Delete(ctx, one.key); err != nil {
						h.rt.Fatal(err)
					}
				}
			}
			err = b.Commit(ctx)
			alive := h.over()
			for _, key := range dead {
				h.wrote(key, nil, err, alive)
			}
		},
		"get":      func(*rapid.T) { h.check(h.anyBlock().key); h.over() },
		"get name": func(rt *rapid.T) { h.check(rapid.SampledFrom(h.names).Draw(rt, "name")); h.over() },
		"sync":     func(*rapid.T) { h.legal(h.p.Sync(ctx, ds.NewKey("/"))); h.over() },
		"flush":    func(*rapid.T) { h.flush(); h.over() },
		"seal":     func(*rapid.T) { h.legal(h.p.j.Seal(ctx)); h.over() },
		"gather":   func(*rapid.T) { h.legal(h.p.gatherNow(ctx, anything)); h.over() },
		"compact":  func(*rapid.T) { h.legal(h.p.compactAll(ctx, 0, func(Progress) {})); h.over() },
		"repack": func(*rapid.T) {
			if err := h.p.Repack(ctx, nil, nil); !errors.Is(err, errRepackObjects) {
				h.legal(err)
			}
			h.over()
		},
		"heal":       func(*rapid.T) { h.m.bad.Set() },
		"idle":       func(*rapid.T) { h.m.passed.Add(300) },
		"crash":      func(*rapid.T) { h.m.stop(seed()); h.over() },
		"crash in":   func(rt *rapid.T) { h.m.crashIn(rapid.IntRange(1, 60).Draw(rt, "calls"), seed()) },
		"crash soon": func(rt *rapid.T) { h.m.crashIn(rapid.IntRange(1, 8).Draw(rt, "calls"), seed()) },
		"break bodies": func(rt *rapid.T) {
			// Only packs can be flipped unpunished: nothing proves the value of a name.
			h.m.bad.Set(faulty.Rule{Op: bucket.OpGet, Times: 1, Key: ".car", Body: rapid.SampledFrom([]faulty.Body{faulty.Reset, faulty.Flip}).Draw(rt, "how")})
		},
		"disturb": func(rt *rapid.T) {
			h.m.bad.Set(faulty.Rule{
				Op: rapid.SampledFrom([]bucket.Op{bucket.OpPut, bucket.OpGet, bucket.OpDelete, bucket.OpList}).Draw(rt, "op"), After: rapid.IntRange(0, 3).Draw(rt, "after"),
				Times: rapid.IntRange(1, 3).Draw(rt, "times"), Err: errInjected, Late: rapid.Bool().Draw(rt, "late"),
			})
		},
		"reopen": func(*rapid.T) { h.reopen(func() {}) },
		"reindex": func(*rapid.T) {
			h.reopen(func() {
				if err := index.Remove("/repo/s3ds/index", machineFS{h.m.disk, h.m}); err != nil {
					h.rt.Fatal(err)
				}
			})
		},
		"query": func(*rapid.T) {
			r, err := h.p.Query(ctx, query.Query{KeysOnly: true})
			if err != nil {
				h.rt.Fatal(err)
			}
			entries, err := r.Rest()
			h.legal(err)
			if !h.over() || err != nil {
				return
			}
			seen := map[ds.Key]bool{}
			for _, e := range entries {
				seen[ds.RawKey(e.Key)] = true
			}
			for key, s := range h.model {
				present := slices.ContainsFunc(s, func(v []byte) bool { return v != nil })
				if seen[key] && !present || !seen[key] && !s.allows(nil, false) {
					h.rt.Fatalf("%s: listed: %v, may hold %s", key, seen[key], describeState(s))
				}
			}
		},
	}
}

// reopen closes the store, does something to its disk, and opens it again. Deletes of blocks may be undone: their segments are
// replayed, their packs indexed again.
func (h *history) reopen(between func()) {
	if err := h.p.Close(); err != nil && h.m.stopped() == nil {
		h.rt.Fatalf("close: %v", err)
	}
	if h.m.stopped() == nil {
		between()
	}
	if !h.crashed() {
		for _, one := range h.blocks {
			h.undelete(one)
		}
		for _, key := range h.names {
			if s := h.model[key]; len(s) > 1 {
				h.model[key] = s // a write that failed may show up
			}
		}
	}
	h.start()
}

// TestPackedHistories is the proof of P1, P2 and P4: whatever happens, what was acknowledged is there, and right.
func TestPackedHistories(t *testing.T) {
	gate.Checks(t, 20, 60, 500)
	rapid.Check(t, func(rt *rapid.T) { livesThrough(t, rt, func(*Config) {}) })
}

// TestPackedHistoriesInBucket is the same for durability "bucket"; and here nothing acknowledged needs the disk (P3).
func TestPackedHistoriesInBucket(t *testing.T) {
	gate.Checks(t, 20, 60, 500)
	rapid.Check(t, func(rt *rapid.T) {
		h := livesThrough(t, rt, func(c *Config) { c.Durability = DurableInBucket })
		h.fresh()
	})
}

func livesThrough(t *testing.T, rt *rapid.T, c func(*Config)) *history {
	h := newHistory(t, rt, c)
	defer func() { _ = h.p.Close() }()
	actions := h.actions()
	actions[""] = func(*rapid.T) {}
	rt.Repeat(actions)
	h.m.crashIn(0, 0)
	h.m.bad.Set()
	h.over()
	h.checkAll()
	if c == nil || h.p.c.Durability == DurableInBucket {
		return h
	}
	h.flush()
	h.checkAll()
	h.fresh()
	return h
}

// fresh loses the disk. The bucket alone is enough (P3).
func (h *history) fresh() {
	h.rt.Helper()
	h.m.bad.Set()
	_ = h.p.Close()
	for _, one := range h.blocks {
		h.undelete(one)
	}
	h.m.wipe()
	h.start()
	h.checkAll()
	_ = h.p.Close()
}
