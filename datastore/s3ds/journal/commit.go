package journal

import (
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
)

// maxBatch is how much one group commit takes, in bytes: what the 100 MiB/s of
// a bursting EFS syncs in 80 ms, so that the first in a long queue does not wait
// for the last.
const maxBatch = 8 << 20

// A request waits in the queue until the committer takes it.
type request struct {
	seal    bool // seal what is there; the rest of the fields do not apply
	sealing []*Segment

	blocks []pack.Block
	costs  []int64
	cost   int64 // their sum, taken from the room
	kept   int64 // of it: in segments, durably

	locs     []Location
	err      error
	released chan struct{} // closed when blocks is not looked at any more
	done     chan struct{} // closed when locs and err are final
}

func newRequest(blocks []pack.Block, costs []int64, cost int64) *request {
	return &request{
		blocks: blocks, costs: costs, cost: cost,
		released: make(chan struct{}), done: make(chan struct{}),
	}
}

func (j *Journal) submit(r *request) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.isClosing() {
		return ErrClosed
	}
	j.queue = append(j.queue, r)
	j.wake()
	return nil
}

// withdraw takes back a request that the committer has not yet taken.
func (j *Journal) withdraw(r *request) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.Index(j.queue, r)
	if i < 0 {
		return false
	}
	j.queue = slices.Delete(j.queue, i, i+1)
	return true
}

// commitLoop is the only writer of the active segment.
func (j *Journal) commitLoop() {
	defer close(j.committed)
	for {
		batch, wait := j.take()
		switch {
		case len(batch) == 1 && batch[0].seal:
			j.finish()
			j.mu.Lock()
			batch[0].sealing = slices.Clone(j.finishing)
			j.mu.Unlock()
			close(batch[0].done)
			continue
		case len(batch) > 0:
			j.commit(batch)
			continue
		}
		var timer <-chan time.Time
		var t *time.Timer
		if wait > 0 {
			t = time.NewTimer(wait)
			timer = t.C
		}
		select {
		case <-j.kick:
		case <-timer:
		case <-j.closing:
			j.refuse()
			j.finish()
			return
		}
		if t != nil {
			t.Stop()
		}
	}
}

// take returns the requests to commit next, a single request to seal, or how
// long to wait for the active segment to come of age (0 for no limit). It seals
// the active segment when that is due.
func (j *Journal) take() (batch []*request, wait time.Duration) {
	_, waiting := j.room.state()
	j.mu.Lock()
	if s := j.active; s != nil {
		if len(j.finishing)+len(j.ready) == 0 {
			wait = max(time.Until(s.born.Add(j.opts.SealAge)), 0)
			if wait == 0 {
				j.retire(s)
			}
		}
		// Nobody will make room if all there is to upload is still growing.
		if waiting > 0 && len(j.segs) == 1 && len(j.queue) == 0 && j.active != nil {
			j.retire(s)
			wait = 0
		}
	}
	defer j.mu.Unlock()
	if j.isClosing() {
		return nil, 0
	}
	var cost int64
	n := 0
	for n < len(j.queue) && !j.queue[n].seal && (n == 0 || cost+j.queue[n].cost <= maxBatch) {
		cost += j.queue[n].cost
		n++
	}
	if n == 0 && len(j.queue) > 0 {
		n = 1 // a request to seal
	}
	batch = slices.Clone(j.queue[:n])
	j.queue = slices.Delete(j.queue, 0, n)
	return batch, wait
}

// refuse answers what is in the queue when the journal closes.
func (j *Journal) refuse() {
	j.mu.Lock()
	queue := j.queue
	j.queue = nil
	j.mu.Unlock()
	for _, r := range queue {
		r.err = ErrClosed
		j.room.give(r.cost)
		close(r.done)
	}
}

// commit writes a batch and answers each of its requests.
func (j *Journal) commit(batch []*request) {
	c := &commit{j: j, batch: batch}
	err := c.write()
	if err == nil {
		err = c.sync()
	}
	if err == nil {
		return
	}
	j.abandon(err)
	for _, r := range batch[c.answered:] {
		r.locs, r.err = nil, err
		j.room.give(r.cost - r.kept)
		close(r.done)
	}
}

// commit is a batch on its way to disk.
type commit struct {
	j        *Journal
	batch    []*request
	written  int // requests that are written in full
	answered int // of them: durable, and answered
	loose    []looseCost
	blocks   int // written to the active segment since the last sync
}

// looseCost is room taken by blocks that are written and not yet durable.
type looseCost struct {
	r    *request
	cost int64
}

func (c *commit) write() error {
	for _, r := range c.batch {
		for i, b := range r.blocks {
			loc, err := c.add(b)
			if err != nil {
				return err
			}
			r.locs = append(r.locs, loc)
			c.loose = append(c.loose, looseCost{r, r.costs[i]})
			c.blocks++
		}
		c.written++
		close(r.released)
	}
	return nil
}

// add writes one block, to a new segment if need be.
func (c *commit) add(b pack.Block) (Location, error) {
	j := c.j
	n, err := pack.SectionLen(b.Multihash, len(b.Data))
	if err != nil {
		return Location{}, err
	}
	if s := j.active; s != nil && s.w.Blocks() > 0 &&
		(s.w.Size()+n > j.opts.SegmentBytes || s.w.Blocks() >= j.opts.SegmentBlocks) {
		if err := c.sync(); err != nil {
			return Location{}, err
		}
		j.finish()
	}
	if j.active == nil {
		if err := j.begin(); err != nil {
			return Location{}, err
		}
	}
	e, err := j.active.w.Append(b)
	if err != nil {
		return Location{}, j.advise("write "+j.active.path, err)
	}
	return Location{j.active.id, e.Offset, e.Length}, nil
}

// sync makes durable what was written to the active segment, and answers the
// requests that are complete with it.
func (c *commit) sync() error {
	j, s := c.j, c.j.active
	if s != nil && c.blocks > 0 {
		if err := s.w.Flush(); err != nil {
			return j.advise("write "+s.path, err)
		}
		if err := s.file.SyncData(); err != nil {
			return j.advise("sync "+s.path, err)
		}
		if !s.dirEntry {
			if err := j.syncDir(); err != nil {
				return j.advise("sync folder of "+s.path, err)
			}
			s.dirEntry = true
		}
		s.mu.Lock()
		s.end = s.w.Size()
		s.mu.Unlock()
		j.mu.Lock()
		j.syncs++
		s.blocks += c.blocks
		for _, l := range c.loose {
			l.r.kept += l.cost
			s.cost += l.cost
		}
		j.mu.Unlock()
		c.loose, c.blocks = c.loose[:0], 0
	}
	for ; c.answered < c.written; c.answered++ {
		close(c.batch[c.answered].done)
	}
	return nil
}

// begin makes a new active segment.
func (j *Journal) begin() error {
	id := j.opts.IDs.Next()
	path := j.path(stem(id, j.opts.Writer) + extOpen)
	f, err := j.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return j.advise("make "+path, err)
	}
	s := &Segment{id: id, writer: j.opts.Writer, born: time.Now(), w: pack.NewWriter(f), file: f, path: path}
	j.mu.Lock()
	j.active = s
	j.segs[id] = s
	j.mu.Unlock()
	return nil
}

// finish ends the active segment and leaves it to the sealer.
func (j *Journal) finish() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.active != nil {
		j.retire(j.active)
	}
}

// retire ends s, the active segment. j.mu is held.
func (j *Journal) retire(s *Segment) {
	j.active = nil
	j.finishing = append(j.finishing, s)
	j.announce()
	j.wakeSealer()
}

// abandon ends the active segment after a failed write or sync: what was synced
// before stays, what came after was promised to nobody.
func (j *Journal) abandon(cause error) {
	s := j.active
	if s == nil {
		return
	}
	j.mu.Lock()
	s.failed = cause
	s.w = nil
	if s.durableEnd() > 0 {
		j.retire(s)
		j.mu.Unlock()
		return
	}
	j.active = nil
	delete(j.segs, s.id)
	j.mu.Unlock()
	s.replace(nil, s.path)
	// A file that stays holds no promise; the next Open looks into it.
	_ = j.fs.Remove(s.path)
}
