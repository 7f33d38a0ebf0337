package kubo

// difference is a test of kubo that fails on purpose, or cannot run. Subtests are
// named as go test names them; a name stands for everything below it.
type difference struct {
	test   string   // package below test, a blank, and the test
	stores []string // where it is so; empty: with every blockstore
	why    string
}

// differences are the tests that fail, because ipfs-aws is to behave otherwise.
var differences = []difference{}

// elsewhere are the tests that are not run, or skip themselves, because they need
// what not every machine has.
var elsewhere = []difference{
	{test: "cli TestContentBlocking/Gateway_Denies_/ipns_Path_that_is_blocked_by_DNSLink_name_(subdomain_redirect)",
		why: "follows a redirect to a name below localhost, which only some resolvers know"},
}
