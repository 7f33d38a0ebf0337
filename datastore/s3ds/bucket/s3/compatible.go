package s3bucket

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// What servers other than AWS's need, which does AWS no harm.

// withoutAcceptEncoding takes a header away before the request is signed: some servers' load balancers change
// it on the way, and the signature is wrong then. Nothing is compressed without it.
func withoutAcceptEncoding(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("WithoutAcceptEncoding",
			func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
				if req, ok := in.Request.(*smithyhttp.Request); ok {
					req.Header.Del("Accept-Encoding")
				}
				return next.HandleFinalize(ctx, in)
			}), "Signing", middleware.Before)
	})
}

// withMD5 adds a Content-MD5 to a DeleteObjects request: S3 had it required until 2022, and many servers still do.
func withMD5(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, smithyhttp.AddContentChecksumMiddleware)
}

// knowsNotDeleteMany reports whether an error says that a server has no DeleteObjects, or none that it can be used with.
func knowsNotDeleteMany(err error) bool {
	var api smithy.APIError
	if errors.As(err, &api) {
		switch code := api.ErrorCode(); {
		case slices.Contains([]string{"NotImplemented", "MethodNotAllowed", "MissingContentMD5", "UnsupportedOperation", "XNotImplemented"}, code):
			return true
		case code == "InvalidRequest" && strings.Contains(strings.ToLower(api.ErrorMessage()), "content-md5"):
			return true
		}
	}
	return slices.Contains([]int{http.StatusNotImplemented, http.StatusMethodNotAllowed}, statusOf(err))
}

// singly is how many DELETE requests are under way for a server without DeleteObjects.
const singly = 16
