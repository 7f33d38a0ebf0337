package infra

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs-aws/ipfs-aws/infra/template"
)

// program is a binary of `make build`.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../bin/" + name)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%s is missing: run make build at the top", path)
	}
	return path
}

// The programs read what the template says to them, and say that all is well;
// and what the template calls for health is a command that they have.
func TestProgramsTakeTheSettings(t *testing.T) {
	binaries := map[string]string{nodeContainer: program(t, "ipfs-aws"), clusterContainer: program(t, "cluster-aws")}
	secret := map[string]string{
		"ClusterSecret": strings.Repeat("0123456789abcdef", 4), "Seed": strings.Repeat("s", 64), "AdminCredentials": "admin:" + strings.Repeat("p", 32),
		"SwarmKey": "/key/swarm/psk/1.0.0/\n/base16/\n" + strings.Repeat("0123456789abcdef", 4),
	}
	each(t, func(t *testing.T, name string, l template.Launch) {
		ids := tasks(l)
		if !slices.Contains([]string{OneZone, Standard, S3}, name) {
			ids = ids[:1] // the tasks of a template differ in names, which the released ones have all
		}
		if name == S3 {
			l.Values["PinningApi"] = "on"
		}
		for _, id := range ids {
			for _, c := range at(get(t, l, id), "ContainerDefinitions").([]any) {
				home := t.TempDir()
				// As ECS and the image give them, with folders that are here.
				vars := []string{"HOME=" + home, "PATH=/nowhere", "AWS_REGION=us-east-1",
					"IPFS_PATH=" + home + "/ipfs", "IPFS_CLUSTER_PATH=" + home + "/ipfs-cluster"}
				for name, value := range env(c) {
					vars = append(vars, name+"="+strings.ReplaceAll(value, cachePath, home+"/cache"))
				}
				secrets, _ := at(c, "Secrets").([]any)
				for _, s := range secrets {
					vars = append(vars, fmt.Sprintf("%v=%s", at(s, "Name"), secret[at(s, "ValueFrom").(string)]))
				}
				name := at(c, "Name").(string)
				says, err := runs(binaries[name], vars, "container", "--check")
				if err != nil || !strings.Contains(says, "all is well") || strings.Contains(says, "warning") {
					t.Errorf("%s, %s: %v\n%s", id, name, err, says)
				}

				command := at(c, "HealthCheck", "Command").([]any)
				if command[0] != "CMD" || command[1] != filepath.Base(binaries[name]) {
					t.Fatalf("%s: health is %v", id, command)
				}
				// Where nothing listens, whatever else runs on this machine.
				vars = append(vars, "IPFS_HEALTH_ADDRESS=127.0.0.1:1", "CLUSTER_HEALTH_ADDRESS=127.0.0.1:1")
				says, err = runs(binaries[name], vars, fmt.Sprint(command[2]), fmt.Sprint(command[3]))
				if err == nil || !strings.Contains(says, "nothing answers at 127.0.0.1:") {
					t.Errorf("%s: health of a process that does not run: %v\n%s", name, err, says)
				}
			}
		}
	})
	// They would say so if a setting were none.
	if says, err := runs(binaries[nodeContainer], []string{"HOME=" + t.TempDir(), "IPFS_BLOCKSTOR=efs"}, "container", "--check"); err == nil {
		t.Errorf("a misspelt setting passes: %s", says)
	}
}

func runs(program string, vars []string, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, arguments...)
	cmd.Env = vars
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The version and the folders here are those of Makefile and images.
func TestAgreesWithTheImages(t *testing.T) {
	for path, wants := range map[string][]string{
		"../Makefile":                      {"VERSION  ?= " + Version + "\n"},
		"../docker/ipfs-aws.Dockerfile":    {"IPFS_PATH=" + repoPath + " ", `"` + repoPath + `", "` + cachePath + `"`, "USER " + user, `CMD ["container"]`},
		"../docker/cluster-aws.Dockerfile": {"IPFS_CLUSTER_PATH=" + pinsetPath + " ", `VOLUME ["` + pinsetPath + `"]`, "USER " + user, `CMD ["container"]`},
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s does not have %q", path, want)
			}
		}
	}
}
