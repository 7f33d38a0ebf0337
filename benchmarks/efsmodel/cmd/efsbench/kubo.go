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

	"github.com/ipfs/kubo/cmd/ipfs/kubo"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
)

// stockKubo in the environment makes this program stock kubo, of the version that
// ipfs-aws is built with: nothing of ours is in it.
const stockKubo = "EFSBENCH_STOCK_KUBO"

func beStockKubo() {
	if os.Getenv(stockKubo) != "" {
		os.Exit(kubo.Start(kubo.BuildDefaultEnv))
	}
}

const addFiles = 1000

// kuboDilation is how many times the dilation of the other rows those with a real
// kubo have. All of its process (to be started, to open the other datastore, to walk
// what is pinned) is in their time, half a second of which is computed, on the cores
// that the model runs on: at this dilation that is a small part, and more of it
// changes the ratios little.
const kuboDilation = 2

// kubos is a repo for each of the two on the mount, full of pinned blocks: ipfs-aws
// with efs, and stock kubo with flatfs.
type kubos struct {
	files string // folder of what is added
	trees int
	repos map[string]*repo
	roots map[string]string // what was added last, and not collected yet
}

// kubo makes the repos when they are first needed. It returns nil if no kubo was
// given.
func (b *bench) kubo() (*kubos, error) {
	if b.kubos != nil || b.flags.ipfs == "" {
		return b.kubos, nil
	}
	ipfs, err := filepath.Abs(b.flags.ipfs)
	if err != nil {
		return nil, err
	}
	k := &kubos{files: filepath.Join(b.base, "files"), repos: map[string]*repo{}, roots: map[string]string{}}
	if err := os.Mkdir(k.files, 0o755); err != nil {
		return nil, err
	}
	for _, s := range both {
		r := &repo{ipfs: "/proc/self/exe", path: filepath.Join(b.mnt, "repo-"+s.name), env: []string{stockKubo + "=1"}}
		if s.name == ours.name {
			r.ipfs, r.env = ipfs, nil
		}
		k.repos[s.name] = r
		spec := map[string]any{
			"type": "flatfs", "path": "blocks", "sync": true, "shardFunc": shardFunc, "mountpoint": "/blocks",
		}
		if s.name == ours.name {
			spec["type"], spec["namesDurable"] = "efsds", true
		}
		if err := r.init(spec); err != nil {
			return nil, err
		}
		if err := b.fillRepo(r); err != nil {
			return nil, err
		}
	}
	b.kubos = k
	return k, nil
}

// add adds files that neither repo has, under one pinned root.
func (k *kubos) add(name string, timed func(func() error) (sample, error)) (sample, error) {
	k.trees++
	dir := filepath.Join(k.files, fmt.Sprint(k.trees))
	if err := writeFiles(dir, k.trees); err != nil {
		return sample{}, err
	}
	return timed(func() error {
		out, err := k.repos[name].run("add", "-r", "-Q", "--cid-version=1", "--raw-leaves", "--offline", dir)
		k.roots[name] = strings.TrimSpace(out)
		return err
	})
}

// kuboAdd measures `ipfs add` of 1,000 files of 4 KiB.
func (b *bench) kuboAdd(string) error {
	k, err := b.kubo()
	if k == nil {
		return err
	}
	stock, efs, err := b.compare(row{Name: "ipfs add, 1,000 × 4 KiB, real kubo", Target: 4, Unit: "s"}, true, func(s store) (sample, error) {
		return k.add(s.name, func(f func() error) (sample, error) { return b.timed(kuboDilation*b.flags.dilation, addFiles, f) })
	})
	if err == nil {
		b.rows[len(b.rows)-1].Note = "requests of the last: " + folders("stock", stock) + "; " + folders("efs", efs)
	}
	return err
}

// kuboGC measures `ipfs repo gc`. What was added last, unpinned, is the garbage:
// 1,000 blocks and their folder, among all the others, which are pinned.
func (b *bench) kuboGC(string) error {
	k, err := b.kubo()
	if k == nil {
		return err
	}
	stock, efs, err := b.compare(row{Name: fmt.Sprintf("ipfs repo gc, 1,000 dead blocks of %d, real kubo", b.flags.blocks+addFiles), Target: 10, Unit: "s"}, true, func(s store) (sample, error) {
		if k.roots[s.name] == "" {
			if _, err := k.add(s.name, func(f func() error) (sample, error) { return sample{}, f() }); err != nil {
				return sample{}, err
			}
		}
		r := k.repos[s.name]
		if _, err := r.run("pin", "rm", k.roots[s.name]); err != nil {
			return sample{}, err
		}
		k.roots[s.name] = ""
		return b.timed(kuboDilation*b.flags.dilation, addFiles, func() error {
			out, err := r.run("repo", "gc", "-q")
			if removed := strings.Count(out, "\n"); err == nil && removed < addFiles {
				return fmt.Errorf("gc removed %d blocks; there were %d dead ones", removed, addFiles)
			}
			return err
		})
	})
	if err == nil {
		b.rows[len(b.rows)-1].Note = "requests of the last: " + folders("stock", stock) + "; " + folders("efs", efs)
	}
	return err
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

// repo is a kubo repo on the mount, and the program that works on it.
type repo struct {
	ipfs, path string
	env        []string
}

func (r *repo) run(args ...string) (string, error) {
	cmd := exec.Command(r.ipfs, args...)
	cmd.Env = append(os.Environ(), "IPFS_PATH="+r.path, "IPFS_TELEMETRY=off", "IPFS_GC_MIN_AGE=0s", "AWS_EC2_METADATA_DISABLED=true")
	cmd.Env = append(cmd.Env, r.env...)
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
