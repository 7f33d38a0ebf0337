package s3ds

import (
	"fmt"
	"os"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
)

// tellEvery is how often a daemon that makes its index anew says how far it
// has come.
const tellEvery = 5 * time.Second

// tell returns a function that writes a line to standard error every few
// seconds, so that whoever waits for the daemon knows for what.
func tell() func(s3ds.Progress) {
	last := time.Now()
	return func(p s3ds.Progress) {
		if time.Since(last) < tellEvery {
			return
		}
		last = time.Now()
		fmt.Fprintf(os.Stderr, "s3ds: making the index from the bucket: %d packs, %d loose objects, %d blocks so far\n", p.Packs, p.Objects, p.Blocks)
	}
}
