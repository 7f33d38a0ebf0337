package main

import (
	"os"

	"github.com/ipfs-aws/ipfs-aws/cmd/ipfs-aws/settings"
)

// telemetryEnv is the variable that kubo's telemetry plugin reads before its
// config; kubo takes "neither set" as "on", and sends to wherever its build says:
// since 0.43 nowhere by default.
//
// upstream: telemetry
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
	mode, _ := configValue(root, "Plugins", "Plugins", "telemetry", "Config", "Mode").(string)
	return mode
}

// configValue is one value in the config of a repo, or nil.
func configValue(root string, path ...string) any {
	var at any
	conf, err := settings.ReadConfig(root)
	if err != nil {
		return nil
	}
	at = conf
	for _, key := range path {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[key]
	}
	return at
}
