package s3ds

import (
	"fmt"
	"maps"
	"os"
	"sync/atomic"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds"
)

// Keys are static credentials that come from outside of the config, so that
// they need not be written to the repo.
type Keys struct {
	AccessKey    string
	SecretKey    s3ds.Secret
	SessionToken s3ds.Secret
}

// Parse is [s3ds.ParseConfig] with the keys put in the place of those that the
// settings hold, if there are any.
func (k Keys) Parse(m map[string]any) (s3ds.Config, error) {
	if k != (Keys{}) {
		m = maps.Clone(m)
		for key, v := range map[string]string{"accessKey": k.AccessKey, "secretKey": string(k.SecretKey), "sessionToken": string(k.SessionToken)} {
			delete(m, key)
			if v != "" {
				m[key] = v
			}
		}
	}
	return s3ds.ParseConfig(m)
}

var (
	inUse    atomic.Pointer[Keys]
	takeOver atomic.Bool
)

// UseTakeOver makes every store that is opened from now on in this process take
// its prefix over from a node that was not stopped in order.
func UseTakeOver(yes bool) { takeOver.Store(yes) }

// UseKeys makes every store that is opened from now on in this process use the
// keys. Call it before kubo opens a repo.
func UseKeys(k Keys) { inUse.Store(&k) }

// Parse reads the settings of a store as kubo's config holds them, with the keys
// that this process uses. What the store has to say goes to standard error.
func Parse(m map[string]any) (s3ds.Config, error) {
	var k Keys
	if used := inUse.Load(); used != nil {
		k = *used
	}
	c, err := k.Parse(m)
	if err != nil {
		return s3ds.Config{}, err
	}
	c.TakeOver, c.Log = takeOver.Load(), say
	return c, nil
}

func say(line string) { fmt.Fprintln(os.Stderr, "s3ds:", line) }
