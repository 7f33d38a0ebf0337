//go:build !gc_unprotected

package gc

// protected is false in the negative control of the tests, which is built with the tag gc_unprotected and loses content.
const protected = true
