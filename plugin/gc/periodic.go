package gc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	logging "github.com/ipfs/go-log/v2"
	"github.com/ipfs/kubo/config"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/loader"

	"github.com/ipfs-aws/ipfs-aws/internal/version"
	"github.com/ipfs-aws/ipfs-aws/node/gc"
)

var log = logging.Logger("gc")

func init() { loader.Preload(&periodic{}) }

var enabled atomic.Bool

// Enable has the daemon of this process collect periodically, as kubo's --enable-gc does.
func Enable() { enabled.Store(true) }

const (
	// defaultPeriod is kubo's: how often a daemon looks at the size of its repo.
	defaultPeriod = time.Hour
	// unlimited is from where on Datastore.StorageMax is no limit: the 1 PB that this distribution sets for a bucket or EFS
	// where no one says how much it may hold. There is no watermark then, and a daemon collects once in unlimitedPeriod.
	unlimited       = 1e15
	unlimitedPeriod = 24 * time.Hour
)

// periodic is the plugin that collects while a daemon runs.
type periodic struct {
	cancel context.CancelFunc
	done   chan struct{}
}

var _ plugin.PluginDaemonInternal = (*periodic)(nil)

func (*periodic) Name() string    { return "ipfs-aws-gc" }
func (*periodic) Version() string { return version.Version }

func (*periodic) Init(*plugin.Environment) error {
	_, err := fromEnv(MinAgeEnv, DefaultMinAge)
	_, serr := fromEnv(StallEnv, DefaultStall)
	return errors.Join(err, serr)
}

// Start implements plugin.PluginDaemonInternal.
func (p *periodic) Start(n *core.IpfsNode) error {
	if !enabled.Load() {
		return nil
	}
	s, err := stateOf(n.Repo)
	if err != nil {
		return err
	}
	cfg, err := n.Repo.Config()
	if err != nil {
		return err
	}
	l, err := newLimits(cfg)
	if err != nil || l.period == 0 {
		return err
	}
	ctx, cancel := context.WithCancel(n.Context())
	p.cancel, p.done = cancel, make(chan struct{})
	go func() {
		defer close(p.done)
		tick := time.NewTicker(l.period)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			used, err := n.Repo.GetStorageUsage(ctx)
			if err != nil {
				if ctx.Err() == nil {
					log.Errorf("periodic garbage collection: size of the repo: %s", err)
				}
				continue
			}
			if !l.due(used, time.Now()) {
				continue
			}
			var r gc.Result
			if err = s.holders.Check(ctx); err == nil {
				r, err = collect(ctx, n, s, gc.Options{Age: -1})
			}
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				log.Errorf("periodic garbage collection: %s", err)
			}
			after, uerr := n.Repo.GetStorageUsage(ctx)
			if uerr != nil {
				after = used
			}
			l.ran(after, r.Touched > 0 || r.Young != nil || err != nil, time.Now())
			log.Infof("periodic garbage collection: removed %d blocks, kept %d; the repo has %s of %s", r.Removed, r.Kept, humanize.Bytes(after), humanize.Bytes(l.most))
		}
	}()
	return nil
}

// Close implements plugin.Plugin's optional part: it runs when the daemon ends.
func (p *periodic) Close() error {
	if p.cancel != nil {
		p.cancel()
	}
	return nil
}

// limits says when to collect.
type limits struct {
	period    time.Duration
	most      uint64 // bytes
	watermark uint64 // bytes

	ranAt time.Time
	left  uint64 // after the last one
}

func newLimits(cfg *config.Config) (*limits, error) {
	d := cfg.Datastore
	l := &limits{period: defaultPeriod}
	var err error
	if d.GCPeriod != "" {
		if l.period, err = time.ParseDuration(d.GCPeriod); err != nil {
			return nil, fmt.Errorf("config Datastore.GCPeriod: %w", err)
		}
	}
	most := d.StorageMax
	if most == "" {
		most = config.DefaultDatastoreConfig().StorageMax
	}
	if l.most, err = humanize.ParseBytes(most); err != nil {
		return nil, fmt.Errorf("config Datastore.StorageMax: %w", err)
	}
	percent := d.StorageGCWatermark
	if percent == 0 {
		percent = 90
	}
	l.watermark = l.most / 100 * uint64(percent)
	return l, nil
}

// due reports whether a repo of that size is to be collected. A collection that could not bring it below the watermark, because
// what is in it is needed, would read all pins again and free nothing: the next one waits until there is something new, or a day.
func (l *limits) due(used uint64, now time.Time) bool {
	rested := l.ranAt.IsZero() || now.Sub(l.ranAt) >= unlimitedPeriod
	if l.most >= unlimited {
		return rested
	}
	if used <= l.watermark {
		return false
	}
	return rested || l.left <= l.watermark || used >= l.left+l.most/100
}

// ran notes a collection: what it has left, and whether that is only because it was too young, or because it failed.
func (l *limits) ran(left uint64, again bool, now time.Time) {
	l.left, l.ranAt = left, now
	if again {
		l.ranAt = time.Time{}
	}
}
