package settings

import (
	"fmt"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/internal/environ"
)

// Reference is the page docs/settings.md: every setting of ipfs-aws, from the
// table that they are read by.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Settings of ipfs-aws

<!-- Made from the code: go test ./cmd/ipfs-aws/settings -update -->

All settings are environment variables. ` + "`ipfs-aws daemon`, `init` and `container`" + ` read them once, check all of them before anything is
touched, and print all problems at once, one line each, with the setting's name, its value and what would be accepted; the exit code is then 1.
A name that nobody knows is an error that names the nearest setting. ` + "`ipfs-aws container --check`" + ` checks and does nothing else. Those of ` + "`cluster-aws`" + `
are in [cluster.md](cluster.md#settings).

| Said by | |
|---|---|
| environment | the variables below; a variable that is set but empty is not set |
| flags of ` + "`ipfs-aws init`" + ` and ` + "`datastore migrate`" + ` | the same, without secrets; a flag wins over its variable |
| kubo's config | who prefers it sets no variable: what is not set leaves the config as it is |

## At a start

Without ` + "`" + Blockstore + "`" + ` nothing is said about the blocks. With it, the store of the blocks in ` + "`Datastore.Spec`" + ` is what the settings say and nothing else.
Settings marked **identity** say which data it is. Where the default is "the repo's", what is not set stays as it is; everything
else that is not set has its default then.

| What has changed | What happens |
|---|---|
| nothing | nothing |
| there is no repo | it is made (` + "`init`, `container`, `daemon --init`" + `) |
| anything that is not identity: sizes, workers, endpoint, credentials, … | the config is rewritten, as a whole or not at all, and the log has a line for each change |
| ` + "`flatfs` ↔ `efs`" + ` | the same: they share their layout |
| layout or region of the same bucket and prefix | the same, in ` + "`datastore_spec`" + ` as well: nothing has to be copied |
| an identity setting, or another blockstore | refused, with the command that moves the blocks and the settings that leave them where they are |
| ` + "`IPFS_S3_JOURNAL_PATH`" + `, while there is something in the old one | refused, with the command that moves it |

## The node

`)
	rows(&b, "")
	b.WriteString(`
` + "`GOLOG_…`, `LIBP2P_…`, `HTTPS_PROXY` and `AWS_…`" + ` are read by the libraries that they belong to. Of the other names that begin with ` + "`IPFS_`" + `, one that is nearly that
of a setting is an error, any other a warning.

## blockstore s3

[What they do](s3ds.md). Sizes are bytes, or a number with a unit, such as ` + "`32MiB`" + `; paths that are relative start at the repo's folder.

`)
	rows(&b, S3)
	b.WriteString(`
Credentials given here are used by every command, and never written to the repo.

## blockstore efs

[What they do](efs.md).

`)
	rows(&b, EFS)
	b.WriteString(`
## blockstore flatfs

`)
	rows(&b, Flatfs)
	b.WriteString(`
## Secrets

`)
	for _, s := range table {
		if s.Secret {
			fmt.Fprintf(&b, "`%s`, ", s.Variable)
		}
	}
	b.WriteString(`and every ` + "`" + ConfigPrefix + "…`" + ` variable may come from a file instead: append ` + "`" + environ.FileSuffix + "`" + ` to the name. They are no flags, are
never logged (the access key alone is told at a start, so that a rotation can be seen), and are taken out of the environment of the daemon once they are read.

## Keys of kubo's config

` + "`" + ConfigPrefix + "`" + ` and a key of [kubo's config](https://github.com/ipfs/kubo/blob/v0.43.1/docs/config.md), with ` + "`_`" + ` for each dot, sets that key at every start:

    IPFS_CONFIG_Datastore_StorageMax=500GB
    IPFS_CONFIG_Swarm_ConnMgr_HighWater=200
    IPFS_CONFIG_Addresses_Swarm=/ip4/0.0.0.0/tcp/4001,/ip4/0.0.0.0/udp/4001/quic-v1
    IPFS_CONFIG_Gateway_PublicGateways='{"example.com": {"UseSubdomains": true, "Paths": ["/ipfs", "/ipns"]}}'

The value must be what kubo has there: text as it is, ` + "`true`" + `, a number, a list as JSON or separated by commas, else JSON; ` + "`null`" + ` takes the key out. An
object sets the keys that it has and leaves the others. A key that kubo does not have is an error. Upper and lower case are the same for keys that kubo
names, so ` + "`IPFS_CONFIG_DATASTORE_STORAGEMAX`" + ` will do.

` + "`" + ConfigJSON + "`" + ` (or ` + "`" + ConfigJSON + environ.FileSuffix + "`" + `) sets many keys at once:

    IPFS_CONFIG_JSON='{"Swarm": {"DisableNatPortMap": true}, "Gateway": {"NoFetch": true}}'

A variable of its own wins. ` + "`Identity`" + ` and ` + "`Datastore.Spec`" + ` cannot be set in this way. A variable that is removed later leaves the value in the config.
`)
	return b.String()
}

func rows(b *strings.Builder, store string) {
	flags := store != ""
	if flags {
		b.WriteString("| Variable | Flag | Meaning | Default | Accepted |\n|---|---|---|---|---|\n")
	} else {
		b.WriteString("| Variable | Meaning | Default | Accepted |\n|---|---|---|---|\n")
	}
	for _, s := range table {
		if s.Store != store {
			continue
		}
		meaning := s.Meaning
		if s.Identity {
			meaning += ". **identity**"
		}
		flag := ""
		if s.Flag != "" {
			flag = "`--" + s.Flag + "`"
		}
		switch {
		case flags:
			fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", s.Variable, flag, meaning, s.Default, s.Accepted)
		case flag != "":
			fmt.Fprintf(b, "| `%s`, %s | %s | %s | %s |\n", s.Variable, flag, meaning, s.Default, s.Accepted)
		default:
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", s.Variable, meaning, s.Default, s.Accepted)
		}
	}
}
