//go:build !unix

package main

func isMounted(error) bool { return false }

func freeBytes(string) (int64, bool) { return 0, false }
