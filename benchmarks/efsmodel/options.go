package efsmodel

import "fmt"

// Options say what is mounted where, and how it behaves.
type Options struct {
	// Backing is the directory that holds the files; best in memory (see Scratch).
	Backing string
	// Mountpoint is an existing empty directory.
	Mountpoint string
	Profile    Profile
	Throughput Throughput
	// Dilation multiplies all times: 1 is as it is on EFS, 4 makes the
	// machine's own noise count a quarter, 0 is no waiting at all.
	Dilation float64
	// FolderDepth is how many components of a path name the folder that requests
	// are counted for; 0 is 1.
	FolderDepth int
	// LimitOps keeps to the requests a second that AWS gives for the profile.
	LimitOps bool
}

// Validate reports the first thing that is wrong.
func (o Options) Validate() error {
	switch {
	case o.Backing == "" || o.Mountpoint == "":
		return fmt.Errorf("efsmodel: backing %q and mountpoint %q must both be directories", o.Backing, o.Mountpoint)
	case o.Profile.Latency == nil:
		return fmt.Errorf("efsmodel: no profile is given")
	case o.Dilation < 0:
		return fmt.Errorf("efsmodel: dilation is %g; it must be 0 or more", o.Dilation)
	}
	return o.Throughput.validate()
}
