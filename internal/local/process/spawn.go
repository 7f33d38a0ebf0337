package process

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
)

// spawner forks every child from one operating-system thread.
//
// Linux delivers the parent-death signal when the forking *thread* ends. The Go
// runtime ends threads as it sees fit, so a child forked from an ordinary
// goroutine could be killed while its parent is in the best of health. The
// goroutine below is locked to its thread and never returns.
type spawner struct {
	once     sync.Once
	requests chan startRequest
}

type startRequest struct {
	cmd  *exec.Cmd
	done chan error
}

var forks spawner

func (s *spawner) start(cmd *exec.Cmd) error {
	s.once.Do(func() {
		s.requests = make(chan startRequest)
		go func() {
			runtime.LockOSThread()
			for r := range s.requests {
				r.done <- r.cmd.Start()
			}
		}()
	})
	r := startRequest{cmd: cmd, done: make(chan error, 1)}
	s.requests <- r
	return <-r.done
}

// openLog opens a log file to append to, readable by its owner only: a child
// may log addresses and peer names.
func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}
