package kubo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// maxReply bounds what is read of an answer, in bytes. Answers are short.
const maxReply = 64 << 10

// Client calls one node's RPC. It is safe for concurrent use; every call ends
// with its context.
type Client struct {
	network, address string
	http             *http.Client
	// pulse is for Version alone: what other requests do with their connections must
	// not look like a restart of the node.
	pulse *http.Client
}

// idle is how many connections are kept for the next requests: those of the pins
// and walks that go on at a time.
const idle = 64

// New returns a client for the RPC at the given multiaddress, which may hold a
// DNS name or a unix socket. Nothing is dialed yet.
func New(rpc ma.Multiaddr) (*Client, error) {
	network, address, err := manet.DialArgs(rpc)
	if err != nil {
		return nil, fmt.Errorf("the IPFS node's address %s: %w", rpc, err)
	}
	c := &Client{network: network, address: address}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, c.network, c.address)
	}
	c.http = &http.Client{Transport: &http.Transport{
		WriteBufferSize:     sendBuffer + 4096, // a chunk and its frame are one write
		MaxIdleConnsPerHost: idle,
		DialContext:         dial,
	}}
	c.pulse = &http.Client{Transport: &http.Transport{DialContext: dial}}
	return c, nil
}

// Version returns the node's version, and whether a new connection was needed
// to ask: a node that restarted between two calls gives itself away by that. An
// error means that the node does not answer: its RPC opens after its repo.
func (c *Client) Version(ctx context.Context) (version string, connected bool, err error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { connected = !i.Reused }})
	var reply struct{ Version string }
	if err := c.callWith(ctx, c.pulse, "version", nil, &reply); err != nil {
		return "", false, err
	}
	return reply.Version, connected, nil
}

// Peer asks the node to keep a connection to another node, to protect it, and
// to dial again whenever it is lost. All addresses must end in the same
// /p2p/ID. Calling it again replaces the addresses. The node forgets it when it
// restarts.
func (c *Client) Peer(ctx context.Context, addrs []ma.Multiaddr) error {
	args := url.Values{}
	for _, a := range addrs {
		args.Add("arg", a.String())
	}
	return c.call(ctx, "swarm/peering/add", args, nil)
}

// Connect asks the node to connect to another one, once.
func (c *Client) Connect(ctx context.Context, addrs []ma.Multiaddr) error {
	args := url.Values{}
	for _, a := range addrs {
		args.Add("arg", a.String())
	}
	return c.call(ctx, "swarm/connect", args, nil)
}

func (c *Client) call(ctx context.Context, command string, args url.Values, reply any) error {
	return c.callWith(ctx, c.http, command, args, reply)
}

func (c *Client) callWith(ctx context.Context, by *http.Client, command string, args url.Values, reply any) error {
	doing := func(err error) error {
		return fmt.Errorf("ask the IPFS node at %s for %s: %w", c.address, command, err)
	}
	res, err := post(ctx, by, command, args)
	if err != nil {
		return doing(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	if err == nil && reply != nil {
		err = json.Unmarshal(body, reply)
	}
	if err != nil {
		return doing(err)
	}
	return nil
}

// withoutURL strips our stand-in URL from an error of the HTTP client.
func withoutURL(err error) error {
	if ue, ok := err.(*url.Error); ok {
		return ue.Err
	}
	return err
}
