// Package modules says what a Go binary is made of: the modules that were linked
// into it, by the binary's own record, with the licence texts that came with
// each, as they lie in the module cache. It writes both down: a folder of texts,
// and a bill of materials (SPDX 2.3, JSON). The same binary gives the same bytes.
package modules
