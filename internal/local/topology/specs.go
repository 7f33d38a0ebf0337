package topology

import (
	"path/filepath"
	"strings"
	"time"

	"github.com/ipfs-aws/ipfs-aws/internal/local/process"
)

// How long each kind of process may take for its own orderly end. All must fit
// in what stop grants: see stopEdge and the lines after it.
const (
	edgeDrain       = 4 * time.Second
	sidecarShutdown = 4 * time.Second
	nodeShutdown    = 8 * time.Second
)

// private are the variables that would steer our children past their
// settings, by prefix. AWS_ is passed on only to reach an S3 server that is
// not ours.
var private = []string{"IPFS_", "CLUSTER_", "LIBP2P_", "AWS_", "ROOT_", "VGW_", "LOGFILE=", "WEBHOOK="}

// childEnv is the caller's environment without what concerns our children,
// plus what is given as "NAME=value".
func (o *Options) childEnv(keep string, add ...string) []string {
	var env []string
next:
	for _, kv := range o.Env {
		for _, p := range private {
			if p != keep && strings.HasPrefix(kv, p) {
				continue next
			}
		}
		env = append(env, kv)
	}
	return append(env, add...)
}

func (u *up) logPath(name string) string { return u.folder.path("logs", name+".log") }

func (u *up) s3Spec() process.Spec {
	return process.Spec{
		Name: "the S3 server",
		Path: u.opt.binary("versitygw"),
		Args: []string{"--port", address(u.ports.S3), "--region", defaultRegion, "--keep-alive", "--quiet", "posix", u.folder.path("s3")},
		Env:  u.opt.childEnv("", "ROOT_ACCESS_KEY="+u.state.AccessKey, "ROOT_SECRET_KEY="+u.state.SecretKey),
		Log:  u.logPath("s3"),
	}
}

func (u *up) edgeSpec(config string) process.Spec {
	return process.Spec{
		Name: "the edge", Path: u.opt.Self, Args: []string{"edge", "--config", config},
		Env: u.opt.childEnv(""), Log: u.logPath("edge"),
	}
}

// nodeEnv is the environment of ipfs-aws on the given repo.
func (u *up) nodeEnv(repo string, add ...string) []string {
	add = append(add, "IPFS_PATH="+repo, "IPFS_TELEMETRY=off")
	if u.state.Blockstore != "s3" {
		return u.opt.childEnv("", add...)
	}
	if u.state.ExternalS3 {
		return u.opt.childEnv("AWS_", add...)
	}
	return u.opt.childEnv("", append(add,
		"AWS_ACCESS_KEY_ID="+u.state.AccessKey, "AWS_SECRET_ACCESS_KEY="+u.state.SecretKey,
		"AWS_REGION="+defaultRegion, "AWS_EC2_METADATA_DISABLED=true",
		// Files of the user's that would add settings of their own.
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")...)
}

func (u *up) initSpec(t *task, repo string) process.Spec {
	args := []string{"init", "--blockstore", u.state.Blockstore}
	if u.state.Blockstore == "s3" {
		args = append(args, "--bucket", u.state.Bucket, "--region", u.region, "--endpoint", u.s3Endpoint, "--prefix", t.name)
	}
	return process.Spec{
		Name: t.name + "'s `ipfs-aws init`", Path: u.opt.binary("ipfs-aws"), Args: args,
		Env: u.nodeEnv(repo), Log: u.logPath(t.name + "-ipfs"),
	}
}

func (u *up) nodeSpec(t *task) process.Spec {
	return process.Spec{
		Name: t.name + "'s ipfs-aws daemon", Path: u.opt.binary("ipfs-aws"), Args: []string{"daemon"},
		Env: u.nodeEnv(t.repo, "IPFS_HEALTH_ADDRESS="+address(t.ports.NodeHealth)),
		Log: u.logPath(t.name + "-ipfs"),
	}
}

func (u *up) sidecarSpec(t *task) process.Spec {
	var peers []string
	for _, other := range u.tasks {
		peers = append(peers, other.name+"="+multiaddr(other.ports.ClusterSwarm))
	}
	return process.Spec{
		Name: t.name + "'s cluster-aws sidecar", Path: u.opt.binary("cluster-aws"), Args: []string{"daemon"},
		Env: u.opt.childEnv("",
			"IPFS_CLUSTER_PATH="+filepath.Join(filepath.Dir(t.repo), "cluster"),
			"CLUSTER_PEERNAME="+t.name,
			"CLUSTER_SECRET="+u.state.ClusterSecret,
			"CLUSTER_SEED="+u.state.Seed,
			"CLUSTER_PEERS="+strings.Join(peers, ","),
			"CLUSTER_LISTENMULTIADDRESS="+multiaddr(t.ports.ClusterSwarm),
			"CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS="+multiaddr(t.ports.API),
			"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS="+u.state.User+":"+u.state.Password,
			"CLUSTER_IPFSHTTP_NODEMULTIADDRESS="+multiaddr(t.ports.RPC),
			"CLUSTER_HEALTH_ADDRESS="+address(t.ports.ClusterHealth),
			"CLUSTER_SHUTDOWN_TIMEOUT="+sidecarShutdown.String(),
		),
		Log: u.logPath(t.name + "-cluster"),
	}
}
