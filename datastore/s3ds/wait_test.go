package s3ds

import (
	"time"

	"github.com/ipfs/go-datastore/query"
)

// all is the query for everything.
var all = query.Query{}

// pass lets the clock of a synctest bubble go on; no real time passes.
func pass(d time.Duration) { <-time.After(d) }

// synctestYield lets all other goroutines of a bubble get as far as they can, by letting its clock go on a little.
func synctestYield() { pass(time.Millisecond) }
