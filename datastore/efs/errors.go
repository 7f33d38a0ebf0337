package efs

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
)

// ErrClosed is returned by every call on a store that was closed.
var ErrClosed = errors.New("efs: the store is closed")

// ErrInvalidKey is returned by Put for a key that flatfs cannot hold. A key is
// one component of the characters 0-9, A-Z, +, -, _ and =.
var ErrInvalidKey = errors.New("efs: the key cannot be a flatfs file name (one component of 0-9 A-Z + - _ =)")

// advice says what an operator does about an error of the file system.
var advice = []struct {
	errno syscall.Errno
	text  string
}{
	{syscall.ENOSPC, "the file system is full: free space or run `ipfs repo gc`"},
	{syscall.EDQUOT, "the quota is used up: raise it, or run `ipfs repo gc`"},
	{syscall.EACCES, "the user of this process may not do this: check the owner of the files and the access point's user id"},
	{syscall.EPERM, "the user of this process may not do this: check the mount and its IAM policy"},
	{syscall.EROFS, "the file system is mounted read-only"},
	{syscall.ESTALE, "the file or its directory was replaced on the server, as by a restore: restart this process"},
	{syscall.EIO, "the file system failed: check the mount, its mount target and its security group"},
}

// explain wraps an error of the file system, which names the file, with what
// was being done and what to do about it. It keeps nil.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	for _, a := range advice {
		if errors.Is(err, a.errno) {
			return fmt.Errorf("efs: %s: %w (%s)", doing, err, a.text)
		}
	}
	return fmt.Errorf("efs: %s: %w", doing, err)
}

// deferred collects errors of work that went on after its caller was answered,
// until a caller comes who can be told.
type deferred struct {
	mu    sync.Mutex
	errs  []error
	total int
}

// maxDeferred bounds the errors kept. More of them say nothing new.
const maxDeferred = 16

func (d *deferred) add(err error) {
	if err == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total++
	if len(d.errs) < maxDeferred {
		d.errs = append(d.errs, err)
	}
}

// take returns what was collected, joined, and forgets it.
func (d *deferred) take() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.total == 0 {
		return nil
	}
	errs := d.errs
	if more := d.total - len(errs); more > 0 {
		errs = append(errs, fmt.Errorf("efs: and %d more errors like these", more))
	}
	d.errs, d.total = nil, 0
	return errors.Join(errs...)
}
