package examples

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// secrets are what the files of the deployment hold, by name.
var secrets = map[string]string{
	"s3_access_key":    "LOCAL",
	"s3_secret_key":    "secret",
	"swarm_key":        "/key/swarm/psk/1.0.0/\n/base16/\n" + strings.Repeat("0f", 32) + "\n",
	"cluster_secret":   strings.Repeat("0a", 32),
	"cluster_seed":     strings.Repeat("0b", 32),
	"rest_credentials": "admin:secret",
}

// state is a folder as `local-cluster compose prepare` makes it.
func state(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "secrets"), 0o700))
	for name, content := range secrets {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "secrets", name), []byte(content), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "s3.env"), []byte("ROOT_ACCESS_KEY=LOCAL\nROOT_SECRET_KEY=secret\n"), 0o600))
	return dir
}

// check gives the settings of a container to its program, which looks at all of them
// and changes nothing.
func check(t *testing.T, program string, env map[string]string) {
	t.Helper()
	binary, err := filepath.Abs(filepath.Join("../../bin", program))
	require.NoError(t, err)
	require.FileExists(t, binary, "run `make build` first")
	dir := state(t)
	cmd := exec.Command(binary, "container", "--check")
	cmd.Env = []string{"PATH=/nowhere", "HOME=" + dir, "IPFS_PATH=" + filepath.Join(dir, "ipfs"), "IPFS_CLUSTER_PATH=" + filepath.Join(dir, "cluster")}
	for name, value := range env {
		require.True(t, strings.HasPrefix(name, "IPFS_") || strings.HasPrefix(name, "CLUSTER_") || strings.HasPrefix(name, "AWS_"), name)
		if strings.HasPrefix(value, "/run/secrets/") {
			value = filepath.Join(dir, "secrets", filepath.Base(value))
			require.FileExists(t, value)
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "all is well")
	require.NotContains(t, strings.ToLower(string(out)), "warning", "%s", out)
}

// load reads the compose files as compose v2 does.
func load(t *testing.T, files ...string) *types.Project {
	t.Helper()
	for i := range files {
		files[i] = filepath.Join("..", files[i])
	}
	options, err := cli.NewProjectOptions(files, cli.WithName("test"), cli.WithEnv([]string{"STATE_DIR=" + state(t)}), cli.WithResolvedPaths(true))
	require.NoError(t, err)
	p, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	return p
}

func TestComposeAsVersion2ReadsIt(t *testing.T) {
	for store, files := range map[string][]string{"s3": {"compose.yaml"}, "efs": {"compose.yaml", "compose.efs.yaml"}} {
		t.Run(store, func(t *testing.T) {
			p := load(t, files...)
			want := []string{"bucket", "cluster-1", "cluster-2", "cluster-3", "edge", "ipfs-1", "ipfs-2", "ipfs-3", "task-1", "task-2", "task-3"}
			if store == "s3" {
				want = append(want, "s3")
			}
			require.ElementsMatch(t, want, p.ServiceNames())
			for name, s := range p.Services {
				require.True(t, s.ReadOnly, name)
				require.Equal(t, []string{"ALL"}, s.CapDrop, name)
				require.Equal(t, "1000:1000", s.User, name)
				program, _, _ := strings.Cut(s.Image, ":")
				require.FileExists(t, filepath.Join("..", program+".Dockerfile"))
				for _, port := range s.Ports {
					require.Equal(t, "edge", name)
					require.Equal(t, "127.0.0.1", port.HostIP)
				}
				kind, n, _ := strings.Cut(name, "-")
				if kind != "ipfs" && kind != "cluster" {
					continue
				}
				require.Equal(t, "service:task-"+n, s.NetworkMode)
				require.NotNil(t, s.StopGracePeriod)
				require.Equal(t, "2m0s", s.StopGracePeriod.String())
				env := map[string]string{}
				for k, v := range s.Environment {
					if *v != "" {
						env[k] = *v
					}
				}
				if kind == "ipfs" {
					require.Equal(t, store, env["IPFS_BLOCKSTORE"])
				}
				check(t, program, env)
			}
			require.Equal(t, "service_healthy", p.Services["cluster-2"].DependsOn["ipfs-2"].Condition)
			require.Equal(t, "service_healthy", p.Services["edge"].DependsOn["cluster-3"].Condition)
		})
	}
}

func TestTaskDefinition(t *testing.T) {
	raw, err := os.ReadFile("ecs-task-definition.json")
	require.NoError(t, err)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var def ecs.RegisterTaskDefinitionInput
	require.NoError(t, d.Decode(&def))
	require.Len(t, def.ContainerDefinitions, 2)
	for _, c := range def.ContainerDefinitions {
		require.True(t, *c.ReadonlyRootFilesystem)
		require.Equal(t, []string{"ALL"}, c.LinuxParameters.Capabilities.Drop)
		require.LessOrEqual(t, *c.StopTimeout, int32(120), "what Fargate allows")
		require.Equal(t, []string{"CMD", *c.Name, "health"}, c.HealthCheck.Command[:3])
		env := map[string]string{}
		for _, e := range c.Environment {
			env[*e.Name] = *e.Value
		}
		for _, s := range c.Secrets {
			name := *s.ValueFrom
			name = strings.ReplaceAll(name[strings.LastIndex(name, "/")+1:], "-", "_")
			require.Contains(t, secrets, name)
			env[*s.Name] = secrets[name]
		}
		check(t, *c.Name, env)
	}
	require.Equal(t, "ipfs-aws", *def.ContainerDefinitions[1].DependsOn[0].ContainerName)
}

func TestKubernetesManifest(t *testing.T) {
	raw, err := os.ReadFile("kubernetes.yaml")
	require.NoError(t, err)
	var set *apps.StatefulSet
	services := map[string]*core.Service{}
	for _, doc := range bytes.Split(raw, []byte("\n---\n")) {
		var kind struct{ Kind string }
		require.NoError(t, yaml.Unmarshal(doc, &kind))
		switch kind.Kind {
		case "Service":
			s := &core.Service{}
			require.NoError(t, yaml.UnmarshalStrict(doc, s))
			services[s.Name] = s
		case "StatefulSet":
			set = &apps.StatefulSet{}
			require.NoError(t, yaml.UnmarshalStrict(doc, set))
		default:
			require.Fail(t, "another kind", kind.Kind)
		}
	}
	require.NotNil(t, set)
	require.Contains(t, services, set.Spec.ServiceName)
	pod := set.Spec.Template.Spec
	require.Equal(t, core.ContainerRestartPolicyAlways, *pod.InitContainers[0].RestartPolicy, "a sidecar")
	peers := ""
	for i := range *set.Spec.Replicas {
		peers += fmt.Sprintf(",%[1]s-%[2]d=/dns4/%[1]s-%[2]d.%[3]s/tcp/9096", set.Name, i, set.Spec.ServiceName)
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
		require.Equal(t, []core.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
		env := map[string]string{}
		for _, e := range c.Env {
			env[e.Name] = e.Value
			if e.ValueFrom != nil {
				require.Equal(t, "metadata.name", e.ValueFrom.FieldRef.FieldPath)
				env[e.Name] = set.Name + "-1"
			}
		}
		if c.Name == "cluster-aws" {
			require.Equal(t, peers[1:], env["CLUSTER_PEERS"])
		}
		check(t, c.Name, env)
	}
}
