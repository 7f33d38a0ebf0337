package s3bucket

import (
	"context"
	"iter"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// List implements bucket.Bucket. Cost: one LIST request per 1,000 objects, at least one.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		in := &s3.ListObjectsV2Input{
			Bucket: &b.o.Bucket, Prefix: nonEmpty(prefix), StartAfter: nonEmpty(after),
			// Keys may hold characters that XML 1.0 cannot: have them encoded.
			EncodingType: types.EncodingTypeUrl,
		}
		for {
			out, err := b.s3.ListObjectsV2(ctx, in)
			if err != nil {
				yield(bucket.Info{}, b.fault(ctx, bucket.OpList, prefix, err))
				return
			}
			for _, o := range out.Contents {
				key := aws.ToString(o.Key)
				if out.EncodingType == types.EncodingTypeUrl {
					if key, err = url.QueryUnescape(key); err != nil {
						yield(bucket.Info{}, b.malformed(bucket.OpList, prefix, "cannot decode the key "+err.Error()))
						return
					}
				}
				if !yield(bucket.Info{Key: key, Size: aws.ToInt64(o.Size), ETag: aws.ToString(o.ETag), Modified: aws.ToTime(o.LastModified).UTC()}, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			next := aws.ToString(out.NextContinuationToken)
			if next == "" || next == aws.ToString(in.ContinuationToken) {
				yield(bucket.Info{}, b.malformed(bucket.OpList, prefix, "the list goes on, but the answer does not say where"))
				return
			}
			in.ContinuationToken = &next
		}
	}
}
