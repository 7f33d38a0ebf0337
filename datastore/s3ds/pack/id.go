package pack

import (
	"fmt"
	"sync"
	"time"
)

// An ID orders packs in time: milliseconds since 1970 at which the pack was
// begun, pushed forward where needed so that no two packs of a writer share it.
type ID uint64

// MaxID is the largest ID that a name has room for (the year 10889).
const MaxID ID = 1<<48 - 1

// String is the ID as it stands in names: 12 hexadecimal digits, so that the
// order of names is the order of IDs.
func (id ID) String() string { return fmt.Sprintf("%012x", uint64(id)) }

// Time at which the pack was begun, by the writer's clock.
func (id ID) Time() time.Time { return time.UnixMilli(int64(id)) }

// IDs hands out IDs, each larger than every one before it. All packs of one
// writer, whether they come from its journal or from merging older packs, must
// draw from one source. Safe for concurrent use.
type IDs struct {
	mu   sync.Mutex
	last ID
}

// NewIDs makes a source whose IDs are all larger than after: the largest ID
// known of this writer, 0 for none. It keeps IDs unique when the clock was set
// back since the last run.
func NewIDs(after ID) *IDs { return &IDs{last: after} }

// Next returns an ID that is larger than all handed out or seen so far and,
// if the clock allows, the current time.
func (s *IDs) Next() ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last+1, ID(time.Now().UnixMilli()))
	return s.last
}

// See makes all later IDs larger than id.
func (s *IDs) See(id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last, id)
}
