// Package ports gives tests ports that they must know before the program that listens on them
// starts: peers that name each other, or a program that is started again at the same address. Where
// a program can listen on port 0 and say what it got, that is better.
//
// A port that is found by listening and closing may belong to another process a moment later: the
// system gives it to the next one that asks for any port. These are not found so. They come in
// blocks from below the range out of which systems give ports (32768 and up on Linux, 49152 and up
// elsewhere), and a listener on the last port of a block, held until the test is over, keeps every
// other test of the machine off the block, also when processes are killed.
package ports

import (
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
)

const (
	// Block is how many ports a block has: local-cluster with three tasks uses 40.
	Block = 63

	step   = Block + 1
	lowest = 20_032
	blocks = (32_704 - lowest) / step
)

var mu sync.Mutex

// next is the block that is looked at first; that it differs by process only saves time.
var next = os.Getpid() % blocks

// TakeBlock returns the first of Block ports on 127.0.0.1 that are the test's own until it is over.
func TakeBlock(t testing.TB) int {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	first, token := take(t)
	t.Cleanup(func() { _ = token.Close() }) // fails only if it is closed
	return first
}

func take(t testing.TB) (first int, token net.Listener) {
	t.Helper()
	for range blocks {
		first := lowest + next*step
		next = (next + 1) % blocks
		token, err := net.Listen("tcp", address(first+Block))
		if err != nil {
			continue // another test's
		}
		if free(first) {
			return first, token
		}
		_ = token.Close() // the next block may do
	}
	t.Fatalf("all %d blocks of ports from %d on are in use", blocks, lowest)
	return 0, nil
}

// free reports whether no other program listens in the block: one that is no test.
func free(first int) bool {
	for port := first; port < first+Block; port++ {
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			return false
		}
		if l.Close() != nil {
			return false
		}
	}
	return true
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// single are the ports that Take hands out, of one block at a time. They are the process's until
// it ends.
var single struct {
	next, end int
	tokens    []net.Listener
}

// Take returns a port on 127.0.0.1 that nothing listens on, and that is given out once in the life
// of the test binary.
func Take(t testing.TB) int {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if single.next == single.end {
		first, token := take(t)
		single.next, single.end = first, first+Block
		single.tokens = append(single.tokens, token)
	}
	single.next++
	return single.next - 1
}

// Address returns "127.0.0.1:port" of a port of [Take].
func Address(t testing.TB) string {
	t.Helper()
	return address(Take(t))
}
