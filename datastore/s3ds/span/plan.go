package span

import "slices"

// What a read fetches. A read of a place where nobody reads is random: it gets its block and nothing else, so that random
// readers pay one request per block and move no byte in vain. A read right behind another one makes a stream: a window is fetched,
// and each further window is twice as long. A stream goes on in the pack that follows, with the window it has. So 256 MiB in
// blocks of 256 KiB, cold, from packs of 32 MiB take: 256 KiB, 1, 2, 4 and 8.75 MiB, then 15 times 16 MiB. A caller who knows what
// will be read (Block.Near) begins with that for a window: 8 MiB, 8, then 15 times 16 MiB.
//
// Packs of nodes are small and read in no order: a miss brings what surrounds it, and four times as much if there was one
// in the same pack just before.
const (
	// near is how far behind the last read the second one of a stream may begin: the headers of sections, an inner node or a
	// directory in between (kubo's have 9 KiB for 174 links).
	near = 16 << 10
	// firstBlocks is the first window in blocks, with the headers of their sections. Four of 256 KiB make a Range of 1 MiB two
	// requests: one for the first block, one for the other four that it touches.
	firstBlocks   = 4
	sectionHeader = 128
	minFirst      = 256 << 10
	maxFirst      = firstBlocks * (256<<10 + sectionHeader)
	// prefetchFrom is the smallest window after which the next one is fetched ahead: earlier would be guessing.
	prefetchFrom = 2 << 20
	// eager is the window from which on the next one is fetched when this one is entered, so that two requests run
	// at a time; below it is fetched when half of this one is read.
	eager = 4 << 20
	// skip is how far behind its last read a stream may go on, if its window is as long.
	skip = 4 << 20
	// lookahead is how many windows ahead a full stream may jump: to the inner node in front of its next leaves. Kubo's stand behind
	// 174 leaves of 256 KiB, 44 MiB ahead. What is around them comes with them, for the stream will come by.
	lookahead = 4
	// aroundNode is what the first miss in a pack of nodes brings, three quarters of it in front: nodes stand behind those that
	// they link to. 256 KiB take 3 ms at 90 MB/s, a ninth of what the request takes, and have the nodes of 1 GiB.
	aroundNode = 256 << 10
	// nodeMemory is for how many reads a miss in a pack of nodes is remembered.
	nodeMemory = 256
	// maxStreams are remembered: kubo walks 32 DAGs at once; more would find neighbours by chance.
	maxStreams = 64
	// maxHops is how many packs a distance may span.
	maxHops = 4
	// lead is how much is fetched in front of a block because it is expected as well: 22 ms at 90 MB/s, which the block waits for.
	lead = 2 << 20
	// island: so much that is here already ends a window; less is fetched again rather than paid for with a request.
	island = 1 << 20
)

// farSighted is how many of the largest windows a stream has fetched when two are fetched ahead of the one that is read. A reader is then faster
// than one connection, and it is known how much it may want: a video that is turned off costs two windows in vain, not three.
const farSighted = 2

// slack returns how much room in packs so many bytes of a file may take: headers of sections, nodes and directories come in between.
func slack(n int64) int64 { return n + n/32 + 256<<10 }

// place is a position in a pack.
type place struct {
	pack Pack
	at   int64
}

// stream is a reader that goes forward. Guarded by Reader.mu.
type stream struct {
	place        // behind the last byte that was read
	window int64 // that was fetched last; 0 after one read
	used   int64 // on Reader.clock
	// left is how many bytes behind place are wanted at most; negative if that is not known.
	left int64
	full int // how many of the largest windows were fetched
	// promised: the window is what a caller said it expects, and not what it has read.
	promised bool
}

// distance is how many bytes lie between a place and another one that comes later, in the order of packs; negative if
// it comes earlier in the same pack. ok is false if it is in another pack and more than limit away: so Next is asked only where
// the answer matters, and not for each of the streams that never went on.
func (r *Reader) distance(from place, to Pack, at, limit int64) (d int64, ok bool) {
	if from.pack.Key == to.Key {
		return at - from.at, true
	}
	p := from.pack
	d = p.End - from.at
	for range maxHops {
		if d > limit {
			return 0, false
		}
		next, ok := r.o.Next(p.Key)
		if !ok {
			return 0, false
		}
		if next.Key == to.Key {
			return d + at, true
		}
		d += next.End
		p = next
	}
	return 0, false
}

// plan decides what to fetch for a read, and begins to fetch it. It returns the request that the read waits for, if it began one.
func (r *Reader) plan(o *object, b Block) *fetch {
	r.clock++
	end := b.Offset + b.Length
	if b.Pack.Nodes {
		if lo, hi := o.gap(b.Offset, end); lo < hi {
			lo, hi = r.around(o, b, lo, hi)
			return r.fetch(o, lo, hi, b.Offset, end, false)
		}
		return nil
	}
	s, sequential, ahead := r.streamOf(b)
	var f *fetch
	var promise int64
	if lo, hi := o.gap(b.Offset, end); lo < hi {
		if !sequential || s.window < r.maxFetch {
			// Until a stream has its full window, what the caller knows is better than what it did so far.
			lo, hi, promise = r.expected(o, b, lo, hi)
		}
		switch {
		case sequential && promise > 0:
			if s.window = r.grow(s.window, b.Length); s.window > promise {
				_, hi = r.window(o, b.Pack, lo, hi, s.window, b.left(lo))
			} else {
				s.window, s.promised = promise, true
			}
		case sequential:
			s.window, s.promised = r.grow(s.window, b.Length), false
			lo, hi = r.window(o, b.Pack, lo, hi, s.window, b.left(lo))
		case ahead && promise == 0:
			lo, hi = r.windowAround(o, b.Pack, lo, hi)
		}
		f = r.fetch(o, lo, hi, b.Offset, end, false)
	} else if sequential && s.window == 0 {
		// It is a stream, though its bytes are here: of another reader, or of an earlier one.
		s.window = r.grow(0, b.Length)
	}
	switch {
	case sequential:
		if d, ok := r.distance(s.place, b.Pack, end, skip+b.Length); ok && d > 0 {
			s.place, s.left = place{b.Pack, end}, b.left(end)
		}
		s.used = r.clock
		r.prefetch(s)
	case ahead:
		// The stream goes on where it was.
	default:
		r.remember(&stream{place: place{b.Pack, end}, left: b.left(end), used: r.clock, window: promise, promised: promise > 0})
	}
	return f
}

// left is how many bytes from a place behind its beginning on are wanted at most; negative if that is not known.
func (b Block) left(at int64) int64 {
	if b.Left == 0 {
		return -1
	}
	return max(0, b.Left-(at-b.Offset))
}

// streamOf finds the stream that a read belongs to: of several the one with the longest window, then the nearest one. Those
// that were single reads so far, of which this one might be the second, are forgotten then: the reader was here before to
// fetch an inner node. ahead: it is the jump of a full stream to where it will come by soon.
func (r *Reader) streamOf(b Block) (best *stream, sequential, ahead bool) {
	var found []*stream
	nearest := int64(0)
	for _, s := range r.streams {
		reach := max(near, min(s.window, skip))
		limit := reach
		if s.window >= r.maxFetch {
			limit = lookahead * r.o.MaxWindow
		}
		d, ok := r.distance(s.place, b.Pack, b.Offset, limit)
		if !ok {
			continue
		}
		switch {
		case d >= 0 && d <= reach, d < 0 && -d <= s.window:
			d = max(d, -d)
			if !sequential || s.window > best.window || s.window == best.window && d < nearest {
				best, sequential, nearest = s, true, d
			}
			found = append(found, s)
		case d > 0 && d <= lookahead*r.o.MaxWindow && s.window >= r.maxFetch:
			ahead = true
		}
	}
	if len(found) > 1 {
		r.streams = slices.DeleteFunc(r.streams, func(s *stream) bool { return s != best && s.window == 0 && slices.Contains(found, s) })
	}
	return best, sequential, ahead && !sequential
}

// remember adds a stream, in the place of the one that was used least recently if there are many.
func (r *Reader) remember(s *stream) {
	if len(r.streams) < maxStreams {
		r.streams = append(r.streams, s)
		return
	}
	oldest := 0
	for i, x := range r.streams {
		if x.used < r.streams[oldest].used {
			oldest = i
		}
	}
	r.streams[oldest] = s
}

// grow returns the window that follows on another one.
func (r *Reader) grow(window, block int64) int64 {
	if window == 0 {
		return min(r.maxFetch, max(minFirst, min(maxFirst, firstBlocks*(block+sectionHeader))))
	}
	return min(r.maxFetch, 2*window)
}

// border returns the first place behind at where windows end: packs are divided at multiples of the largest window, so that two
// readers, or one that comes again, ask for the same ranges. A rest of less than an eighth belongs to the window before.
func (r *Reader) border(p Pack, at int64) int64 {
	b := (at/r.maxFetch + 1) * r.maxFetch
	if p.End-b < r.maxFetch/8 {
		return p.End
	}
	return b
}

// window returns what to fetch from lo on, at least up to hi, if so much is left to be wanted.
func (r *Reader) window(o *object, p Pack, lo, hi, size, left int64) (int64, int64) {
	end, border := lo+size, r.border(p, lo)
	if end > border-size/2 {
		end = border
	}
	if left >= 0 {
		end = min(end, lo+slack(left))
	}
	return lo, r.untilHere(o, lo, hi, min(max(end, hi), p.End))
}

// untilHere returns where a request from lo on ends, at hi or later: where much is here already, without what is here at the end.
func (r *Reader) untilHere(o *object, lo, hi, end int64) int64 {
	for at := max(hi, lo); at < end; {
		here := o.next(at, end)
		missing := o.covered(here, end)
		if missing-here >= island {
			end = here
			break
		}
		at = max(missing, at+1)
	}
	_, last := o.gap(lo, end)
	return max(last, hi)
}

// windowAround returns the division of the pack that [lo, hi) lies in, without what is here at its ends.
func (r *Reader) windowAround(o *object, p Pack, lo, hi int64) (int64, int64) {
	from, to := o.gap(r.division(p, lo), max(hi, r.border(p, lo)))
	return min(from, lo), max(to, hi)
}

// expected returns [lo, hi) with what the caller expects to read soon, and the window of the stream that begins here; 0 if it is
// alone. What others fetch and did not read yet has precedence over what is only expected.
func (r *Reader) expected(o *object, b Block, lo, hi int64) (from, to, window int64) {
	if b.Near == nil {
		return lo, hi, 0
	}
	x := b.Near()
	if x.Window <= 0 {
		return lo, hi, 0
	}
	x.After = min(x.After, b.Pack.End-hi) // it is a guess
	begin := max(b.Offset-x.Before, r.division(b.Pack, lo))
	end := min(hi+x.After, max(hi, r.border(b.Pack, lo)))
	// The window may cross a border: a short one in front of it would have to be followed by another request at once.
	from, to = lo, min(hi+x.After, hi+x.Window)
	window = to - lo
	if x.Window >= r.maxFetch || end-to < x.Window/2 && end > to {
		to = end
	}
	if lo-begin <= lead {
		from = begin
	}
	if x.Whole && o.next(begin, end) < end {
		from, to = begin, end
	}
	// Not beyond what is here and long: those are two requests anyway.
	for at := from; at < lo; {
		here := o.next(at, lo)
		missing := o.covered(here, lo)
		if missing-here >= island {
			from = missing
		}
		at = max(missing, at+1)
	}
	if left := min(r.maxFetch+r.maxFetch/8, r.aheadLimit()); to-from > left {
		if hi-from > left/2 {
			from = lo
		}
		to = max(hi, min(to, from+left))
	}
	from = min(lo, o.covered(from, lo))
	return from, r.untilHere(o, from, hi, to), window
}

// division returns where the part of a pack begins that a place lies in and border ends.
func (r *Reader) division(p Pack, at int64) int64 {
	begin := at / r.maxFetch * r.maxFetch
	if begin > 0 && r.border(p, begin-1) > begin {
		begin -= r.maxFetch // the short rest at the end belongs to the one before
	}
	return begin
}

// around returns [lo, hi), which is missing in a pack of nodes, with what is missing around it.
func (r *Reader) around(o *object, b Block, lo, hi int64) (int64, int64) {
	if o.misses == 0 || r.clock-o.missed > nodeMemory {
		o.misses = 0
	}
	size := min(r.maxFetch, aroundNode<<min(2*o.misses, 20))
	o.misses, o.missed = o.misses+1, r.clock
	from, to := o.gap(max(0, hi-size/4*3), min(b.Pack.End, hi+size/4))
	return min(from, lo), max(to, hi)
}

// prefetch fetches the next window of a stream, or two, if its reader has come near. What is left of a file is how much is wanted, not
// where it lies: an add writes many blocks at once, and so the last ones lie in some order. The end of a file is therefore not looked
// for in another pack before somebody has asked for a block there.
func (r *Reader) prefetch(s *stream) {
	for range 2 {
		if s.window < prefetchFrom || len(r.fetches) >= max(1, r.o.Concurrency/2) {
			return
		}
		trigger := s.window
		switch {
		case s.window < eager || s.promised:
			trigger /= 2
		case s.left >= 0 && s.full >= farSighted:
			trigger *= 2
		}
		front, d, ok := r.front(s.place, trigger)
		if !ok {
			return
		}
		left := s.left
		if left >= 0 {
			if left -= d; left <= 0 || left < r.maxFetch && front.pack.Key != s.pack.Key {
				return
			}
		}
		size := r.grow(s.window, 0)
		if size > r.aheadLimit() {
			return // a smaller window would cost a request more; the next read asks again
		}
		o := r.object(front.pack.Key)
		lo, hi := r.window(o, front.pack, front.at, front.at+1, size, left)
		s.window, s.promised = size, false
		if size == r.maxFetch {
			s.full++
		}
		r.fetch(o, lo, hi, lo, lo, true)
	}
}

// front returns the first missing byte at or behind a place, at most reach bytes away, in this pack or those that follow, and how far away
// it is.
func (r *Reader) front(from place, reach int64) (first place, d int64, ok bool) {
	p, at := from.pack, from.at
	for range maxHops {
		end := min(p.End, at+reach+1)
		if o, ok := r.objects[idOf(p.Key)]; !ok {
			if at < end {
				return place{p, at}, d, true
			}
		} else if missing := o.covered(at, end); missing < end {
			return place{p, missing}, d + missing - at, true
		}
		reach -= p.End - at
		d += p.End - at
		if reach < 0 {
			return place{}, 0, false
		}
		next, ok := r.o.Next(p.Key)
		if !ok {
			return place{}, 0, false
		}
		p, at = next, 0
	}
	return place{}, 0, false
}

// aheadLimit is how much memory data that nobody asked for yet may still take: three quarters, less what is on its way or
// here, unread and not on disk. Without a limit, readers that are many would push out what was fetched for each other.
func (r *Reader) aheadLimit() int64 {
	left := r.memory.limit / 4 * 3
	for f := range r.fetches {
		left -= f.hi - f.lo
	}
	for el := r.memory.lru.Front(); el != nil; el = el.Next() {
		if e := el.Value.(*extent); !e.read && e.file == nil {
			left -= e.size()
		}
	}
	return left
}
