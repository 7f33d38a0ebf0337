package journal_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/journal"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// Random histories of use, failures of the disk, full disks, and crashes at any
// operation, recovery included, against a model: a block whose Append returned
// is in the journal or was uploaded, whatever happens.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{
			percent: rapid.SampledFrom([]int{0, 50, 100}).Draw(t, "unsynced data that survives, %"),
			seed:    rapid.Uint64().Draw(t, "seed"),
			acked:   make(map[string][]byte),
			tried:   make(map[string]bool),
			bucket:  make(map[string][]byte),
		}
		m.fs = m.disk(vfs.NewCrashableMem())
		m.start(t)
		defer func() { _ = m.j.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"append":  m.append,
			"append2": m.append,
			"get":     m.get,
			"seal":    m.seal,
			"upload":  m.upload,
			"restart": m.restart,
			"fault":   m.fault,
			"full":    m.full,
			"crash":   m.crash,
			"":        m.check,
		})
		m.heal()
		m.settle(t)
		m.verify(t)
	})
}

type machine struct {
	percent int
	seed    uint64
	fs      *testFS
	j       *journal.Journal
	locs    map[string]journal.Location
	acked   map[string][]byte
	tried   map[string]bool
	bucket  map[string][]byte
}

func (m *machine) disk(mem *vfs.MemFS) *testFS {
	m.seed++
	fs := wrapFS(mem)
	fs.crash = crashCfg(m.percent, m.seed)
	return fs
}

// start opens the journal, after further crashes and failures if need be.
func (m *machine) start(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "crash during recovery?") == 0 {
		m.fs.mu.Lock()
		m.fs.crashIn = rapid.IntRange(1, 12).Draw(t, "at operation")
		m.fs.mu.Unlock()
	}
	for {
		var rec journal.Recovery
		var err error
		m.j, rec, err = journal.Open(dir, journal.Options{
			Writer: "w", FS: m.fs, SegmentBytes: 12_000, SegmentBlocks: 20, SealAge: never, MaxBytes: 1 << 30,
		})
		if err == nil {
			if m.percent != 50 { // holes in a file cannot be told from damage
				require.Empty(t, rec.Damaged)
			}
			break
		}
		if m.crashed() {
			m.fs = m.disk(m.fs.crashNow())
			continue
		}
		m.heal()
	}
	m.locs = make(map[string]journal.Location)
	for b, err := range m.j.Blocks() {
		if m.crashed() {
			return // the next action starts again
		}
		require.NoError(t, err)
		require.True(t, m.tried[string(b.Multihash)], "a block out of nowhere")
		m.locs[string(b.Multihash)] = b.Location
	}
	m.verify(t)
}

func (m *machine) crashed() bool {
	m.fs.mu.Lock()
	defer m.fs.mu.Unlock()
	return m.fs.after != nil
}

// settle starts again if the machine is off.
func (m *machine) settle(t *rapid.T) {
	for m.crashed() {
		_ = m.j.Close() // the old process; its disk is gone
		m.fs = m.disk(m.fs.crashNow())
		m.start(t)
	}
}

// heal takes all faults off the disk.
func (m *machine) heal() {
	m.fs.setHook(nil)
	m.fs.setFree(-1)
	m.fs.mu.Lock()
	m.fs.crashIn = 0
	m.fs.mu.Unlock()
}

func (m *machine) verify(t *rapid.T) {
	for h, want := range m.acked {
		if _, ok := m.bucket[h]; ok {
			continue
		}
		loc, ok := m.locs[h]
		require.True(t, ok, "acknowledged block %x is missing", h)
		got, err := m.j.Get(loc, []byte(h))
		if err != nil && m.crashed() {
			return
		}
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
}

func (m *machine) append(t *rapid.T) {
	m.settle(t)
	var blocks []pack.Block
	for range rapid.IntRange(1, 6).Draw(t, "blocks") {
		b := numbered(t, rapid.IntRange(0, 60).Draw(t, "block"), rapid.SampledFrom([]int{8, 300, 5000}).Draw(t, "size"))
		blocks = append(blocks, b)
		m.tried[string(b.Multihash)] = true
	}
	locs, err := m.j.Append(context.Background(), blocks)
	if err != nil {
		require.True(t, m.faulty(), "%v", err)
		return
	}
	for i, b := range blocks {
		m.acked[string(b.Multihash)] = b.Data
		m.locs[string(b.Multihash)] = locs[i]
		delete(m.bucket, string(b.Multihash)) // this copy is what counts now
	}
}

// faulty tells whether the disk has been given a reason to fail.
func (m *machine) faulty() bool {
	m.fs.mu.Lock()
	defer m.fs.mu.Unlock()
	return m.fs.after != nil || m.fs.hook != nil || m.fs.free >= 0 || m.fs.crashIn > 0
}

func (m *machine) get(t *rapid.T) {
	m.settle(t)
	keys := make([]string, 0, len(m.locs))
	for h := range m.acked {
		if _, ok := m.bucket[h]; !ok {
			keys = append(keys, h)
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.Sort(keys)
	h := rapid.SampledFrom(keys).Draw(t, "block")
	got, err := m.j.Get(m.locs[h], []byte(h))
	if err != nil && m.crashed() {
		return
	}
	require.NoError(t, err)
	require.True(t, bytes.Equal(m.acked[h], got))
}

func (m *machine) seal(t *rapid.T) {
	m.settle(t)
	if err := m.j.Seal(context.Background()); err != nil {
		require.True(t, m.faulty(), "%v", err)
	}
}

func (m *machine) upload(t *rapid.T) {
	m.settle(t)
	if m.j.Stats().Ready == 0 {
		return
	}
	s, err := m.j.Next(context.Background())
	require.NoError(t, err)
	for sec, err := range pack.Sections(io.NewSectionReader(s, 0, s.Size())) {
		if err != nil && m.crashed() {
			return
		}
		require.NoError(t, err)
		m.bucket[string(sec.Multihash)] = slices.Clone(sec.Data)
	}
	if err := m.j.Remove(s.ID()); err != nil {
		require.True(t, m.faulty(), "%v", err)
	}
}

func (m *machine) restart(t *rapid.T) {
	m.settle(t)
	if err := m.j.Close(); err != nil {
		require.True(t, m.faulty(), "%v", err)
	}
	if m.crashed() {
		return
	}
	m.start(t)
}

func (m *machine) fault(t *rapid.T) {
	m.settle(t)
	kind := rapid.SampledFrom([]string{"write", "syncdata", "sync", "syncdir", "rename", "create", "remove"}).Draw(t, "operation")
	skip := rapid.IntRange(0, 4).Draw(t, "after")
	times := rapid.IntRange(1, 3).Draw(t, "times")
	m.fs.setHook(func(op, path string) error {
		m.fs.mu.Lock()
		defer m.fs.mu.Unlock()
		if op != kind {
			return nil
		}
		if skip--; skip >= 0 || skip < -times {
			return nil
		}
		return &os.PathError{Op: op, Path: path, Err: syscall.EIO}
	})
}

func (m *machine) full(t *rapid.T) {
	m.settle(t)
	m.fs.setFree(rapid.Int64Range(-1, 20_000).Draw(t, "free bytes"))
}

func (m *machine) crash(t *rapid.T) {
	m.settle(t)
	n := rapid.IntRange(0, 15).Draw(t, "operations from now")
	if n == 0 {
		m.fs.crashNow()
		return
	}
	m.fs.mu.Lock()
	m.fs.crashIn = n
	m.fs.mu.Unlock()
}

func (m *machine) check(t *rapid.T) {
	m.settle(t)
	st := m.j.Stats()
	require.GreaterOrEqual(t, st.Bytes, int64(0))
	require.Zero(t, st.Waiting)
}
