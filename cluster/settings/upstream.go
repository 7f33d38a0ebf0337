package settings

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// check returns what is wrong with a value and what would be accepted, or "".
type check func(value string) string

func isText(string) string { return "" }

func isDuration(v string) string {
	if d, err := time.ParseDuration(v); err != nil || d < 0 {
		return `must be a duration such as "90s" or "5m"`
	}
	return ""
}

func isPositiveDuration(v string) string {
	if d, err := time.ParseDuration(v); err != nil || d <= 0 {
		return `must be a duration above zero, such as "90s" or "5m"`
	}
	return ""
}

func isBool(v string) string {
	if _, err := strconv.ParseBool(v); err != nil {
		return "must be true or false"
	}
	return ""
}

func isCount(v string) string {
	if n, err := strconv.ParseInt(v, 10, 64); err != nil || n < 0 {
		return "must be a whole number, 0 or more"
	}
	return ""
}

func isPositive(v string) string {
	if n, err := strconv.ParseInt(v, 10, 64); err != nil || n <= 0 {
		return "must be a whole number, 1 or more"
	}
	return ""
}

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

func isOneOf(values ...string) check {
	return func(v string) string {
		if !slices.Contains(values, v) {
			return "must be one of: " + strings.Join(values, ", ")
		}
		return ""
	}
}

// refused settings would break a promise; the text says which.
func refused(why string) check { return func(string) string { return why } }

// unlessTrue accepts false and gives the reason for anything else.
func unlessTrue(why string) check {
	return func(v string) string {
		if b, err := strconv.ParseBool(v); err == nil && !b {
			return ""
		}
		return why
	}
}

// upstream lists the variables of ipfs-cluster 1.1.6 that have a meaning here,
// except those that [Load] reads itself. The names are what its configuration
// code looks for: the component's prefix and the setting's name without
// underscores.
var upstream = func() map[string]check {
	m := map[string]check{
		"CLUSTER_LISTENMULTIADDRESS":                   isMultiaddrs,
		"CLUSTER_ANNOUNCEMULTIADDRESS":                 isMultiaddrs,
		"CLUSTER_NOANNOUNCEMULTIADDRESS":               isMultiaddrs,
		"CLUSTER_ENABLERELAYHOP":                       isBool,
		"CLUSTER_CONNECTIONMANAGER_HIGHWATER":          isPositive,
		"CLUSTER_CONNECTIONMANAGER_LOWWATER":           isPositive,
		"CLUSTER_CONNECTIONMANAGER_GRACEPERIOD":        isPositiveDuration,
		"CLUSTER_RESOURCEMANAGER_ENABLED":              isBool,
		"CLUSTER_RESOURCEMANAGER_MEMORYLIMITBYTES":     isCount,
		"CLUSTER_RESOURCEMANAGER_FILEDESCRIPTORSLIMIT": isCount,
		"CLUSTER_PUBSUB_SEENMESSAGESTTL":               isPositiveDuration,
		"CLUSTER_PUBSUB_HEARTBEATINTERVAL":             isPositiveDuration,
		"CLUSTER_PUBSUB_DFACTOR":                       isPositive,
		"CLUSTER_PUBSUB_HISTORYGOSSIP":                 isPositive,
		"CLUSTER_PUBSUB_HISTORYLENGTH":                 isPositive,
		"CLUSTER_PUBSUB_FLOODPUBLISH":                  isBool,
		"CLUSTER_DIALPEERTIMEOUT":                      isPositiveDuration,
		"CLUSTER_STATESYNCINTERVAL":                    isPositiveDuration,
		"CLUSTER_PINRECOVERINTERVAL":                   isPositiveDuration,
		"CLUSTER_REPLICATIONFACTORMIN":                 isReplication,
		"CLUSTER_REPLICATIONFACTORMAX":                 isReplication,
		"CLUSTER_MONITORPINGINTERVAL":                  isPositiveDuration,
		"CLUSTER_PEERWATCHINTERVAL":                    isPositiveDuration,
		"CLUSTER_MDNSINTERVAL":                         isDuration,
		"CLUSTER_PINONLYONTRUSTEDPEERS":                isBool,
		"CLUSTER_PINONLYONUNTRUSTEDPEERS":              isBool,
		"CLUSTER_DISABLEREPINNING":                     isBool,
		"CLUSTER_FOLLOWERMODE":                         isBool,
		"CLUSTER_PEERSTOREFILE":                        isText,
		"CLUSTER_PEERADDRESSES":                        isPeerAddrs,
		"CLUSTER_LEAVEONSHUTDOWN": unlessTrue(
			"is not supported: with CRDT consensus, leaving deletes this peer's copy of the pinset at every shutdown; leave it unset"),

		"CLUSTER_CRDT_CLUSTERNAME":           isText,
		"CLUSTER_CRDT_REPAIRINTERVAL":        isDuration,
		"CLUSTER_CRDT_REBROADCASTINTERVAL":   isPositiveDuration,
		"CLUSTER_CRDT_PEERSETMETRIC":         isText,
		"CLUSTER_CRDT_DATASTORENAMESPACE":    isText,
		"CLUSTER_CRDT_BATCHING_MAXBATCHSIZE": isPositive,

		"CLUSTER_IPFSHTTP_NODEMULTIADDRESS":        isMultiaddr,
		"CLUSTER_IPFSHTTP_CONNECTSWARMSDELAY":      isDuration,
		"CLUSTER_IPFSHTTP_IPFSREQUESTTIMEOUT":      isDuration,
		"CLUSTER_IPFSHTTP_PINTIMEOUT":              isDuration,
		"CLUSTER_IPFSHTTP_UNPINTIMEOUT":            isDuration,
		"CLUSTER_IPFSHTTP_REPOGCTIMEOUT":           isDuration,
		"CLUSTER_IPFSHTTP_INFORMERTRIGGERINTERVAL": isCount,
		"CLUSTER_IPFSHTTP_UNPINDISABLE":            isBool,

		"CLUSTER_STATELESS_MAXPINQUEUESIZE":       isPositive,
		"CLUSTER_STATELESS_CONCURRENTPINS":        isPositive,
		"CLUSTER_STATELESS_PRIORITYPINMAXAGE":     isPositiveDuration,
		"CLUSTER_STATELESS_PRIORITYPINMAXRETRIES": isPositive,

		"CLUSTER_PUBSUBMON_CHECKINTERVAL": isPositiveDuration,
		"CLUSTER_BALANCED_ALLOCATEBY":     isText,
		"CLUSTER_DISK_METRICTTL":          isPositiveDuration,
		"CLUSTER_DISK_METRICTYPE":         isOneOf("freespace", "reposize"),
		"CLUSTER_TAGS_METRICTTL":          isPositiveDuration,
		"CLUSTER_TAGS_TAGS":               isPairs,

		"CLUSTER_TRACING_ENABLETRACING":       isBool,
		"CLUSTER_TRACING_JAEGERAGENTENDPOINT": isMultiaddr,
		"CLUSTER_TRACING_SAMPLINGPROB":        isShare,
		"CLUSTER_TRACING_SERVICENAME":         isText,
	}
	for _, api := range []string{"CLUSTER_RESTAPI_", "CLUSTER_PINSVCAPI_"} {
		m[api+"HTTPLISTENMULTIADDRESS"] = isMultiaddrs
		m[api+"SSLCERTFILE"] = isText
		m[api+"SSLKEYFILE"] = isText
		m[api+"READTIMEOUT"] = isDuration
		m[api+"READHEADERTIMEOUT"] = isDuration
		m[api+"WRITETIMEOUT"] = isDuration
		m[api+"IDLETIMEOUT"] = isDuration
		m[api+"MAXHEADERBYTES"] = isHeaderBytes
		m[api+"HTTPLOGFILE"] = isText
		m[api+"HEADERS"] = isPairs
		m[api+"CORSALLOWEDORIGINS"] = isText
		m[api+"CORSALLOWEDMETHODS"] = isText
		m[api+"CORSALLOWEDHEADERS"] = isText
		m[api+"CORSEXPOSEDHEADERS"] = isText
		m[api+"CORSALLOWCREDENTIALS"] = isBool
		m[api+"CORSMAXAGE"] = isDuration
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
	{"CLUSTER_RAFT_", "the consensus is always crdt"},
	{"CLUSTER_BADGER_", "the datastore is always pebble"},
	{"CLUSTER_BADGER3_", "the datastore is always pebble"},
	{"CLUSTER_LEVELDB_", "the datastore is always pebble"},
	{"CLUSTER_PEBBLE_", "the store's layout is fixed; see CLUSTER_STORE_CACHE_BYTES"},
	{"CLUSTER_PINQUEUE_", "the pinqueue informer is not part of this program"},
	{"CLUSTER_NUMPIN_", "the numpin informer is not part of this program"},
}
