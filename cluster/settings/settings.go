package settings

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/ipfs-aws/ipfs-aws/cluster/self/folder"
	"github.com/ipfs-aws/ipfs-aws/cluster/self/identity"
	"github.com/ipfs-aws/ipfs-aws/internal/environ"
)

// Defaults of the settings that ipfs-cluster does not have.
const (
	// DefaultNodeWait is longer than a node needs that makes its index anew from
	// 10,000 packs in a bucket; containers start in order anyway.
	DefaultNodeWait = 5 * time.Minute
	// DefaultShutdownTimeout stays below the 120 s that ECS grants at most.
	DefaultShutdownTimeout = 100 * time.Second
	// DefaultReadyMinPeers is 1, this peer itself: when all others are dead, the
	// one that is left must still be given the traffic.
	DefaultReadyMinPeers = 1
	// DefaultReallocationDelay is longer than it takes ECS to replace a task: some
	// minutes, and nothing is copied for a deployment.
	DefaultReallocationDelay = 10 * time.Minute
	// DefaultReallocationRate lets three peers move the 100,000 pins of a fourth
	// in half an hour; in that time each takes 20 of them a second in addition
	// to what its clients send, which is a fraction of what it can.
	DefaultReallocationRate = 20

	defaultRESTAddress    = "/ip4/127.0.0.1/tcp/9094"
	defaultPinningAddress = "/ip4/127.0.0.1/tcp/9097"
)

// The settings that say who and where this peer is. On ECS they come from the
// task's metadata if they are not set.
const (
	PeerNameVariable = "CLUSTER_PEERNAME"
	ZoneVariable     = "CLUSTER_ZONE"
	TaskIDVariable   = "CLUSTER_TASK_ID"
)

// Peer is one entry of CLUSTER_PEERS.
type Peer struct {
	// Name is the peer's name, which with the seed makes its ID.
	Name string
	// Addr is where it listens, without /p2p/. It may hold a DNS name, which is
	// resolved at every attempt to connect.
	Addr ma.Multiaddr
	// ID is computed from the seed, or was part of the address.
	ID peer.ID
}

// Settings are the checked settings of one peer.
type Settings struct {
	// Folder is the peer's folder (IPFS_CLUSTER_PATH), absolute.
	Folder folder.Folder
	// PeerName is this peer's name (CLUSTER_PEERNAME, or the host's name).
	PeerName string
	// Zone is where this peer stands (CLUSTER_ZONE); copies of a pin go to
	// different zones. Empty if nobody says.
	Zone string
	// TaskID names the running instance, for logs and metrics (CLUSTER_TASK_ID).
	TaskID string
	// Secret is the 32-byte key of the private network (CLUSTER_SECRET).
	Secret []byte
	// Seed is the identity seed (CLUSTER_SEED); zero without one.
	Seed identity.Seed
	// Identity is this peer's, computed from the seed or given by CLUSTER_ID and
	// CLUSTER_PRIVATEKEY; nil if it is the folder's to keep.
	Identity *identity.Identity
	// Peers is CLUSTER_PEERS, own entry included, in the order given.
	Peers []Peer
	// Trusted lists the peers that may change the pinset besides this one.
	Trusted []peer.ID
	// TrustAll is set by CLUSTER_CRDT_TRUSTEDPEERS=* (never with a seed).
	TrustAll bool

	// RESTCredentials maps users to passwords; empty only if the REST API
	// listens on nothing but loopback.
	RESTCredentials map[string]string
	// PinningService says whether the pinning service API runs.
	PinningService bool
	// PinningCredentials are never empty when PinningService is set.
	PinningCredentials map[string]string

	// CloudWatchStack is the stack whose metrics go to the log for CloudWatch
	// (CLUSTER_CLOUDWATCH_STACK); empty for none.
	CloudWatchStack string
	// HealthAddress is host:port of the health listener; empty for none.
	HealthAddress string
	// ReadyMinPeers is how many peers, this one included, must be seen for this
	// one to be ready.
	ReadyMinPeers int
	// NodeWait is how long the IPFS node may take to answer for the first time.
	NodeWait time.Duration
	// ShutdownTimeout bounds the orderly shutdown.
	ShutdownTimeout time.Duration
	// ReallocationDelay is how long a peer must be away before others take its
	// pins, and there before it gets them back.
	ReallocationDelay time.Duration
	// ReallocationRate is how many pins a second this peer moves at most.
	ReallocationRate int
	// StoreCacheBytes bounds the store's block cache; 0 for the default.
	StoreCacheBytes int64
	// LogLevel is the level of the program's own log lines.
	LogLevel string

	// Warnings are lines for the operator about settings that have no effect.
	Warnings []string
}

// Secrets names the variables that hold secrets. Each may be given in a file
// instead: the same name with _FILE appended.
var Secrets = []string{
	"CLUSTER_SECRET",
	"CLUSTER_SEED",
	"CLUSTER_PRIVATEKEY",
	"CLUSTER_RESTAPI_BASICAUTHCREDENTIALS",
	"CLUSTER_PINSVCAPI_BASICAUTHCREDENTIALS",
}

// own lists the other variables that Load reads itself.
var own = []string{
	PeerNameVariable,
	ZoneVariable,
	TaskIDVariable,
	"CLUSTER_PEERS",
	"CLUSTER_ID",
	"CLUSTER_CRDT_TRUSTEDPEERS",
	"CLUSTER_PINSVCAPI_ENABLED",
	"CLUSTER_CLOUDWATCH_STACK",
	"CLUSTER_HEALTH_ADDRESS",
	"CLUSTER_READY_MIN_PEERS",
	"CLUSTER_NODE_WAIT",
	"CLUSTER_SHUTDOWN_TIMEOUT",
	"CLUSTER_REALLOCATION_DELAY",
	"CLUSTER_REALLOCATION_RATE",
	"CLUSTER_STORE_CACHE_BYTES",
	"CLUSTER_LOGLEVEL",
}

// Names are all variables that [Load] knows, sorted, without the _FILE forms of
// secrets and without those that have no effect.
func Names() []string {
	names := slices.Concat(Secrets, own, slices.Collect(maps.Keys(upstream)))
	slices.Sort(names)
	return names
}

var logLevels = []string{"debug", "info", "warn", "error"}

// loader collects problems and warnings while it reads.
type loader struct {
	*environ.Reader
	warnings []string
}

func newLoader(env []string) *loader { return &loader{Reader: environ.New(env)} }

// Load reads and checks the settings in an environment (as [os.Environ] gives
// it). If anything is wrong the error is an [environ.Problems] that holds all of it.
// A variable that is set but empty counts as not set.
func Load(env []string) (*Settings, error) {
	l := newLoader(env)
	s := &Settings{
		PeerName:          l.peerName(),
		Folder:            l.folder(),
		Secret:            l.networkSecret(),
		Seed:              l.seed(),
		CloudWatchStack:   l.word("CLUSTER_CLOUDWATCH_STACK"),
		HealthAddress:     l.HostPort("CLUSTER_HEALTH_ADDRESS"),
		ReadyMinPeers:     int(l.Number("CLUSTER_READY_MIN_PEERS", DefaultReadyMinPeers, environ.IsPositive)),
		StoreCacheBytes:   l.Number("CLUSTER_STORE_CACHE_BYTES", 0, environ.IsPositive),
		NodeWait:          l.Duration("CLUSTER_NODE_WAIT", DefaultNodeWait),
		ShutdownTimeout:   l.Duration("CLUSTER_SHUTDOWN_TIMEOUT", DefaultShutdownTimeout),
		ReallocationDelay: l.Duration("CLUSTER_REALLOCATION_DELAY", DefaultReallocationDelay),
		ReallocationRate:  int(l.Number("CLUSTER_REALLOCATION_RATE", DefaultReallocationRate, environ.IsPositive)),
		Zone:              l.word(ZoneVariable),
		TaskID:            l.word(TaskIDVariable),
		LogLevel:          l.Choice("CLUSTER_LOGLEVEL", "info", logLevels),
	}
	l.identify(s)
	l.peers(s)
	l.trust(s)
	l.apis(s)
	l.upstream()
	if max := len(s.Peers); max > 0 && s.ReadyMinPeers > max {
		l.Bad("CLUSTER_READY_MIN_PEERS", strconv.Itoa(s.ReadyMinPeers), "must be at most the number of peers in CLUSTER_PEERS, %d", max)
	}
	s.Warnings = l.warnings
	if err := l.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// LoadFolder reads only where the peer's folder is and how to log, for commands
// that work on the folder alone.
func LoadFolder(env []string) (*Settings, error) {
	l := newLoader(env)
	s := &Settings{
		Folder:          l.folder(),
		StoreCacheBytes: l.Number("CLUSTER_STORE_CACHE_BYTES", 0, environ.IsPositive),
		LogLevel:        l.Choice("CLUSTER_LOGLEVEL", "info", logLevels),
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// API is how a program next to the peer reaches its REST API.
type API struct {
	// Addr is the first address that the API listens on; where that is every
	// interface, the loopback one.
	Addr ma.Multiaddr
	// User and Password are those of the first user in the alphabet; empty without any.
	User, Password string
	// TLS says that the API wants HTTPS. Its certificate names the public host.
	TLS bool
}

// LoadAPI reads where the peer's REST API is, for clients in the same container.
func LoadAPI(env []string) (API, error) {
	const listen = "CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS"
	l := newLoader(env)
	v := l.Value(listen)
	if v == "" {
		v = defaultRESTAddress
	}
	first, _, _ := strings.Cut(v, ",")
	addr, err := ma.NewMultiaddr(strings.TrimSpace(first))
	if err != nil {
		l.Bad(listen, v, `must be multiaddresses such as %q (%v)`, defaultRESTAddress, err)
	} else if manet.IsIPUnspecified(addr) {
		loopback := "/ip4/127.0.0.1"
		if addr[0].Protocol().Code == ma.P_IP6 {
			loopback = "/ip6/::1"
		}
		addr = ma.Join(ma.StringCast(loopback), addr[1:])
	}
	api := API{Addr: addr, TLS: l.Value("CLUSTER_RESTAPI_SSLCERTFILE") != ""}
	credentials := l.credentials("CLUSTER_RESTAPI_BASICAUTHCREDENTIALS")
	for _, user := range slices.Sorted(maps.Keys(credentials)) {
		api.User, api.Password = user, credentials[user]
		break
	}
	if err := l.Err(); err != nil {
		return API{}, err
	}
	return api, nil
}

// LoadNames reads what determines peer IDs, for the command that prints them:
// the seed, this peer's name (empty if it is not set) and the peers' names.
func LoadNames(env []string) (seed identity.Seed, names []string, err error) {
	l := newLoader(env)
	seed = l.seed()
	if seed.IsZero() && l.Problems() == 0 {
		l.Bad("CLUSTER_SEED", "", "is not set; peer IDs can be computed only from a seed (set CLUSTER_SEED or CLUSTER_SEED_FILE)")
	}
	for _, p := range l.peerList() {
		names = append(names, p.Name)
	}
	if own := l.Value("CLUSTER_PEERNAME"); own != "" && !slices.Contains(names, own) {
		names = append(names, own)
	}
	if err := l.Err(); err != nil {
		return identity.Seed{}, nil, err
	}
	return seed, names, nil
}

// word returns the value of a setting that names something.
func (l *loader) word(name string) string {
	v := l.Value(name)
	if strings.ContainsAny(v, ":, \t\r\n") {
		l.Bad(name, v, `must not contain blanks, ":" or ","`)
	}
	return v
}

func (l *loader) peerName() string {
	if name := l.Value("CLUSTER_PEERNAME"); name != "" {
		if strings.ContainsAny(name, "=,/ \t\r\n") {
			l.Bad("CLUSTER_PEERNAME", name, `must not contain blanks, "=", "," or "/"`)
		}
		return name
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		l.Bad("CLUSTER_PEERNAME", "", "is not set and the host has no name; give this peer a name")
	}
	return name
}

func (l *loader) folder() folder.Folder {
	path := l.Value("IPFS_CLUSTER_PATH")
	if path == "" {
		home := l.Value("HOME")
		if home == "" {
			l.Bad("IPFS_CLUSTER_PATH", "", "is not set and there is no home directory; name the folder of this peer")
			return ""
		}
		path = filepath.Join(home, ".ipfs-cluster")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		l.Bad("IPFS_CLUSTER_PATH", path, "must be the path of a folder (%v)", err)
		return ""
	}
	if st, err := os.Stat(abs); err == nil && !st.IsDir() {
		l.Bad("IPFS_CLUSTER_PATH", path, "is a file; it must be the path of a folder, which may be missing")
	}
	return folder.Folder(abs)
}

func (l *loader) networkSecret() []byte {
	const how = `make one with: openssl rand -hex 32`
	if !l.Given("CLUSTER_SECRET") {
		l.Bad("CLUSTER_SECRET", "", "is not set; it must be the cluster's shared secret, 64 hexadecimal digits (or CLUSTER_SECRET_FILE the file that holds it); %s", how)
		return nil
	}
	v, from := l.Secret("CLUSTER_SECRET")
	if v == "" {
		return nil
	}
	raw, err := hex.DecodeString(v)
	if err != nil || len(raw) != 32 {
		l.Bad(from, "", "must be 64 hexadecimal digits (32 bytes), and what it holds is not (%d characters); %s", len(v), how)
		return nil
	}
	return raw
}

func (l *loader) seed() identity.Seed {
	v, from := l.Secret("CLUSTER_SEED")
	if v == "" {
		return identity.Seed{}
	}
	seed, err := identity.NewSeed([]byte(v))
	if err != nil {
		l.Bad(from, "", "%v; make one with: openssl rand -hex 32", err)
	}
	return seed
}

// identify settles who this peer is, as far as the environment says.
func (l *loader) identify(s *Settings) {
	id := l.Value("CLUSTER_ID")
	if l.Given("CLUSTER_SEED") {
		for _, name := range []string{"CLUSTER_ID", "CLUSTER_PRIVATEKEY", "CLUSTER_PRIVATEKEY_FILE"} {
			if l.Value(name) != "" {
				l.Bad(name, "", "is set together with CLUSTER_SEED, which already determines this peer's identity: set one of the two")
			}
		}
		if !s.Seed.IsZero() && s.PeerName != "" {
			derived, err := s.Seed.Identity(s.PeerName)
			if err != nil {
				l.Bad("CLUSTER_SEED", "", "%v", err)
				return
			}
			s.Identity = &derived
		}
		return
	}
	switch {
	case id == "" && !l.Given("CLUSTER_PRIVATEKEY"):
		return
	case id == "":
		l.Bad("CLUSTER_ID", "", "is not set, but CLUSTER_PRIVATEKEY is: set both, or neither")
		return
	case !l.Given("CLUSTER_PRIVATEKEY"):
		l.Bad("CLUSTER_PRIVATEKEY", "", "is not set, but CLUSTER_ID is: set both, or neither (a seed in CLUSTER_SEED needs neither)")
		return
	}
	pid, err := peer.Decode(id)
	if err != nil {
		l.Bad("CLUSTER_ID", id, `must be a peer ID such as "12D3KooW…" (%v)`, err)
	}
	v, from := l.Secret("CLUSTER_PRIVATEKEY")
	if v == "" {
		return
	}
	raw, kerr := base64.StdEncoding.DecodeString(v)
	var key crypto.PrivKey
	if kerr == nil {
		key, kerr = crypto.UnmarshalPrivateKey(raw)
	}
	switch {
	case kerr != nil:
		l.Bad(from, "", "must be a libp2p private key in base64, as in ipfs-cluster's identity.json")
	case err == nil && !pid.MatchesPrivateKey(key):
		l.Bad("CLUSTER_ID", id, "is not the ID of the key in %s", from)
	case err == nil:
		s.Identity = &identity.Identity{ID: pid, Key: key}
	}
}

// peerList parses CLUSTER_PEERS; IDs are set only where addresses hold them.
func (l *loader) peerList() []Peer {
	const name = "CLUSTER_PEERS"
	var list []Peer
	seen := map[string]bool{}
	for _, entry := range strings.Split(l.Value(name), ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		peerName, text, ok := strings.Cut(entry, "=")
		if !ok || peerName == "" || strings.ContainsAny(peerName, "/ \t\r\n") {
			l.Bad(name, entry, "must be a list of name=multiaddress, separated by commas, such as task-1=/dns4/task-1.internal/tcp/9096")
			continue
		}
		if seen[peerName] {
			l.Bad(name, entry, "names the peer %q twice; every peer needs a name of its own", peerName)
			continue
		}
		seen[peerName] = true
		addr, err := ma.NewMultiaddr(text)
		if err != nil {
			l.Bad(name, entry, "must hold a multiaddress such as /dns4/task-1.internal/tcp/9096 after the name (%v)", err)
			continue
		}
		transport, id := peer.SplitAddr(addr)
		if transport == nil {
			l.Bad(name, entry, "must hold an address to dial, such as /dns4/task-1.internal/tcp/9096")
			continue
		}
		list = append(list, Peer{Name: peerName, Addr: transport, ID: id})
	}
	return list
}

func (l *loader) peers(s *Settings) {
	const name = "CLUSTER_PEERS"
	before := l.Problems()
	s.Peers = l.peerList()
	if l.Problems() > before || len(s.Peers) == 0 {
		return
	}
	if !slices.ContainsFunc(s.Peers, func(p Peer) bool { return p.Name == s.PeerName }) {
		l.Bad(name, l.Value(name), "does not name this peer, %q (CLUSTER_PEERNAME): list all peers, this one included", s.PeerName)
	}
	for i, p := range s.Peers {
		if l.Given("CLUSTER_SEED") {
			if s.Seed.IsZero() {
				continue // reported already
			}
			derived, err := s.Seed.Identity(p.Name)
			switch {
			case err != nil:
				l.Bad(name, p.Name, "%v", err)
			case p.ID != "" && p.ID != derived.ID:
				l.Bad(name, p.ID.String(), "is not the ID that the seed gives the peer %q, %s: leave /p2p/… away", p.Name, derived.ID)
			}
			s.Peers[i].ID = derived.ID
		} else if p.ID == "" && p.Name != s.PeerName {
			l.Bad(name, p.Name+"="+p.Addr.String(), "must end in /p2p/ and the peer's ID, because there is no CLUSTER_SEED to compute it from")
		}
	}
}

func (l *loader) trust(s *Settings) {
	const name = "CLUSTER_CRDT_TRUSTEDPEERS"
	self := peer.ID("")
	if s.Identity != nil {
		self = s.Identity.ID
	}
	add := func(id peer.ID) {
		if id != "" && id != self && !slices.Contains(s.Trusted, id) {
			s.Trusted = append(s.Trusted, id)
		}
	}
	for _, p := range s.Peers {
		add(p.ID)
	}
	v := l.Value(name)
	if v == "" {
		return
	}
	if want := isPeerIDs(v); want != "" {
		l.Bad(name, v, "%s", want)
		return
	}
	for _, one := range strings.Split(v, ",") {
		if one == "*" {
			if l.Given("CLUSTER_SEED") {
				l.Bad(name, v, "must not contain * together with CLUSTER_SEED: the seed determines whom to trust")
				return
			}
			s.TrustAll = true
			l.warnings = append(l.warnings, name+"=*: every process that knows CLUSTER_SECRET can change the pinset; set CLUSTER_SEED and CLUSTER_PEERS to trust the cluster's peers only")
			continue
		}
		id, err := peer.Decode(one)
		if err != nil {
			l.Bad(name, one, "must be a peer ID (%v)", err)
			return
		}
		add(id)
	}
}

// credentials parses user:password pairs, separated by commas or, in a file,
// by line ends. A password may contain colons.
func (l *loader) credentials(name string) map[string]string {
	v, from := l.Secret(name)
	if v == "" {
		return nil
	}
	out := map[string]string{}
	for i, pair := range strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
		user, password, ok := strings.Cut(strings.TrimSpace(pair), ":")
		switch {
		case !ok:
			l.Bad(from, "", "must be user:password, or several of them separated by commas; entry %d has no colon", i+1)
		case user == "" || password == "":
			l.Bad(from, "", "must be user:password, or several of them separated by commas; entry %d has an empty user or password", i+1)
		case out[user] != "":
			l.Bad(from, "", "names the user of entry %d twice", i+1)
		default:
			out[user] = password
		}
	}
	return out
}

func (l *loader) apis(s *Settings) {
	const restListen, pinningListen = "CLUSTER_RESTAPI_HTTPLISTENMULTIADDRESS", "CLUSTER_PINSVCAPI_HTTPLISTENMULTIADDRESS"
	const restCreds, pinningCreds = "CLUSTER_RESTAPI_BASICAUTHCREDENTIALS", "CLUSTER_PINSVCAPI_BASICAUTHCREDENTIALS"
	s.RESTCredentials = l.credentials(restCreds)
	if !l.Given(restCreds) {
		for _, a := range l.beyondLoopback(restListen, defaultRESTAddress) {
			l.Bad(restListen, a, "is reachable from other hosts, and there are no credentials: set %s=user:password (or %s_FILE), or listen on loopback, such as %s", restCreds, restCreds, defaultRESTAddress)
		}
	}
	if v := l.Value("CLUSTER_PINSVCAPI_ENABLED"); v != "" {
		b, err := strconv.ParseBool(v)
		if err != nil {
			l.Bad("CLUSTER_PINSVCAPI_ENABLED", v, "must be true or false")
		}
		s.PinningService = b
	}
	s.PinningCredentials = l.credentials(pinningCreds)
	if !l.Given(pinningCreds) {
		s.PinningCredentials = s.RESTCredentials
	}
	if s.PinningService && !l.Given(pinningCreds) && !l.Given(restCreds) {
		l.Bad("CLUSTER_PINSVCAPI_ENABLED", "true", "needs credentials: set %s=user:password (or %s_FILE)", restCreds, restCreds)
	}
	if !s.PinningService && (l.Value(pinningListen) != "" || l.Given(pinningCreds)) {
		l.warnings = append(l.warnings, "the pinning service API is off, its settings have no effect; CLUSTER_PINSVCAPI_ENABLED=true switches it on")
	}
}

// beyondLoopback returns the addresses in a variable that other hosts can
// reach. Addresses that do not parse are left to the table's check.
func (l *loader) beyondLoopback(name, def string) []string {
	v := l.Value(name)
	if v == "" {
		v = def
	}
	var out []string
	for _, one := range strings.Split(v, ",") {
		a, err := ma.NewMultiaddr(strings.TrimSpace(one))
		if err != nil {
			continue
		}
		if !manet.IsIPLoopback(a) {
			out = append(out, one)
		}
	}
	return out
}

// upstream checks ipfs-cluster's own variables and looks for stray ones.
func (l *loader) upstream() {
names:
	for _, name := range l.Names("CLUSTER_") {
		if is, ok := upstream[name]; ok {
			if want := is(l.Value(name)); want != "" {
				value := l.Value(name)
				if strings.HasSuffix(name, "_PRIVATEKEY") {
					value = ""
				}
				l.Bad(name, value, "%s", want)
			}
			continue
		}
		if slices.Contains(own, name) || slices.Contains(Secrets, strings.TrimSuffix(name, "_FILE")) {
			continue
		}
		for _, x := range ineffective {
			if strings.HasPrefix(name, x.prefix) {
				l.warnings = append(l.warnings, fmt.Sprintf("%s has no effect: %s", name, x.why))
				continue names
			}
		}
		unknown := name + " has no effect: no setting has this name"
		if meant, ok := environ.Nearest(name, Names()); ok {
			unknown += "; did you mean " + meant + "?"
		}
		l.warnings = append(l.warnings, unknown)
	}
	min, max := l.Value("CLUSTER_REPLICATIONFACTORMIN"), l.Value("CLUSTER_REPLICATIONFACTORMAX")
	lo, errLo := strconv.Atoi(min)
	hi, errHi := strconv.Atoi(max)
	switch {
	case (min == "") != (max == ""):
		l.Bad("CLUSTER_REPLICATIONFACTORMIN", min, "must be set together with CLUSTER_REPLICATIONFACTORMAX")
	case errLo == nil && errHi == nil && (lo > hi || (lo == -1) != (hi == -1)):
		l.Bad("CLUSTER_REPLICATIONFACTORMIN", min, "must not be above CLUSTER_REPLICATIONFACTORMAX (%d), and either both are -1 or none", hi)
	}
}

// TakeSecrets removes the variables that hold secrets from the process's
// environment, so that neither the components' configuration code nor a child
// process sees them. Call it after [Load].
func TakeSecrets() error { return environ.Take(Secrets...) }
