package kubo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/ipfs/go-cid"
)

// ExportCAR returns everything below a CID as a CARv1 file. The node reads only
// what it has itself: if that is not all, reading the file ends with an error, and
// not with io.EOF. The caller closes it; the context ends it.
func (c *Client) ExportCAR(ctx context.Context, root cid.Cid) (io.ReadCloser, error) {
	doing := func(err error) error {
		return fmt.Errorf("export %s from the IPFS node at %s: %w", root, c.address, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/api/v0/dag/export?progress=false&offline=true&arg="+root.String(), nil)
	if err != nil {
		return nil, doing(err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, doing(withoutURL(err))
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxReply)) // for the message only
		return nil, doing(fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(string(text))))
	}
	return &export{res, doing}, nil
}

// export is the body of an answer, with the error that comes behind it.
type export struct {
	res   *http.Response
	doing func(error) error
}

func (e *export) Read(p []byte) (int, error) {
	n, err := e.res.Body.Read(p)
	if errors.Is(err, io.EOF) {
		if said := e.res.Trailer.Get("X-Stream-Error"); said != "" {
			return n, e.doing(errors.New(said))
		}
	} else if err != nil {
		err = e.doing(err)
	}
	return n, err
}

func (e *export) Close() error { return e.res.Body.Close() }
