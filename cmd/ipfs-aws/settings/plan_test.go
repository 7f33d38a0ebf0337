package settings

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheSameSettingsChangeNothing(t *testing.T) {
	awsSaysNothing(t)
	for name, vars := range map[string][]string{
		"flatfs": {"IPFS_BLOCKSTORE=flatfs"},
		"efs":    {"IPFS_BLOCKSTORE=efs", "IPFS_EFS_WORKERS=8", "IPFS_EFS_CACHE_PATH=/c", "IPFS_EFS_CACHE_SIZE=1GiB"},
		"s3":     env("IPFS_S3_PREFIX=a", "IPFS_S3_CACHE_SIZE=8GiB", "IPFS_S3_PATH_STYLE=false", "IPFS_S3_UPLOADS=3"),
		"object": env("IPFS_S3_LAYOUT=objects"),
	} {
		t.Run(name, func(t *testing.T) {
			root := repo(t, vars...)
			before := read(t, root)
			require.Empty(t, start(t, root, vars...))
			require.Equal(t, before, read(t, root))
			require.Empty(t, start(t, root), "and none is none")
		})
	}
}

func TestWhatIsNotIdentityIsApplied(t *testing.T) {
	awsSaysNothing(t)
	root := repo(t, env("IPFS_S3_CACHE_SIZE=8GiB")...)
	spec := func() map[string]any {
		conf, err := ReadConfig(root)
		require.NoError(t, err)
		return BlocksStore(lookup(conf, []string{"Datastore", "Spec"}).(map[string]any))
	}
	require.Equal(t, []string{
		`blockstore cacheSize: "8GiB" → "16GiB" (IPFS_S3_CACHE_SIZE)`,
		`blockstore regionEndpoint: default → "http://h" (IPFS_S3_ENDPOINT)`,
		`blockstore workers: default → 7 (IPFS_S3_WORKERS)`,
	}, start(t, root, env("IPFS_S3_CACHE_SIZE=16GiB", "IPFS_S3_WORKERS=7", "IPFS_S3_ENDPOINT=http://h")...))
	require.Equal(t, "16GiB", spec()["cacheSize"])
	require.Equal(t, "/blocks", spec()["mountpoint"])

	// What is set no more has its default again, and region and layout stay.
	require.Equal(t, []string{
		`blockstore cacheSize: "16GiB" → default (IPFS_S3_CACHE_SIZE is not set)`,
		`blockstore regionEndpoint: "http://h" → default (IPFS_S3_ENDPOINT is not set)`,
		`blockstore workers: 7 → default (IPFS_S3_WORKERS is not set)`,
	}, start(t, root, "IPFS_BLOCKSTORE=s3", "IPFS_S3_BUCKET=blocks"))
	require.Equal(t, "eu-west-1", spec()["region"])

	// Keys that go-ds-s3 had in the config stay until there are others, and are
	// shown by nobody.
	edit(t, root, func(conf map[string]any) {
		store := BlocksStore(lookup(conf, []string{"Datastore", "Spec"}).(map[string]any))
		store["accessKey"], store["secretKey"] = "AK", "top-secret"
	})
	require.Empty(t, start(t, root, env()...))
	lines := start(t, root, env("IPFS_S3_ACCESS_KEY=AK", "IPFS_S3_SECRET_KEY=top-secret")...)
	require.Len(t, lines, 2)
	require.NotContains(t, lines[0]+lines[1], "top-secret")
	require.NotContains(t, read(t, root), "top-secret")
}

func TestFlatfsAndEFSChangePlaces(t *testing.T) {
	root := repo(t, "IPFS_BLOCKSTORE=flatfs")
	spec, err := os.ReadFile(filepath.Join(root, specFile))
	require.NoError(t, err)
	edit(t, root, func(conf map[string]any) { // as stock kubo has it, measured
		s := lookup(conf, []string{"Datastore", "Spec"}).(map[string]any)
		mount := s["mounts"].([]any)[0].(map[string]any)
		child := clone(mount)
		delete(child, "mountpoint")
		child["sync"] = false
		s["mounts"].([]any)[0] = map[string]any{"mountpoint": "/blocks", "type": "measure", "prefix": "flatfs.datastore", "child": child}
	})
	require.Equal(t, []string{
		`blockstore sync: false → default (IPFS_BLOCKSTORE=efs)`,
		`blockstore type: "flatfs" → "efsds" (IPFS_BLOCKSTORE=efs)`,
		`blockstore workers: default → 9 (IPFS_EFS_WORKERS)`,
		`Datastore.BlockKeyCacheSize: default → 0 (IPFS_BLOCKSTORE=efs)`,
		`Datastore.StorageMax: "10GB" → "1PB" (IPFS_BLOCKSTORE=efs)`,
	}, start(t, root, "IPFS_BLOCKSTORE=efs", "IPFS_EFS_WORKERS=9"))
	require.Contains(t, read(t, root), `"prefix": "flatfs.datastore"`, "what is around the store stays")
	require.Equal(t, []string{
		`blockstore sync: default → true (IPFS_BLOCKSTORE=flatfs)`,
		`blockstore type: "efsds" → "flatfs" (IPFS_BLOCKSTORE=flatfs)`,
		`blockstore workers: 9 → default (IPFS_BLOCKSTORE=flatfs)`,
		`Datastore.StorageMax: "1PB" → "10GB" (IPFS_BLOCKSTORE=flatfs)`,
	}, start(t, root, "IPFS_BLOCKSTORE=flatfs"))
	after, err := os.ReadFile(filepath.Join(root, specFile))
	require.NoError(t, err)
	require.Equal(t, string(spec), string(after))
}

// Either layout reads what the other has written, and a bucket has one region:
// nothing has to be moved.
func TestLayoutAndRegionOfTheSamePlaceAreApplied(t *testing.T) {
	awsSaysNothing(t)
	root := repo(t, env("IPFS_S3_PREFIX=a", "IPFS_S3_LAYOUT=objects")...)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "s3ds", "journal", "x"), 0o700))
	require.Equal(t, []string{
		`blockstore layout: "objects" → "packs" (IPFS_S3_LAYOUT)`,
		`blockstore region: "eu-west-1" → "us-east-1" (IPFS_S3_REGION)`,
		`Datastore.BlockKeyCacheSize: default → 0 (IPFS_BLOCKSTORE=s3)`,
	}, start(t, root, env("IPFS_S3_PREFIX=/a/", "IPFS_S3_LAYOUT=packs", "IPFS_S3_REGION=us-east-1")...))
	require.NoError(t, Mismatch(root), "datastore_spec says the same")
	require.Empty(t, start(t, root, env("IPFS_S3_PREFIX=a", "IPFS_S3_LAYOUT=packs", "IPFS_S3_REGION=us-east-1")...))

	// Killed between the two files.
	before, err := ReadConfig(root)
	require.NoError(t, err)
	p, err := planFor(t, root, env("IPFS_S3_PREFIX=a", "IPFS_S3_LAYOUT=objects")...)
	require.NoError(t, err)
	require.NoError(t, p.Write(root))
	require.NoError(t, WriteConfig(root, before))
	require.ErrorContains(t, Mismatch(root), "says the bucket blocks (prefix a, region us-east-1, layout packs), but its file datastore_spec says the bucket blocks (prefix a, region eu-west-1, layout objects)")
	require.NotEmpty(t, start(t, root, env("IPFS_S3_PREFIX=a", "IPFS_S3_LAYOUT=objects")...))
	require.NoError(t, Mismatch(root))
}

// Each refusal is one line with the command that moves the blocks and the
// settings that leave them where they are, and changes nothing.
func TestWhatWouldMoveBlocksIsRefusedWithTheCommand(t *testing.T) {
	awsSaysNothing(t)
	files := []string{"IPFS_BLOCKSTORE=efs"}
	for name, c := range map[string]struct {
		is, wanted    []string
		command, keep string
	}{
		"files to a bucket": {files, env("IPFS_S3_PREFIX=node-1", "IPFS_S3_CACHE_SIZE=1GiB", "IPFS_S3_ENDPOINT=http://h", "IPFS_S3_ACCESS_KEY=AK", "IPFS_S3_SECRET_KEY=top-secret"),
			"ipfs-aws datastore migrate --to s3 --bucket blocks --region eu-west-1 --prefix node-1 --endpoint http://h", "IPFS_BLOCKSTORE=efs"},
		"a bucket to files": {env(), files, "ipfs-aws datastore migrate --to efs", "IPFS_BLOCKSTORE=s3 IPFS_S3_BUCKET=blocks IPFS_S3_REGION=eu-west-1 IPFS_S3_LAYOUT=packs"},
		"another bucket":    {env(), env("IPFS_S3_BUCKET=others"), "ipfs-aws datastore migrate --to s3 --bucket others --region eu-west-1", "IPFS_BLOCKSTORE=s3 IPFS_S3_BUCKET=blocks"},
		"another prefix":    {env("IPFS_S3_PREFIX=a"), env("IPFS_S3_PREFIX=a b"), "ipfs-aws datastore migrate --to s3 --bucket blocks --region eu-west-1 --prefix 'a b'", "IPFS_S3_PREFIX=a"},
		"no prefix":         {env("IPFS_S3_PREFIX=a"), env(), "ipfs-aws datastore migrate --to s3 --bucket blocks --region eu-west-1`", "IPFS_S3_PREFIX=a"},
		"another path":      {files, []string{"IPFS_BLOCKSTORE=flatfs", "IPFS_FLATFS_PATH=/v/b"}, "ipfs-aws datastore migrate --to flatfs --path /v/b", "IPFS_BLOCKSTORE=efs"},
		"from another path": {append(files, "IPFS_EFS_PATH=/v/b"), append(files, "IPFS_EFS_PATH=blocks"), "ipfs-aws datastore migrate --to efs`", "IPFS_BLOCKSTORE=efs IPFS_EFS_PATH=/v/b"},
	} {
		t.Run(name, func(t *testing.T) {
			root := repo(t, c.is...)
			before := read(t, root)
			_, err := planFor(t, root, c.wanted...)
			var m *Moved
			require.ErrorAs(t, err, &m)
			require.False(t, m.ByHand)
			require.Contains(t, err.Error(), c.command)
			require.Contains(t, err.Error(), c.keep)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "top-secret")
			require.Equal(t, before, read(t, root))
		})
	}
}

// A config edited by hand is told in words, and the settings that are named set
// it back.
func TestAConfigThatDoesNotMatchIsExplained(t *testing.T) {
	awsSaysNothing(t)
	root := repo(t, "IPFS_BLOCKSTORE=efs")
	require.NoError(t, Mismatch(root))
	other, err := ReadConfig(repo(t, env("IPFS_S3_PREFIX=a")...))
	require.NoError(t, err)
	edit(t, root, func(conf map[string]any) {
		put(conf, []string{"Datastore", "Spec"}, lookup(other, []string{"Datastore", "Spec"}))
	})

	_, err = planFor(t, root)
	var m *Moved
	require.ErrorAs(t, err, &m)
	require.True(t, m.ByHand)
	require.Equal(t, err, Mismatch(root))
	require.Equal(t, "the config of the repo at "+root+" says that the blocks are in the bucket blocks (prefix a, region eu-west-1, layout packs), "+
		"but they are in files under blocks (its file datastore_spec says so), and nothing was changed: start with IPFS_BLOCKSTORE=efs to set the config back, "+
		"then move them with `ipfs-aws datastore migrate --to s3 --bucket blocks --region eu-west-1 --prefix a` if they are to be elsewhere", err.Error())

	require.NotEmpty(t, start(t, root, "IPFS_BLOCKSTORE=efs"))
	require.NoError(t, Mismatch(root))

	edit(t, root, func(conf map[string]any) {
		put(conf, []string{"Datastore", "Spec"}, map[string]any{"type": "mount", "mounts": []any{
			map[string]any{"mountpoint": "/blocks", "type": "efsds", "path": "blocks", "shardFunc": shardFunc},
			map[string]any{"mountpoint": "/", "type": "levelds", "path": "elsewhere", "compression": "none"},
		}})
	})
	require.ErrorContains(t, Mismatch(root), "keeps what is not blocks (pins, the MFS root) in another store")

	require.NoError(t, os.Remove(filepath.Join(root, specFile)))
	_, err = planFor(t, root, "IPFS_BLOCKSTORE=efs")
	require.ErrorContains(t, err, "has lost its file datastore_spec")
}

// Set back as it says, a bucket is still asked where it is.
func TestAMismatchOfABucketNamesItsEndpoint(t *testing.T) {
	awsSaysNothing(t)
	root := repo(t, env("IPFS_S3_PREFIX=a", "IPFS_S3_ENDPOINT=http://s3.example:9000", "IPFS_S3_PATH_STYLE=true")...)
	edit(t, root, func(conf map[string]any) {
		BlocksStore(lookup(conf, []string{"Datastore", "Spec"}).(map[string]any))["rootDirectory"] = "b"
	})
	var m *Moved
	require.ErrorAs(t, Mismatch(root), &m)
	require.Contains(t, m.Keep, "IPFS_S3_PREFIX=a")
	require.Contains(t, m.Keep, "IPFS_S3_ENDPOINT=http://s3.example:9000")
	require.Contains(t, m.Command, "--prefix b")
	require.Contains(t, m.Command, "--endpoint http://s3.example:9000")
	require.NotEmpty(t, start(t, root, strings.Fields(m.Keep)...))
	require.NoError(t, Mismatch(root))
	conf, err := ReadConfig(root)
	require.NoError(t, err)
	require.Equal(t, "http://s3.example:9000", BlocksStore(lookup(conf, []string{"Datastore", "Spec"}).(map[string]any))["regionEndpoint"])
}

// A repo of another kind, as kubo's profiles make them.
func TestARepoOfAnotherDatastore(t *testing.T) {
	root := repo(t)
	spec := map[string]any{"type": "pebbleds", "path": "pebbleds"}
	edit(t, root, func(conf map[string]any) { put(conf, []string{"Datastore", "Spec"}, spec) })
	disk, err := diskSpec(spec)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, specFile), []byte(disk), 0o600))
	require.Empty(t, start(t, root), "it is left alone")
	_, err = planFor(t, root, "IPFS_BLOCKSTORE=efs")
	require.ErrorContains(t, err, "they are in a datastore of type pebbleds")
	require.ErrorContains(t, err, "keep them where they are with IPFS_BLOCKSTORE not set")
}

// While blocks are on their way from one store to another, a start that names
// either one goes on with both; another one is refused.
func TestAStoreThatIsMadeOfTheWantedOneStays(t *testing.T) {
	awsSaysNothing(t)
	root := repo(t)
	files := map[string]any{"type": "flatfs", "path": "blocks", "shardFunc": shardFunc, "sync": true}
	bucket := map[string]any{"type": "s3ds", "bucket": "blocks", "region": "eu-west-1", "layout": "packs"}
	spec := map[string]any{"type": "mount", "mounts": []any{map[string]any{"mountpoint": "/blocks", "type": "both", "a": bucket, "b": files}, rootMount()}}
	edit(t, root, func(conf map[string]any) { put(conf, []string{"Datastore", "Spec"}, spec) })
	disk, err := diskSpec(spec)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, specFile), []byte(disk), 0o600))

	require.Empty(t, start(t, root))
	for _, vars := range [][]string{{"IPFS_BLOCKSTORE=efs"}, {"IPFS_BLOCKSTORE=flatfs"}, env("IPFS_S3_CACHE_SIZE=8GiB")} {
		p, err := planFor(t, root, append(vars, "IPFS_CONFIG_Gateway_NoFetch=true")...)
		require.NoError(t, err)
		require.Len(t, p.Changes, 1, "the rest is applied")
		require.Len(t, p.Notes, 1)
		require.Equal(t, show(spec), show(p.Config["Datastore"].(map[string]any)["Spec"]))
	}
	_, err = planFor(t, root, env("IPFS_S3_PREFIX=other")...)
	require.ErrorContains(t, err, "they are in a datastore of type both")
}

// Blocks that wait in the journal may be nowhere else.
func TestAJournalThatIsNotEmptyStays(t *testing.T) {
	awsSaysNothing(t)
	root := repo(t, env()...)
	wanted := env("IPFS_S3_JOURNAL_PATH=/v/journal")
	_, err := planFor(t, root, wanted...)
	require.NoError(t, err, "there is no journal yet")

	old := filepath.Join(root, "s3ds", "journal")
	require.NoError(t, os.MkdirAll(old, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(old, "node"), nil, 0o600))
	_, err = planFor(t, root, wanted...)
	require.ErrorContains(t, err, "IPFS_S3_JOURNAL_PATH: the journal is to be in /v/journal, and in "+old+" are blocks that may be nowhere else: move it with `mkdir -p /v/journal && mv "+old+"/* /v/journal/`")
	_, err = planFor(t, root, env("IPFS_S3_JOURNAL_PATH="+old)...)
	require.NoError(t, err, "the same folder by another name")

	to := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(to, "node"), nil, 0o600))
	_, err = planFor(t, root, env("IPFS_S3_JOURNAL_PATH="+to)...)
	require.ErrorContains(t, err, "there are files both there and in "+old)
	require.NoError(t, os.RemoveAll(old))
	_, err = planFor(t, root, env("IPFS_S3_JOURNAL_PATH="+to)...)
	require.NoError(t, err, "it was moved")
}

// What nobody has named stays in the config, whatever it is.
func TestWhatIsNotKnownStays(t *testing.T) {
	root := repo(t)
	edit(t, root, func(conf map[string]any) {
		conf["OfAnotherVersion"] = map[string]any{"Big": json.Number("12345678901234567890")}
	})
	require.Equal(t, []string{`Datastore.StorageMax: "10GB" → "1TB" (IPFS_CONFIG_Datastore_StorageMax)`}, start(t, root, "IPFS_CONFIG_Datastore_StorageMax=1TB"))
	require.Contains(t, read(t, root), "12345678901234567890")
	require.Equal(t, []string{"API.Authorizations: (not shown) → (not shown) (IPFS_CONFIG_API_Authorizations)"},
		start(t, root, `IPFS_CONFIG_API_Authorizations={"a":{"AuthSecret":"bearer:top-secret","AllowedPaths":["/api/v0"]}}`))
}

func TestConfigIsReplacedAsAWhole(t *testing.T) {
	root := repo(t)
	path := filepath.Join(root, "config")
	before, err := os.Stat(path)
	require.NoError(t, err)
	conf, err := ReadConfig(root)
	require.NoError(t, err)
	require.NoError(t, WriteConfig(root, conf))
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.False(t, os.SameFile(before, after), "a new file has taken its name")
	require.Equal(t, os.FileMode(0o600), after.Mode())
	left, err := os.ReadDir(root)
	require.NoError(t, err)
	require.Len(t, left, 2, "and nothing else is there")

	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	_, err = ReadConfig(root)
	require.ErrorContains(t, err, "is not JSON")
	_, err = ReadConfig(t.TempDir())
	require.True(t, errors.Is(err, os.ErrNotExist))
}
