package s3bucket

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// deleteMax is the number of keys that S3 takes in one DeleteObjects request.
const deleteMax = 1000

// Delete implements bucket.Bucket. Cost: one request per 1,000 keys, which S3 does not charge for; one for each key where the
// server has no DeleteObjects.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	failed := map[string]error{}
	if len(keys) == 1 {
		b.deleteOne(ctx, keys[0], failed)
	} else {
		var many []string
		for _, k := range keys {
			if inXML(k) {
				many = append(many, k)
			} else {
				b.deleteOne(ctx, k, failed)
			}
		}
		for chunk := range slices.Chunk(many, deleteMax) {
			if b.singly.Load() {
				b.deleteSingly(ctx, chunk, failed)
				continue
			}
			b.deleteMany(ctx, chunk, failed)
		}
	}
	if len(failed) > 0 {
		return &bucket.DeleteError{Failed: failed}
	}
	return nil
}

// deleteSingly deletes keys one by one, some at a time.
func (b *Bucket) deleteSingly(ctx context.Context, keys []string, failed map[string]error) {
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(singly)
	for _, k := range keys {
		group.Go(func() error {
			one := map[string]error{}
			b.deleteOne(ctx, k, one)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(failed, one)
			return nil
		})
	}
	_ = group.Wait() // what failed is noted
}

func (b *Bucket) deleteOne(ctx context.Context, key string, failed map[string]error) {
	_, err := b.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.o.Bucket, Key: &key})
	if err = b.fault(ctx, bucket.OpDelete, key, err); err != nil && !errors.Is(err, bucket.ErrNotFound) {
		failed[key] = err
	}
}

// deleteMany removes up to deleteMax objects. Keys that the server reports as failed for a passing reason are sent again,
// within the bounds of all retries.
func (b *Bucket) deleteMany(ctx context.Context, keys []string, failed map[string]error) {
	for attempt := 1; len(keys) > 0; attempt++ {
		objects := make([]types.ObjectIdentifier, len(keys))
		for i := range keys {
			objects[i].Key = &keys[i]
		}
		out, err := b.s3.DeleteObjects(ctx, &s3.DeleteObjectsInput{
			Bucket: &b.o.Bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)},
		}, withMD5)
		if err != nil && knowsNotDeleteMany(err) {
			b.singly.Store(true)
			b.deleteSingly(ctx, keys, failed)
			return
		}
		if err != nil {
			for _, k := range keys {
				failed[k] = b.fault(ctx, bucket.OpDelete, k, err)
			}
			return
		}
		var again []string
		for _, e := range out.Errors {
			key, code := aws.ToString(e.Key), aws.ToString(e.Code)
			status, passing := deleteStatus(code)
			switch {
			case code == "NoSuchKey":
			case passing && attempt < b.o.MaxAttempts:
				again = append(again, key)
			default:
				fix, kind := b.judge(bucket.OpDelete, status, code, aws.ToString(e.Message), "")
				failed[key] = &bucket.Error{Op: bucket.OpDelete, Bucket: b.o.Bucket, Key: key, Kind: kind, Fix: fix,
					Detail: brief(code + ": " + aws.ToString(e.Message))}
			}
		}
		if keys = again; len(keys) == 0 {
			return
		}
		if err := pause(ctx, attempt, b.o.MaxBackoff); err != nil {
			for _, k := range keys {
				failed[k] = b.fault(ctx, bucket.OpDelete, k, err)
			}
			return
		}
	}
}

// deleteStatus is the HTTP status that a code inside a DeleteObjects answer would have had on its own, and
// whether the same request may succeed later.
func deleteStatus(code string) (status int, passing bool) {
	switch code {
	case "SlowDown", "ServiceUnavailable":
		return http.StatusServiceUnavailable, true
	case "InternalError", "OperationAborted", "RequestTimeout":
		return http.StatusInternalServerError, true
	case "AccessDenied":
		return http.StatusForbidden, false
	}
	return http.StatusBadRequest, false
}

// inXML reports whether key can be written in an XML 1.0 document, which DeleteObjects sends.
func inXML(key string) bool {
	for _, r := range key {
		switch {
		case r == utf8.RuneError, r == 0xFFFE, r == 0xFFFF, r < 0x20 && r != '\t' && r != '\n' && r != '\r':
			return false
		}
	}
	return true
}
