package kubo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
)

// Pinned reports whether the node has a pin of this mode, "recursive" or "direct",
// for a CID. It reads the index of the pins, and nothing of the DAG.
func (c *Client) Pinned(ctx context.Context, id cid.Cid, mode string) (bool, error) {
	err := c.call(ctx, "pin/ls", url.Values{"arg": {id.String()}, "type": {mode}}, nil)
	if err != nil && strings.Contains(err.Error(), "is not pinned") {
		return false, nil
	}
	return err == nil, err
}

// StallError is the end of a pin for which no block came for some time.
type StallError struct {
	For time.Duration // without a new block
	// Blocks is how many the node had gone through, those that it had before included.
	Blocks int
}

func (e *StallError) Error() string { return fmt.Sprintf("no new block for %s", e.For) }

// PinRequest is a pin for [Client.Pin].
type PinRequest struct {
	Cid    cid.Cid
	Direct bool   // pin one block; otherwise everything below it
	Name   string // of the pin on the node
	// Stall is for how long no block may come. Zero means for ever.
	Stall time.Duration
	// Progress is called when the node has gone through more blocks, or is nil.
	Progress func(blocks int)
}

// Pin pins a DAG on the node, which fetches what it lacks. When Pin returns nil, the
// node went through all blocks and protects them. A node that goes through no
// further block for the time of the request is left alone: the error is a *StallError.
func (c *Client) Pin(ctx context.Context, r PinRequest) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var blocks atomic.Int64
	stalled := func() { cancel(&StallError{For: r.Stall, Blocks: int(blocks.Load())}) }
	var limit *time.Timer
	if r.Stall > 0 {
		limit = time.AfterFunc(r.Stall, stalled)
		defer limit.Stop()
	}
	args := url.Values{"arg": {r.Cid.String()}, "recursive": {fmt.Sprint(!r.Direct)}, "progress": {"true"}}
	if r.Name != "" {
		args.Set("name", r.Name)
	}
	pinned := false
	err := c.stream(ctx, "pin/add", args, func(line json.RawMessage) error {
		var at struct {
			Pins     []string
			Progress int
		}
		if err := json.Unmarshal(line, &at); err != nil {
			return err
		}
		pinned = pinned || len(at.Pins) > 0
		// The timer has fired or it has not: a stall that was found stays one.
		if int64(at.Progress) > blocks.Load() && (limit == nil || limit.Stop()) {
			blocks.Store(int64(at.Progress))
			if limit != nil {
				limit.Reset(r.Stall)
			}
			if r.Progress != nil {
				r.Progress(at.Progress)
			}
		}
		return nil
	})
	switch {
	case context.Cause(ctx) != nil:
		return fmt.Errorf("pin %s on the IPFS node at %s: %w", r.Cid, c.address, context.Cause(ctx))
	case err == nil && !pinned:
		err = fmt.Errorf("the IPFS node at %s did not report that it pinned %s", c.address, r.Cid)
	}
	return err
}

// Unpin removes a recursive pin from the node. It is no error if there is none.
func (c *Client) Unpin(ctx context.Context, id cid.Cid) error {
	err := c.call(ctx, "pin/rm", url.Values{"arg": {id.String()}}, nil)
	if err != nil && strings.Contains(err.Error(), "not pinned") {
		return nil
	}
	return err
}

// Pins calls each for the node's pins of a mode, "recursive" or "direct".
func (c *Client) Pins(ctx context.Context, mode string, each func(cid.Cid)) error {
	return c.stream(ctx, "pin/ls", url.Values{"type": {mode}, "stream": {"true"}}, func(line json.RawMessage) error {
		var one struct{ Cid string }
		if err := json.Unmarshal(line, &one); err != nil {
			return err
		}
		id, err := cid.Decode(one.Cid)
		if err != nil {
			return fmt.Errorf("pin %q: %w", one.Cid, err)
		}
		each(id)
		return nil
	})
}

// NamedPin is a recursive pin of the node that has a name.
type NamedPin struct {
	Cid  cid.Cid
	Name string
}

// PinsNamed calls each for the node's recursive pins whose names begin with a prefix.
func (c *Client) PinsNamed(ctx context.Context, prefix string, each func(NamedPin)) error {
	args := url.Values{"type": {"recursive"}, "stream": {"true"}, "names": {"true"}, "name": {prefix}}
	return c.stream(ctx, "pin/ls", args, func(line json.RawMessage) error {
		var one struct{ Cid, Name string }
		if err := json.Unmarshal(line, &one); err != nil {
			return err
		}
		id, err := cid.Decode(one.Cid)
		if err != nil {
			return fmt.Errorf("pin %q: %w", one.Cid, err)
		}
		if strings.HasPrefix(one.Name, prefix) { // the node looks for it anywhere in the name
			each(NamedPin{Cid: id, Name: one.Name})
		}
		return nil
	})
}

// Collected is one line of a garbage collection's report.
type Collected struct {
	Key   cid.Cid
	Error string
}

// GC collects garbage on the node and calls each for what it removed, or could not
// remove. The error says that the collection as a whole did not end well, also
// where it began well.
func (c *Client) GC(ctx context.Context, each func(Collected)) error {
	return c.stream(ctx, "repo/gc", url.Values{"stream-errors": {"true"}}, func(line json.RawMessage) error {
		var one Collected
		if err := json.Unmarshal(line, &one); err != nil {
			return err
		}
		each(one)
		return nil
	})
}

// stream calls the node and hands over the JSON values of its answer one by one. An
// error that the node reports behind them, in a trailer, is returned.
func (c *Client) stream(ctx context.Context, command string, args url.Values, each func(json.RawMessage) error) error {
	doing := func(err error) error {
		return fmt.Errorf("ask the IPFS node at %s for %s: %w", c.address, command, err)
	}
	res, err := post(ctx, c.http, command, args)
	if err != nil {
		return doing(err)
	}
	defer res.Body.Close()
	dec := json.NewDecoder(res.Body)
	for {
		var line json.RawMessage
		err := dec.Decode(&line)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = each(line)
		}
		if err != nil {
			return doing(fmt.Errorf("read the answer: %w", err))
		}
	}
	if said := res.Trailer.Get("X-Stream-Error"); said != "" {
		return doing(errors.New(said))
	}
	return nil
}

// post sends a command without a body. The answer's status is 200.
func post(ctx context.Context, by *http.Client, command string, args url.Values) (*http.Response, error) {
	// The host in the URL is what kubo sees as Host; it accepts its own
	// loopback name only, wherever we dial.
	u := "http://127.0.0.1/api/v0/" + command
	if len(args) > 0 {
		u += "?" + args.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, nil)
	if err != nil {
		return nil, err
	}
	res, err := by.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxReply)) // for the message only
		return nil, refusal(res.Status, text)
	}
	return res, nil
}

// refusal is the error in an answer whose status is not 200. kubo wraps its message
// in JSON.
func refusal(status string, body []byte) error {
	var said struct{ Message string }
	if json.Unmarshal(body, &said) == nil && said.Message != "" {
		return errors.New(said.Message)
	}
	return fmt.Errorf("%s: %s", status, strings.TrimSpace(string(body)))
}
