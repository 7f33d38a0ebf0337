// Package buckettest is the conformance suite of package bucket: every implementation, and every decorator that is
// meant to be transparent, runs it.
package buckettest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// Run runs the suite. open returns an empty bucket for each test.
func Run(t *testing.T, open func(t *testing.T) bucket.Bucket) {
	for _, c := range []struct {
		name string
		test func(*testing.T, bucket.Bucket)
	}{
		{"what was put is read back whole", wholeObjects},
		{"a second put replaces the first", replace},
		{"a put begins where the body stands", fromPosition},
		{"ranges select bytes", ranges},
		{"a range behind the end is an error", badRanges},
		{"what is not there is not found", misses},
		{"keys with odd characters work", oddKeys},
		{"a list pages through everything in key order", longList},
		{"a list can be left early and taken up again", listAfter},
		{"delete takes any number of keys", manyDeletes},
		{"delete of nothing and of what is not there is no error", deleteMissing},
		{"a conditional put creates once", createOnce},
		{"a conditional put replaces what it knows, and nothing else", replaceKnown},
		{"of many conditional puts one succeeds", oneWins},
		{"the server tells the age of an object", age},
		{"calls run in parallel", parallel},
		{"a cancelled context ends every call", cancelled},
		{"a cancelled context ends a body", cancelledBody},
		{"the bucket is there", func(t *testing.T, b bucket.Bucket) { require.NoError(t, b.Check(t.Context())) }},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// Read returns the bytes of r, which must be readable.
func Read(t testing.TB, b bucket.Bucket, key string, r bucket.Range) ([]byte, bucket.Info) {
	t.Helper()
	body, info, err := b.Get(t.Context(), key, r)
	require.NoError(t, err)
	data, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	return data, info
}

func put(t testing.TB, b bucket.Bucket, key string, data []byte) {
	t.Helper()
	require.NoError(t, b.Put(t.Context(), key, bytes.NewReader(data)))
}

func wholeObjects(t *testing.T, b bucket.Bucket) {
	for _, size := range []int{0, 1, 1000, 256 << 10, 5<<20 + 1} {
		key := fmt.Sprintf("size-%d", size)
		want := make([]byte, size)
		_, _ = rand.Read(want)
		put(t, b, key, want)
		got, info := Read(t, b, key, bucket.Range{})
		require.True(t, bytes.Equal(want, got), "%d bytes came back otherwise", size)
		require.EqualValues(t, size, info.Size)
		head, err := b.Head(t.Context(), key)
		require.NoError(t, err)
		if head.ETag == "" { // may be left out
			head.ETag, head.Modified = info.ETag, info.Modified
		}
		info.Clock, head.Clock = time.Time{}, time.Time{} // asked twice
		require.Equal(t, info, head)
	}
}

func replace(t *testing.T, b bucket.Bucket) {
	put(t, b, "key", []byte("first, and longer"))
	first, err := b.Head(t.Context(), "key")
	require.NoError(t, err)
	put(t, b, "key", []byte("second"))
	got, info := Read(t, b, "key", bucket.Range{})
	require.Equal(t, "second", string(got))
	require.NotEqual(t, first.ETag, info.ETag)
}

func fromPosition(t *testing.T, b bucket.Bucket) {
	body := strings.NewReader("skipped, taken")
	_, err := body.Seek(9, io.SeekStart)
	require.NoError(t, err)
	require.NoError(t, b.Put(t.Context(), "key", body))
	got, _ := Read(t, b, "key", bucket.Range{})
	require.Equal(t, "taken", string(got))
}

func ranges(t *testing.T, b bucket.Bucket) {
	put(t, b, "key", []byte("0123456789"))
	for r, want := range map[bucket.Range]string{
		{}:                       "0123456789",
		{Offset: 3}:              "3456789",
		{Length: 4}:              "0123",
		{Offset: 3, Length: 4}:   "3456",
		{Offset: 9, Length: 1}:   "9",
		{Offset: 8, Length: 100}: "89",
	} {
		got, info := Read(t, b, "key", r)
		require.Equal(t, want, string(got), "%+v", r)
		require.EqualValues(t, 10, info.Size, "%+v", r)
	}
}

func badRanges(t *testing.T, b bucket.Bucket) {
	put(t, b, "key", []byte("0123456789"))
	put(t, b, "empty", nil)
	for _, c := range []struct {
		key string
		r   bucket.Range
	}{
		{"key", bucket.Range{Offset: 10}},
		{"key", bucket.Range{Offset: 11, Length: 1}},
		{"key", bucket.Range{Offset: -1}},
		{"key", bucket.Range{Length: -1}},
		{"empty", bucket.Range{Length: 1}},
	} {
		_, _, err := b.Get(t.Context(), c.key, c.r)
		require.ErrorIs(t, err, bucket.ErrInvalidRange, "%+v", c)
		require.NotErrorIs(t, err, bucket.ErrNotFound, "%+v", c)
	}
}

func misses(t *testing.T, b bucket.Bucket) {
	_, err := b.Head(t.Context(), "absent")
	require.ErrorIs(t, err, bucket.ErrNotFound)
	_, _, err = b.Get(t.Context(), "absent", bucket.Range{})
	require.ErrorIs(t, err, bucket.ErrNotFound)
	_, _, err = b.Get(t.Context(), "absent", bucket.Range{Offset: 5, Length: 5})
	require.ErrorIs(t, err, bucket.ErrNotFound)
	require.Empty(t, keys(t, b, "", ""))
}

func oddKeys(t *testing.T, b bucket.Bucket) {
	odd := []string{"a b", "a+b", "a%20b", "a&b<c>", "ü/ß", "quo\"te'", "que?ry#frag", "semi;colon,comma", "back\\slash", "tilde~", "x/y/z", "日本"}
	for _, k := range odd {
		put(t, b, k, []byte(k))
	}
	for _, k := range odd {
		got, _ := Read(t, b, k, bucket.Range{})
		require.Equal(t, k, string(got))
	}
	require.ElementsMatch(t, odd, keys(t, b, "", ""))
	require.NoError(t, b.Delete(t.Context(), odd...))
	require.Empty(t, keys(t, b, "", ""))
}

// pages is a little more than two pages of a list.
const pages = 2001

func fill(t *testing.T, b bucket.Bucket, prefix string, n int) []string {
	t.Helper()
	all := make([]string, n)
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for w := range errs {
		wg.Go(func() {
			for i := w; i < n; i += len(errs) {
				all[i] = fmt.Sprintf("%s%05d", prefix, i)
				if err := b.Put(t.Context(), all[i], strings.NewReader("x")); err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	return all
}

func longList(t *testing.T, b bucket.Bucket) {
	want := fill(t, b, "many/", pages)
	fill(t, b, "many-others/", 2)
	require.Equal(t, want, keys(t, b, "many/", ""))
	require.Len(t, keys(t, b, "many", ""), pages+2, "a prefix is a string, not a folder")
	require.Len(t, keys(t, b, "", ""), pages+2)
	require.Empty(t, keys(t, b, "none", ""))
}

func listAfter(t *testing.T, b bucket.Bucket) {
	want := fill(t, b, "k", 10)
	var first []string
	for info, err := range b.List(t.Context(), "k", "") {
		require.NoError(t, err)
		require.EqualValues(t, 1, info.Size)
		if first = append(first, info.Key); len(first) == 4 {
			break
		}
	}
	require.Equal(t, want[:4], first)
	require.Equal(t, want[4:], keys(t, b, "k", first[3]))
	require.Empty(t, keys(t, b, "k", want[9]))
}

func manyDeletes(t *testing.T, b bucket.Bucket) {
	all := fill(t, b, "gone/", pages)
	fill(t, b, "stays/", 3)
	require.NoError(t, b.Delete(t.Context(), all...))
	require.Len(t, keys(t, b, "", ""), 3)
}

func deleteMissing(t *testing.T, b bucket.Bucket) {
	require.NoError(t, b.Delete(t.Context()))
	require.NoError(t, b.Delete(t.Context(), "absent"))
	put(t, b, "there", nil)
	require.NoError(t, b.Delete(t.Context(), "absent", "there", "absent too"))
	require.Empty(t, keys(t, b, "", ""))
}

func putIf(t testing.TB, b bucket.Bucket, key, data string, cond bucket.Condition) (bucket.Info, error) {
	t.Helper()
	return bucket.PutIf(t.Context(), b, key, strings.NewReader(data), cond)
}

func createOnce(t *testing.T, b bucket.Bucket) {
	made, err := putIf(t, b, "lock", "first", bucket.Condition{Absent: true})
	require.NoError(t, err)
	_, err = putIf(t, b, "lock", "second", bucket.Condition{Absent: true})
	require.ErrorIs(t, err, bucket.ErrPreconditionFailed)
	require.NotErrorIs(t, err, bucket.ErrNotFound)
	got, info := Read(t, b, "lock", bucket.Range{})
	require.Equal(t, "first", string(got))
	require.Equal(t, info.ETag, made.ETag)
	require.Equal(t, info.Size, made.Size)
	require.NoError(t, b.Delete(t.Context(), "lock"))
	_, err = putIf(t, b, "lock", "third", bucket.Condition{Absent: true})
	require.NoError(t, err)
}

func replaceKnown(t *testing.T, b bucket.Bucket) {
	_, err := putIf(t, b, "lock", "x", bucket.Condition{ETag: `"0123456789abcdef0123456789abcdef"`})
	require.Error(t, err, "nothing is there")
	require.Empty(t, keys(t, b, "", ""))
	one, err := putIf(t, b, "lock", "one", bucket.Condition{Absent: true})
	require.NoError(t, err)
	two, err := putIf(t, b, "lock", "two", bucket.Condition{ETag: one.ETag})
	require.NoError(t, err)
	require.NotEqual(t, one.ETag, two.ETag)
	_, err = putIf(t, b, "lock", "three", bucket.Condition{ETag: one.ETag})
	require.ErrorIs(t, err, bucket.ErrPreconditionFailed)
	got, _ := Read(t, b, "lock", bucket.Range{})
	require.Equal(t, "two", string(got))
}

func oneWins(t *testing.T, b bucket.Bucket) {
	begin, err := putIf(t, b, "lock", "begin", bucket.Condition{Absent: true})
	require.NoError(t, err)
	for name, cond := range map[string]bucket.Condition{"fresh": {Absent: true}, "lock": {ETag: begin.ETag}} {
		errs := make([]error, 16)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { _, errs[i] = putIf(t, b, name, fmt.Sprint("writer ", i), cond) })
		}
		wg.Wait()
		won := -1
		for i, err := range errs {
			if err == nil {
				require.Negative(t, won, "writers %d and %d both succeeded", won, i)
				won = i
				continue
			}
			require.ErrorIs(t, err, bucket.ErrPreconditionFailed)
		}
		require.GreaterOrEqual(t, won, 0, "nobody succeeded")
		got, _ := Read(t, b, name, bucket.Range{})
		require.Equal(t, fmt.Sprint("writer ", won), string(got))
	}
}

func age(t *testing.T, b bucket.Bucket) {
	made, err := putIf(t, b, "key", "x", bucket.Condition{Absent: true})
	require.NoError(t, err)
	require.False(t, made.Clock.IsZero())
	_, info := Read(t, b, "key", bucket.Range{Length: 1})
	require.False(t, info.Modified.Before(made.Clock.Add(-time.Minute)), "written at %s, answered at %s", info.Modified, made.Clock)
	// Both are cut to the second, and servers renew what they answer as Date once a second only: it may lag behind.
	const lag = 2 * time.Second
	require.False(t, info.Modified.After(info.Clock.Add(lag)), "written at %s, answered at %s", info.Modified, info.Clock)
	require.False(t, info.Clock.Before(made.Clock.Add(-lag)), "answered at %s, after %s", info.Clock, made.Clock)
	for listed, err := range b.List(t.Context(), "key", "") {
		require.NoError(t, err)
		require.WithinDuration(t, info.Modified, listed.Modified, time.Second)
	}
}

func parallel(t *testing.T, b bucket.Bucket) {
	errs := make([]error, 64)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			errs[w] = func() error {
				key := fmt.Sprintf("worker-%d", w)
				want := bytes.Repeat([]byte{byte(w)}, 10_000)
				if err := b.Put(t.Context(), key, bytes.NewReader(want)); err != nil {
					return err
				}
				body, _, err := b.Get(t.Context(), key, bucket.Range{})
				if err != nil {
					return err
				}
				got, err := io.ReadAll(body)
				if err != nil {
					return err
				}
				if !bytes.Equal(want, got) {
					return fmt.Errorf("%s came back otherwise", key)
				}
				return body.Close()
			}()
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	require.Len(t, keys(t, b, "worker-", ""), 64)
}

func cancelled(t *testing.T, b bucket.Bucket) {
	put(t, b, "there", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, headErr := b.Head(ctx, "there")
	_, _, getErr := b.Get(ctx, "there", bucket.Range{})
	var listErr error
	for _, err := range b.List(ctx, "", "") {
		listErr = err
	}
	_, putIfErr := bucket.PutIf(ctx, b, "new", strings.NewReader("x"), bucket.Condition{Absent: true})
	for name, err := range map[string]error{
		"put": b.Put(ctx, "new", strings.NewReader("x")), "put if": putIfErr, "get": getErr, "head": headErr, "list": listErr,
		"delete one": b.Delete(ctx, "there"), "delete many": b.Delete(ctx, "there", "and more"), "check": b.Check(ctx),
	} {
		require.ErrorIs(t, err, context.Canceled, name)
		require.NotErrorIs(t, err, bucket.ErrNotFound, name)
	}
	require.Equal(t, []string{"there"}, keys(t, b, "", ""))
}

func cancelledBody(t *testing.T, b bucket.Bucket) {
	put(t, b, "large", make([]byte, 8<<20)) // more than connections buffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, _, err := b.Get(ctx, "large", bucket.Range{})
	require.NoError(t, err)
	_, err = io.ReadFull(body, make([]byte, 1000))
	require.NoError(t, err)
	cancel()
	_, err = io.Copy(io.Discard, body)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, body.Close())
}

func keys(t testing.TB, b bucket.Bucket, prefix, after string) []string {
	t.Helper()
	var all []string
	for info, err := range b.List(t.Context(), prefix, after) {
		require.NoError(t, err)
		all = append(all, info.Key)
	}
	return all
}
