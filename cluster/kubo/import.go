package kubo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/ipfs/go-cid"
)

// importQuery: nothing is pinned or announced, which is the pinset's business,
// and the node says how many blocks it took.
const importQuery = "?pin-roots=false&fast-provide-root=false&fast-provide-dag=false&allow-big-block=true&stats=true"

// sendBuffer is how many bytes are sent to the node in one chunk and system
// call. A node reads 4 KiB at a time whatever is sent; our side need not.
const sendBuffer = 128 << 10

// Block is one block of an import.
type Block struct {
	Cid  cid.Cid
	Data []byte
}

// Import stores blocks on the node, in one request: they are sent as a CAR
// file while next returns them, and the node writes many at a time. It returns
// how many there were. When it returns nil, all are stored as durably as the
// node's blockstore does it. next is called from another goroutine, until it
// returns false, the node fails, or the context ends.
func (c *Client) Import(ctx context.Context, next func() (Block, bool)) (int, error) {
	car := NewCAR(next)
	if car == nil {
		return 0, nil
	}
	stored, err := c.ImportCAR(ctx, car)
	if err != nil {
		return 0, err
	}
	if n := car.Blocks(); n != stored {
		return stored, fmt.Errorf("import blocks into the IPFS node at %s: it took %d of %d", c.address, stored, n)
	}
	return stored, nil
}

// ImportCAR stores the blocks of a CAR file on the node, in one request, while
// the file is read, and returns how many the node took. The node checks each
// against its CID. When it returns nil, all are stored as durably as the node's
// blockstore does it. An error of the reader ends the request; blocks before it
// may be stored. A read may still be waiting when ImportCAR returns an error.
func (c *Client) ImportCAR(ctx context.Context, car io.Reader) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	form := multipart.NewWriter(io.Discard)
	body := &importBody{r: io.MultiReader(
		strings.NewReader("--"+form.Boundary()+"\r\nContent-Disposition: form-data; name=\"file\"; filename=\"blocks.car\"\r\nContent-Type: application/octet-stream\r\n\r\n"),
		car,
		strings.NewReader("\r\n--"+form.Boundary()+"--\r\n"),
	)}
	stored, err := c.postImport(ctx, form.FormDataContentType(), body)
	if failed := body.failed.Load(); failed != nil {
		err = *failed // what the node says, or that it says nothing, follows from it
	}
	if err != nil {
		return 0, fmt.Errorf("import blocks into the IPFS node at %s: %w", c.address, err)
	}
	return stored, nil
}

// importBody is the body of a request that is sent in large chunks, and
// remembers an error of its reader.
type importBody struct {
	r      io.Reader
	failed atomic.Pointer[error]
}

func (b *importBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed.CompareAndSwap(nil, &err)
	}
	return n, err
}

// WriteTo is what the HTTP client calls; its own buffer is a quarter of ours.
func (b *importBody) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{b}, make([]byte, sendBuffer))
}

func (c *Client) postImport(ctx context.Context, contentType string, body io.Reader) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/api/v0/dag/import"+importQuery, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", contentType)
	res, err := c.http.Do(req)
	if err != nil {
		return 0, withoutURL(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxReply)) // for the message only
		return 0, fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	stats := -1
	dec := json.NewDecoder(res.Body)
	for {
		var line struct {
			Stats *struct{ BlockCount int }
		}
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read the answer: %w", err)
		}
		if line.Stats != nil {
			stats = line.Stats.BlockCount
		}
	}
	if said := res.Trailer.Get("X-Stream-Error"); said != "" {
		return 0, errors.New(said)
	}
	if stats < 0 {
		return 0, errors.New("the answer ends without saying how many blocks were stored")
	}
	return stats, nil
}
