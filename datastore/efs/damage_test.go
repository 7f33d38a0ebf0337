package efs

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDamagedFile: what is not the block is not served, is counted, and is healed by the next put; also with a read cache, and when what is
// remembered is right.
func TestDamagedFile(t *testing.T) {
	for damage, do := range map[string]func(path string, good []byte) error{
		"flipped": func(path string, good []byte) error {
			bad := append([]byte(nil), good...)
			bad[1] ^= 1
			return os.WriteFile(path, bad, 0o600)
		},
		"emptied": func(path string, _ []byte) error { return os.Truncate(path, 0) },
		"grown":   func(path string, good []byte) error { return os.WriteFile(path, append(good, "more"...), 0o600) },
	} {
		t.Run(damage, func(t *testing.T) {
			cfg := testConfig(t.TempDir())
			cfg.CachePath, cfg.CacheBytes = t.TempDir(), 64<<20
			d := mustOpen(t, cfg)
			key, value := block(1)
			require.NoError(t, d.Put(ctx, key, value))
			name, _ := keyName(key)
			path := d.file(d.shardOf(name), name)
			require.NoError(t, do(path, value))
			_, err := d.Get(FromDisk(ctx), key)
			require.ErrorIs(t, err, ErrCorrupt)
			require.ErrorContains(t, err, path)
			has, err := d.Has(ctx, key)
			require.NoError(t, err)
			require.True(t, has, "it was acknowledged")
			require.NoError(t, d.Close())

			d = mustOpen(t, cfg) // which remembers nothing
			_, err = d.Get(ctx, key)
			require.ErrorIs(t, err, ErrCorrupt)
			s, err := d.Stat()
			require.NoError(t, err)
			require.EqualValues(t, 2, s.Damaged, "it was read twice")
			require.NoError(t, d.Put(ctx, key, value))
			for _, c := range []func() ([]byte, error){
				func() ([]byte, error) { return d.Get(ctx, key) },
				func() ([]byte, error) { return d.Get(FromDisk(ctx), key) },
			} {
				got, err := c()
				require.NoError(t, err)
				require.Equal(t, value, got)
			}
		})
	}
}
