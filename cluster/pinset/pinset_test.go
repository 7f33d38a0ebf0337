package pinset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
)

func somePins(t *testing.T, n int) []api.Pin {
	pins := make([]api.Pin, n)
	for i := range pins {
		hash, err := mh.Sum([]byte(fmt.Sprint(i)), mh.SHA2_256, -1)
		require.NoError(t, err)
		pins[i] = api.PinWithOpts(api.NewCid(cid.NewCidV1(cid.Raw, hash)), api.PinOptions{
			Name: fmt.Sprint("pin ", i), ReplicationFactorMin: -1, ReplicationFactorMax: -1,
			Metadata: map[string]string{"n": fmt.Sprint(i)},
		})
		pins[i].MaxDepth = -1
	}
	return pins
}

func export(t *testing.T, path string) (int, []string) {
	p, err := Open(path, false)
	require.NoError(t, err)
	var out bytes.Buffer
	n, err := p.Export(context.Background(), &out)
	require.NoError(t, err)
	require.NoError(t, p.Close())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	slices.Sort(lines)
	return n, lines
}

func TestExportImportRoundTrip(t *testing.T) {
	ctx := context.Background()
	first, second := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	const n = batchPins + 7 // two batches
	p, err := Open(first, true)
	require.NoError(t, err)
	require.NoError(t, p.Add(ctx, somePins(t, n)))
	require.NoError(t, p.Close())

	count, lines := export(t, first)
	require.Equal(t, n, count)
	pins, err := Read(strings.NewReader(strings.Join(lines, "\n")))
	require.NoError(t, err)
	require.Len(t, pins, n)
	p, err = Open(second, true)
	require.NoError(t, err)
	require.NoError(t, p.Add(ctx, pins))
	require.NoError(t, p.Add(ctx, pins[:3]), "again changes nothing")
	require.NoError(t, p.Close())
	_, again := export(t, second)
	require.Equal(t, lines, again)

	p, err = Open(second, false)
	require.NoError(t, err)
	removed, err := p.Clear(ctx)
	require.NoError(t, err)
	require.Equal(t, n, removed)
	require.NoError(t, p.Close())
	count, _ = export(t, second)
	require.Zero(t, count)
}

func TestReadRefusesWhatIsNoExport(t *testing.T) {
	good := `{"cid":"bafkreigaadmdcegwpf4dre4jlhvjcarxibles7vmr6litw4n2evt4haqoa","name":"x"}`
	for in, want := range map[string]string{
		good + "\n{":              "pin 2",
		good + "\n{}":             "pin 2",
		`{"Keys":{"bafy":{}}}`:    "pin 1",
		"not json":                "pin 1",
		good + "\n" + `{"cid":3}`: "pin 2",
	} {
		_, err := Read(strings.NewReader(in))
		require.ErrorContains(t, err, want, in)
	}
	pins, err := Read(strings.NewReader(good))
	require.NoError(t, err)
	require.Len(t, pins, 1)
	pins, err = Read(strings.NewReader(""))
	require.NoError(t, err)
	require.Empty(t, pins)
}

func TestOpenMissing(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "none"), false)
	require.ErrorContains(t, err, "IPFS_CLUSTER_PATH")
}

func TestEachStopsAtTheFirstFailure(t *testing.T) {
	p, err := Open(filepath.Join(t.TempDir(), "a"), true)
	require.NoError(t, err)
	require.NoError(t, p.Add(context.Background(), somePins(t, 50)))
	calls := 0
	boom := errors.New("boom")
	require.ErrorIs(t, p.Each(context.Background(), func(api.Pin) error { calls++; return boom }), boom)
	require.Equal(t, 1, calls)
	require.NoError(t, p.Close())
}
