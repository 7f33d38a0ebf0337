package pass

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"github.com/stretchr/testify/require"
)

var (
	secret    = []byte("the cluster's")
	passwords = map[string]string{"admin": "pa:ss", "other": "word"}
)

func basic(name, password, target string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, target, nil)
	r.SetBasicAuth(name, password)
	return r
}

func bearer(token string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/pins", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func TestPasswords(t *testing.T) {
	g := New(passwords, secret, "")
	who, err := g.Who(basic("admin", "pa:ss", "/"))
	require.NoError(t, err)
	require.Equal(t, "admin", who)
	for _, r := range []*http.Request{
		basic("admin", "pa:s", "/"), basic("admin", "pa:sss", "/"), basic("admin", "word", "/"), basic("nobody", "pa:ss", "/"), basic("nobody", "", "/"), basic("", "", "/"),
		httptest.NewRequest(http.MethodGet, "/", nil),
	} {
		_, err := g.Who(r)
		require.ErrorContains(t, err, "unauthorized")
	}
}

func TestTokens(t *testing.T) {
	rest, service := New(passwords, secret, ""), New(passwords, secret, Pinning)
	issue := func(g *Guard, query string) string {
		token, err := g.Issue(basic("admin", "pa:ss", "/token"+query))
		require.NoError(t, err)
		return token
	}
	takes := func(g *Guard, token string) error {
		_, err := g.Who(bearer(token))
		return err
	}
	all, pinning := issue(rest, ""), issue(rest, "?scope=pinning&expires-in=1h")
	require.NoError(t, takes(rest, all))
	require.NoError(t, takes(New(passwords, secret, ""), all), "another peer's")
	require.NoError(t, takes(service, all))
	require.NoError(t, takes(service, pinning))
	require.ErrorContains(t, takes(rest, pinning), "scope=pinning")
	service.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	require.NoError(t, takes(service, all))
	require.ErrorContains(t, takes(service, pinning), "expired")

	changed := map[string]string{"admin": "new", "other": "word"}
	require.ErrorContains(t, takes(New(changed, secret, ""), all), "invalid token", "a new password ends them")
	require.ErrorContains(t, takes(New(passwords, []byte("another"), ""), all), "invalid token")
	require.ErrorContains(t, takes(New(nil, secret, ""), all), "invalid token")
	sign := func(method jwt.SigningMethod, key any, c jwt.Claims) string {
		token, err := jwt.NewWithClaims(method, c).SignedString(key)
		require.NoError(t, err)
		return token
	}
	require.Error(t, takes(rest, sign(jwt.SigningMethodHS256, []byte("pa:ss"), claims{jwt.RegisteredClaims{Issuer: "admin", ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))}, All})),
		"ipfs-cluster signs with the password")
	require.Error(t, takes(rest, sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims{jwt.RegisteredClaims{Issuer: "admin", ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))}, All})))
	require.ErrorContains(t, takes(rest, sign(jwt.SigningMethodHS256, rest.users["admin"].key, claims{jwt.RegisteredClaims{Issuer: "admin"}, All})), "expired", "one that never ends")
	require.Error(t, takes(rest, "bogus"))

	for query, says := range map[string]string{"?scope=x": "use all or pinning", "?expires-in=x": "use a duration", "?expires-in=-1h": "use a duration", "?expires-in=99999999h": "at most"} {
		_, err := rest.Issue(basic("admin", "pa:ss", "/token"+query))
		require.ErrorIs(t, err, ErrMistake)
		require.ErrorContains(t, err, says)
	}
	_, err := rest.Issue(bearer(all))
	require.ErrorIs(t, err, ErrMistake, "a token does not prolong itself")
}
