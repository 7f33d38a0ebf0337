package span

import "slices"

// What a read fetches. A read of a place where nobody reads is random: it gets its block and nothing else, so that random
// readers pay one request per block and move no byte in vain. A read right behind another one makes a stream: a window is fetched,
// and each further window is twice as long. A stream goes on in the pack that follows, with the window it has. So 256 MiB in
// blocks of 256 KiB, cold, from packs of 32 MiB take: 256 KiB, 1, 2, 4 and 8.75 MiB, then 15 times 16 MiB.
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
	// maxStreams are remembered: kubo walks 32 DAGs at once; more would find neighbours by chance.
	maxStreams = 64
	// maxHops is how many packs a distance may span.
	maxHops = 4
	// island: so much that is here already ends a window; less is fetched again rather than paid for with a request.
	island = 1 << 20
)

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
	s, sequential, ahead := r.streamOf(b)
	var f *fetch
	if lo, hi := o.gap(b.Offset, end); lo < hi {
		switch {
		case sequential:
			s.window = r.grow(s.window, b.Length)
			lo, hi = r.window(o, b.Pack, lo, hi, s.window)
		case ahead:
			lo, hi = r.windowAround(o, b.Pack, lo, hi)
		default:
			lo, hi = r.hinted(o, b, lo, hi)
		}
		f = r.fetch(o, lo, hi, b.Offset, end, false)
	} else if sequential && s.window == 0 {
		// It is a stream, though its bytes are here: of another reader, or of an earlier one.
		s.window = r.grow(0, b.Length)
	}
	switch {
	case sequential:
		if d, ok := r.distance(s.place, b.Pack, end, skip+b.Length); ok && d > 0 {
			s.place = place{b.Pack, end}
		}
		s.used = r.clock
		r.prefetch(s)
	case ahead:
		// The stream goes on where it was.
	default:
		r.remember(&stream{place: place{b.Pack, end}, used: r.clock})
	}
	return f
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

// window returns what to fetch from lo on, at least up to hi.
func (r *Reader) window(o *object, p Pack, lo, hi, size int64) (int64, int64) {
	end, border := lo+size, r.border(p, lo)
	if end > border-size/2 {
		end = border
	}
	end = min(max(end, hi), p.End)
	// Stop where much is here already; leave out what is here at the end.
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
	return lo, max(last, hi)
}

// windowAround returns the division of the pack that [lo, hi) lies in, without what is here at its ends.
func (r *Reader) windowAround(o *object, p Pack, lo, hi int64) (int64, int64) {
	begin := lo / r.maxFetch * r.maxFetch
	if r.border(p, max(0, begin-1)) > begin {
		begin = max(0, begin-r.maxFetch) // the short rest at the end belongs to the one before
	}
	from, to := o.gap(begin, max(hi, r.border(p, lo)))
	return min(from, lo), max(to, hi)
}

// hinted returns [lo, hi) with what the caller said it wants soon.
func (r *Reader) hinted(o *object, b Block, lo, hi int64) (int64, int64) {
	if b.Before == 0 && b.After == 0 {
		return lo, hi
	}
	from, to := o.gap(max(0, b.Offset-min(b.Before, r.maxFetch)), min(b.Pack.End, b.Offset+b.Length+min(b.After, r.maxFetch)))
	return min(from, lo), max(to, hi)
}

// prefetch fetches the next window of a stream if its reader has come near.
func (r *Reader) prefetch(s *stream) {
	for range 2 {
		if s.window < prefetchFrom || len(r.fetches) >= max(1, r.o.Concurrency/2) {
			return
		}
		trigger := s.window
		if s.window < eager {
			trigger /= 2
		}
		front, ok := r.front(s.place, trigger)
		if !ok {
			return
		}
		size := r.grow(s.window, 0)
		if size > r.aheadLimit() {
			return // a smaller window would cost a request more; the next read asks again
		}
		o := r.object(front.pack.Key)
		lo, hi := r.window(o, front.pack, front.at, front.at+1, size)
		s.window = size
		r.fetch(o, lo, hi, lo, lo, true)
	}
}

// front returns the first missing byte at or behind a place, at most reach bytes away, in this pack or those that follow.
func (r *Reader) front(from place, reach int64) (place, bool) {
	p, at := from.pack, from.at
	for range maxHops {
		end := min(p.End, at+reach+1)
		if o, ok := r.objects[idOf(p.Key)]; !ok {
			if at < end {
				return place{p, at}, true
			}
		} else if missing := o.covered(at, end); missing < end {
			return place{p, missing}, true
		}
		reach -= p.End - at
		if reach < 0 {
			return place{}, false
		}
		next, ok := r.o.Next(p.Key)
		if !ok {
			return place{}, false
		}
		p, at = next, 0
	}
	return place{}, false
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
