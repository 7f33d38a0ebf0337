package main

import (
	"fmt"
	"io"
	"strings"

	cmds "github.com/ipfs/go-ipfs-cmds"
	kubo "github.com/ipfs/kubo"

	"github.com/ipfs-aws/ipfs-aws/internal/version"
)

// VersionInfo is what `version --enc=json` and the RPC's /api/v0/version
// answer: kubo's fields under kubo's names, so that clients which check the
// upstream version keep working, and the distribution beside them.
type VersionInfo struct {
	kubo.VersionInfo
	Distribution        string            // always "ipfs-aws"; empty from a stock kubo daemon
	DistributionVersion string            // semantic version of the distribution
	DistributionCommit  string            // commit it was built from, empty when unknown
	Upstream            map[string]string // versions of the upstream modules inside, by name
}

func versionInfo() *VersionInfo {
	// upstream: agent-suffix
	kubo.SetUserAgentSuffix(agentSuffix())
	return &VersionInfo{
		VersionInfo:         *kubo.GetVersionInfo(),
		Distribution:        "ipfs-aws",
		DistributionVersion: version.Version,
		DistributionCommit:  version.Commit,
		Upstream: map[string]string{
			"kubo":      version.Dependency("github.com/ipfs/kubo"),
			"boxo":      version.Dependency("github.com/ipfs/boxo"),
			"go-libp2p": version.Dependency("github.com/libp2p/go-libp2p"),
		},
	}
}

// versionLine names the distribution and what is inside; a stock kubo daemon that
// answered has no distribution.
func versionLine(v *VersionInfo) string {
	if v.Distribution == "" {
		return "stock kubo " + v.Version
	}
	return fmt.Sprintf("%s version %s (kubo %s, boxo %s, go-libp2p %s)", v.Distribution, v.DistributionVersion,
		v.Version, strings.TrimPrefix(v.Upstream["boxo"], "v"), strings.TrimPrefix(v.Upstream["go-libp2p"], "v"))
}

// extendVersion keeps kubo's options and their meaning (--number and --repo
// speak of kubo, which is what scripts compare) and names the distribution
// everywhere else.
func extendVersion(cmd *cmds.Command) {
	cmd.Helptext.Tagline = "Show the version of ipfs-aws and of the kubo inside."
	cmd.Helptext.ShortDescription = `
Names the distribution and its upstream versions. --number, --commit and
--repo speak of kubo, as they do upstream; so does the first line.

Example:

  $ ipfs-aws version --enc=json
`
	cmd.Type = VersionInfo{}
	cmd.Run = func(_ *cmds.Request, res cmds.ResponseEmitter, _ cmds.Environment) error {
		return cmds.EmitOnce(res, versionInfo())
	}
	cmd.Encoders = cmds.EncoderMap{cmds.Text: cmds.MakeTypedEncoder(writeVersion)}
}

func writeVersion(req *cmds.Request, w io.Writer, v *VersionInfo) error {
	set := func(name string) bool { b, _ := req.Options[name].(bool); return b }
	number := v.Version
	if set("commit") && v.Commit != "" {
		number += "-" + v.Commit
	}
	var err error
	switch {
	case set("all"):
		_, err = fmt.Fprintf(w, "Kubo version: %s\nRepo version: %s\nSystem version: %s\nGolang version: %s\n%s\n",
			number, v.Repo, v.System, v.Golang, versionLine(v))
		if err == nil && v.DistributionCommit != "" {
			_, err = fmt.Fprintf(w, "Commit: %s\n", v.DistributionCommit)
		}
	case set("repo"):
		_, err = fmt.Fprintln(w, v.Repo)
	case set("number"):
		_, err = fmt.Fprintln(w, number)
	default: // tools match the first line with ^ipfs version
		_, err = fmt.Fprintf(w, "ipfs version %s\n%s\n", number, versionLine(v))
	}
	return err
}
