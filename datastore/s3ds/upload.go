package s3ds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/index"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/journal"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/pack"
	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/span"
)

// Pauses after an upload that failed. The requests themselves have been retried by then; a bucket that is down is asked twice a minute
// by each upload.
const (
	firstPause = time.Second
	maxPause   = 30 * time.Second
)

// uploads is what is known about the way from the journal to the bucket.
type uploads struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when a pack has come into the index, and when an upload failed
	inFlight int
	err      error // of the latest upload, nil if it went well
	packs    uint64
	bytes    uint64
	failures uint64
	damaged  map[pack.ID]error // segments that cannot be uploaded
	urgent   chan struct{}     // somebody waits for what is in the journal
}

func (u *uploads) init() {
	u.changed, u.urgent = make(chan struct{}), make(chan struct{}, 1)
	u.damaged = map[pack.ID]error{}
}

func (u *uploads) set(change func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change()
	close(u.changed)
	u.changed = make(chan struct{})
}

// watch returns a channel that is closed at the next change.
func (u *uploads) watch() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.changed
}

var errNoTrouble = errors.New("no upload has failed")

// trouble is why uploads do not go on.
func (u *uploads) trouble() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil {
		return errNoTrouble
	}
	return u.err
}

// upload takes segments out of the journal until the store is closed.
func (p *Packed) upload() {
	for {
		s, err := p.j.Next(p.life)
		if err != nil {
			return
		}
		p.up.set(func() { p.up.inFlight++ })
		pause := p.pause
		for {
			err := p.uploadOne(p.last, s)
			if p.life.Err() != nil && err != nil {
				return
			}
			p.loose.health.record(p.life, err)
			if err != nil && errors.Is(err, pack.ErrCorrupt) {
				p.fence.tell("segment %s of the journal is damaged: %v: what is good in it was saved; look at the disk under journalPath; "+
					"`ipfs-aws datastore verify` names what is lost, put it again", s.ID(), err)
			}
			if err == nil || errors.Is(err, pack.ErrCorrupt) {
				p.up.set(func() {
					p.up.inFlight--
					p.up.err = err
					if err != nil {
						p.up.failures++
						p.up.damaged[s.ID()] = err
						return
					}
					p.up.packs++
					p.up.bytes += uint64(s.Size())
				})
				break
			}
			p.up.set(func() { p.up.err = err; p.up.failures++ })
			if errors.Is(err, ErrReplaced) {
				return // for good
			}
			if !sleep(p.life, pause) {
				return
			}
			pause = min(2*pause, maxPause)
		}
	}
}

// sleep waits, and reports false if ctx ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// uploadOne brings a segment into the bucket and into the index, and removes it from the journal. It may be repeated from the
// beginning after any failure: the pack has one name and one content.
func (p *Packed) uploadOne(ctx context.Context, s *journal.Segment) error {
	if err := s.Verify(); err != nil {
		if errors.Is(err, pack.ErrCorrupt) {
			return errors.Join(err, p.salvage(ctx, s))
		}
		return err
	}
	name := s.Name().String()
	if k, err := p.x.PackNamed(name); err == nil && !k.Incomplete || p.fence.doomed(name) {
		// It was uploaded before a crash: the pack is there, or was dead and is gone or about to be, and AddPack
		// would leave it as it is. What the index expects in this segment came there since, by a replay under another
		// id, and has to be written once more.
		p.segs.retire(s.ID())
		if err := p.salvage(ctx, s); err != nil {
			return err
		}
	} else if err := p.addSegment(ctx, s); err != nil {
		return err
	}
	if err := p.x.Commit(ctx); err != nil {
		return err
	}
	p.compact.wake()
	return p.j.Remove(s.ID())
}

// addSegment makes a segment a pack of bucket and index. Nobody removes the pack meanwhile: it may be an old one that is dead, until
// AddPack takes blocks into it.
func (p *Packed) addSegment(ctx context.Context, s *journal.Segment) error {
	entries, err := s.Entries()
	if err != nil {
		return err
	}
	name := s.Name().String()
	if !p.compact.hold(name) {
		return fmt.Errorf("upload pack %s: it is being removed: %w", name, errBusy)
	}
	defer p.compact.letGo(name)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		p.r.Keep(ctx, span.Pack{Key: p.name(name), End: s.Name().IndexOffset}, s) // who has just written it may read it next
	}()
	err = p.putPack(ctx, s.Name(), io.NewSectionReader(s, 0, s.Size()))
	<-kept
	if err != nil {
		return fmt.Errorf("upload pack %s of %d blocks: %w", name, s.Blocks(), err)
	}
	p.segs.settle(ctx)
	p.segs.retire(s.ID())
	info := index.PackInfo{Name: name, Size: s.Size(), IndexOffset: s.Name().IndexOffset}
	id, err := p.x.AddPack(ctx, info, packEntries(entries), index.Take{Journal: true})
	if err != nil {
		return err
	}
	return p.collect(ctx, s, entries, id)
}

// errBusy passes: the upload is tried again.
var errBusy = errors.New("busy")

// putPack puts a pack into the bucket, where it may be already: its name says what is in it. What the bucket says to
// be there is looked at before it is believed, for the copy in the journal goes next: if it is not this pack, byte by
// byte, it is replaced.
func (p *Packed) putPack(ctx context.Context, n pack.Name, body io.ReadSeeker) error {
	if err := p.fence.hold(ctx); err != nil {
		return err
	}
	object := p.name(n.String())
	_, err := bucket.PutIf(ctx, p.b, object, body, bucket.Condition{Absent: true})
	if !errors.Is(err, bucket.ErrPreconditionFailed) {
		return err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	same, err := p.holds(ctx, object, body)
	if err != nil || same {
		return err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return p.b.Put(ctx, object, body)
}

// holds reports whether an object has the bytes of want, from its position to its end.
func (p *Packed) holds(ctx context.Context, object string, want io.Reader) (bool, error) {
	body, _, err := p.b.Get(ctx, object, bucket.Range{})
	if errors.Is(err, bucket.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer func() { _ = body.Close() }()
	var a, b [64 << 10]byte
	for {
		n, errA := io.ReadFull(want, a[:])
		m, errB := io.ReadFull(body, b[:])
		for _, err := range []error{errA, errB} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return false, fmt.Errorf("compare object %q: %w", object, err)
			}
		}
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if errA != nil {
			return true, nil
		}
	}
}

// packEntries turns the index of a pack into entries, whose offsets are those of the blocks and not of the sections.
func packEntries(in []pack.Entry) []index.Entry {
	out := make([]index.Entry, len(in))
	for i, e := range in {
		n := e.DataLen()
		out[i] = index.Entry{Key: e.Multihash, Location: index.Location{Offset: e.Offset + e.Length - n, Length: n}}
	}
	return out
}

// salvage writes those good blocks of a segment that the index expects there to the journal once more, so that they are uploaded with
// another one. A damaged segment stays, for what it holds besides is in no other place.
func (p *Packed) salvage(ctx context.Context, s *journal.Segment) error {
	entries, err := s.Entries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		l, err := p.x.Get(name(e.Multihash))
		if errors.Is(err, index.ErrNotFound) || err == nil && (l.Kind != index.Journal || pack.ID(l.Segment) != s.ID()) {
			continue // deleted, or elsewhere
		} else if err != nil {
			return err
		}
		data, err := p.j.Get(journal.Location{Segment: s.ID(), Offset: e.Offset, Length: e.Length}, e.Multihash)
		if errors.Is(err, pack.ErrCorrupt) {
			if err := p.x.NoteDamage(ctx, index.Entry{Key: e.Multihash, Location: l}); err != nil {
				return err
			}
			continue
		} else if err != nil {
			return err
		}
		// A block that is deleted meanwhile stays deleted.
		err = p.appendAs(ctx, []pack.Block{{Multihash: e.Multihash, Data: data}}, func(ctx context.Context, moved []index.Entry) error {
			for _, e := range moved {
				if _, err := p.x.Replace(ctx, l, e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sealEarly seals the journal when somebody waits for what is in it. Those who come while packs are being uploaded share the next one.
func (p *Packed) sealEarly() {
	for {
		select {
		case <-p.up.urgent:
		case <-p.life.Done():
			return
		}
		for {
			changed := p.up.watch()
			if st := p.j.Stats(); st.Ready == 0 && p.uploading() == 0 {
				break
			}
			select {
			case <-changed:
			case <-p.life.Done():
				return
			}
		}
		if err := p.j.Seal(p.life); err != nil {
			if p.life.Err() != nil {
				return
			}
			p.up.set(func() { p.up.err = err })
			if !sleep(p.life, p.pause) {
				return
			}
			p.hurry()
		}
	}
}

func (p *Packed) uploading() int {
	p.up.mu.Lock()
	defer p.up.mu.Unlock()
	return p.up.inFlight
}

// hurry has the journal sealed soon.
func (p *Packed) hurry() {
	select {
	case p.up.urgent <- struct{}{}:
	default:
	}
}

// waitStored waits until all of these blocks are in the bucket, or were deleted.
func (p *Packed) waitStored(ctx context.Context, names []name) error {
	for {
		changed := p.up.watch()
		for len(names) > 0 {
			l, err := p.x.Get(names[0])
			if err != nil && !errors.Is(err, index.ErrNotFound) {
				return err
			}
			if err == nil && l.Kind == index.Journal {
				break
			}
			names = names[1:]
		}
		if len(names) == 0 {
			return nil
		}
		p.hurry()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
