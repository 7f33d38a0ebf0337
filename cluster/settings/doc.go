// Package settings turns the environment of a cluster peer into one typed,
// checked value.
//
// It reads every variable once, checks all of them, and reports all problems
// together, each with the variable's name, its value (never a secret's) and
// what would be accepted. It touches neither disk nor network, except that it
// reads the files named by variables that end in _FILE.
//
// Variables that ipfs-cluster knows keep their names and meanings. Their values
// are checked here (the table in upstream.go) so that a typing error is
// reported like any other; ipfs-cluster's own configuration code applies them
// later. A few of ipfs-cluster's settings would break a promise of this
// program and are refused with the reason; others have no effect here and give
// a warning. So does a CLUSTER_ variable that nobody knows.
package settings
