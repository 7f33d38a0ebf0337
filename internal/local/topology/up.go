package topology

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ipfs-aws/ipfs-aws/internal/local/edge"
	"github.com/ipfs-aws/ipfs-aws/internal/local/process"
)

// Up starts the topology, calls ready once all of it serves, and supervises it
// until ctx ends; it then ends every process, in order, within 20 s, and
// returns nil. When kill ends, what still runs is killed at once.
//
// Any other return is an error of one line that says what went wrong and what
// to do; by then nothing is left running.
func Up(ctx, kill context.Context, opt Options, ready func(Description) error) error {
	if err := opt.check(); err != nil {
		return err
	}
	if err := opt.checkBinaries(); err != nil {
		return err
	}
	folder, err := openFolder(opt.Dir)
	if err != nil {
		return err
	}
	defer folder.close()
	u := &up{opt: opt, folder: folder, ports: layout(opt.BasePort, opt.Tasks), region: defaultRegion}
	if err := u.ports.check(ctx, opt.ownS3(), portGrace); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if u.state, err = folder.loadState(&opt); err != nil {
		return err
	}
	for i, p := range u.ports.Tasks {
		u.tasks = append(u.tasks, &task{name: taskName(i), ports: p, repo: folder.path(taskName(i), "ipfs")})
	}
	return u.run(ctx, kill, ready)
}

// up is a topology from its start to its end.
type up struct {
	opt        Options
	folder     *folder
	state      *State
	ports      Ports
	s3Endpoint string
	region     string
	tasks      []*task

	mu       sync.Mutex // guards what follows, and the tasks' processes
	s3, edge *process.Process
	replaced int
	// announced is set once the status file has been written.
	announced bool
}

// task is two processes that live and die together.
type task struct {
	name  string
	repo  string
	ports TaskPorts

	node, sidecar *process.Process // guarded by up.mu
}

// errEnd is the cause of an end that was asked for.
var errEnd = errors.New("asked to end")

// run starts, supervises and ends.
func (u *up) run(ctx, kill context.Context, ready func(Description) error) error {
	life, end := context.WithCancelCause(context.Background())
	defer end(nil)
	defer context.AfterFunc(ctx, func() { end(errEnd) })()

	var tasks sync.WaitGroup
	err := u.start(life, end, &tasks)
	if err == nil {
		if err = u.announce(); err == nil {
			err = ready(u.describe())
		}
	}
	if err != nil {
		end(err)
	}
	<-life.Done()
	tasks.Wait()
	cause := context.Cause(life)
	if !errors.Is(cause, errEnd) {
		u.opt.Progress("ending everything: " + cause.Error())
	}
	u.stop(kill)
	if errors.Is(cause, errEnd) {
		return nil
	}
	return fmt.Errorf("%w; everything was ended: put right what it says, then start again", cause)
}

// start brings everything up in order: storage, tasks, edge. On return
// without an error each task is supervised by a goroutine counted in tasks,
// and the end of any essential process ends life.
func (u *up) start(life context.Context, end context.CancelCauseFunc, tasks *sync.WaitGroup) error {
	if err := u.startStorage(life, end); err != nil {
		return err
	}
	// Not before the storage is there: a name mistyped at the first start is
	// not to stick.
	if err := u.folder.saveState(u.state); err != nil {
		return err
	}
	if err := u.initRepos(life); err != nil {
		return err
	}
	u.opt.Progress(fmt.Sprintf("starting %d tasks", len(u.tasks)))
	var starting errgroup.Group
	for _, t := range u.tasks {
		first := make(chan error, 1)
		tasks.Go(func() { u.superviseTask(life, end, t, first) })
		starting.Go(func() error {
			err := <-first
			if err != nil {
				end(err) // the others need not be waited for
			}
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		return err
	}
	u.opt.Progress("waiting for the cluster peers to see each other")
	var seeing errgroup.Group
	for _, t := range u.tasks {
		seeing.Go(func() error {
			return u.await(life, t.name+"'s view of its peers", u.sidecarOf(t), u.askPeers(t))
		})
	}
	if err := seeing.Wait(); err != nil {
		return err
	}
	return u.startEdge(life, end)
}

// watch ends life when a process that everything depends on ends.
func watch(p *process.Process, end context.CancelCauseFunc) {
	go func() {
		<-p.Done()
		end(p.Err())
	}()
}

func (u *up) startStorage(life context.Context, end context.CancelCauseFunc) error {
	if u.state.Blockstore != "s3" {
		return nil
	}
	if u.state.ExternalS3 {
		u.opt.Progress("looking for the bucket " + u.state.Bucket + " at " + u.opt.S3Endpoint)
		region, err := findBucket(life, u.opt.S3Endpoint, u.state.Bucket)
		if err != nil {
			return err
		}
		u.s3Endpoint, u.region = u.opt.S3Endpoint, region
		return nil
	}
	u.opt.Progress("starting the S3 server")
	if err := os.MkdirAll(u.folder.path("s3"), 0o700); err != nil {
		return fmt.Errorf("make the S3 server's folder: %w", err)
	}
	p, err := process.Start(u.s3Spec())
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.s3 = p
	u.mu.Unlock()
	watch(p, end)
	u.s3Endpoint = baseURL(u.ports.S3)
	return u.await(life, p.Name(), p, func(ctx context.Context) error {
		return MakeBucket(ctx, u.s3Endpoint, u.state.Bucket, u.state.AccessKey, u.state.SecretKey)
	})
}

// initRepos makes the repos that are not there yet, and writes every repo's
// config, as ports may have moved.
func (u *up) initRepos(ctx context.Context) error {
	g, all := errgroup.WithContext(ctx)
	for _, t := range u.tasks {
		g.Go(func() error { return u.initRepo(all, t) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	configs := make([]repoConfig, len(u.tasks))
	ids := make([]string, len(u.tasks))
	for i, t := range u.tasks {
		var err error
		if configs[i], err = readRepoConfig(t.repo); err != nil {
			return err
		}
		if ids[i], err = configs[i].peerID(); err != nil {
			return fmt.Errorf("%s: %w", t.repo, err)
		}
	}
	for i, t := range u.tasks {
		var others []neighbour
		for j, other := range u.tasks {
			if i != j {
				others = append(others, neighbour{ids[j], other.ports.Swarm})
			}
		}
		configs[i].localise(t.ports, others, u.s3Endpoint)
		if err := writeJSON(filepath.Join(t.repo, "config"), configs[i]); err != nil {
			return err
		}
	}
	return nil
}

// initRepo makes a repo under another name first: a repo is whole or not there.
func (u *up) initRepo(ctx context.Context, t *task) error {
	if _, err := os.Stat(t.repo); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for %s's repo: %w", t.name, err)
	}
	u.opt.Progress("making " + t.name + "'s repo")
	unfinished := t.repo + ".unfinished"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("remove what an interrupted start left: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(t.repo), 0o700); err != nil {
		return fmt.Errorf("make %s's folder: %w", t.name, err)
	}
	if err := process.Run(ctx, u.initSpec(t, unfinished)); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if err := os.Rename(unfinished, t.repo); err != nil {
		return fmt.Errorf("name %s's repo: %w", t.name, err)
	}
	return nil
}

// Between two attempts to start a task: doubles up to the longest, and starts
// anew when a task has run for a while.
const (
	shortestBackoff = time.Second
	longestBackoff  = 30 * time.Second
	ranForAWhile    = time.Minute
	replaceGrace    = 10 * time.Second // for the other process of a task that lost one
)

// superviseTask runs a task until life ends. The outcome of its first start
// goes to first. A task that fails after that ends life, or is replaced if the
// options say so.
func (u *up) superviseTask(life context.Context, end context.CancelCauseFunc, t *task, first chan<- error) {
	backoff := shortestBackoff
	for started := false; ; {
		since := time.Now()
		err := u.startTask(life, t)
		if !started {
			first <- err
			if err != nil {
				return
			}
			started = true
		} else if err == nil {
			u.opt.Progress(t.name + " was replaced and is ready")
			u.update(func() { u.replaced++ })
		}
		if err == nil {
			node, sidecar := u.processesOf(t)
			select {
			case <-life.Done():
			case <-node.Done():
				err = node.Err()
			case <-sidecar.Done():
				err = sidecar.Err()
			}
		}
		if life.Err() != nil {
			return
		}
		if u.opt.Restart == RestartNever {
			end(err)
			return
		}
		if time.Since(since) > ranForAWhile {
			backoff = shortestBackoff
		}
		u.opt.Progress(fmt.Sprintf("%v; replacing %s in %s", err, t.name, backoff))
		node, sidecar := u.processesOf(t)
		process.Stop(life, time.Now().Add(replaceGrace), sidecar, node)
		u.update(func() { t.node, t.sidecar = nil, nil })
		select {
		case <-life.Done():
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, longestBackoff)
	}
}

// startTask starts both processes of a task in order and waits for each.
func (u *up) startTask(life context.Context, t *task) error {
	node, err := process.Start(u.nodeSpec(t))
	if err != nil {
		return err
	}
	u.update(func() { t.node = node })
	if err := u.await(life, node.Name(), node, askReady(baseURL(t.ports.NodeHealth)+"/readyz")); err != nil {
		return err
	}
	sidecar, err := process.Start(u.sidecarSpec(t))
	if err != nil {
		return err
	}
	u.update(func() { t.sidecar = sidecar })
	return u.await(life, sidecar.Name(), sidecar, askReady(baseURL(t.ports.ClusterHealth)+"/readyz"))
}

func (u *up) startEdge(life context.Context, end context.CancelCauseFunc) error {
	u.opt.Progress("starting the edge")
	cfg := edge.Config{
		Gateway:     edge.GroupConfig{Listen: address(u.ports.EdgeGateway)},
		API:         edge.GroupConfig{Listen: address(u.ports.EdgeAPI)},
		Health:      address(u.ports.EdgeHealth),
		DrainMillis: int(edgeDrain / time.Millisecond),
	}
	for _, t := range u.tasks {
		cfg.Gateway.Targets = append(cfg.Gateway.Targets, edge.TargetConfig{
			Name: t.name, URL: baseURL(t.ports.Gateway), Ready: baseURL(t.ports.NodeHealth) + "/readyz"})
		cfg.API.Targets = append(cfg.API.Targets, edge.TargetConfig{
			Name: t.name, URL: baseURL(t.ports.API), Ready: baseURL(t.ports.ClusterHealth) + "/readyz"})
	}
	path := u.folder.path("edge.json")
	if err := writeJSON(path, cfg); err != nil {
		return err
	}
	p, err := process.Start(u.edgeSpec(path))
	if err != nil {
		return err
	}
	u.mu.Lock()
	u.edge = p
	u.mu.Unlock()
	watch(p, end)
	return u.await(life, p.Name(), p, u.askEdge)
}

// When each kind of process has to be gone, counted from the start of the end.
// Clients are let finish first, then sidecars (which need their node), then
// nodes (which need the storage). Together they stay below the 20 s promised.
const (
	stopEdge     = 5 * time.Second
	stopSidecars = 10 * time.Second
	stopNodes    = 17 * time.Second
	stopS3       = 18 * time.Second
)

// stop ends what runs, in order, and removes the status file.
func (u *up) stop(kill context.Context) {
	u.mu.Lock()
	phases := []struct {
		within    time.Duration
		processes []*process.Process
	}{{stopEdge, []*process.Process{u.edge}}, {stopSidecars, nil}, {stopNodes, nil}, {stopS3, []*process.Process{u.s3}}}
	for _, t := range u.tasks {
		phases[1].processes = append(phases[1].processes, t.sidecar)
		phases[2].processes = append(phases[2].processes, t.node)
	}
	u.mu.Unlock()
	start := time.Now()
	for _, p := range phases {
		if killed := process.Stop(kill, start.Add(p.within), p.processes...); len(killed) > 0 {
			u.opt.Progress("killed, as it did not end in time: " + strings.Join(killed, ", "))
		}
	}
	if err := os.Remove(u.folder.path(statusFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		u.opt.Progress(err.Error())
	}
}

func (u *up) sidecarOf(t *task) *process.Process {
	_, sidecar := u.processesOf(t)
	return sidecar
}

func (u *up) processesOf(t *task) (node, sidecar *process.Process) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return t.node, t.sidecar
}

// update changes which processes run and, once it has been announced, the
// status file with it.
func (u *up) update(change func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change()
	if !u.announced {
		return
	}
	if err := u.writeStatus(); err != nil {
		u.opt.Progress(err.Error())
	}
}

// announce writes the status file for the first time.
func (u *up) announce() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.announced = true
	return u.writeStatus()
}

func (u *up) writeStatus() error {
	return writeJSON(u.folder.path(statusFile), Status{
		Description: u.description(),
		Supervisor:  os.Getpid(),
		Edge:        pid(u.edge),
		S3Server:    pid(u.s3),
		Health:      baseURL(u.ports.EdgeHealth) + "/readyz",
		Replaced:    u.replaced,
		Dir:         u.folder.dir,
		Blockstore:  u.state.Blockstore,
	})
}

func (u *up) describe() Description {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.description()
}

func (u *up) description() Description {
	d := Description{
		Gateway: baseURL(u.ports.EdgeGateway), API: baseURL(u.ports.EdgeAPI),
		User: u.state.User, Password: u.state.Password,
	}
	if u.state.Blockstore == "s3" {
		d.S3 = &S3Description{Endpoint: u.s3Endpoint, Bucket: u.state.Bucket, AccessKey: u.state.AccessKey, SecretKey: u.state.SecretKey}
	}
	for _, t := range u.tasks {
		d.Tasks = append(d.Tasks, TaskDescription{
			Name: t.name, Repo: t.repo, Gateway: baseURL(t.ports.Gateway), RPC: baseURL(t.ports.RPC), API: baseURL(t.ports.API),
			PIDs: PIDs{IPFS: pid(t.node), Cluster: pid(t.sidecar)},
		})
	}
	return d
}

func pid(p *process.Process) int {
	if p == nil {
		return 0
	}
	return p.PID()
}
