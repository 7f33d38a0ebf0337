package efsmodel

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	serveEnv    = "EFSMODEL_SERVE"
	isolatedEnv = "EFSMODEL_ISOLATED"
)

// Available returns why nothing can be mounted here, or nil.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("mounting needs root")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("mounting needs FUSE: %w", err)
	}
	return f.Close()
}

// Init must be the first thing that main, or TestMain, calls: in the process
// that Mount starts, it serves the mount and does not return.
func Init() {
	options, set := os.LookupEnv(serveEnv)
	if !set {
		return
	}
	if err := serve(options); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Isolate runs the program once more, in a mount namespace of its own, and
// exits with its status; in there it returns at once. Mounts made afterwards are
// seen by nobody else, and are gone when the last process of the namespace is,
// even if all of them are killed. Where nothing can be mounted, it returns.
func Isolate() {
	if os.Getenv(isolatedEnv) != "" || Available() != nil {
		return
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), isolatedEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	// Whoever ends this process means the one inside, which may have something to put in order first.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	err := cmd.Start()
	if err == nil {
		go func() {
			for s := range signals {
				_ = cmd.Process.Signal(s) // fails if it has ended
			}
		}()
		err = cmd.Wait()
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	case err != nil:
		fmt.Fprintf(os.Stderr, "efsmodel: run in a mount namespace: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Scratch makes a directory in memory that is seen in this mount namespace only,
// and that is freed with it if the program does not live to call remove. The
// program must have called Isolate.
func Scratch() (dir string, remove func() error, err error) {
	if os.Getenv(isolatedEnv) == "" {
		return "", nil, errNotIsolated
	}
	dir, err = os.MkdirTemp("", "efsmodel-")
	if err != nil {
		return "", nil, err
	}
	if err := unix.Mount("efsmodel", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return "", nil, errors.Join(fmt.Errorf("efsmodel: mount tmpfs on %s: %w", dir, err), os.Remove(dir))
	}
	return dir, func() error { return errors.Join(unix.Unmount(dir, 0), os.Remove(dir)) }, nil
}

var errNotIsolated = errors.New("efsmodel: the program has not called Isolate, or cannot: mount in a private namespace only")

// Mounted is a mount, served by a process of its own.
type Mounted struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	mu  sync.Mutex
}

// command is what Mounted tells the server, and answer what comes back; both are lines of JSON.
type command struct {
	Do       string
	Dilation float64
}

type answer struct {
	Error string
	Stats Stats
}

// Mount mounts. The program must have called Init and Isolate.
func Mount(opts Options) (*Mounted, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if os.Getenv(isolatedEnv) == "" {
		return nil, errNotIsolated
	}
	data, err := json.Marshal(opts)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serveEnv+"="+string(data))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("efsmodel: start server: %w", err)
	}
	m := &Mounted{cmd: cmd, in: in, out: bufio.NewReader(out)}
	if _, err := m.receive(); err != nil {
		return nil, errors.Join(err, in.Close(), cmd.Wait())
	}
	return m, nil
}

func (m *Mounted) receive() (Stats, error) {
	line, err := m.out.ReadBytes('\n')
	if err != nil {
		return Stats{}, fmt.Errorf("efsmodel: the server ended: %w", err)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return Stats{}, fmt.Errorf("efsmodel: answer of the server: %w", err)
	}
	if a.Error != "" {
		return Stats{}, errors.New(a.Error)
	}
	return a.Stats, nil
}

func (m *Mounted) ask(c command) (Stats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, err := json.Marshal(c)
	if err != nil {
		return Stats{}, err
	}
	if _, err := m.in.Write(append(data, '\n')); err != nil {
		return Stats{}, fmt.Errorf("efsmodel: the server ended: %w", err)
	}
	return m.receive()
}

// Stats returns what was counted since the mount or the last Reset.
func (m *Mounted) Stats() (Stats, error) { return m.ask(command{Do: "stats"}) }

// Reset sets the counters to zero.
func (m *Mounted) Reset() error {
	_, err := m.ask(command{Do: "reset"})
	return err
}

// SetDilation changes the dilation; 0 makes everything as fast as it goes.
func (m *Mounted) SetDilation(d float64) error {
	_, err := m.ask(command{Do: "dilation", Dilation: d})
	return err
}

// Unmount unmounts and ends the server. Nothing may be open in the mount.
func (m *Mounted) Unmount() error {
	_, err := m.ask(command{Do: "unmount"})
	if err != nil {
		return err
	}
	return errors.Join(m.in.Close(), m.cmd.Wait())
}

// serve mounts, and obeys the commands on standard input until that ends.
func serve(options string) error {
	var opts Options
	if err := json.Unmarshal([]byte(options), &opts); err != nil {
		return fmt.Errorf("efsmodel: options: %w", err)
	}
	out := json.NewEncoder(os.Stdout)
	srv := newServer(opts)
	mount, err := mount(opts, srv)
	if err != nil {
		return out.Encode(answer{Error: "efsmodel: " + err.Error()})
	}
	if err := out.Encode(answer{}); err != nil {
		return err
	}
	in := json.NewDecoder(os.Stdin)
	for {
		var c command
		if err := in.Decode(&c); err != nil {
			// Whoever mounted is gone, and perhaps not all who use the mount.
			return unix.Unmount(opts.Mountpoint, unix.MNT_DETACH)
		}
		a := answer{}
		switch c.Do {
		case "stats":
			a.Stats = srv.snapshot()
		case "reset":
			srv.reset()
		case "dilation":
			srv.setDilation(c.Dilation)
		case "unmount":
			if err := mount.Unmount(); err != nil {
				a.Error = fmt.Sprintf("efsmodel: unmount %s: %v", opts.Mountpoint, err)
				break
			}
			return out.Encode(a)
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// cacheTime is for how long an NFS client believes the attributes and names
// that it has seen (acregmin and acdirmin are 3 s and 30 s, the maxima 60 s).
const cacheTime = 60 * time.Second

func mount(opts Options, srv *server) (*fuse.Server, error) {
	root, err := fs.NewLoopbackRoot(opts.Backing)
	if err != nil {
		return nil, err
	}
	timeout := time.Duration(float64(cacheTime) * max(opts.Dilation, 1))
	return fs.Mount(opts.Mountpoint, &node{LoopbackNode: root.(*fs.LoopbackNode), srv: srv}, &fs.Options{
		EntryTimeout: &timeout,
		AttrTimeout:  &timeout,
		MountOptions: fuse.MountOptions{
			// Without default_permissions: with it, the kernel asks for the
			// attributes of a directory again after every change in it, which NFS
			// brings with the reply.
			FsName: "efsmodel", Name: "efsmodel",
			DirectMountStrict: true,
			AllowOther:        true,
			MaxWrite:          MaxTransfer,
			MaxReadAhead:      MaxTransfer,
			MaxBackground:     2 * sessionSlots,
			// One READDIR does not bring the attributes as well: what reads
			// them must show it.
			DisableReadDirPlus:   true,
			DisabledCapabilities: fuse.CAP_READDIRPLUS | fuse.CAP_READDIRPLUS_AUTO,
			DisableXAttrs:        true,
		},
	})
}
