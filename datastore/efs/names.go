package efs

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync/atomic"
)

// session tells this process's temporary files from those of any other that
// ever wrote to the same directory; 8 random bytes collide once in 2^32 processes.
var session = func() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}()

var sessionFiles atomic.Uint64

// newTempName is a file name that was never used before.
func newTempName() string {
	return fmt.Sprintf("%s%s-%d", tempPrefix, session, sessionFiles.Add(1))
}

// newIndexID names one persisted state of one index.
func newIndexID() (id indexID) {
	rand.Read(id[:])
	return id
}
