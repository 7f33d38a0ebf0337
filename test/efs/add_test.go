package efs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever the options, our `ipfs add` prints what stock kubo's prints, in the
// same order, fails where it fails, and leaves the same repo behind.
func TestAddIsKubosAdd(t *testing.T) {
	repos := []*repo{newRepo(t), newRepo(t)}
	repos[1].blockstore(efsType)
	dir := files(t, "options", 30)
	require.NoError(t, os.Symlink("sub/0001", filepath.Join(dir, "link")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bare"), 0o755))
	var same []string // blocks that are written several times at once
	for i := range 40 {
		path := filepath.Join(dir, fmt.Sprint("same-", i))
		require.NoError(t, os.WriteFile(path, []byte("the same"), 0o600))
		same = append(same, path)
	}
	for _, r := range repos {
		r.ipfs("config", "--json", "Experimental.FilestoreEnabled", "true")
		// References may only be to files beside the repo.
		require.NoError(t, os.CopyFS(filepath.Join(filepath.Dir(r.path), "tree"), os.DirFS(dir)))
	}
	for _, args := range [][]string{
		{"add", "-r", "--only-hash", dir},
		{"add", "-r", "--nocopy", "tree"}, // first: no reference is made to what is there
		{"add", "-r", dir},
		{"add", "-r", dir}, // everything is there
		{"add", "-r", "--cid-version=1", "--raw-leaves", "--pin=false", dir},
		{"add", "-r", "-Q", "--trickle", "--chunker=size-1000", "--wrap-with-directory", dir},
		{"add", "-r", "-q", "--inline", "--cid-version=1", "--hash=blake3", "--fscache", dir},
		{"add", "-r", "--to-files=/", "--chunker=size-2000", dir},
		{"add", "-r", "--to-files=/not/there/", "--chunker=size-3000", dir},
		{"add", "-r", "--preserve-mode", "--mtime=1", "--empty-dirs=false", dir},
		append([]string{"add", "--chunker=size-4"}, same...),
	} {
		t.Run(strings.Join(args[1 : len(args)-1][:min(len(args)-2, 4)], " "), func(t *testing.T) {
			var out, errOut [2]string
			var errs [2]error
			for i, r := range repos {
				cmd := r.command(args...)
				cmd.Dir = filepath.Dir(r.path)
				var o, e strings.Builder
				cmd.Stdout, cmd.Stderr = &o, &e
				errs[i] = cmd.Run()
				out[i], errOut[i] = o.String(), e.String()
			}
			require.Equal(t, out[0], out[1])
			require.Equal(t, errs[0] == nil, errs[1] == nil, "%s%s", errOut[0], errOut[1])
			if errs[0] != nil {
				require.Equal(t, errOut[0], errOut[1])
			}
			require.NotEmpty(t, out[0]+errOut[0])
		})
	}
	for _, args := range [][]string{
		{"refs", "local"},
		{"pin", "ls"},
		{"files", "stat", "/"},
		{"filestore", "ls"},
		{"repo", "verify"},
	} {
		var left [2][]string
		for i, r := range repos {
			left[i] = strings.Split(r.ipfs(args...), "\n")
			slices.Sort(left[i])
		}
		require.Equal(t, left[0], left[1], "ipfs %s", strings.Join(args, " "))
		require.NotEmpty(t, left[0][0])
	}
}
