package requests

import (
	"testing"
	"time"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/cluster/pinset/placement"
)

func pinOf(t *testing.T, c string, metadata map[string]string) api.Pin {
	id, err := api.DecodeCid(c)
	require.NoError(t, err)
	p := api.PinCid(id)
	p.Name, p.Metadata, p.Timestamp = "name", metadata, time.Unix(1_700_000_000, 0)
	return p
}

func with(t *testing.T, p api.Pin, all ...Request) api.Pin {
	var err error
	p.Metadata, err = Set(p.Metadata, all)
	require.NoError(t, err)
	return p
}

func ids(t *testing.T, p api.Pin) (out []string) {
	all, err := Of(p)
	require.NoError(t, err)
	for _, r := range all {
		out = append(out, r.ID)
	}
	return out
}

const a, b = "bafkqaaa", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"

func TestAPinWithoutRequestsIsOne(t *testing.T) {
	p, q := pinOf(t, a, map[string]string{"k": "v", placement.HomeKey: "x"}), pinOf(t, b, nil)
	all, err := Of(p)
	require.NoError(t, err)
	require.Len(t, all, 1)
	r := all[0]
	require.Equal(t, Request{ID: a, At: r.At, Name: "name", Meta: map[string]string{"k": "v"}}, r, "without the cluster's own")
	require.Equal(t, int64(1_700_000_000), r.At/1000)
	require.NotEqual(t, r.At, Implicit(q).At, "of the same second, and each has its own time")
	require.Equal(t, r.At, Implicit(p).At, "which stays")
	same, err := Merge(p, p)
	require.NoError(t, err)
	require.Equal(t, p, same)
}

func TestRequestsComeAndGo(t *testing.T) {
	p := pinOf(t, a, map[string]string{"k": "v", placement.HomeKey: "x"})
	one, two := New(p.Cid), New(p.Cid)
	require.Less(t, one.At, two.At)
	require.NotEqual(t, one.ID, two.ID)
	for _, r := range []Request{one, two} {
		c, err := Cid(r.ID)
		require.NoError(t, err)
		require.Equal(t, p.Cid, c)
	}
	one.Name, one.Meta = "one", map[string]string{"by": "one"}
	two.Name = "two"
	pinned, err := Merge(p, with(t, pinOf(t, a, nil), one))
	require.NoError(t, err)
	require.Equal(t, []string{a, one.ID}, ids(t, pinned), "the pin that was there stays one")
	pinned, err = Merge(pinned, with(t, pinOf(t, a, nil), two))
	require.NoError(t, err)
	require.Equal(t, []string{a, one.ID, two.ID}, ids(t, pinned))
	// A client of the REST API pins it again.
	again, err := Merge(pinned, pinOf(t, a, map[string]string{"new": "1"}))
	require.NoError(t, err)
	require.Equal(t, []string{a, one.ID, two.ID}, ids(t, again))
	require.Equal(t, "1", again.Metadata["new"])

	_, _, err = Without(pinned, "bogus")
	require.ErrorIs(t, err, ErrNotFound)
	left, any, err := Without(pinned, two.ID)
	require.NoError(t, err)
	require.True(t, any)
	require.Equal(t, []string{a, one.ID}, ids(t, left))
	require.Equal(t, "one", left.Name)
	require.Equal(t, "one", left.Metadata["by"])
	left, any, err = Without(left, a)
	require.NoError(t, err)
	require.True(t, any)
	_, any, err = Without(left, one.ID)
	require.NoError(t, err)
	require.False(t, any)

	left.Metadata[Key] = "bogus"
	_, err = Of(left)
	require.ErrorContains(t, err, "read the requests of the pin "+a)
}
