package settings

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ipfs/kubo/config"
	"github.com/stretchr/testify/require"
)

func TestOverrides(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(`{"alice": {"AuthSecret": "bearer:top-secret", "AllowedPaths": ["/api/v0"]}}`), 0o600))
	for name, c := range map[string]struct {
		env  string
		key  string
		want string // as JSON
	}{
		"text as it is":         {"Datastore_StorageMax=500GB", "Datastore.StorageMax", `"500GB"`},
		"text in quotes":        {`Datastore_StorageMax="500GB"`, "Datastore.StorageMax", `"500GB"`},
		"text that is a number": {"Datastore_GCPeriod=1", "Datastore.GCPeriod", `"1"`},
		"in upper case":         {"DATASTORE_STORAGEMAX=1TB", "Datastore.StorageMax", `"1TB"`},
		"number":                {"Datastore_StorageGCWatermark=80", "Datastore.StorageGCWatermark", `80`},
		"optional number":       {"Swarm_ConnMgr_HighWater=200", "Swarm.ConnMgr.HighWater", `200`},
		"optional text":         {"Provide_Strategy=roots", "Provide.Strategy", `"roots"`},
		"optional duration":     {"Internal_ShutdownTimeout=90s", "Internal.ShutdownTimeout", `"90s"`},
		"truth":                 {"Gateway_NoFetch=true", "Gateway.NoFetch", `true`},
		"flag":                  {"AutoTLS_Enabled=false", "AutoTLS.Enabled", `false`},
		"flag to kubo's own":    {"AutoTLS_Enabled=null", "AutoTLS.Enabled", `null`},
		"list":                  {"Addresses_Swarm=/ip4/0.0.0.0/tcp/4001,/ip6/::/tcp/4001", "Addresses.Swarm", `["/ip4/0.0.0.0/tcp/4001","/ip6/::/tcp/4001"]`},
		"list as JSON":          {`Bootstrap=["a"]`, "Bootstrap", `["a"]`},
		"one of one or many":    {"Addresses_API=/ip4/127.0.0.1/tcp/5001", "Addresses.API", `["/ip4/127.0.0.1/tcp/5001"]`},
		"below a map":           {"Plugins_Plugins_telemetry_Config_Mode=off", "Plugins.Plugins.telemetry.Config.Mode", `"off"`},
		"a map as a whole":      {`Gateway_PublicGateways={"example.com":{"Paths":["/ipfs"],"UseSubdomains":true}}`, "Gateway.PublicGateways", `{"example.com":{"Paths":["/ipfs"],"UseSubdomains":true}}`},
		"part of an object":     {`Swarm_ConnMgr={"LowWater":10}`, "Swarm.ConnMgr.LowWater", `10`},
		"many":                  {`JSON={"swarm":{"connmgr":{"LowWater":10}}}`, "Swarm.ConnMgr.LowWater", `10`},
		"from a file":           {"API_Authorizations_FILE=" + file, "API.Authorizations", `{"alice":{"AllowedPaths":["/api/v0"],"AuthSecret":"bearer:top-secret"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			all := load(t, Input{Environ: []string{ConfigPrefix + c.env}}).Overrides
			require.Len(t, all, 1)
			require.Equal(t, c.key, all[0].Key())
			b, err := json.Marshal(all[0].Value)
			require.NoError(t, err)
			require.Equal(t, c.want, string(b))
			require.Equal(t, strings.Contains(c.key, "Authorizations"), all[0].Secret)
		})
	}
}

func TestOverridesThatAreWrong(t *testing.T) {
	for name, c := range map[string]struct {
		env  string
		want string
	}{
		"no such section":      {"Datastor_StorageMax=1", "no key Datastor; did you mean Datastore?"},
		"no such key":          {"Swarm_ConnMgr_HigWater=1", "no key Swarm.ConnMgr.HigWater; did you mean Swarm.ConnMgr.HighWater?"},
		"nothing near":         {"Pubsub_Colour=red", "no key Pubsub.Colour: Pubsub has Router,"},
		"below a value":        {"Datastore_StorageMax_Bytes=1", "Datastore.StorageMax is a single value"},
		"not a truth":          {"Gateway_NoFetch=yes", `IPFS_CONFIG_Gateway_NoFetch="yes": must be true or false`},
		"not a flag":           {"AutoTLS_Enabled=yes", `IPFS_CONFIG_AutoTLS_Enabled="yes": must be true, false or null`},
		"not a number":         {"Swarm_ConnMgr_HighWater=lots", `must be a whole number or null`},
		"not a duration":       {"Internal_ShutdownTimeout=later", `must be a duration`},
		"not an object":        {"Swarm_ConnMgr=lots", `IPFS_CONFIG_Swarm_ConnMgr="lots": must be a JSON object`},
		"an object of another": {`Gateway_PublicGateways={"h":{"Path":["/ipfs"]}}`, `unknown field "Path"`},
		"list of numbers":      {"Bootstrap=[1,2]", "must be a list"},
		"identity":             {"Identity_PeerID=x", "cannot set Identity.PeerID: the identity of a node is made with its repo"},
		"identity in an object": {`JSON={"Identity":{"PrivKey":"top-secret"}}`,
			"cannot set Identity.PrivKey"},
		"where blocks are":       {`Datastore_Spec={"type":"flatfs"}`, "cannot set Datastore.Spec: where blocks are kept is said with IPFS_BLOCKSTORE"},
		"secret":                 {"API_Authorizations=top-secret", "IPFS_CONFIG_API_Authorizations: must be JSON"},
		"many: not JSON":         {"JSON=top-secret", "IPFS_CONFIG_JSON: must be a JSON object"},
		"many: a wrong key":      {`JSON={"Swarm":{"ConnMgr":{"HigWater":1}}}`, "IPFS_CONFIG_JSON: kubo's config has no key Swarm.ConnMgr.HigWater; did you mean"},
		"many: a wrong value":    {`JSON={"Gateway":{"NoFetch":"top-secret"}}`, "IPFS_CONFIG_JSON: Gateway.NoFetch: must be true or false"},
		"many: two values":       {`JSON={} {}`, "IPFS_CONFIG_JSON: must be a JSON object"},
		"a file that is missing": {"API_Authorizations_FILE=/nowhere", "must name a readable file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(t.Context(), Input{Environ: []string{ConfigPrefix + c.env}})
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "top-secret")
		})
	}
}

func TestAVariableOfItsOwnWins(t *testing.T) {
	root := repo(t)
	start(t, root, `IPFS_CONFIG_JSON={"Gateway":{"NoFetch":true,"NoDNSLink":true}}`, "IPFS_CONFIG_Gateway_NoFetch=false")
	conf, err := ReadConfig(root)
	require.NoError(t, err)
	gateway := conf["Gateway"].(map[string]any)
	require.Equal(t, false, gateway["NoFetch"])
	require.Equal(t, true, gateway["NoDNSLink"])
}

// Every key of kubo's config can be written as a variable: none has an
// underscore, and none differs from another by its case only.
func TestEveryKeyOfKubosConfigHasAVariable(t *testing.T) {
	count := 0
	var walk func(at place)
	walk = func(at place) {
		count++
		if !at.object() {
			return
		}
		seen := map[string]bool{}
		for _, f := range fields(at.typ) {
			require.NotContains(t, f.name, "_")
			require.False(t, seen[strings.ToLower(f.name)], "%s.%s", at.key(), f.name)
			seen[strings.ToLower(f.name)] = true
			next, want := at.into(f.name)
			require.Empty(t, want)
			require.NoError(t, config.CheckKey(next.key()), "and kubo knows it by the same name")
			walk(next)
		}
	}
	walk(place{typ: reflect.TypeFor[config.Config]()})
	require.Greater(t, count, 150)
}
