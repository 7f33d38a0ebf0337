package infra

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Version is the tag of the images that a stack runs unless somebody names
// others.
const Version = "0.1.0-dev"

// Kinds of storage.
const (
	OneZone  = "onezone"  // an EFS file system in each zone, as in the reference
	Standard = "standard" // one EFS file system for all zones
	S3       = "s3"       // blocks in a bucket, journals on EFS
)

// Options is what is decided when a template is made; all else is a parameter of
// the template. Those marked (default) are parameters too: the option is the
// default.
type Options struct {
	Storage       string
	X86           bool
	Nodes         int       // per zone
	Egress        string    // public or nat
	Existing      bool      // the network: a VPC and subnets that the user has, or one of the stack's own
	Private       bool      // a swarm of its own, with a key
	Zones         [3]string // (default) names, such as us-east-1a; empty: asked at launch
	Throughput    string    // (default) of EFS
	MiBps         int       // (default) of provisioned throughput
	GatewayDomain string    // (default)
	APIDomain     string    // (default)
	Certificate   string    // (default) for both domains
	NodeImage     string    // (default)
	ClusterImage  string    // (default)
}

// keys are the names of the options, as in `storage=s3` and `cdk -c storage=s3`.
var keys = []string{"storage", "cpu", "nodes", "egress", "network", "private", "zones", "throughput", "mibps", "gateway-domain", "api-domain", "certificate", "node-image", "cluster-image"}

var (
	domainName  = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$`)
	zoneName    = regexp.MustCompile(`^[a-z]+(-[a-z]+)+-[0-9]+[a-z]$`)
	certificate = regexp.MustCompile(`^arn:aws[a-z-]*:acm:us-east-1:[0-9]{12}:certificate/[0-9a-f-]+$`)
)

// Parse reads options: first those of context (nil, or what cdk was given with
// -c), then words of the form key=value. All that is wrong is one error of one
// line.
func Parse(context func(key string) string, words []string) (Options, error) {
	o := Options{Storage: OneZone, Nodes: 1, Egress: "public"}
	values := map[string]string{}
	if context != nil {
		for _, k := range keys {
			if v := context(k); v != "" {
				values[k] = v
			}
		}
	}
	var wrong []string
	bad := func(key, want string) { wrong = append(wrong, fmt.Sprintf("%s=%s: %s", key, values[key], want)) }
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || !slices.Contains(keys, k) {
			wrong = append(wrong, fmt.Sprintf("%s: no option; there are %s, each as key=value", w, strings.Join(keys, ", ")))
			continue
		}
		values[k] = v
	}
	oneOf := func(key string, target *string, accepted ...string) {
		switch v, set := values[key]; {
		case !set:
		case slices.Contains(accepted, v):
			*target = v
		default:
			bad(key, "must be "+strings.Join(accepted, " or "))
		}
	}
	number := func(key string, target *int, least, most int) {
		v, set := values[key]
		if !set {
			return
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			bad(key, fmt.Sprintf("must be a number from %d to %d", least, most))
			return
		}
		*target = n
	}
	cpu, private, network := "arm64", "false", "own"
	oneOf("storage", &o.Storage, OneZone, Standard, S3)
	// With S3 too, where there are only journals: 1 MiB/s comes in whatever the size,
	// that is 2.6 TiB a month and node.
	o.Throughput = "bursting"
	oneOf("cpu", &cpu, "arm64", "x86")
	oneOf("egress", &o.Egress, "public", "nat")
	oneOf("network", &network, "own", "existing")
	oneOf("private", &private, "true", "false")
	oneOf("throughput", &o.Throughput, "bursting", "elastic", "provisioned")
	number("nodes", &o.Nodes, 1, 5)
	number("mibps", &o.MiBps, 1, 1024)
	o.X86, o.Private, o.Existing = cpu == "x86", private == "true", network == "existing"
	o.zones(values, bad)
	o.GatewayDomain, o.APIDomain, o.Certificate = values["gateway-domain"], values["api-domain"], values["certificate"]
	o.NodeImage, o.ClusterImage = values["node-image"], values["cluster-image"]

	for key, v := range map[string]string{"gateway-domain": o.GatewayDomain, "api-domain": o.APIDomain} {
		if v != "" && !domainName.MatchString(v) {
			bad(key, "must be a domain name such as ipfs.example.com")
		}
	}
	if o.Certificate != "" && !certificate.MatchString(o.Certificate) {
		bad("certificate", "must be the ARN of an ACM certificate in us-east-1, where CloudFront takes them from")
	}
	if !domainsGoTogether(o.GatewayDomain, o.APIDomain, o.Certificate) {
		wrong = append(wrong, domainsAndCertificate)
	}
	switch {
	case o.Throughput == "provisioned" && o.MiBps == 0:
		bad("throughput", "provisioned needs mibps=N, the MiB/s to pay for")
	case o.Throughput != "provisioned" && o.MiBps != 0:
		bad("mibps", "only throughput=provisioned has a number")
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return Options{}, fmt.Errorf("%s", strings.Join(wrong, "; "))
	}
	return o, nil
}

func (o *Options) zones(values map[string]string, bad func(key, want string)) {
	v, set := values["zones"]
	if !set {
		return
	}
	parts := strings.Split(v, ",")
	ok := len(parts) == 3
	for i := 0; ok && i < 3; i++ {
		ok = zoneName.MatchString(parts[i])
		o.Zones[i] = parts[i]
	}
	switch {
	case !ok:
		bad("zones", "must be three names of zones, such as us-east-1a,us-east-1b,us-east-1d")
	case o.Zones[0] == o.Zones[1] || o.Zones[1] == o.Zones[2] || o.Zones[0] == o.Zones[2]:
		bad("zones", "two are equal: each zone has its own subnets, storage and tasks")
	}
}

// domainsAndCertificate is what Parse and the template's own rule say.
const domainsAndCertificate = "GatewayDomain, ApiDomain and CertificateArn go together: give all three, with two different domains that the certificate covers, or none."

// domainsGoTogether is the template's rule DomainsAndCertificate; TestDomainsTwice holds both against each other.
func domainsGoTogether(gateway, api, certificate string) bool {
	if certificate == "" {
		return gateway == "" && api == ""
	}
	return gateway != "" && api != "" && gateway != api
}

// Named is one node: a task of its own, in one zone.
type Named struct {
	Name string // of the peer, its prefix in the bucket, and its host name
	ID   string // in the template
	Zone int    // 0, 1 or 2
}

// NamedNodes lists the nodes, zone by zone. A node keeps its name when Nodes
// grows.
func (o Options) NamedNodes() []Named {
	var out []Named
	for n := 1; n <= o.Nodes; n++ {
		for z := range 3 {
			node := Named{Name: "node-" + strings.ToLower(letters[z]), ID: "Node" + letters[z], Zone: z}
			if n > 1 {
				node.Name += "-" + strconv.Itoa(n)
				node.ID += strconv.Itoa(n)
			}
			out = append(out, node)
		}
	}
	return out
}

func (o Options) architecture() string {
	if o.X86 {
		return "X86_64"
	}
	return "ARM64"
}
