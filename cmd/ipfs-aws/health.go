package main

import (
	"fmt"
	"os"

	cmds "github.com/ipfs/go-ipfs-cmds"
	"github.com/ipfs/kubo/core/commands"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
	"github.com/ipfs-aws/ipfs-aws/internal/container"
)

// healthCmd asks the health listener of the node in the same container.
var healthCmd = &cmds.Command{
	Helptext: cmds.HelpText{
		Tagline: "Ask the node in this container whether it is ready, or alive.",
		ShortDescription: `
Asks the node's health listener (IPFS_HEALTH_ADDRESS, the config, or
127.0.0.1:8099) and exits with 0 if it is ready, with 1 if it is not, or if
nothing answers; then it says why. With --live it asks only whether the
process answers. It needs no credentials, and neither repo nor RPC.

  $ ipfs-aws health
  $ ipfs-aws health --live
`,
	},
	Options: []cmds.Option{
		cmds.BoolOption("live", "Whether the process answers, not whether it is ready."),
	},
	NoRemote: true,
	Extra:    commands.CreateCmdExtras(commands.SetDoesNotUseRepo(true), commands.SetDoesNotUseConfigAsInput(true)),
	Run: func(req *cmds.Request, _ cmds.ResponseEmitter, _ cmds.Environment) error {
		root, err := repoRoot(req)
		if err != nil {
			return err
		}
		address := os.Getenv(settings.HealthAddress)
		if address == "" {
			address = configuredHealth(root)
		}
		if address == "" {
			address = settings.DefaultHealthAddress
		}
		l := container.Listener{Address: address, Setting: settings.HealthAddress}
		ask := l.Ready
		if live, _ := req.Options["live"].(bool); live {
			ask = l.Live
		}
		if err := ask(req.Context); err != nil {
			return fmt.Errorf("health: %w", err)
		}
		return nil
	},
}

// configuredHealth is the address in the config of a repo, or "".
func configuredHealth(root string) string {
	address, _ := configValue(root, "Plugins", "Plugins", "health", "Config", "Address").(string)
	return address
}
