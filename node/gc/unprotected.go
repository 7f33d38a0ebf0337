//go:build gc_unprotected

package gc

const protected = false
