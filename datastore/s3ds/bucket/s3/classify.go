package s3bucket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket"
)

// fault turns an error of the SDK into one of package bucket: which kind, on which object, and what to do. nil stays nil.
func (b *Bucket) fault(ctx context.Context, op bucket.Op, key string, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil {
		return fmt.Errorf("%s object %q in bucket %q: %w", op, key, b.o.Bucket, ended)
	}
	e := &bucket.Error{Op: op, Bucket: b.o.Bucket, Key: key, Cause: err}
	var creds *credentialsError
	if errors.As(err, &creds) {
		e.Kind, e.Detail = bucket.ErrNoCredentials, brief(creds.detail)
		e.Fix = "set accessKey and secretKey, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with a task or instance role that may use the bucket"
		return e
	}
	if status := statusOf(err); status >= 300 {
		code, message := codeOf(err)
		e.Fix, e.Kind = b.judge(op, status, code, message, regionOf(err, message))
		e.Detail = strings.TrimSuffix(strings.TrimSpace(fmt.Sprintf("%d %s: %s", status, code, message)), ":")
		if id := requestID(err); id != "" {
			e.Detail += ", request " + id
		}
		return e
	}
	e.Kind, e.Detail = bucket.ErrUnreachable, brief(innermost(err).Error())
	e.Fix = b.unreachableFix(err)
	return e
}

// judge maps an answer of the server to what to do about it and the kind of error that it is.
func (b *Bucket) judge(op bucket.Op, status int, code, message, region string) (fix string, kind error) {
	switch code {
	case "NoSuchKey":
		return "", bucket.ErrNotFound
	case "NoSuchBucket":
		return fmt.Sprintf("create the bucket in region %s, or correct the setting bucket", b.o.Region), bucket.ErrNoBucket
	case "InvalidRange":
		return "", bucket.ErrInvalidRange
	case "PreconditionFailed":
		if op == bucket.OpPut { // a get that is resumed has a condition, too, which nobody asked for
			return "", bucket.ErrPreconditionFailed
		}
	case "ConditionalRequestConflict":
		return "others write the same object at the same time: try again", bucket.ErrThrottled
	case "NotImplemented":
		if op == bucket.OpPut {
			return "the server does not know an option of this request: conditional writes (layout packs needs them), storageClass or sse", bucket.ErrUnsupported
		}
	case "InvalidAccessKeyId", "XAdminUserNotFound": // the latter is versitygw's
		return "the access key does not exist there: correct accessKey (or AWS_ACCESS_KEY_ID)", bucket.ErrAccessDenied
	case "SignatureDoesNotMatch":
		return "the secret key does not belong to the access key: correct secretKey (or AWS_SECRET_ACCESS_KEY)", bucket.ErrAccessDenied
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
		return "the temporary credentials are no longer valid: renew them", bucket.ErrAccessDenied
	case "RequestTimeTooSkewed":
		return "the clock of this machine is wrong: set it", bucket.ErrAccessDenied
	case "InvalidObjectState":
		return "restore it, and exclude the prefix from the lifecycle rule that archived it", bucket.ErrArchived
	}
	switch {
	case code == "AuthorizationHeaderMalformed" && region == "" && !strings.Contains(message, "region"):
		return "the server cannot read the credentials: correct accessKey and secretKey", bucket.ErrAccessDenied
	case code == "PermanentRedirect", code == "AuthorizationHeaderMalformed", code == "IllegalLocationConstraintException",
		status == http.StatusMovedPermanently, region != "" && region != b.o.Region && status != http.StatusNotFound:
		return b.regionFix(region), bucket.ErrWrongRegion
	case strings.HasPrefix(code, "KMS."):
		return "correct sseKMSKeyId, and allow kms:GenerateDataKey and kms:Decrypt on that key", bucket.ErrRejected
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return b.permissionFix(op), bucket.ErrAccessDenied
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
		return "lower workers, or wait: S3 raises the limits of a prefix by itself", bucket.ErrThrottled
	case status >= 500:
		return "try again later; if it lasts, see the status page of the service", bucket.ErrServer
	case status == http.StatusNotFound:
		return "this is not how S3 answers: correct regionEndpoint", bucket.ErrRejected
	case status == http.StatusTemporaryRedirect:
		return "the bucket is new: wait until its name has spread, or correct region", bucket.ErrRejected
	}
	return "", bucket.ErrRejected
}

func (b *Bucket) regionFix(region string) string {
	if region == "" || region == b.o.Region {
		return fmt.Sprintf("the bucket is not in region %s: set region to the one it is in", b.o.Region)
	}
	return fmt.Sprintf("bucket %s is in region %s, the setting says %s: set region to %s", b.o.Bucket, region, b.o.Region, region)
}

func (b *Bucket) permissionFix(op bucket.Op) string {
	action, resource := "s3:ListBucket", b.o.Bucket
	switch op {
	case bucket.OpPut:
		action, resource = "s3:PutObject", b.o.Bucket+"/*"
	case bucket.OpGet:
		action, resource = "s3:GetObject", b.o.Bucket+"/*"
	case bucket.OpHead:
		return fmt.Sprintf("allow s3:GetObject on arn:aws:s3:::%s/* and s3:ListBucket on arn:aws:s3:::%s", b.o.Bucket, b.o.Bucket)
	case bucket.OpDelete:
		action, resource = "s3:DeleteObject", b.o.Bucket+"/*"
	}
	return fmt.Sprintf("allow %s on arn:aws:s3:::%s for the credentials in use", action, resource)
}

func (b *Bucket) unreachableFix(err error) string {
	setting := "region (" + b.o.Region + ")"
	if b.o.Endpoint != "" {
		setting = "regionEndpoint (" + b.o.Endpoint + ")"
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return fmt.Sprintf("no such host: correct %s", setting)
	}
	return fmt.Sprintf("check %s, and that this machine can reach it", setting)
}

// malformed is an answer that says success and does not make sense.
func (b *Bucket) malformed(op bucket.Op, key, what string) error {
	return &bucket.Error{Op: op, Bucket: b.o.Bucket, Key: key, Kind: bucket.ErrRejected, Detail: what,
		Fix: "this is not how S3 answers: correct regionEndpoint, or look at the proxy in between"}
}

// statusOf returns the HTTP status of the answer that err reports, 0 if there was none.
func statusOf(err error) int {
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) && r.Response != nil && r.Response.Response != nil {
		return r.HTTPStatusCode()
	}
	return 0
}

func codeOf(err error) (code, message string) {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode(), brief(api.ErrorMessage())
	}
	return "", brief(innermost(err).Error())
}

func requestID(err error) string {
	var r *awshttp.ResponseError
	if errors.As(err, &r) {
		return r.ServiceRequestID()
	}
	return ""
}

var expectedRegion = regexp.MustCompile(`expecting ['"]([a-z0-9-]+)['"]`)

// regionOf returns the region in which the server says the bucket is, "" if it does not say.
func regionOf(err error, message string) string {
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) && r.Response != nil && r.Response.Response != nil {
		if region := r.Response.Header.Get("X-Amz-Bucket-Region"); region != "" {
			return region
		}
	}
	if m := expectedRegion.FindStringSubmatch(message); m != nil {
		return m[1]
	}
	return ""
}

// innermost is the error that says what happened, without the SDK's layers around it.
func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		var op *net.OpError
		if errors.As(err, &op) {
			return op
		}
		err = next
	}
}

// brief bounds what a server or a chain of providers says in an error.
func brief(s string) string {
	s = bucket.OneLine(s)
	const most = 300
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}
