//go:build !linux

package efsmodel

import "errors"

var errLinux = errors.New("mounting needs Linux")

// Available returns why nothing can be mounted here.
func Available() error { return errLinux }

// Init does nothing here.
func Init() {}

// Isolate does nothing here.
func Isolate() {}

// Scratch fails here.
func Scratch() (string, func() error, error) { return "", nil, errLinux }

// Mounted is a mount; there is none here.
type Mounted struct{}

// Mount fails here.
func Mount(Options) (*Mounted, error) { return nil, errLinux }

// Stats fails here.
func (*Mounted) Stats() (Stats, error) { return Stats{}, errLinux }

// Reset fails here.
func (*Mounted) Reset() error { return errLinux }

// SetDilation fails here.
func (*Mounted) SetDilation(float64) error { return errLinux }

// Unmount fails here.
func (*Mounted) Unmount() error { return errLinux }
