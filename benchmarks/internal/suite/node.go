package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/ipfs-aws/ipfs-aws/internal/local/process"
)

// patience is how long a daemon may take to start or to end: far more than it needs on a busy machine.
const patience = 3 * time.Minute

// Node is a repo and the kubo that works on it, used as people use it: by its commands and over HTTP.
type Node struct {
	bin  string
	env  []string
	repo string
	log  string

	proc    *process.Process
	api     string // URL
	gateway string // URL
	http    *http.Client
}

// newNode makes the repo of a store: an empty one by `ipfs init`, whose blocks are then said to be where the store has them.
func newNode(ctx context.Context, bin string, env []string, s *Store, p *Place, home string) (*Node, error) {
	n := &Node{
		bin: bin, repo: p.Dir, log: filepath.Join(home, "daemon.log"),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true}},
	}
	n.env = append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "IPFS_PATH=" + p.Dir, "IPFS_TELEMETRY=off",
		"IPFS_GC_MIN_AGE=0s", // what a collection takes at once, as stock kubo does
		"AWS_EC2_METADATA_DISABLED=true"}, env...)
	if _, err := n.Run(ctx, "init", "--empty-repo", "--profile", "test"); err != nil {
		return nil, err
	}
	spec := s.Spec(p)
	disk, err := s.DiskSpec(spec)
	if err != nil {
		return nil, err
	}
	spec["mountpoint"] = "/blocks"
	err = editJSON(filepath.Join(p.Dir, "config"), func(config map[string]any) {
		config["Datastore"].(map[string]any)["Spec"] = map[string]any{"type": "mount", "mounts": []any{
			spec, map[string]any{"type": "levelds", "path": "datastore", "compression": "none", "mountpoint": "/"},
		}}
	})
	if err != nil {
		return nil, err
	}
	disk["mountpoint"] = "/blocks"
	text, err := json.Marshal(map[string]any{"type": "mount", "mounts": []any{
		disk, map[string]any{"type": "levelds", "path": "datastore", "mountpoint": "/"},
	}})
	if err != nil {
		return nil, err
	}
	return n, os.WriteFile(filepath.Join(p.Dir, "datastore_spec"), text, 0o600)
}

func editJSON(path string, change func(map[string]any)) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	change(m)
	if b, err = json.MarshalIndent(m, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

func (n *Node) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, n.bin, args...)
	cmd.Env = n.env
	return cmd
}

// Run runs a command and returns its standard output.
func (n *Node) Run(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := n.Stream(ctx, &out, args...)
	return strings.TrimSpace(out.String()), err
}

// Stream runs a command whose standard output goes to w.
func (n *Node) Stream(ctx context.Context, w io.Writer, args ...string) error {
	var errOut bytes.Buffer
	cmd := n.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = w, &errOut
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ipfs %s: %w: %s", strings.Join(args, " "), err, lastLine(errOut.String()))
	}
	return nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// Start starts the daemon and returns when it answers.
func (n *Node) Start(ctx context.Context) error {
	for _, name := range []string{"api", "gateway"} {
		if err := os.Remove(filepath.Join(n.repo, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	proc, err := process.Start(process.Spec{Name: "the daemon", Path: n.bin, Args: []string{"daemon"}, Env: n.env, Log: n.log})
	if err != nil {
		return err
	}
	n.proc = proc
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !n.answers(ctx) {
		select {
		case <-again.C:
		case <-proc.Done():
			n.proc = nil
			return fmt.Errorf("start the daemon: %w", proc.Err())
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not answer: %w; its last words: %q", context.Cause(ctx), proc.LastLine())
		}
	}
	return nil
}

func (n *Node) answers(ctx context.Context) bool {
	b, err := os.ReadFile(filepath.Join(n.repo, "api"))
	if err != nil {
		return false
	}
	addr, err := multiaddr.NewMultiaddr(string(b))
	if err != nil {
		return false // half written
	}
	_, host, err := manet.DialArgs(addr)
	if err != nil {
		return false
	}
	gateway, err := os.ReadFile(filepath.Join(n.repo, "gateway"))
	if err != nil || len(gateway) == 0 {
		return false
	}
	n.api, n.gateway = "http://"+host, strings.TrimSuffix(string(gateway), "/")
	_, err = n.RPC(ctx, "version")
	return err == nil
}

// Stop ends the daemon in order.
func (n *Node) Stop() error {
	if n == nil || n.proc == nil {
		return nil
	}
	p := n.proc
	n.proc = nil
	n.http.CloseIdleConnections()
	p.Terminate()
	select {
	case <-p.Done():
	case <-time.After(patience):
		p.Kill()
		<-p.Done()
		return fmt.Errorf("the daemon did not end on SIGTERM within %s and was killed; its last words: %q", patience, p.LastLine())
	}
	var exit *process.Exit
	if err := p.Err(); errors.As(err, &exit) && !strings.Contains(exit.Status, "status 0") {
		return fmt.Errorf("stop the daemon: %w", err)
	}
	return nil
}

// RPC posts to the daemon and returns the answer. Args are names and values in turn.
func (n *Node) RPC(ctx context.Context, path string, args ...string) ([]byte, error) {
	q := url.Values{}
	for i := 0; i+1 < len(args); i += 2 {
		q.Add(args[i], args[i+1])
	}
	return n.do(ctx, http.MethodPost, n.api+"/api/v0/"+path+"?"+q.Encode(), nil)
}

// Get asks the gateway for a path, with headers as names and values in turn, and returns the body.
func (n *Node) Get(ctx context.Context, path string, header ...string) ([]byte, error) {
	return n.do(ctx, http.MethodGet, n.gateway+path, header)
}

func (n *Node) do(ctx context.Context, method, rawURL string, header []string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, rawURL, nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := n.http.Do(req)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, rawURL, err)
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, rawURL, resp.Status, lastLine(string(b)))
	}
	return b, nil
}

// Address is where other nodes reach the daemon, with its peer ID.
func (n *Node) Address(ctx context.Context) (string, error) {
	b, err := n.RPC(ctx, "id")
	if err != nil {
		return "", err
	}
	var id struct{ Addresses []string }
	if err := json.Unmarshal(b, &id); err != nil {
		return "", err
	}
	for _, a := range id.Addresses {
		if strings.HasPrefix(a, "/ip4/127.0.0.1/tcp/") {
			return a, nil
		}
	}
	return "", errors.New("the daemon listens nowhere on loopback")
}

// usage is what the daemon's process has used.
type usage struct {
	peak int64   // bytes resident at most, since forgetPeak
	cpu  float64 // seconds
}

// forgetPeak sets the peak to what is resident now. It needs Linux 4.0.
func (n *Node) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.proc.PID()), []byte("5"), 0)
}

func (n *Node) usage() (usage, error) {
	var u usage
	if n.proc == nil {
		return u, nil
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.proc.PID()))
	if err != nil {
		return u, fmt.Errorf("memory of the daemon: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			if err != nil {
				return u, fmt.Errorf("memory of the daemon: %q: %w", line, err)
			}
			u.peak = kb << 10
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.proc.PID()))
	if err != nil {
		return u, fmt.Errorf("processor time of the daemon: %w", err)
	}
	// behind the name, which may hold anything, in parentheses: utime and stime are fields 14 and 15, in ticks of 10 ms
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, fmt.Errorf("processor time of the daemon: %q: %w", f, err)
		}
		u.cpu += float64(ticks) / 100
	}
	return u, nil
}
