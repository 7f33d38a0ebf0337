package images

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-car/v2"
	"github.com/stretchr/testify/require"
)

// checkCAR asks the edge for a DAG as a CAR, and reads all of it.
func checkCAR(t *testing.T, d *deployment, root string) {
	t.Helper()
	body, err := fetch(d.client, d.doors.Gateway+"/ipfs/"+root, "Accept", "application/vnd.ipld.car")
	require.NoError(t, err)
	blocks, err := car.NewBlockReader(bytes.NewReader(body))
	require.NoError(t, err)
	id, err := cid.Decode(root)
	require.NoError(t, err)
	require.Equal(t, []cid.Cid{id}, blocks.Roots)
	n := 0
	for ; ; n++ {
		if _, err := blocks.Next(); errors.Is(err, io.EOF) { // compares hash and content
			break
		} else {
			require.NoError(t, err)
		}
	}
	require.Greater(t, n, 60)
}
