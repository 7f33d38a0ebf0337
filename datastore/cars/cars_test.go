package cars

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/storage"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/migrate"
)

func block(t testing.TB, text string) migrate.Block {
	h, err := mh.Sum([]byte(text), mh.SHA2_256, -1)
	require.NoError(t, err)
	return migrate.Block{Hash: h, Data: []byte(text)}
}

func some(t testing.TB, from, to int) (out []migrate.Block) {
	for i := from; i < to; i++ {
		out = append(out, block(t, fmt.Sprintf("block %d %s", i, bytes.Repeat([]byte{'x'}, i%700))))
	}
	return out
}

func create(t testing.TB, dir string, o Options) *Folder {
	t.Helper()
	f, err := Create(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func listed(t testing.TB, f *Folder) (out []string) {
	t.Helper()
	for b, err := range f.Blocks(t.Context()) {
		require.NoError(t, err)
		data, err := f.Get(t.Context(), b.Hash)
		require.NoError(t, err)
		require.Len(t, data, int(b.Size))
		out = append(out, string(data))
	}
	return out
}

func texts(blocks []migrate.Block) (out []string) {
	for _, b := range blocks {
		out = append(out, string(b.Data))
	}
	return out
}

func TestWhatIsSyncedIsThereInItsOrder(t *testing.T) {
	dir := t.TempDir()
	f := create(t, dir, Options{})
	all := some(t, 0, 300)
	require.NoError(t, f.Put(t.Context(), all[:100]))
	require.Empty(t, listed(t, f), "not before Sync")
	require.NoError(t, f.Sync(t.Context()))
	require.NoError(t, f.Put(t.Context(), all[100:200]))
	require.NoError(t, f.Sync(t.Context()))
	require.NoError(t, f.Sync(t.Context()), "with nothing to do")
	require.Equal(t, texts(all[:200]), listed(t, f))

	// A crash loses what was not synced, and leaves a file that the next one removes.
	require.NoError(t, f.Put(t.Context(), all[200:]))
	part := filepath.Join(dir, partName)
	require.FileExists(t, part)
	require.NoError(t, f.Close())
	require.NoError(t, os.WriteFile(part, []byte("torn"), 0o600))
	f = create(t, dir, Options{})
	require.NoFileExists(t, part)
	require.Equal(t, texts(all[:200]), listed(t, f))
	require.NoError(t, f.Put(t.Context(), all[200:]))
	require.NoError(t, f.Sync(t.Context()))
	require.Equal(t, texts(all), listed(t, f))

	read, err := Open(dir, Options{})
	require.NoError(t, err)
	require.Equal(t, texts(all), listed(t, read))
	_, err = read.Get(t.Context(), block(t, "nowhere").Hash)
	require.Equal(t, migrate.ErrNotFound, err)
	require.ErrorContains(t, read.Put(t.Context(), all), "not open for writing")
}

func TestAPackEndsWhenItIsFull(t *testing.T) {
	f := create(t, t.TempDir(), Options{PackSize: 4_000})
	all := some(t, 0, 200)
	require.NoError(t, f.Put(t.Context(), all))
	require.NoError(t, f.Sync(t.Context()))
	require.Equal(t, texts(all), listed(t, f))
	require.Greater(t, len(f.names), 4)
}

func TestOneWriter(t *testing.T) {
	dir := t.TempDir()
	create(t, dir, Options{})
	_, err := Create(dir, Options{})
	require.ErrorContains(t, err, "another process writes there")
}

// exported writes a CAR as other software does.
func exported(t testing.TB, path string, v1 bool, all []migrate.Block, roots ...cid.Cid) {
	t.Helper()
	out, err := os.Create(path)
	require.NoError(t, err)
	car, err := storage.NewWritable(out, roots, carv2.WriteAsCarV1(v1), carv2.AllowDuplicatePuts(true))
	require.NoError(t, err)
	for i, b := range all {
		c := cid.NewCidV1(cid.Raw, b.Hash)
		if i%2 == 1 {
			c = cid.NewCidV0(b.Hash)
		}
		require.NoError(t, car.Put(t.Context(), c.KeyString(), b.Data))
	}
	require.NoError(t, car.Finalize())
	require.NoError(t, out.Close())
}

func TestReadsCARsOfOthers(t *testing.T) {
	dir := t.TempDir()
	all := some(t, 0, 60)
	exported(t, filepath.Join(dir, "a.car"), true, all[:30], cid.NewCidV1(cid.Raw, all[0].Hash))
	exported(t, filepath.Join(dir, "b.car"), false, all[20:])
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), []byte("not a CAR"), 0o600))
	f, err := Open(dir, Options{})
	require.NoError(t, err)
	require.Equal(t, texts(all), listed(t, f), "each once")
	size, err := f.Bytes()
	require.NoError(t, err)
	require.Positive(t, size)
}

func TestOthersReadWhatIsWritten(t *testing.T) {
	dir := t.TempDir()
	f := create(t, dir, Options{})
	all := some(t, 0, 50)
	require.NoError(t, f.Put(t.Context(), all))
	require.NoError(t, f.Sync(t.Context()))
	files, err := filepath.Glob(filepath.Join(dir, "*.car"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	in, err := os.Open(files[0])
	require.NoError(t, err)
	defer in.Close()
	car, err := carv2.NewBlockReader(in)
	require.NoError(t, err)
	for _, want := range all {
		got, err := car.Next()
		require.NoError(t, err)
		require.Equal(t, want.Data, got.RawData())
	}
}

func TestDamage(t *testing.T) {
	all := some(t, 0, 60)
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		says   string
		left   int
	}{
		"cut off": {func(t *testing.T, dir string) {
			path := filepath.Join(dir, "a.car")
			fi, err := os.Stat(path)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(path, fi.Size()-5))
		}, "a.car is damaged at byte", 59},
		"no CAR": {func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "c.car"), []byte("hello, this is no CAR at all"), 0o600))
		}, "c.car is damaged at byte 0: it is no CAR", 60},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			exported(t, filepath.Join(dir, "a.car"), true, all[:30])
			exported(t, filepath.Join(dir, "b.car"), false, all[30:])
			c.damage(t, dir)
			_, err := Open(dir, Options{})
			require.ErrorContains(t, err, c.says)
			var damage *DamageError
			require.ErrorAs(t, err, &damage)

			var told []string
			f, err := Open(dir, Options{Damaged: func(e *DamageError) { told = append(told, e.Error()) }})
			require.NoError(t, err)
			require.Len(t, told, 1)
			require.Len(t, listed(t, f), c.left)
		})
	}
}

// A pack whose index is damaged is read from its sections.
func TestPackWithADamagedIndex(t *testing.T) {
	dir := t.TempDir()
	f := create(t, dir, Options{})
	all := some(t, 0, 50)
	require.NoError(t, f.Put(t.Context(), all))
	require.NoError(t, f.Sync(t.Context()))
	files, err := filepath.Glob(filepath.Join(dir, "*.car"))
	require.NoError(t, err)
	b, err := os.ReadFile(files[0])
	require.NoError(t, err)
	b[len(b)-3] ^= 1
	require.NoError(t, os.WriteFile(files[0], b, 0o600))
	require.Equal(t, texts(all), listed(t, f))
}

func TestFoldersThatAreNone(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "missing"), Options{})
	require.ErrorContains(t, err, "no such file")
	_, err = Open(t.TempDir(), Options{})
	require.ErrorContains(t, err, "there is no file *.car")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Open(file, Options{})
	require.ErrorContains(t, err, "is a file")
}

func pinsOf(all ...Pin) iter.Seq2[Pin, error] {
	return func(yield func(Pin, error) bool) {
		for _, p := range all {
			if !yield(p, nil) {
				return
			}
		}
	}
}

func TestPins(t *testing.T) {
	dir := t.TempDir()
	f := create(t, dir, Options{})
	var many []Pin
	for i := range rootsOfOne + 3 {
		many = append(many, Pin{CID: cid.NewCidV1(cid.DagProtobuf, block(t, fmt.Sprint(i)).Hash), Kind: Recursive})
	}
	direct := Pin{CID: cid.NewCidV1(cid.Raw, block(t, "direct").Hash), Kind: Direct, Name: "a name"}
	many = append(many, direct)
	n, err := f.WritePins(pinsOf(many...))
	require.NoError(t, err)
	require.Len(t, many, n)
	var back []Pin
	for p, err := range f.Pins() {
		require.NoError(t, err)
		back = append(back, p)
	}
	require.Equal(t, many, back)

	// Stock tools see the recursive ones as roots.
	var roots []cid.Cid
	for i := range 2 {
		in, err := os.Open(filepath.Join(dir, rootsFile(i+1)))
		require.NoError(t, err)
		car, err := carv2.NewBlockReader(in)
		require.NoError(t, err)
		roots = append(roots, car.Roots...)
		_, err = car.Next()
		require.Error(t, err, "no blocks")
		require.NoError(t, in.Close())
	}
	require.Len(t, roots, rootsOfOne+3)
	require.True(t, slices.Contains(roots, many[rootsOfOne+2].CID))
	require.Empty(t, listed(t, f), "a CAR of pins has no blocks")

	_, err = f.WritePins(pinsOf(direct))
	require.NoError(t, err)
	left, err := filepath.Glob(filepath.Join(dir, "pins-*.car"))
	require.NoError(t, err)
	require.Empty(t, left, "those of an earlier backup are gone")
}

// From a folder into a folder: the two ends of a migration.
func TestMigration(t *testing.T) {
	from, to := create(t, t.TempDir(), Options{}), create(t, t.TempDir(), Options{})
	all := some(t, 0, 500)
	require.NoError(t, from.Put(t.Context(), all))
	require.NoError(t, from.Sync(t.Context()))
	rep, err := migrate.Run(context.Background(), from, to, migrate.Options{Dir: t.TempDir(), SyncBytes: 50_000})
	require.NoError(t, err)
	require.EqualValues(t, len(all), rep.Copied)
	require.Equal(t, texts(all), listed(t, to))
	require.Greater(t, len(to.names), 2)
}
