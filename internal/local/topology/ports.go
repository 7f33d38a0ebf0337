package topology

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// portsOfTask is the stride between two tasks' ports. Ten, so that a port's
// last digit says what it is and the digit before it whose.
const portsOfTask = 10

// Ports is the layout of all ports from one base: the edge and the S3 server
// take the first ten, each task ten more. All are on 127.0.0.1.
type Ports struct {
	EdgeGateway, EdgeAPI, S3, EdgeHealth int
	Tasks                                []TaskPorts
}

// TaskPorts are the ports of one task.
type TaskPorts struct {
	Gateway, RPC, Swarm, API, ClusterSwarm, NodeHealth, ClusterHealth int
}

func layout(base, tasks int) Ports {
	p := Ports{EdgeGateway: base, EdgeAPI: base + 1, S3: base + 2, EdgeHealth: base + 3}
	for i := range tasks {
		at := base + portsOfTask*(i+1)
		p.Tasks = append(p.Tasks, TaskPorts{
			Gateway: at, RPC: at + 1, Swarm: at + 2, API: at + 3, ClusterSwarm: at + 4, NodeHealth: at + 5, ClusterHealth: at + 6,
		})
	}
	return p
}

func taskName(i int) string { return fmt.Sprintf("task-%d", i+1) }

func address(port int) string   { return fmt.Sprintf("127.0.0.1:%d", port) }
func baseURL(port int) string   { return "http://" + address(port) }
func multiaddr(port int) string { return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port) }

type wantedPort struct {
	port int
	by   string
}

func (p Ports) wanted(withS3 bool) []wantedPort {
	all := []wantedPort{
		{p.EdgeGateway, "the edge's gateway"},
		{p.EdgeAPI, "the edge's cluster API"},
		{p.EdgeHealth, "the edge's health listener"},
	}
	if withS3 {
		all = append(all, wantedPort{p.S3, "the S3 server"})
	}
	for i, t := range p.Tasks {
		of := taskName(i) + "'s "
		all = append(all,
			wantedPort{t.Gateway, of + "gateway"},
			wantedPort{t.RPC, of + "ipfs RPC"},
			wantedPort{t.Swarm, of + "ipfs swarm"},
			wantedPort{t.API, of + "cluster API"},
			wantedPort{t.ClusterSwarm, of + "cluster swarm"},
			wantedPort{t.NodeHealth, of + "ipfs health listener"},
			wantedPort{t.ClusterHealth, of + "cluster health listener"})
	}
	return all
}

// portGrace is how long a taken port may take to become free: the kernel needs
// a moment to take down what a killed supervisor leaves behind.
const portGrace = 3 * time.Second

// check makes sure that every port can be listened on.
func (p Ports) check(ctx context.Context, withS3 bool, grace time.Duration) error {
	deadline := time.Now().Add(grace)
	for {
		var taken []string
		for _, w := range p.wanted(withS3) {
			l, err := net.Listen("tcp", address(w.port))
			if err != nil {
				taken = append(taken, fmt.Sprintf("port %d, wanted by %s", w.port, w.by))
				continue
			}
			_ = l.Close() // nothing was accepted
		}
		if len(taken) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("taken: %s: end what listens there, or choose other ports with --base-port", strings.Join(taken, "; "))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
