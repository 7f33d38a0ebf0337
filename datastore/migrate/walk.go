package migrate

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/links"
)

// level is what one block links to, or blocks that nothing is known about.
type level struct {
	of     mh.Multihash // that links to these; nil for none
	links  []link
	next   int
	looked int           // the first that was not looked at to be read ahead
	ahead  map[int]*item // that were read ahead
}

type link struct {
	hash  mh.Multihash
	codec uint64
}

// walkAll takes every block that the target has not: below the roots, then below other blocks with links, then the rest.
func (c *copying) walkAll() error {
	for root, err := range c.o.Roots {
		if err != nil {
			return fmt.Errorf("list what is pinned: %w", err)
		}
		if err := c.below([]link{{root.Hash(), root.Prefix().Codec}}); err != nil {
			return err
		}
	}
	if c.o.Reread {
		if err := c.rest(func(b Listed) bool { return b.Size < leafSize }, c.belowNodes); err != nil {
			return err
		}
	}
	return c.rest(func(Listed) bool { return true }, c.below)
}

// rest has blocks taken that are chosen and left, together at a time.
func (c *copying) rest(chosen func(Listed) bool, take func([]link) error) error {
	if left, err := c.left(); err != nil || !left {
		return err
	}
	list := c.src.Blocks
	if o, ok := c.src.(Ordered); ok {
		list = o.InOrder
	}
	var some []link
	for b, err := range list(c.ctx) {
		if err != nil {
			return fmt.Errorf("list the source: %w", err)
		}
		if !chosen(b) {
			continue
		}
		if _, wanted, err := c.wants(b.Hash); err != nil {
			return err
		} else if !wanted {
			continue
		}
		if some = append(some, link{b.Hash, links.Unknown}); len(some) == together {
			if err := take(some); err != nil {
				return err
			}
			some = nil
		}
	}
	return take(some)
}

// left reports whether there is anything left to be taken.
func (c *copying) left() (bool, error) {
	err := c.ledger.each(func(h mh.Multihash, _ line) error {
		if _, wanted, err := c.wants(h); err != nil || !wanted {
			return err
		}
		return errSome
	})
	if errors.Is(err, errSome) {
		return true, nil
	}
	return false, err
}

var errSome = errors.New("there is something left")

// wants reports whether a block is to be copied or verified.
func (c *copying) wants(h mh.Multihash) (e line, wanted bool, err error) {
	e, had, err := c.ledger.get(h)
	if err != nil || !had || e.source != c.inSource || e.flags&damaged != 0 {
		return e, false, err
	}
	return e, (e.target != c.inTarget || !e.settled() && !c.o.Live) && !c.inFlight(h), nil
}

// belowNodes takes those of the blocks that have links, and what is below them. The others are read in vain.
func (c *copying) belowNodes(some []link) error {
	var nodes []link
	read := make([]*item, 0, len(some))
	drop := func() {
		for _, i := range read {
			<-i.done
			c.drop(i)
		}
		read = read[:0]
	}
	defer drop()
	look := func() error {
		for _, i := range read {
			select {
			case <-i.done:
			case <-c.ctx.Done():
				return c.ctx.Err()
			}
			if i.err == nil && len(links.Of(i.data, links.Unknown)) > 0 {
				nodes = append(nodes, link{i.hash, links.Unknown})
			}
		}
		drop()
		return nil
	}
	for _, b := range some {
		e, wanted, err := c.wants(b.hash)
		if err != nil {
			return err
		} else if !wanted {
			continue
		}
		i, err := c.begun(b.hash, e, true, false)
		if err != nil {
			return err
		}
		if i == nil { // there is no room
			if err := look(); err != nil {
				return err
			}
			if i, err = c.begun(b.hash, e, true, true); err != nil {
				return err
			}
		}
		read = append(read, i)
	}
	if err := look(); err != nil {
		return err
	}
	return c.below(nodes)
}

// below takes blocks and what they link to, depth first.
func (c *copying) below(blocks []link) (err error) {
	way := []*level{{links: blocks, ahead: map[int]*item{}}}
	defer func() { // what was read ahead in vain
		for _, l := range way {
			for _, i := range l.ahead {
				<-i.done
				c.drop(i)
			}
		}
	}()
	for len(way) > 0 {
		top := way[len(way)-1]
		if top.next == len(top.links) {
			way = way[:len(way)-1]
			if top.of != nil {
				if err := c.walked(top.of); err != nil {
					return err
				}
			}
			continue
		}
		if err := c.lookAhead(top); err != nil {
			return err
		}
		n := top.next
		b := top.links[n]
		top.next++
		early := top.ahead[n]
		delete(top.ahead, n)
		data, err := c.take(b, early)
		if err != nil {
			return err
		}
		if data == nil {
			continue
		}
		found := links.Of(data, b.codec)
		next := &level{of: b.hash, ahead: map[int]*item{}}
		for _, child := range found {
			next.links = append(next.links, link{child.Hash(), child.Prefix().Codec})
		}
		way = append(way, next)
	}
	return nil
}

func (c *copying) walked(h mh.Multihash) error {
	return c.ledger.edit(false, []mh.Multihash{h}, func(_ int, e *line, had bool) bool {
		e.flags |= walked
		return had
	})
}

// leads reports whether a block may link to others, which its bytes tell.
func leads(b link, e line) bool {
	return b.codec != cid.Raw && (b.codec != links.Unknown || e.size < leafSize)
}

// plan says what is to be done with a block: nothing, or to read it, for its links only if it is copied already.
func (c *copying) plan(b link) (e line, read, only bool, err error) {
	if b.hash == nil {
		return e, false, false, nil
	}
	e, wanted, err := c.wants(b.hash)
	if err != nil || wanted {
		return e, wanted, false, err
	}
	again := e.source == c.inSource && e.source != 0 && e.flags&(walked|damaged) == 0 && leads(b, e)
	return e, again, true, nil
}

// take sends a block on its way, if it is wanted, and returns its bytes if there may be something below it that is wanted, or nil.
func (c *copying) take(b link, i *item) ([]byte, error) {
	e, read, only, err := c.plan(b)
	if !read || err != nil {
		if i != nil {
			<-i.done
			c.drop(i)
		}
		return nil, err
	}
	if i == nil {
		if i, err = c.begun(b.hash, e, only, true); err != nil {
			return nil, err
		}
	}
	i.only = only
	if only {
		defer func() {
			<-i.done
			c.drop(i)
		}()
	} else if err := c.send(i); err != nil {
		return nil, err
	}
	if !leads(b, e) {
		return nil, nil
	}
	select {
	case <-i.done:
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
	if i.err != nil {
		return nil, nil // collect deals with it; one that was copied before need not be read once more
	}
	return i.data, nil
}

// lookAhead begins to read what comes next on a level, if what is below it depends on it.
func (c *copying) lookAhead(l *level) error {
	for l.looked = max(l.looked, l.next); l.looked < len(l.links) && len(l.ahead) < aheadBlocks; l.looked++ {
		b := l.links[l.looked]
		e, read, only, err := c.plan(b)
		if err != nil {
			return err
		}
		if !read || !leads(b, e) && b.codec != links.Unknown {
			continue
		}
		i, err := c.begun(b.hash, e, only, false)
		if err != nil {
			return err
		}
		if i == nil {
			return nil
		}
		l.ahead[l.looked] = i
	}
	return nil
}
