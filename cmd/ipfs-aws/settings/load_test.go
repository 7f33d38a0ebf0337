package settings

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/environ"
)

func TestEveryMistakeIsOneLineThatNamesTheSetting(t *testing.T) {
	awsSaysNothing(t)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("top-secret\n"), 0o600))
	for name, c := range map[string]struct {
		env   []string
		flags map[string]string
		want  []string // lines, by how they begin and by what they hold after " … "
	}{
		"unknown blockstore":        {env: []string{"IPFS_BLOCKSTORE=tape"}, want: []string{`IPFS_BLOCKSTORE="tape": … flatfs, efs, s3`}},
		"unknown by flag":           {flags: map[string]string{"blockstore": "tape"}, want: []string{`--blockstore="tape": … flatfs, efs, s3`}},
		"no bucket":                 {env: []string{"IPFS_BLOCKSTORE=s3", "IPFS_S3_REGION=r"}, want: []string{"IPFS_S3_BUCKET: not set"}},
		"no bucket, in flags":       {flags: map[string]string{"blockstore": "s3", "region": "r"}, want: []string{"--bucket: not set"}},
		"no region":                 {env: []string{"IPFS_BLOCKSTORE=s3", "IPFS_S3_BUCKET=blocks"}, want: []string{"IPFS_S3_REGION: … AWS_REGION"}},
		"bad bucket":                {env: env("IPFS_S3_BUCKET=a b"), want: []string{`IPFS_S3_BUCKET="a b": is no bucket name`}},
		"typing error":              {env: env("IPFS_S3_PREFX=x"), want: []string{"IPFS_S3_PREFX: … IPFS_S3_PREFIX?"}},
		"typing error in the start": {env: []string{"IPFS_BLOKSTORE=s3"}, want: []string{"IPFS_BLOKSTORE: … IPFS_BLOCKSTORE?"}},
		"typing error elsewhere":    {env: []string{"IPFS_PROFIL=x"}, want: []string{"IPFS_PROFIL: … IPFS_PROFILE?"}},
		"no such setting":           {env: env("IPFS_S3_COLOUR_OF_THE_BIKE_SHED=x"), want: []string{"IPFS_S3_COLOUR_OF_THE_BIKE_SHED: no setting"}},
		"not a secret":              {env: env("IPFS_S3_PREFIX_FILE=/x"), want: []string{"IPFS_S3_PREFIX_FILE: no setting"}},
		"not a number":              {env: env("IPFS_S3_WORKERS=many"), want: []string{`IPFS_S3_WORKERS="many": must be a whole number`}},
		"out of range":              {env: env("IPFS_S3_WORKERS=2000"), want: []string{`IPFS_S3_WORKERS="2000": use 1 to 1000`}},
		"not a size":                {env: env("IPFS_S3_CACHE_SIZE=plenty"), want: []string{`IPFS_S3_CACHE_SIZE="plenty": use a number of bytes`}},
		"not a duration":            {env: env("IPFS_S3_SEAL_AGE=soon"), want: []string{`IPFS_S3_SEAL_AGE="soon": use a positive duration`}},
		"not a truth":               {env: env("IPFS_S3_PATH_STYLE=maybe"), want: []string{`IPFS_S3_PATH_STYLE="maybe": must be true or false`}},
		"layout":                    {env: env("IPFS_S3_LAYOUT=heap"), want: []string{`IPFS_S3_LAYOUT="heap": use "objects" or "packs"`}},
		"only with packs":           {env: env("IPFS_S3_LAYOUT=objects", "IPFS_S3_UPLOADS=3"), want: []string{`IPFS_S3_UPLOADS: only with layout "packs"`}},
		"dots in the prefix":        {env: env("IPFS_S3_PREFIX=../x"), want: []string{`IPFS_S3_PREFIX="../x": use a path without ".."`}},
		"password in the endpoint":  {env: env("IPFS_S3_ENDPOINT=http://u:top-secret@h"), want: []string{"IPFS_S3_ENDPOINT: holds a user name or password"}},
		"kms key without kms":       {env: env("IPFS_S3_SSE_KMS_KEY_ID=k"), want: []string{`IPFS_S3_SSE_KMS_KEY_ID="k": set while sse`}},
		"half of the credentials":   {env: env("IPFS_S3_ACCESS_KEY=AK"), want: []string{"IPFS_S3_ACCESS_KEY: only one of them is set"}},
		"two kinds of credentials": {env: env("IPFS_S3_ACCESS_KEY=AK", "IPFS_S3_SECRET_KEY=top-secret", "IPFS_S3_CREDENTIALS_ENDPOINT=http://h"),
			want: []string{`IPFS_S3_CREDENTIALS_ENDPOINT="http://h": set next to IPFS_S3_ACCESS_KEY`}},
		"secret twice": {env: env("IPFS_S3_ACCESS_KEY=AK", "IPFS_S3_SECRET_KEY=top-secret", "IPFS_S3_SECRET_KEY_FILE="+secret),
			want: []string{`IPFS_S3_SECRET_KEY_FILE="` + secret + `": is set together with IPFS_S3_SECRET_KEY`, "IPFS_S3_ACCESS_KEY: only one of them"}},
		"of another blockstore":      {env: []string{"IPFS_BLOCKSTORE=efs", "IPFS_S3_BUCKET=b", "IPFS_EFS_WORKERS=3"}, want: []string{`IPFS_S3_BUCKET="b": is only for the blockstore s3, and it is efs`}},
		"of a blockstore not chosen": {env: []string{"IPFS_S3_BUCKET=b"}, want: []string{`IPFS_S3_BUCKET="b": … IPFS_BLOCKSTORE=s3`}},
		"flag of another blockstore": {flags: map[string]string{"blockstore": "efs", "bucket": "b"}, want: []string{`--bucket="b": is only for --blockstore s3, and it is efs`}},
		"flag, nothing chosen":       {flags: map[string]string{"bucket": "b"}, want: []string{`--bucket="b": … --blockstore s3`}},
		"flag of two, not the third": {flags: map[string]string{"blockstore": "flatfs", "workers": "3"}, want: []string{`--workers="3": is only for --blockstore s3, and it is flatfs`}},
		"efs, several": {env: []string{"IPFS_BLOCKSTORE=efs", "IPFS_EFS_WORKERS=1025", "IPFS_EFS_CACHE_SIZE=1GiB", "IPFS_EFS_INDEX_PATH=i"},
			want: []string{`IPFS_EFS_WORKERS="1025": … between 1 and 1024`, `IPFS_EFS_CACHE_PATH: is missing`, `IPFS_EFS_INDEX_PATH="i": … absolute`}},
		"efs shard function": {env: []string{"IPFS_BLOCKSTORE=efs", "IPFS_EFS_SHARD_FUNC=x"}, want: []string{`IPFS_EFS_SHARD_FUNC="x": is "x"; it must be`}},
		"flatfs shard function": {env: []string{"IPFS_BLOCKSTORE=flatfs", "IPFS_FLATFS_SHARD_FUNC=x"},
			want: []string{`IPFS_FLATFS_SHARD_FUNC="x": is "x"; it must be`}},
		"health address":         {env: []string{"IPFS_HEALTH_ADDRESS=8099"}, want: []string{`IPFS_HEALTH_ADDRESS="8099": must be host:port`}},
		"profile":                {env: []string{"IPFS_PROFILE=lowpowr"}, want: []string{`IPFS_PROFILE="lowpowr": … lowpower?`}},
		"profile of a datastore": {env: []string{"IPFS_PROFILE=server,pebbleds"}, want: []string{`IPFS_PROFILE="server,pebbleds": … pebbleds does not: say where blocks are kept with IPFS_BLOCKSTORE`}},
		"log level":              {env: []string{"IPFS_LOGGING=loud"}, want: []string{`IPFS_LOGGING="loud": must be debug`}},
		"telemetry":              {env: []string{"IPFS_TELEMETRY=yes"}, want: []string{`IPFS_TELEMETRY="yes": must be one of: on, auto, off`}},
		"swarm key":              {env: []string{"IPFS_SWARM_KEY_FILE=" + secret}, want: []string{"IPFS_SWARM_KEY_FILE: must be a libp2p key"}},
		"everything at once": {env: []string{"IPFS_BLOCKSTORE=s3", "IPFS_S3_BUKET=x", "IPFS_S3_WORKERS=0", "IPFS_WAIT_REPO_LOCK=soon", "IPFS_CONFIG_Datastore_StorageMx=1"},
			want: []string{"IPFS_S3_BUKET: … IPFS_S3_BUCKET?", `IPFS_WAIT_REPO_LOCK="soon"`, "IPFS_S3_REGION: ", `IPFS_S3_WORKERS="0"`, "IPFS_S3_BUCKET: not set", "IPFS_CONFIG_Datastore_StorageMx: … Datastore.StorageMax?"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(t.Context(), Input{Environ: c.env, Flags: c.flags})
			var problems environ.Problems
			require.ErrorAs(t, err, &problems)
			lines := strings.Split(err.Error(), "\n")
			require.Len(t, lines, len(c.want), "%q", lines)
			for _, want := range c.want {
				begin, hold, _ := strings.Cut(want, " … ")
				require.Condition(t, func() bool {
					for _, line := range lines {
						if strings.HasPrefix(line, begin) && strings.Contains(line, hold) {
							return true
						}
					}
					return false
				}, "%q is none of %q", want, lines)
			}
			require.NotContains(t, err.Error(), "top-secret")
		})
	}
}

func TestNothingSetSaysNothingAboutBlocks(t *testing.T) {
	s := load(t, Input{Environ: []string{"HOME=/h", "IPFS_PATH=/r", "IPFS_CLUSTER_PATH=/c", "IPFS_GATEWAY=http://h", "IPFS_AUTH=x", "IPFS_PORT=1"}})
	require.Nil(t, s.Blocks)
	require.Empty(t, s.Overrides)
	require.Equal(t, []string{
		"IPFS_AUTH has no effect: no setting has this name",
		"IPFS_GATEWAY has no effect: no setting has this name",
		"IPFS_PORT has no effect: no setting has this name",
	}, s.Warnings, "names of other programs are no errors")
}

// The same by variables, by flags, and by both.
func TestBlocksSpec(t *testing.T) {
	awsSaysNothing(t)
	s3Spec := map[string]any{"type": "s3ds", "bucket": "blocks", "region": "eu-west-1", "layout": "packs"}
	with := func(spec map[string]any, more map[string]any) map[string]any { return union(spec, more) }
	for name, c := range map[string]struct {
		in   Input
		want map[string]any
		is   []string // what the repo was made with
	}{
		"s3":          {Input{Environ: env()}, s3Spec, nil},
		"s3 by flags": {Input{Flags: map[string]string{"blockstore": "s3", "bucket": "blocks", "region": "eu-west-1"}}, s3Spec, nil},
		"a flag wins": {Input{Environ: env("IPFS_S3_PREFIX=a", "IPFS_S3_WORKERS=7"), Flags: map[string]string{"prefix": "b"}}, with(s3Spec, map[string]any{"rootDirectory": "b", "workers": 7}), nil},
		"another flag for the blockstore": {Input{Environ: env(), Flags: map[string]string{"blockstore": "efs", "workers": "9"}},
			map[string]any{"type": "efsds", "path": "blocks", "shardFunc": shardFunc, "workers": 9}, nil},
		"migrate": {Input{Chooser: "to", Flags: map[string]string{"to": "flatfs", "path": "/v/blocks"}},
			map[string]any{"type": "flatfs", "path": "/v/blocks", "shardFunc": shardFunc, "sync": true}, nil},
		"an endpoint needs no region": {Input{Environ: []string{"IPFS_BLOCKSTORE=s3", "IPFS_S3_BUCKET=blocks", "IPFS_S3_ENDPOINT=http://h:1", "IPFS_S3_PATH_STYLE=true"}},
			map[string]any{"type": "s3ds", "bucket": "blocks", "region": "us-east-1", "layout": "packs", "regionEndpoint": "http://h:1", "pathStyle": true}, nil},
		"all of efs": {Input{Environ: []string{"IPFS_BLOCKSTORE=efs", "IPFS_EFS_PATH=b", "IPFS_EFS_NAMES_DURABLE=true", "IPFS_EFS_INDEX_PATH=/i", "IPFS_EFS_CACHE_PATH=/c", "IPFS_EFS_CACHE_SIZE=1GiB"}},
			map[string]any{"type": "efsds", "path": "b", "shardFunc": shardFunc, "namesDurable": true, "indexPath": "/i", "cachePath": "/c", "cacheSize": "1GiB"}, nil},
		"default":                              {Input{Default: EFS}, map[string]any{"type": "efsds", "path": "blocks", "shardFunc": shardFunc}, nil},
		"region and layout of the same bucket": {Input{Environ: []string{"IPFS_BLOCKSTORE=s3", "IPFS_S3_BUCKET=blocks"}}, s3Spec, env()},
		"go-ds-s3 stays as it is": {Input{Environ: []string{"IPFS_BLOCKSTORE=s3", "IPFS_S3_BUCKET=blocks"}},
			map[string]any{"type": "s3ds", "bucket": "blocks", "region": "eu-west-1"}, env("IPFS_S3_LAYOUT=objects")},
		"of another bucket they are not": {Input{Environ: env("IPFS_S3_BUCKET=others")}, with(s3Spec, map[string]any{"bucket": "others"}), env("IPFS_S3_LAYOUT=objects", "IPFS_S3_INDEX_PATH=i")},
		"where the rest of it lies": {Input{Environ: env("IPFS_S3_CACHE_PATH=/c")}, with(s3Spec, map[string]any{"journalPath": "j", "indexPath": "i", "cachePath": "/c"}),
			env("IPFS_S3_JOURNAL_PATH=j", "IPFS_S3_INDEX_PATH=i", "IPFS_S3_CACHE_PATH=k")},
		"a prefix in other letters":  {Input{Environ: env("IPFS_S3_PREFIX=/a/")}, with(s3Spec, map[string]any{"rootDirectory": "a"}), env("IPFS_S3_PREFIX=a")},
		"a prefix of slashes":        {Input{Environ: env("IPFS_S3_PREFIX=/")}, s3Spec, nil},
		"path and shards of files":   {Input{Environ: []string{"IPFS_BLOCKSTORE=efs"}}, map[string]any{"type": "efsds", "path": "p", "shardFunc": "/repo/flatfs/shard/v1/prefix/5"}, []string{"IPFS_BLOCKSTORE=flatfs", "IPFS_FLATFS_PATH=p", "IPFS_FLATFS_SHARD_FUNC=/repo/flatfs/shard/v1/prefix/5"}},
		"files are no place for S3":  {Input{Environ: []string{"IPFS_BLOCKSTORE=efs"}}, map[string]any{"type": "efsds", "path": "blocks", "shardFunc": shardFunc}, env()},
		"a bucket is none for files": {Input{Environ: env()}, s3Spec, []string{"IPFS_BLOCKSTORE=flatfs", "IPFS_FLATFS_PATH=p"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.is != nil {
				c.in.Repo = repo(t, c.is...)
			}
			if strings.HasPrefix(name, "go-ds-s3") { // which has no such key
				edit(t, c.in.Repo, func(conf map[string]any) {
					delete(BlocksStore(lookup(conf, []string{"Datastore", "Spec"}).(map[string]any)), "layout")
				})
			}
			require.Equal(t, c.want, load(t, c.in).Blocks.Spec)
		})
	}
}

func TestCredentialsAreKeptApart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("top-secret\n"), 0o600))
	vars := env("IPFS_S3_ACCESS_KEY=AK", "IPFS_S3_SECRET_KEY_FILE="+file)
	s := load(t, Input{Environ: vars})
	require.Equal(t, "AK", s.Keys.AccessKey)
	require.Equal(t, "top-secret", string(s.Keys.SecretKey))
	require.NotContains(t, s.Blocks.Spec, "accessKey")
	require.NotContains(t, s.Blocks.Spec, "secretKey")
	require.NotContains(t, s.Blocks.Command(), "AK")

	keys, _, err := LoadKeys(append(vars, "IPFS_S3_BUKET=x"))
	require.NoError(t, err, "commands that take the repo as it is want nothing but the keys")
	require.Equal(t, s.Keys, keys)
	_, _, err = LoadKeys([]string{"IPFS_S3_SECRET_KEY_FILE=/nowhere"})
	require.ErrorContains(t, err, "/nowhere")

	// What moves away from a bucket needs them while another store is chosen.
	load(t, Input{Environ: []string{"IPFS_BLOCKSTORE=efs", "IPFS_S3_ACCESS_KEY=AK", "IPFS_S3_SECRET_KEY_FILE=" + file}})
}

func TestTakeSecrets(t *testing.T) {
	names := []string{"IPFS_S3_SECRET_KEY", "IPFS_SWARM_KEY_FILE", "IPFS_CONFIG_API_Authorizations"}
	for _, name := range names {
		t.Setenv(name, "x")
	}
	require.NoError(t, TakeSecrets())
	for _, name := range names {
		_, set := os.LookupEnv(name)
		require.False(t, set, name)
	}
}

func TestSwarmKey(t *testing.T) {
	key := "/key/swarm/psk/1.0.0/\n/base16/\n" + strings.Repeat("0f", 32)
	require.Equal(t, key+"\n", string(load(t, Input{Environ: []string{"IPFS_SWARM_KEY=" + key}}).SwarmKey))
}

func TestLeavesOfAnError(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	require.Equal(t, []error{a, b}, leaves(errors.Join(errors.Join(a), b)))
	require.Empty(t, leaves(nil))
}

// What the store would refuse when it opens is refused before the config changes.
func TestNamesDurableIsRefusedOnALocalDisk(t *testing.T) {
	awsSaysNothing(t)
	_, err := Load(t.Context(), Input{Environ: []string{"IPFS_BLOCKSTORE=efs", "IPFS_EFS_NAMES_DURABLE=true"}, Repo: filepath.Join(t.TempDir(), "not", "made", "yet")})
	require.ErrorContains(t, err, `IPFS_EFS_NAMES_DURABLE="true": is not for this folder`)
	require.NotContains(t, err.Error(), "\n")
}
