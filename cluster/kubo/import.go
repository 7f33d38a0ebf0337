package kubo

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/ipfs/go-cid"
)

// importBuffer gathers small blocks into writes of a size that is worth a
// system call. Larger blocks pass it.
const importBuffer = 64 << 10

// importQuery: nothing is pinned or announced, which is the pinset's business,
// and the node says how many blocks it took.
const importQuery = "?pin-roots=false&fast-provide-root=false&fast-provide-dag=false&allow-big-block=true&stats=true"

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
	first, ok := next()
	if !ok {
		return 0, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	sent := make(chan int, 1)
	go func() {
		n, err := writeImport(form, first, next)
		sent <- n
		w.CloseWithError(err)
	}()
	stats, err := c.postImport(ctx, form.FormDataContentType(), r)
	_ = r.CloseWithError(errors.New("the IPFS node has answered")) // ends the writer
	if err != nil {
		return 0, fmt.Errorf("import blocks into the IPFS node at %s: %w", c.address, err)
	}
	if n := <-sent; n != stats {
		return stats, fmt.Errorf("import blocks into the IPFS node at %s: it took %d of %d", c.address, stats, n)
	}
	return stats, nil
}

func writeImport(form *multipart.Writer, first Block, next func() (Block, bool)) (int, error) {
	part, err := form.CreateFormFile("file", "blocks.car")
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(part, importBuffer)
	if _, err := w.Write(carHeader(first.Cid)); err != nil {
		return 0, err
	}
	n := 0
	for b, ok := first, true; ok; b, ok = next() {
		id := b.Cid.Bytes()
		if _, err := w.Write(binary.AppendUvarint(nil, uint64(len(id)+len(b.Data)))); err != nil {
			return n, err
		}
		if _, err := w.Write(id); err != nil {
			return n, err
		}
		if _, err := w.Write(b.Data); err != nil {
			return n, err
		}
		n++
	}
	if err := w.Flush(); err != nil {
		return n, err
	}
	return n, form.Close()
}

// carHeader is the header of a CARv1 file with one root: its length as an
// unsigned varint, then {"roots": [root], "version": 1} in DAG-CBOR, in which a
// CID is a byte string of a zero byte and its bytes, with tag 42.
func carHeader(root cid.Cid) []byte {
	id := root.Bytes()
	h := []byte{0xa2, 0x65, 'r', 'o', 'o', 't', 's', 0x81, 0xd8, 42}
	if n := len(id) + 1; n < 24 {
		h = append(h, 0x40|byte(n))
	} else if n < 1<<8 {
		h = append(h, 0x58, byte(n))
	} else {
		h = binary.BigEndian.AppendUint16(append(h, 0x59), uint16(n))
	}
	h = append(append(h, 0), id...)
	h = append(h, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 1)
	return append(binary.AppendUvarint(nil, uint64(len(h))), h...)
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
