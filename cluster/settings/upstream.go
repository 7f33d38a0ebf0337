package settings

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/ipfs-aws/ipfs-aws/internal/environ"
)

func isReplication(v string) string {
	if n, err := strconv.Atoi(v); err != nil || n < -1 || n == 0 {
		return "must be -1 (every peer) or the number of copies, 1 or more"
	}
	return ""
}

func isHeaderBytes(v string) string {
	if n, err := strconv.Atoi(v); err != nil || n < 4096 {
		return "must be a number of bytes, 4096 or more"
	}
	return ""
}

func isShare(v string) string {
	if f, err := strconv.ParseFloat(v, 64); err != nil || f < 0 || f > 1 {
		return "must be a number from 0 to 1"
	}
	return ""
}

func isMultiaddr(v string) string {
	if _, err := ma.NewMultiaddr(v); err != nil {
		return fmt.Sprintf(`must be a multiaddress such as "/ip4/127.0.0.1/tcp/9096" (%v)`, err)
	}
	return ""
}

func isMultiaddrs(v string) string {
	for _, one := range strings.Split(v, ",") {
		if _, err := ma.NewMultiaddr(one); err != nil {
			return fmt.Sprintf(`must be multiaddresses such as "/ip4/0.0.0.0/tcp/9096", separated by commas (%v)`, err)
		}
	}
	return ""
}

func isPeerAddrs(v string) string {
	for _, one := range strings.Split(v, ",") {
		a, err := ma.NewMultiaddr(one)
		if err == nil {
			_, err = peer.AddrInfoFromP2pAddr(a)
		}
		if err != nil {
			return `must be multiaddresses that end in /p2p/ and a peer ID, separated by commas`
		}
	}
	return ""
}

func isPeerIDs(v string) string {
	for _, one := range strings.Split(v, ",") {
		if one == "*" {
			continue
		}
		if _, err := peer.Decode(one); err != nil {
			return `must be peer IDs such as "12D3KooW…", separated by commas`
		}
	}
	return ""
}

func isPairs(v string) string {
	for _, one := range strings.Split(v, ",") {
		if strings.Count(one, ":") != 1 {
			return `must be pairs such as "az:us-east-1a,host:a", separated by commas`
		}
	}
	return ""
}

// refused settings would break a promise; the text says which.
func refused(why string) environ.Check { return func(string) string { return why } }

// unlessTrue accepts false and gives the reason for anything else.
func unlessTrue(why string) environ.Check {
	return func(v string) string {
		if b, err := strconv.ParseBool(v); err == nil && !b {
			return ""
		}
		return why
	}
}

// upstream: variables
// upstream lists the variables of ipfs-cluster 1.1.6 that have a meaning here,
// except those that [Load] reads itself. The names are what its configuration
// code looks for: the component's prefix and the setting's name without
// underscores.
var upstream = func() map[string]environ.Check {
	m := map[string]environ.Check{
		"CLUSTER_LISTENMULTIADDRESS":                   isMultiaddrs,
		"CLUSTER_ANNOUNCEMULTIADDRESS":                 isMultiaddrs,
		"CLUSTER_NOANNOUNCEMULTIADDRESS":               isMultiaddrs,
		"CLUSTER_ENABLERELAYHOP":                       environ.IsBool,
		"CLUSTER_CONNECTIONMANAGER_HIGHWATER":          environ.IsPositive,
		"CLUSTER_CONNECTIONMANAGER_LOWWATER":           environ.IsPositive,
		"CLUSTER_CONNECTIONMANAGER_GRACEPERIOD":        environ.IsPositiveDuration,
		"CLUSTER_RESOURCEMANAGER_ENABLED":              environ.IsBool,
		"CLUSTER_RESOURCEMANAGER_MEMORYLIMITBYTES":     environ.IsCount,
		"CLUSTER_RESOURCEMANAGER_FILEDESCRIPTORSLIMIT": environ.IsCount,
		"CLUSTER_PUBSUB_SEENMESSAGESTTL":               environ.IsPositiveDuration,
		"CLUSTER_PUBSUB_HEARTBEATINTERVAL":             environ.IsPositiveDuration,
		"CLUSTER_PUBSUB_DFACTOR":                       environ.IsPositive,
		"CLUSTER_PUBSUB_HISTORYGOSSIP":                 environ.IsPositive,
		"CLUSTER_PUBSUB_HISTORYLENGTH":                 environ.IsPositive,
		"CLUSTER_PUBSUB_FLOODPUBLISH":                  environ.IsBool,
		"CLUSTER_DIALPEERTIMEOUT":                      environ.IsPositiveDuration,
		"CLUSTER_STATESYNCINTERVAL":                    environ.IsPositiveDuration,
		"CLUSTER_PINRECOVERINTERVAL":                   environ.IsPositiveDuration,
		"CLUSTER_REPLICATIONFACTORMIN":                 isReplication,
		"CLUSTER_REPLICATIONFACTORMAX":                 isReplication,
		"CLUSTER_MONITORPINGINTERVAL":                  environ.IsPositiveDuration,
		"CLUSTER_PEERWATCHINTERVAL":                    environ.IsPositiveDuration,
		"CLUSTER_MDNSINTERVAL":                         environ.IsDuration,
		"CLUSTER_PINONLYONTRUSTEDPEERS":                environ.IsBool,
		"CLUSTER_PINONLYONUNTRUSTEDPEERS":              environ.IsBool,
		"CLUSTER_DISABLEREPINNING":                     environ.IsBool,
		"CLUSTER_FOLLOWERMODE":                         environ.IsBool,
		"CLUSTER_PEERSTOREFILE":                        environ.IsText,
		"CLUSTER_PEERADDRESSES":                        isPeerAddrs,
		"CLUSTER_LEAVEONSHUTDOWN": unlessTrue(
			"is not supported: with CRDT consensus, leaving deletes this peer's copy of the pinset at every shutdown; leave it unset"),

		"CLUSTER_CRDT_CLUSTERNAME":           environ.IsText,
		"CLUSTER_CRDT_REPAIRINTERVAL":        environ.IsDuration,
		"CLUSTER_CRDT_REBROADCASTINTERVAL":   environ.IsPositiveDuration,
		"CLUSTER_CRDT_PEERSETMETRIC":         environ.IsText,
		"CLUSTER_CRDT_DATASTORENAMESPACE":    environ.IsText,
		"CLUSTER_CRDT_BATCHING_MAXBATCHSIZE": environ.IsPositive,

		"CLUSTER_IPFSHTTP_NODEMULTIADDRESS":   isMultiaddr,
		"CLUSTER_IPFSHTTP_CONNECTSWARMSDELAY": environ.IsDuration,
		"CLUSTER_IPFSHTTP_IPFSREQUESTTIMEOUT": environ.IsDuration,
		"CLUSTER_IPFSHTTP_PINTIMEOUT":         environ.IsDuration,
		"CLUSTER_IPFSHTTP_UNPINTIMEOUT":       environ.IsDuration,
		"CLUSTER_IPFSHTTP_REPOGCTIMEOUT":      environ.IsDuration,
		"CLUSTER_IPFSHTTP_UNPINDISABLE":       environ.IsBool,

		"CLUSTER_STATELESS_MAXPINQUEUESIZE":       environ.IsPositive,
		"CLUSTER_STATELESS_CONCURRENTPINS":        environ.IsPositive,
		"CLUSTER_STATELESS_PRIORITYPINMAXAGE":     environ.IsPositiveDuration,
		"CLUSTER_STATELESS_PRIORITYPINMAXRETRIES": environ.IsPositive,

		"CLUSTER_PUBSUBMON_CHECKINTERVAL": environ.IsPositiveDuration,
		"CLUSTER_BALANCED_ALLOCATEBY":     environ.IsText,
		"CLUSTER_DISK_METRICTTL":          environ.IsPositiveDuration,
		"CLUSTER_DISK_METRICTYPE":         environ.IsOneOf("freespace", "reposize"),
		"CLUSTER_TAGS_METRICTTL":          environ.IsPositiveDuration,
		"CLUSTER_TAGS_TAGS":               isPairs,

		"CLUSTER_TRACING_ENABLETRACING":       environ.IsBool,
		"CLUSTER_TRACING_JAEGERAGENTENDPOINT": isMultiaddr,
		"CLUSTER_TRACING_SAMPLINGPROB":        isShare,
		"CLUSTER_TRACING_SERVICENAME":         environ.IsText,
	}
	for _, api := range []string{"CLUSTER_RESTAPI_", "CLUSTER_PINSVCAPI_"} {
		m[api+"HTTPLISTENMULTIADDRESS"] = isMultiaddrs
		m[api+"SSLCERTFILE"] = environ.IsText
		m[api+"SSLKEYFILE"] = environ.IsText
		m[api+"READTIMEOUT"] = environ.IsDuration
		m[api+"READHEADERTIMEOUT"] = environ.IsDuration
		m[api+"WRITETIMEOUT"] = environ.IsDuration
		m[api+"IDLETIMEOUT"] = environ.IsDuration
		m[api+"MAXHEADERBYTES"] = isHeaderBytes
		m[api+"HTTPLOGFILE"] = environ.IsText
		m[api+"HEADERS"] = isPairs
		m[api+"CORSALLOWEDORIGINS"] = environ.IsText
		m[api+"CORSALLOWEDMETHODS"] = environ.IsText
		m[api+"CORSALLOWEDHEADERS"] = environ.IsText
		m[api+"CORSEXPOSEDHEADERS"] = environ.IsText
		m[api+"CORSALLOWCREDENTIALS"] = environ.IsBool
		m[api+"CORSMAXAGE"] = environ.IsDuration
		for _, name := range []string{"LIBP2PLISTENMULTIADDRESS", "ID", "PRIVATEKEY"} {
			m[api+name] = refused("is not supported: the API is reached over HTTP only; leave it unset")
		}
	}
	return m
}()

// ineffective lists variables, or their prefixes, that ipfs-cluster reads and
// this program does not, with the reason for the warning.
var ineffective = []struct{ prefix, why string }{
	{"CLUSTER_IPFSPROXY_", "the IPFS proxy is never started, because it would be open to everybody"},
	{"CLUSTER_METRICS_", "metrics are always on, at /metrics of CLUSTER_HEALTH_ADDRESS"},
	{"CLUSTER_CRDT_BATCHING_MAXBATCHAGE", "a pin waits for no timer: what arrives while a change is written becomes the next one"},
	{"CLUSTER_CRDT_BATCHING_MAXQUEUESIZE", "a pin is answered when it is on disk, so the clients that wait are the queue"},
	{"CLUSTER_IPFSHTTP_INFORMERTRIGGERINTERVAL", "the free space is announced at intervals only, not after pins"},
	{"CLUSTER_RAFT_", "the consensus is always crdt"},
	{"CLUSTER_BADGER_", "the datastore is always pebble"},
	{"CLUSTER_BADGER3_", "the datastore is always pebble"},
	{"CLUSTER_LEVELDB_", "the datastore is always pebble"},
	{"CLUSTER_PEBBLE_", "the store's layout is fixed; see CLUSTER_STORE_CACHE_BYTES"},
	{"CLUSTER_PINQUEUE_", "the pinqueue informer is not part of this program"},
	{"CLUSTER_NUMPIN_", "the numpin informer is not part of this program"},
}
