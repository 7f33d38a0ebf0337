// Package version says which build of the distribution is running. Both
// variables are set at link time (see the Makefile); the defaults are what a
// plain `go build` carries.
package version

import "runtime/debug"

// Version is the distribution's version, a semantic version without the
// leading "v".
var Version = "0.1.0-dev"

// Commit is the commit the binary was built from; empty when unknown.
var Commit string

// Dependency returns the version of a module that the binary was built with,
// for example Dependency("github.com/ipfs/kubo") is "v0.43.1", and "unknown"
// when the build carries no module information or the module is not in it.
func Dependency(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			if m.Replace != nil {
				return m.Replace.Version
			}
			return m.Version
		}
	}
	return "unknown"
}
