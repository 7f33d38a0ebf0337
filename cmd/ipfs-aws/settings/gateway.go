package settings

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// appendAnnounce is the key of the addresses that a node announces besides those that it listens on.
const appendAnnounce = "Addresses.AppendAnnounce"

// overHTTPS ends the multiaddress of a gateway.
const overHTTPS = "/tls/http"

// isGatewayURL accepts what has a multiaddress: a host and a port, no path.
func isGatewayURL(v string) string {
	const want = "must be https://host or https://host:port, without a path"
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return want
	}
	return ""
}

// announceGateway is the list with the address of a gateway in the place of any other gateway's.
func announceGateway(list []any, gateway string) []any {
	u, err := url.Parse(gateway)
	if err != nil {
		return list // isGatewayURL has looked
	}
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = "443"
	}
	kind := "dns"
	if ip, err := netip.ParseAddr(host); err == nil {
		kind = map[bool]string{true: "ip4", false: "ip6"}[ip.Is4()]
	}
	next := slices.DeleteFunc(slices.Clone(list), func(a any) bool {
		s, _ := a.(string)
		return strings.HasSuffix(s, overHTTPS)
	})
	return append(next, "/"+kind+"/"+host+"/tcp/"+port+overHTTPS)
}
