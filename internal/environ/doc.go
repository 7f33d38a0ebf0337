// Package environ reads the settings of a process from its environment: once,
// all of them, and with everything that is wrong collected, so that whoever
// starts the process is told all of it in one go.
//
// A [Reader] knows values and problems and nothing about what they mean; which
// settings there are, and what they do, is the business of the commands. It
// touches neither disk nor network, except that it reads the files named by
// variables that end in _FILE, which is how secrets are given. The value of a
// secret is never part of a [Problem].
//
// A Reader is used by one goroutine, and thrown away when the settings are read.
package environ
