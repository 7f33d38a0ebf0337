package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
)

const addFiles = 1000

// kubo measures a whole repo on the mount: `ipfs add` of 1,000 files of 4 KiB,
// and `ipfs repo gc` of what was added, with all the other blocks as dead as
// they are and removed by the first gc, before anything is measured, to be put
// back afterwards.
func (b *bench) kubo(string) error {
	if b.flags.ipfs == "" {
		return nil
	}
	ipfs, err := filepath.Abs(b.flags.ipfs)
	if err != nil {
		return err
	}
	files, err := os.MkdirTemp(b.base, "files-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(files)

	repos := map[string]*repo{}
	for _, s := range both {
		r := &repo{ipfs: ipfs, path: filepath.Join(b.mnt, "repo-"+s.name)}
		repos[s.name] = r
		spec := map[string]any{
			"type": "flatfs", "path": "blocks", "sync": true, "shardFunc": shardFunc, "mountpoint": "/blocks",
		}
		if s.name == ours.name {
			spec["type"], spec["namesDurable"] = "efsds", true
		}
		if err := r.init(spec); err != nil {
			return err
		}
		if err := b.fillRepo(r); err != nil {
			return err
		}
	}

	// Each sample adds files that neither repo has, under one pinned root.
	n := 0
	roots := map[string]string{}
	addStock, addEfs, err := b.compare(row{Name: "ipfs add, 1,000 × 4 KiB, real kubo", Target: 4, Unit: "s"}, true, func(s store) (sample, error) {
		n++
		dir := filepath.Join(files, fmt.Sprint(n))
		if err := writeFiles(dir, n); err != nil {
			return sample{}, err
		}
		return b.timed(b.flags.dilation, addFiles, func() error {
			out, err := repos[s.name].run("add", "-r", "-Q", "--cid-version=1", "--raw-leaves", "--offline", dir)
			roots[s.name] = strings.TrimSpace(out)
			return err
		})
	})
	if err != nil {
		return err
	}
	b.rows[len(b.rows)-1].Note = "requests of the last: " + folders("stock", addStock) + "; " + folders("efs", addEfs)

	// What was added last, unpinned, is the garbage: 1,000 blocks and their
	// folders, among 51,000 that are pinned.
	gcStock, gcEfs, err := b.compare(row{Name: "ipfs repo gc, 1,000 dead blocks of 52,000, real kubo", Target: 10, Unit: "s"}, true, func(s store) (sample, error) {
		r := repos[s.name]
		if roots[s.name] == "" {
			n++
			dir := filepath.Join(files, fmt.Sprint(n))
			if err := writeFiles(dir, n); err != nil {
				return sample{}, err
			}
			out, err := r.run("add", "-r", "-Q", "--cid-version=1", "--raw-leaves", "--offline", dir)
			if err != nil {
				return sample{}, err
			}
			roots[s.name] = strings.TrimSpace(out)
		}
		if _, err := r.run("pin", "rm", roots[s.name]); err != nil {
			return sample{}, err
		}
		roots[s.name] = ""
		return b.timed(b.flags.dilation, addFiles, func() error {
			out, err := r.run("repo", "gc", "-q")
			if removed := strings.Count(out, "\n"); err == nil && removed < addFiles {
				return fmt.Errorf("gc removed %d blocks; there were %d dead ones", removed, addFiles)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	b.rows[len(b.rows)-1].Note = "requests of the last: " + folders("stock", gcStock) + "; " + folders("efs", gcEfs)
	return nil
}

// folders sums up the requests of the last sample by the folders of the repo.
func folders(name string, samples []sample) string {
	st := samples[len(samples)-1].stats
	var parts []string
	for folder, kinds := range st.Folders {
		var total int64
		var each []string
		for _, k := range efsmodel.Kinds {
			if kinds[k] > 0 {
				total += kinds[k]
				each = append(each, fmt.Sprintf("%s %d", k, kinds[k]))
			}
		}
		parts = append(parts, fmt.Sprintf("%s %d (%s)", folder, total, strings.Join(each, ", ")))
	}
	slices.Sort(parts)
	return name + ": " + strings.Join(parts, " · ")
}

// writeFiles makes a directory of files that are in no other.
func writeFiles(dir string, n int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for i := range addFiles {
		_, value := block(int64(1_000_000*n+i)<<20, blockSize)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d", i)), value, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// repo is a kubo repo on the mount.
type repo struct{ ipfs, path string }

func (r *repo) run(args ...string) (string, error) {
	cmd := exec.Command(r.ipfs, args...)
	cmd.Env = append(os.Environ(), "IPFS_PATH="+r.path, "IPFS_TELEMETRY=off", "AWS_EC2_METADATA_DISABLED=true")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("ipfs %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// init makes a repo with the given blockstore: an empty one, whose config and
// datastore_spec are then changed, as somebody who swaps flatfs for efs does.
func (r *repo) init(blocks map[string]any) error {
	if _, err := r.run("init", "--empty-repo", "--profile", "test"); err != nil {
		return err
	}
	path := filepath.Join(r.path, "config")
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(data, &config); err != nil {
		return err
	}
	datastore, ok := config["Datastore"].(map[string]any)
	if !ok {
		return errors.New("the repo's config has no Datastore")
	}
	datastore["Spec"] = map[string]any{"type": "mount", "mounts": []any{
		blocks,
		map[string]any{"type": "levelds", "path": "datastore", "compression": "none", "mountpoint": "/"},
	}}
	if data, err = json.MarshalIndent(config, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// fillRepo puts the blocks into a repo and pins them all, under one root.
func (b *bench) fillRepo(r *repo) error {
	dir, err := os.MkdirTemp(b.base, "fill-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	const perFolder = 1000
	for n := range int64(b.flags.blocks) {
		sub := filepath.Join(dir, fmt.Sprint(n/perFolder))
		if n%perFolder == 0 {
			if err := os.Mkdir(sub, 0o755); err != nil {
				return err
			}
		}
		_, value := block(-1-n, blockSize)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(n)), value, 0o600); err != nil {
			return err
		}
	}
	_, err = r.run("add", "-r", "-Q", "--cid-version=1", "--raw-leaves", "--offline", dir)
	return err
}
