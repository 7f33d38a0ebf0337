package main

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/ipfs/kubo/config"
)

// telemetryEnv is the variable that kubo's telemetry plugin reads before its
// config; kubo 0.42 takes "neither set" as "on".
const telemetryEnv = "IPFS_TELEMETRY"

// defaultTelemetryOff turns upstream's default around: with neither the
// variable nor Plugins.Plugins.telemetry.Config.Mode set, nothing is sent. Both
// switches keep their upstream meaning.
func defaultTelemetryOff(root string) {
	if os.Getenv(telemetryEnv) != "" || telemetryMode(root) != "" {
		return
	}
	os.Setenv(telemetryEnv, "off")
}

// telemetryMode reads the one config key it needs, so that a config which
// only a migration can parse in full does not stand in the way.
func telemetryMode(root string) string {
	b, err := os.ReadFile(filepath.Join(root, config.DefaultConfigFile))
	if err != nil {
		return ""
	}
	var c struct {
		Plugins struct {
			Plugins struct {
				Telemetry struct {
					Config struct{ Mode string }
				} `json:"telemetry"`
			}
		}
	}
	if json.Unmarshal(b, &c) != nil {
		return ""
	}
	return c.Plugins.Plugins.Telemetry.Config.Mode
}
