package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Spec describes one child.
type Spec struct {
	// Name is what people call it in messages, for example "task-2's ipfs-aws daemon".
	Name string
	// Path is the executable file.
	Path string
	// Args are the arguments after the program's name. They are public: no secrets.
	Args []string
	// Env is the whole environment, as "NAME=value".
	Env []string
	// Dir is the working directory; empty means the parent's.
	Dir string
	// Log is the file that stdout and stderr are appended to.
	Log string
}

// Process is a running child, or one that has ended. Its methods are safe for
// concurrent use.
type Process struct {
	spec    Spec
	cmd     *exec.Cmd
	logFrom int64
	done    chan struct{}
	exit    error
}

// Exit is the error of a child that ended. Its text is one line that names the
// child, says how it ended, quotes the last line that it logged, and gives the
// log's path.
type Exit struct {
	Name     string
	PID      int
	Status   string // "exited with status 1", "was killed by signal 9 (killed)"
	LastLine string // empty if it logged nothing
	Log      string
}

func (e *Exit) Error() string {
	said := "it logged nothing"
	if e.LastLine != "" {
		said = fmt.Sprintf("its last words: %q", e.LastLine)
	}
	return fmt.Sprintf("%s (pid %d) %s; %s; log: %s", e.Name, e.PID, e.Status, said, e.Log)
}

// Start runs the child. It returns as soon as the child is executing; an error
// means that nothing is running.
func Start(spec Spec) (*Process, error) {
	log, err := openLog(spec.Log)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", spec.Name, err)
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("find the end of the log of %s: %w", spec.Name, err)
	}
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = spec.Env, spec.Dir, log, log
	cmd.SysProcAttr = childAttributes()
	if err := forks.start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p := &Process{spec: spec, cmd: cmd, logFrom: from, done: make(chan struct{})}
	go p.wait()
	return p, nil
}

// Run starts the child and waits for it to end. If ctx ends first the child is
// killed and ctx's error is returned. An exit status other than 0 is an *[Exit].
func Run(ctx context.Context, spec Spec) error {
	p, err := Start(spec)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Kill()
		<-p.Done()
		return fmt.Errorf("%s was cut short: %w", spec.Name, ctx.Err())
	}
	if p.cmd.ProcessState.Success() {
		return nil
	}
	return p.exit
}

func (p *Process) wait() {
	err := p.cmd.Wait()
	status := "exited with status 0"
	var exitErr *exec.ExitError
	switch {
	case errors.As(err, &exitErr):
		status = describe(exitErr.ProcessState)
	case err != nil:
		status = "ended: " + err.Error()
	}
	p.exit = &Exit{
		Name: p.spec.Name, PID: p.PID(), Status: status,
		LastLine: lastLine(p.spec.Log, p.logFrom), Log: p.spec.Log,
	}
	close(p.done)
}

func describe(s *os.ProcessState) string {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return fmt.Sprintf("was killed by signal %d (%s)", int(ws.Signal()), ws.Signal())
	}
	return fmt.Sprintf("exited with status %d", s.ExitCode())
}

// Name is the name from the Spec.
func (p *Process) Name() string { return p.spec.Name }

// Log is the path of the child's log file.
func (p *Process) Log() string { return p.spec.Log }

// PID is the child's process ID. After the child has ended the system may give
// the number to another process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed once the child has ended and has been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child ended, as an *[Exit], whatever its status was. It is
// nil while the child runs.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.exit
	default:
		return nil
	}
}

// LastLine is the last line the child has logged so far; empty if there is none.
func (p *Process) LastLine() string { return lastLine(p.spec.Log, p.logFrom) }

// Terminate asks the child to end (SIGTERM). It does not wait.
func (p *Process) Terminate() {
	// A child that has ended already is what the caller wants.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
}

// Kill ends the child and whatever it started in its process group (SIGKILL).
// It does not wait.
func (p *Process) Kill() {
	select {
	case <-p.done:
		// Reaped: its number may belong to somebody else by now.
	default:
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	}
}

// Stop ends all children together: SIGTERM now, SIGKILL for those that still
// run at the deadline or when ctx ends. It returns when all are gone, with the
// names of those that had to be killed. Nil entries are skipped.
func Stop(ctx context.Context, deadline time.Time, children ...*Process) (killed []string) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	for _, p := range children {
		if p != nil {
			p.Terminate()
		}
	}
	for _, p := range children {
		if p == nil {
			continue
		}
		select {
		case <-p.Done():
			continue
		default:
		}
		select {
		case <-p.Done():
		case <-ctx.Done():
			killed = append(killed, p.Name())
			p.Kill()
			<-p.Done()
		}
	}
	return killed
}

// lastLine returns the last line that is not blank, from the part of the log
// written since from (bytes). It reads at most the last 8 KiB: more than any
// line worth quoting.
func lastLine(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	from = max(from, end-8<<10)
	tail := make([]byte, max(end-from, 0))
	n, err := f.ReadAt(tail, from)
	if err != nil && err != io.EOF {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(tail[:n]), []byte("\n"))
	line := strings.TrimSpace(string(lines[len(lines)-1]))
	const longest = 300
	if len(line) > longest {
		line = line[:longest] + "…"
	}
	return line
}
