// Package pass checks the credentials of requests to the APIs: a user and a password, or a token.
// It runs in front of ipfs-cluster's own check, which compares passwords byte by byte, signs tokens
// with them, and issues tokens that never expire.
//
// A token is a JWT. It ends, and is good for all that its user may do or for the pinning service alone. Its key follows
// from the cluster's secret and its user's name and password. So every peer takes what another one has
// issued, a new password ends all tokens of its user, and no password can be guessed from a token.
package pass

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

const (
	// defaultAge is how long a token is good for, and maxAge is the longest that can be asked for.
	defaultAge = 365 * 24 * time.Hour
	maxAge     = 10 * defaultAge

	// Pinning is the scope of a token for the pinning service alone, All that of one for both APIs.
	Pinning = "pinning"
	All     = "all"
)

// Guard knows the users of one API. It is safe for concurrent use.
type Guard struct {
	scope string // of tokens that are good here, besides All
	users map[string]user
	// pepper makes all passwords equally long for a comparison.
	pepper []byte
	now    func() time.Time
}

type user struct {
	password []byte // its hash
	key      []byte // of tokens
}

// New returns the guard of an API for users with these passwords. secret is the cluster's. scope is
// that of tokens for this API alone, or empty.
func New(passwords map[string]string, secret []byte, scope string) *Guard {
	g := &Guard{scope: scope, users: map[string]user{}, pepper: make([]byte, sha256.Size), now: time.Now}
	_, _ = rand.Read(g.pepper) // never fails
	for name, password := range passwords {
		g.users[name] = user{sum(g.pepper, password), sum(secret, "cluster-aws token\x00"+name+"\x00"+password)}
	}
	return g
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// The reasons for which a request is refused.
var (
	errNothing  = errors.New("unauthorized: give a user and password, or a token")
	errPassword = errors.New("unauthorized: the user or the password is wrong")
)

// claims are what a token says.
type claims struct {
	jwt.RegisteredClaims
	Scope string `json:"scope"`
}

// Who returns the user who sent the request, or an error that says why the request is refused.
func (g *Guard) Who(r *http.Request) (string, error) {
	if name, password, ok := r.BasicAuth(); ok {
		u, known := g.users[name] // an unknown one is compared with nothing, in the same time
		if subtle.ConstantTimeCompare(sum(g.pepper, password), u.password) != 1 || !known || password == "" {
			return "", errPassword
		}
		return name, nil
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", errNothing
	}
	var said claims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Name}), jwt.WithoutClaimsValidation())
	_, err := parser.ParseWithClaims(text, &said, func(*jwt.Token) (any, error) {
		u, known := g.users[said.Issuer]
		if !known {
			return nil, errors.New("its user is not known")
		}
		return u.key, nil
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("unauthorized: invalid token, ask for a new one (POST /token): %w", err)
	case said.ExpiresAt == nil || !g.now().Before(said.ExpiresAt.Time):
		return "", errors.New("unauthorized: the token has expired, ask for a new one (POST /token)")
	case said.Scope != All && said.Scope != g.scope:
		return "", fmt.Errorf("unauthorized: the token is for scope=%s only", said.Scope)
	}
	return said.Issuer, nil
}

// Challenge says how to authenticate.
func Challenge(h http.Header) {
	h.Add("WWW-Authenticate", `Bearer realm="Restricted IPFS Cluster API"`)
	h.Add("WWW-Authenticate", `Basic realm="Restricted IPFS Cluster API"`)
}

// ErrMistake is the error of a request for a token that cannot be read.
var ErrMistake = errors.New("a token cannot be issued")

// Issue returns a token for the user of a request, with the parameters expires-in and scope. The request has
// a password: a token issues none, or it would never end.
func (g *Guard) Issue(r *http.Request) (string, error) {
	name, _, ok := r.BasicAuth()
	if !ok {
		return "", fmt.Errorf("%w for a token: give a user and password", ErrMistake)
	}
	age, scope, err := parameters(r.URL.Query())
	if err != nil {
		return "", err
	}
	now := g.now()
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{jwt.RegisteredClaims{
		Issuer: name, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(age)),
	}, scope})
	return t.SignedString(g.users[name].key)
}

func parameters(q url.Values) (age time.Duration, scope string, err error) {
	age, scope = defaultAge, All
	if text := q.Get("expires-in"); text != "" {
		if age, err = time.ParseDuration(text); err != nil || age < time.Second || age > maxAge {
			return 0, "", fmt.Errorf("%w: expires-in=%s: use a duration such as 720h, %s at most", ErrMistake, text, maxAge)
		}
	}
	if text := q.Get("scope"); text != "" {
		scope = text
	}
	if scope != All && scope != Pinning {
		return 0, "", fmt.Errorf("%w: scope=%s: use %s or %s", ErrMistake, scope, All, Pinning)
	}
	return age, scope, nil
}
