package main

import (
	"context"
	"strings"
	"time"

	"github.com/ipfs-aws/ipfs-aws/cluster/self/ecs"
	"github.com/ipfs-aws/ipfs-aws/cluster/settings"
	"github.com/ipfs-aws/ipfs-aws/internal/environ"
)

// metadataWait is how long the ECS metadata endpoint is asked: it answers
// within a second of a container's start, and never where it does not exist.
const metadataWait = 15 * time.Second

// withTask completes an environment from ECS task metadata: the settings for
// who and where this peer is, as far as they are not set. Outside ECS it
// changes nothing.
func withTask(vars []string) ([]string, error) {
	env := map[string]string{}
	for _, kv := range vars {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	endpoint := env[ecs.EndpointVariable]
	if endpoint == "" || env[settings.PeerNameVariable] != "" && env[settings.ZoneVariable] != "" && env[settings.TaskIDVariable] != "" {
		return vars, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), metadataWait)
	defer cancel()
	task, err := ecs.Ask(ctx, endpoint)
	if err != nil {
		return nil, environ.Problems{{
			Name: ecs.EndpointVariable, Value: endpoint,
			Want: "must be the address of the ECS task metadata endpoint, or unset together with " + settings.PeerNameVariable + " and " + settings.ZoneVariable + " set (" + err.Error() + ")",
		}}
	}
	out := append([]string{}, vars...)
	for name, value := range map[string]string{
		settings.PeerNameVariable: task.Name, settings.ZoneVariable: task.Zone, settings.TaskIDVariable: task.ID,
	} {
		if env[name] == "" && value != "" {
			out = append(out, name+"="+value)
		}
	}
	return out, nil
}
