package kubo

// difference is a test of kubo that fails on purpose, or cannot run. Subtests are
// named as go test names them; a name stands for everything below it.
type difference struct {
	test   string   // package below test, a blank, and the test
	stores []string // where it is so; empty: with every blockstore
	why    string
}

// differences are the tests that fail, because ipfs-aws is to behave otherwise.
var differences = []difference{
	{test: "cli TestIPFSVersionCommandMatchesFlag",
		why: "the first line is kubo's, as tools read it; the test does not expect a second one, which names the distribution"},
	{test: "cli TestIPFSVersionDeps",
		why: "the program's own module is ipfs-aws, and kubo is one of the modules below it"},
	{test: "cli TestIPFSWatch",
		why: "ipfswatch is a program of its own and no part of ipfs-aws"},
	{test: "cli TestUpdateInstall",
		why: "a stock kubo in the place of ipfs-aws could not open its repos, so update refuses and says what to do instead"},
	{test: "cli TestUpdateRevert",
		why: "nothing is ever put in the place of ipfs-aws, so there is nothing to go back to"},
	{test: "cli TestUpdate/help_text_describes_the_command",
		why: "the help says that kubo's update is not available, and why"},

	{test: "cli TestRepoVerify/heal_repairs_from_network", stores: []string{"efs"}, why: recentlyWritten},
	{test: "cli TestRepoVerify/healed_blocks_contain_correct_data", stores: []string{"efs"}, why: recentlyWritten},
	{test: "cli TestRepoVerify/heal_with_block_not_available_on_network", stores: []string{"efs"}, why: recentlyWritten},
	{test: "cli TestRepoVerify/partial_heal_success", stores: []string{"efs"}, why: recentlyWritten},
}

// efs keeps what was written last in 32 MiB of memory.
const recentlyWritten = "the test damages a file that the running daemon has just written and still serves from memory, where it is whole"

// elsewhere are the tests that are not run, or skip themselves, because they need
// what not every machine has.
var elsewhere = []difference{
	{test: "cli TestContentBlocking/Gateway_Denies_/ipns_Path_that_is_blocked_by_DNSLink_name_(subdomain_redirect)",
		why: "follows a redirect to a name below localhost, which only some resolvers know"},
	{test: "cli TestRepoVerify/drop_with_partial_removal_failures",
		why: "takes the right to write away from a folder, which means nothing to root"},
	{test: "cli TestZshCompletion", why: "needs zsh"},
	{test: "cli TestTracing", why: "runs a collector in Docker, with an image from the network"},
}
