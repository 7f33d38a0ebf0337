package s3ds

import (
	"maps"
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

var inUse atomic.Pointer[Keys]

// UseKeys makes every store that is opened from now on in this process use the
// keys. Call it before kubo opens a repo.
func UseKeys(k Keys) { inUse.Store(&k) }

// Parse reads the settings of a store as kubo's config holds them, with the keys
// that this process uses.
func Parse(m map[string]any) (s3ds.Config, error) {
	if k := inUse.Load(); k != nil {
		return k.Parse(m)
	}
	return s3ds.ParseConfig(m)
}
