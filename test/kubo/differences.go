package kubo

// difference is a test of kubo that fails on purpose, or cannot run. Subtests are
// named as go test names them.
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
	{test: "cli TestFlatfsLeveldsProfileIsDefault",
		why: "a new repo syncs every write (sync: true), so that a block that was acknowledged survives the death of the node; kubo's default does not"},
	{test: "cli TestIPFSWatch",
		why: "ipfswatch is a program of its own and no part of ipfs-aws"},
	{test: "cli TestUpdateInstall",
		why: "a stock kubo in the place of ipfs-aws could not open its repos, so update refuses and says what to do instead"},
	{test: "cli TestUpdateRevert",
		why: "nothing is ever put in the place of ipfs-aws, so there is nothing to go back to"},
	{test: "cli TestUpdate/help_text_describes_the_command",
		why: "the help says that kubo's update is not available, and why"},
	{test: "cli TestUpdate/check/text_output_reports_update_availability", why: otherReleases},
	{test: "cli TestUpdate/check/json_output_includes_version_fields", why: otherReleases},
	{test: "cli TestUpdate/versions/lists_available_versions", why: otherReleases},
	{test: "cli TestUpdate/versions/respects_--count_flag", why: otherReleases},
	{test: "cli TestUpdate/versions/json_output_includes_current_version_and_list", why: otherReleases},
	{test: "cli TestUpdate/versions/--pre_includes_prerelease_versions", why: otherReleases},
	{test: "cli TestUpdate/install_rejects_same_version", why: "update refuses every version, with another text"},
	{test: "cli TestUpdate/revert_fails_when_no_backup_exists", why: "update refuses to go back as well, with another text"},
	{test: "cli TestUpdateWhileDaemonRuns/check_succeeds_with_daemon_running", why: otherReleases},
	{test: "cli TestUpdateWhileDaemonRuns/versions_succeeds_with_daemon_running", why: otherReleases},

	{test: "cli TestRepoVerify/detects_corruption", stores: []string{"s3"}, why: noFiles},
	{test: "cli TestRepoVerify/drop_removes_corrupt_blocks", stores: []string{"s3"}, why: noFiles},
	{test: "cli TestRepoVerify/heal_requires_online_mode", stores: []string{"s3"}, why: noFiles},
	{test: "cli TestRepoVerify/heal_repairs_from_network", stores: []string{"s3"}, why: noFiles},
	{test: "cli TestRepoVerify/healed_blocks_contain_correct_data", stores: []string{"s3"}, why: noFiles},
	{test: "cli TestRepoVerify/multiple_corrupt_blocks", stores: []string{"s3"}, why: noFiles},
	{test: "cli TestRepoVerify/heal_with_block_not_available_on_network", stores: []string{"s3"}, why: noFiles},
	{test: "cli TestRepoVerify/partial_heal_success", stores: []string{"s3"}, why: noFiles},
	{test: "cli TestRepoVerify/large_repository_scale_test", stores: []string{"s3"}, why: noFiles},
	{test: "cli TestRepoVerify/heal_repairs_from_network", stores: []string{"efs"}, why: recentlyWritten},
	{test: "cli TestRepoVerify/healed_blocks_contain_correct_data", stores: []string{"efs"}, why: recentlyWritten},
	{test: "cli TestRepoVerify/heal_with_block_not_available_on_network", stores: []string{"efs"}, why: recentlyWritten},
	{test: "cli TestRepoVerify/partial_heal_success", stores: []string{"efs"}, why: recentlyWritten},
}

const otherReleases = "the releases of kubo are not those of ipfs-aws, so update does not offer them"

const noFiles = "the test damages files in the folder of flatfs, and the blocks are in a bucket"

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
	{test: "cli/fuse TestFUSERealWorld/rsync_archive_in", why: "needs rsync"},
	{test: "cli/fuse TestFUSERealWorld/rsync_inplace_overwrite", why: "needs rsync"},
	{test: "cli/autoconf TestSwarmConnectWithAutoConf/AutoConf_disabled_-_should_work", why: "connects to the public bootstrap nodes"},
	{test: "cli/autoconf TestSwarmConnectWithAutoConf/AutoConf_enabled_-_should_work", why: "connects to the public bootstrap nodes"},
	{test: "cli TestTracing", why: "runs a collector in Docker, with an image from the network"},
}
