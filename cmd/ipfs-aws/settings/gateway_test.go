package settings

import (
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
)

func TestGatewayURLs(t *testing.T) {
	for url, address := range map[string]string{
		"https://gw.example.org": "/dns/gw.example.org/tcp/443/tls/http", "https://gw.example.org:8443/": "/dns/gw.example.org/tcp/8443/tls/http",
		"https://192.0.2.1": "/ip4/192.0.2.1/tcp/443/tls/http", "https://[2001:db8::1]": "/ip6/2001:db8::1/tcp/443/tls/http",
		"http://gw.example.org": "", "gw.example.org": "", "https://": "", "https://gw.example.org/ipfs": "", "https://u:p@gw.example.org": "", "https://gw.example.org?x=1": "",
	} {
		want := isGatewayURL(url)
		if address == "" {
			require.NotEmpty(t, want, url)
			continue
		}
		require.Empty(t, want, url)
		_, err := ma.NewMultiaddr(address)
		require.NoError(t, err)
		// Another gateway's address goes, what the user has put there stays.
		kept := "/dns4/swarm.example.org/tcp/4001"
		require.Equal(t, []any{kept, address}, announceGateway([]any{"/dns/old.example.org/tcp/443/tls/http", kept}, url))
	}
}
