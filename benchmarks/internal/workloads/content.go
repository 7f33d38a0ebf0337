package workloads

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	ds "github.com/ipfs/go-datastore"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/suite"
)

// What workloads share: content that has to be there, and the ways in which kubo writes and reads a datastore.

// As kubo does it: nodes of up to 8 MiB or 128 blocks are one batch, some batches are under way at once, and a Sync ends an add.
const (
	batchBytes  = 8 << 20
	batchBlocks = 128
	batches     = 4
)

// putAll writes blocks as an add does.
func putAll(ctx context.Context, d ds.Batching, blocks []suite.Block, done func(time.Duration, int64)) error {
	var groups [][]suite.Block
	for from := 0; from < len(blocks); {
		to, size := from, 0
		for to < len(blocks) && to-from < batchBlocks && size < batchBytes {
			size += len(blocks[to].Value)
			to++
		}
		groups = append(groups, blocks[from:to])
		from = to
	}
	err := suite.Parallel(ctx, batches, len(groups), func(i int) error {
		began, size := time.Now(), int64(0)
		b, err := d.Batch(ctx)
		if err != nil {
			return err
		}
		for _, block := range groups[i] {
			size += int64(len(block.Value))
			if err := b.Put(ctx, block.Key, block.Value); err != nil {
				return err
			}
		}
		if err := b.Commit(ctx); err != nil {
			return err
		}
		done(time.Since(began), size)
		return nil
	})
	if err != nil {
		return err
	}
	return d.Sync(ctx, ds.NewKey("/"))
}

func silent(time.Duration, int64) {}

// getOne reads a block and compares it.
func getOne(ctx context.Context, d ds.Batching, b suite.Block) (int64, error) {
	v, err := d.Get(ctx, b.Key)
	if err != nil {
		return 0, fmt.Errorf("get %s: %w", b.Key, err)
	}
	if string(v) != string(b.Value) {
		return 0, fmt.Errorf("get %s: other bytes than were put", b.Key)
	}
	return int64(len(v)), nil
}

// fileBlocks are the blocks of the large file at level datastore, which are in the store when it returns.
func fileBlocks(r *suite.Run) ([]suite.Block, error) {
	return suite.Once(r, "file blocks", func() ([]suite.Block, error) {
		b := suite.Blocks(suite.SeedFile, int(r.Sizes.FileBytes/suite.ChunkSize), suite.ChunkSize)
		return b, putAll(r.Context, r.DS, b, silent)
	})
}

// smallBlocks are those of the files that the gateway serves.
func smallBlocks(r *suite.Run) ([]suite.Block, error) {
	return suite.Once(r, "gateway blocks", func() ([]suite.Block, error) {
		b := suite.SmallBlocks(suite.SeedGateway, r.Sizes.GatewayFiles)
		return b, putAll(r.Context, r.DS, b, silent)
	})
}

// fileRoot is the CID of the large file at level kubo, which is in the node when it returns.
func fileRoot(r *suite.Run) (string, error) {
	return suite.Once(r, "file root", func() (string, error) {
		path, err := r.Data.File(suite.SeedFile, r.Sizes.FileBytes)
		if err != nil {
			return "", err
		}
		return add(r, path)
	})
}

// gatewayRoot is the CID of the folder that the gateway serves.
func gatewayRoot(r *suite.Run) (string, error) {
	return suite.Once(r, "gateway root", func() (string, error) {
		path, err := r.Data.Tree(suite.SeedGateway, r.Sizes.GatewayFiles)
		if err != nil {
			return "", err
		}
		return add(r, "-r", path)
	})
}

// add is `ipfs add`, and returns the root.
func add(r *suite.Run, args ...string) (string, error) {
	return r.Node.Run(r.Context, append([]string{"add", "-Q", "--progress=false"}, args...)...)
}

// cat is `ipfs cat`; the output must be the large file.
func cat(r *suite.Run, root string) (int64, error) {
	path, err := r.Data.File(suite.SeedFile, r.Sizes.FileBytes)
	if err != nil {
		return 0, err
	}
	want, err := suite.Once(r, "file hash", func() (string, error) {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		h := sha256.New()
		_, err = io.Copy(h, f)
		return string(h.Sum(nil)), err
	})
	if err != nil {
		return 0, err
	}
	h := sha256.New()
	n := &counting{w: h}
	if err := r.Node.Stream(r.Context, n, "cat", root); err != nil {
		return 0, err
	}
	if string(h.Sum(nil)) != want {
		return 0, fmt.Errorf("ipfs cat %s: other bytes than were added", root)
	}
	return n.n, nil
}

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// lines are the non-empty lines of a command's output.
func lines(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
}
