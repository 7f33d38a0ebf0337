package peer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	ipfscluster "github.com/ipfs-cluster/ipfs-cluster"
	"github.com/ipfs-cluster/ipfs-cluster/allocator/balanced"
	"github.com/ipfs-cluster/ipfs-cluster/api/pinsvcapi"
	"github.com/ipfs-cluster/ipfs-cluster/api/rest"
	"github.com/ipfs-cluster/ipfs-cluster/config"
	"github.com/ipfs-cluster/ipfs-cluster/consensus/crdt"
	"github.com/ipfs-cluster/ipfs-cluster/informer/disk"
	"github.com/ipfs-cluster/ipfs-cluster/informer/tags"
	"github.com/ipfs-cluster/ipfs-cluster/ipfsconn/ipfshttp"
	"github.com/ipfs-cluster/ipfs-cluster/monitor/pubsubmon"
	"github.com/ipfs-cluster/ipfs-cluster/observations"
	"github.com/ipfs-cluster/ipfs-cluster/pintracker/stateless"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/ipfs-aws/ipfs-aws/cluster/place/spread"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
)

// Where our defaults differ from ipfs-cluster's, for a cluster of a few peers
// near each other. Every one of them can be overridden by its variable.
const (
	// A ping says that a peer lives; it counts as gone two pings after its last
	// one (10 s; ipfs-cluster: 30 s). Three peers send 0.6 small messages a
	// second in all.
	pingInterval = 5 * time.Second

	// How often a peer announces its newest state when nothing changes. What a
	// restarted peer missed, it learns from the next announcement, so this is
	// most of the time it needs to catch up: 18 s measured at 5–10 s, more than
	// 73 s at ipfs-cluster's 1 min.
	rebroadcastInterval = 5 * time.Second

	// How often the consensus looks whether it could not fetch something from a
	// peer that went away, and tries again (ipfs-cluster: 1 h). Looking is one
	// read.
	repairInterval = time.Minute

	// Gossip finds new peers at heartbeats; ipfs-cluster's 10 s is made for
	// thousands of peers. With a few, messages go to all of them at once
	// (flood publishing).
	heartbeatInterval = time.Second

	// How often failed pins are tried again while the IPFS node is up
	// (ipfs-cluster: 12 min). The round asks the node for its pins once.
	recoverInterval = 3 * time.Minute

	// CloudFront passes request headers of up to 32 KiB in all; ipfs-cluster
	// takes 4 KiB.
	maxHeaderBytes = 64 << 10

	// How many pins become one change at most. A pin is some 200 bytes in a
	// change, and one of 1 MiB is still passed on between peers.
	maxGroup = 1000

	// ipfs-cluster's own batching, which this switches on, must not commit by
	// itself: package commit does. It has nothing to commit, so its clock never
	// runs.
	// upstream: own-batching
	unusedBatchAge = time.Hour
)

// The tag that the allocator spreads replicas over, and its value on peers that
// do not say where they are. Peers without a metric would never be chosen.
const (
	zoneTag   = "az"
	unknownAt = "unspecified"
)

// Configs are the checked configurations of all components.
type Configs struct {
	Cluster   *ipfscluster.Config
	CRDT      *crdt.Config
	REST      *rest.Config
	Pinning   *pinsvcapi.Config // nil if the pinning service API is off
	IPFS      *ipfshttp.Config
	Tracker   *stateless.Config
	Monitor   *pubsubmon.Config
	Allocator *balanced.Config
	Disk      *disk.Config
	Tags      *tags.Config
	Tracing   *observations.TracingConfig

	// Moves says that package rehome moves pins when peers go and come back.
	Moves bool
}

// NewConfigs builds the components' configurations: their defaults, then ours,
// then the process's environment (ipfs-cluster's variables), then the settings.
// The environment must not hold credentials any more (see
// [settings.TakeSecrets]). It reads certificates if the settings name any, and
// writes nothing. All problems are reported together.
func NewConfigs(s *settings.Settings) (*Configs, error) {
	c := &Configs{
		Cluster: &ipfscluster.Config{}, CRDT: &crdt.Config{}, REST: rest.NewConfig(),
		IPFS: &ipfshttp.Config{}, Tracker: &stateless.Config{}, Monitor: &pubsubmon.Config{},
		Allocator: &balanced.Config{}, Disk: &disk.Config{}, Tags: &tags.Config{}, Tracing: &observations.TracingConfig{},
	}
	all := []config.ComponentConfig{c.Cluster, c.CRDT, c.REST, c.IPFS, c.Tracker, c.Monitor, c.Allocator, c.Disk, c.Tags, c.Tracing}
	if s.PinningService {
		c.Pinning = pinsvcapi.NewConfig()
		all = append(all, c.Pinning)
	}
	for _, one := range all {
		if err := one.Default(); err != nil {
			return nil, fmt.Errorf("configure %s: %w", one.ConfigKey(), err)
		}
		one.SetBaseDir(string(s.Folder))
	}
	c.defaults()
	c.Cluster.Secret = s.Secret
	var errs []error
	for _, one := range all {
		if err := one.ApplyEnvVars(); err != nil {
			errs = append(errs, fmt.Errorf("CLUSTER_ variables of %s: %w", one.ConfigKey(), err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	c.apply(s)
	for _, one := range all {
		if err := one.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("CLUSTER_ variables of %s: %w", one.ConfigKey(), err))
		}
	}
	errs = append(errs, c.checkAllocation())
	return c, errors.Join(errs...)
}

// checkAllocation refuses metrics that no peer has: every pin with copies would fail.
func (c *Configs) checkAllocation() error {
	disk := c.Disk.MetricType.String()
	for _, by := range c.Allocator.AllocateBy {
		if tag, ok := strings.CutPrefix(by, "tag:"); by != disk && (!ok || tag == "") {
			return fmt.Errorf("CLUSTER_BALANCED_ALLOCATEBY: no peer has the metric %q: use %s, or tag:NAME with a tag of CLUSTER_TAGS_TAGS such as tag:%s, separated by commas", by, disk, zoneTag)
		}
	}
	return nil
}

func (c *Configs) defaults() {
	c.Cluster.ListenAddr = []ma.Multiaddr{ma.StringCast("/ip4/0.0.0.0/tcp/9096")} // private networks have no QUIC
	c.Cluster.EnableRelayHop = false
	c.Cluster.MDNSInterval = 0
	c.Cluster.MonitorPingInterval = pingInterval
	c.Cluster.PinRecoverInterval = recoverInterval
	c.Cluster.PubSub.HeartbeatInterval = heartbeatInterval
	c.Cluster.PubSub.FloodPublish = true
	c.Cluster.PubSub.DFactor = 1
	c.CRDT.TrustAll = false
	c.CRDT.RebroadcastInterval = rebroadcastInterval
	c.CRDT.RepairInterval = repairInterval
	c.CRDT.Batching.MaxBatchSize = maxGroup
	c.CRDT.Batching.MaxBatchAge = unusedBatchAge
	c.Monitor.CheckInterval = pingInterval
	c.IPFS.ConnectSwarmsDelay = 0 // kept connected by this package
	c.REST.MaxHeaderBytes = maxHeaderBytes
	if c.Pinning != nil {
		c.Pinning.MaxHeaderBytes = maxHeaderBytes
	}
	c.Allocator.AllocateBy = []string{"tag:" + zoneTag, "freespace"}
	c.Tags.Tags = nil
}

func (c *Configs) apply(s *settings.Settings) {
	c.Cluster.Peername = s.PeerName
	c.Cluster.Secret = s.Secret
	c.CRDT.TrustedPeers = s.Trusted
	c.CRDT.TrustAll = s.TrustAll
	c.REST.BasicAuthCredentials = nonEmpty(s.RESTCredentials)
	if c.Pinning != nil {
		c.Pinning.BasicAuthCredentials = nonEmpty(s.PinningCredentials)
	}
	if len(s.Peers) > 0 {
		// upstream: peerstore-file
		// The settings know every address. A file of remembered ones would only
		// bring back those that are no longer true.
		c.Cluster.SetBaseDir("")
	}
	if c.Tags.Tags == nil {
		c.Tags.Tags = map[string]string{}
	}
	if s.Zone != "" && c.Tags.Tags[zoneTag] == "" {
		c.Tags.Tags[zoneTag] = s.Zone
	}
	for _, by := range c.Allocator.AllocateBy {
		tag, ok := strings.CutPrefix(by, "tag:")
		if ok && c.Tags.Tags[tag] == "" {
			c.Tags.Tags[tag] = unknownAt
		}
	}
	if c.ownAllocation() != nil {
		// ipfs-cluster's own way of moving pins is off unless it is asked for. Ours
		// is on unless it is switched off.
		_, said := os.LookupEnv("CLUSTER_DISABLEREPINNING")
		c.Moves = !(said && c.Cluster.DisableRepinning) && !c.Cluster.FollowerMode
		c.Cluster.DisableRepinning = true
	}
	tracing := c.Tracing.EnableTracing
	c.Tracing.ClusterPeername = s.PeerName
	c.Cluster.Tracing, c.CRDT.Tracing, c.REST.Tracing, c.IPFS.Tracing = tracing, tracing, tracing, tracing
	if c.Pinning != nil {
		c.Pinning.Tracing = tracing
	}
}

// usesFreeSpace reports whether the allocator asks for the disk informer.
func (c *Configs) usesFreeSpace() bool {
	return slices.Contains(c.Allocator.AllocateBy, c.Disk.MetricType.String())
}

// ownAllocation returns the allocator of package spread if the metrics to
// allocate by are those that it knows, a tag and then perhaps the free space;
// nil if ipfs-cluster's own is asked for.
func (c *Configs) ownAllocation() *spread.Allocator {
	by := c.Allocator.AllocateBy
	if len(by) == 0 || len(by) > 2 || !strings.HasPrefix(by[0], "tag:") {
		return nil
	}
	if len(by) == 1 {
		return spread.NewAllocator(by[0], "")
	}
	if by[1] != c.Disk.MetricType.String() || by[1] != "freespace" {
		return nil
	}
	return spread.NewAllocator(by[0], by[1])
}

// nonEmpty maps "no credentials" to what ipfs-cluster takes for it: nil.
func nonEmpty(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}
