package owner

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// recordVersion is the only one so far. Another one is refused: it may have other rules.
const recordVersion = 1

// maxRecord bounds what is read of the object, in bytes: a record has some 250.
const maxRecord = 64 << 10

// Record is what the object says.
type Record struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`      // of the node, the same for the life of its repo
	Host    string    `json:"host"`    // where it runs, for people
	Session string    `json:"session"` // of the process: random
	Epoch   uint64    `json:"epoch"`   // grows when the prefix changes hands
	Renewal uint64    `json:"renewal"` // grows with every write of a session, so that no two have the same bytes
	Lease   int64     `json:"leaseSeconds"`
	Since   time.Time `json:"since"` // by the clock of the node, for people
}

func (r Record) lease() time.Duration { return time.Duration(r.Lease) * time.Second }

// read returns the record in the object and what the server says about the object. bucket.ErrNotFound: there is none.
func read(ctx context.Context, b bucket.Bucket, key string) (Record, bucket.Info, error) {
	body, info, err := b.Get(ctx, key, bucket.Range{})
	if err != nil {
		return Record{}, bucket.Info{}, err
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, maxRecord))
	if err != nil {
		return Record{}, bucket.Info{}, fmt.Errorf("read object %q: %w", key, err)
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil || r.Version != recordVersion || r.ID == "" || r.Lease < 0 {
		return Record{}, bucket.Info{}, fmt.Errorf("object %q is not an owner record of version %d: a newer release may have written it, use that one; "+
			"if no node uses this prefix, delete the object", key, recordVersion)
	}
	return r, info, nil
}

// write puts the record under a condition and returns its ETag.
func write(ctx context.Context, b bucket.Bucket, key string, r Record, cond bucket.Condition) (string, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	info, err := bucket.PutIf(ctx, b, key, bytes.NewReader(append(data, '\n')), cond)
	return info.ETag, err
}
