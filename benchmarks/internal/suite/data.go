package suite

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"sync"

	ds "github.com/ipfs/go-datastore"
	mh "github.com/multiformats/go-multihash"
)

// ChunkSize is kubo's default.
const ChunkSize = 256 << 10

// Seeds of all data. They are fixed: every run, everywhere, has the same bytes.
const (
	SeedFile    = 1
	SeedTree    = 2
	SeedGateway = 3
	SeedGarbage = 4
	SeedLarge   = 5 // of the file that is cut into chunks of 1 MiB
	SeedAbsent  = 6
	seedReads   = 7
)

// Random is an endless stream of bytes that depends on the seed alone.
func Random(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

// Rand draws numbers; each purpose has a stream of its own.
func Rand(purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(seedReads, purpose)) }

// Block is a value with its key, as a blockstore gets it from kubo.
type Block struct {
	Key   ds.Key
	Hash  mh.Multihash
	Value []byte
}

// MakeBlock makes a block of some bytes.
func MakeBlock(value []byte) Block {
	sum := sha256.Sum256(value)
	hash := append([]byte{mh.SHA2_256, 32}, sum[:]...)
	return Block{ds.NewKey(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(hash)), hash, value}
}

// Blocks makes n blocks of the given size.
func Blocks(seed uint64, n, size int) []Block {
	r := Random(seed)
	blocks := make([]Block, n)
	for i := range blocks {
		value := make([]byte, size)
		_, _ = r.Read(value) // never fails
		blocks[i] = MakeBlock(value)
	}
	return blocks
}

// SmallSizes draws n sizes of 1 to 50 KiB.
func SmallSizes(seed uint64, n int) []int {
	r := rand.New(rand.NewPCG(seed, 50))
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = 1<<10 + r.IntN(49<<10)
	}
	return sizes
}

// SmallBlocks makes n blocks of 1 to 50 KiB.
func SmallBlocks(seed uint64, n int) []Block {
	r := Random(seed)
	blocks := make([]Block, n)
	for i, size := range SmallSizes(seed, n) {
		value := make([]byte, size)
		_, _ = r.Read(value) // never fails
		blocks[i] = MakeBlock(value)
	}
	return blocks
}

// Data are the files of a run, made when they are first asked for, and shared by all stores. Safe for concurrent use.
type Data struct {
	dir string
	mu  sync.Mutex
}

// File is a file of random bytes.
func (d *Data) File(seed uint64, size int64) (string, error) {
	return d.make(fmt.Sprintf("file-%d-%d", seed, size), func(path string) error {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(f, Random(seed), size); err != nil {
			return err
		}
		return f.Close()
	})
}

// Tree is a folder of n files of 1 to 50 KiB, 100 to a folder. The i-th is where TreeName says.
func (d *Data) Tree(seed uint64, n int) (string, error) {
	return d.make(fmt.Sprintf("tree-%d-%d", seed, n), func(path string) error {
		r := Random(seed)
		for i, size := range SmallSizes(seed, n) {
			name := filepath.Join(path, TreeName(i))
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return err
			}
			value := make([]byte, size)
			_, _ = r.Read(value) // never fails
			if err := os.WriteFile(name, value, 0o600); err != nil {
				return err
			}
		}
		return nil
	})
}

// TreeName is the path of the i-th file of a tree.
func TreeName(i int) string { return fmt.Sprintf("%03d/%05d", i/100, i) }

func (d *Data) make(name string, fill func(string) error) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	path := filepath.Join(d.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := fill(path + ".new"); err != nil {
		return "", fmt.Errorf("make data: %w", err)
	}
	return path, os.Rename(path+".new", path)
}

// Zipf draws ranks 0 to n-1 with probability proportional to 1 ÷ (rank+1)^s: what is known of popularity on the web, with s near 1.
type Zipf struct {
	sums []float64
	r    *rand.Rand
	mu   sync.Mutex
}

// ZipfExponent is what gateways see: between 0.6 and 1.2 in what has been published about web caches, 1 here.
const ZipfExponent = 1.0

// NewZipf returns a Zipf over n things.
func NewZipf(n int, r *rand.Rand) *Zipf {
	z := &Zipf{sums: make([]float64, n), r: r}
	var sum float64
	for i := range n {
		sum += 1 / math.Pow(float64(i+1), ZipfExponent)
		z.sums[i] = sum
	}
	return z
}

// Next draws. Safe for concurrent use.
func (z *Zipf) Next() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return sort.SearchFloat64s(z.sums, z.r.Float64()*z.sums[len(z.sums)-1])
}
