// Command ipfs becomes ipfs-aws, with a blockstore where a repo is made. kubo's
// tests find it under the name that they look for.
//
// A file, whose path is linked in, says which program it becomes, and what it adds to
// the environment of every command, and of those that make a repo. In the values of
// the latter, NEWNAME stands for a name that was never used before.
package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var file string // set by the linker, because kubo's tests copy this program to other places

// Store is the content of the file.
type Store struct {
	Program string
	Always  []string // NAME=value
	Init    []string // NAME=value
}

func main() {
	if err := become(); err != nil {
		fmt.Fprintln(os.Stderr, "ipfs of the tests:", err)
		os.Exit(125)
	}
}

func become() error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var s Store
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	env := append(os.Environ(), s.Always...)
	if makesRepo(os.Args[1:]) {
		prefix := strings.ToLower(rand.Text())
		for _, kv := range s.Init {
			env = append(env, strings.ReplaceAll(kv, "NEWNAME", prefix))
		}
	}
	// A test that panics leaves its daemons behind. They end with it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	return syscall.Exec(s.Program, os.Args, env)
}

// makesRepo reports whether a command makes a repo with a store of our choice. Repos
// that are there keep theirs, and so do the tests of kubo's own datastores: those
// that name one, or give a config.
func makesRepo(args []string) bool {
	init := slices.Index(args, "init")
	if init < 0 && !slices.Contains(args, "--init") {
		return false
	}
	if init >= 0 && len(args) > init+1 && !strings.HasPrefix(args[len(args)-1], "-") && !strings.HasPrefix(args[len(args)-2], "-") {
		return false
	}
	for _, a := range args {
		for _, own := range []string{"pebbleds", "badgerds", "flatfs"} {
			if strings.Contains(a, own) {
				return false
			}
		}
	}
	path := os.Getenv("IPFS_PATH")
	_, err := os.Stat(filepath.Join(path, "config"))
	return path == "" || errors.Is(err, os.ErrNotExist)
}
