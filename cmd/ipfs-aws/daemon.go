package main

import (
	"fmt"

	cmds "github.com/ipfs/go-ipfs-cmds"

	"github.com/ipfs-aws/ipfs-aws/internal/version"
)

// agentSuffix names the distribution to other peers: without it kubo derives a
// suffix from the Go module path.
func agentSuffix() string { return "ipfs-aws/" + version.Version }

// extendDaemon gives the daemon the distribution's agent version, unless
// --agent-version-suffix or Version.AgentSuffix names another.
func extendDaemon(daemon *cmds.Command) {
	const suffixOption = "agent-version-suffix"
	run := daemon.Run
	daemon.Run = func(req *cmds.Request, res cmds.ResponseEmitter, env cmds.Environment) error {
		if s, _ := req.Options[suffixOption].(string); s == "" {
			req.Options[suffixOption] = agentSuffix()
		}
		fmt.Println(versionLine(versionInfo()))
		return run(req, res, env)
	}
}
