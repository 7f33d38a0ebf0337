package examples

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// yard is a folder with what .ci/release reads, and programs that note how they were called.
type yard struct {
	t   *testing.T
	dir string
	env []string
}

const releaseDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// stubs are what the script calls and must not here, by name.
var stubs = map[string]string{
	// What a build leaves behind, the same each time unless FAULTY says otherwise.
	"make": `
case $1 in
images) mkdir -p dist/oci dist/bin/linux-amd64 dist/bin/linux-arm64
	for name in ipfs-aws cluster-aws local-cluster versitygw; do
		mkdir -p dist/oci/$name; echo "$name${FAULTY:+ $(date +%N)}" >dist/oci/$name/index.json
		for arch in amd64 arm64; do
			echo "$name $arch" >dist/bin/linux-$arch/$name
			mkdir -p dist/_stage/linux-$arch/$name/rootfs/usr/share/$name
			echo "{}" >dist/_stage/linux-$arch/$name/rootfs/usr/share/$name/sbom.spdx.json
		done
	done ;;
dist/bin/darwin-arm64) mkdir -p $1; for name in ipfs-aws cluster-aws local-cluster; do echo mac >$1/$name; done ;;
*) exit 1 ;;
esac`,
	"go": `
case "$2 $3" in
"./cmd/images push") echo "${5%:*}@` + releaseDigest + `" ;;
"./cmd/images "*) echo "` + releaseDigest + `" ;;
*) while [ "$1" != -to ]; do shift; done; to=$2; shift 2; cp "$@" "$to" ;;
esac`,
	"git":    `[ "$1" != log ] || echo 1767225600`,
	"cosign": `while [ $# -gt 0 ]; do [ "$1" != --bundle ] || echo "{}" >"$2"; shift; done`,
	"aws":    "", "gh": "", "docker": "",
}

func newYard(t *testing.T) *yard {
	y := &yard{t: t, dir: t.TempDir()}
	top := "../.."
	for _, f := range []string{".ci/release", "docker/compose.yaml", "docker/compose.efs.yaml", "docker/edge.json", "infra/stack-policy.json", "infra/templates/onezone.json", "infra/templates/guard.json"} {
		text, err := os.ReadFile(filepath.Join(top, f))
		require.NoError(t, err)
		y.write(f, string(text))
	}
	y.write("go.mod", "module m\nrequire github.com/ipfs-aws/ipfs-aws/internal v1.2.3\n")
	for name, does := range stubs {
		y.write("stubs/"+name, "#!/bin/bash\nset -e\necho "+name+` "$@" >>"$CALLS"`+"\n"+does+"\n")
	}
	y.env = []string{"PATH=" + y.dir + "/stubs:" + os.Getenv("PATH"), "HOME=" + y.dir, "CALLS=" + y.dir + "/calls", "GITHUB_OUTPUT=" + y.dir + "/output",
		"GITHUB_REPOSITORY_OWNER=Owner", "GHCR_REGISTRY=registry.example", "GITHUB_REF_TYPE=tag", "GITHUB_REF_NAME=v1.2.3"}
	return y
}

func (y *yard) write(name, text string) {
	path := filepath.Join(y.dir, name)
	require.NoError(y.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(y.t, os.WriteFile(path, []byte(text), 0o755))
}

func (y *yard) read(name string) string {
	text, err := os.ReadFile(filepath.Join(y.dir, name))
	require.NoError(y.t, err)
	return string(text)
}

// step runs one, and returns what it said and what it has called.
func (y *yard) step(name string, env ...string) (said, calls string, err error) {
	y.write("calls", "")
	cmd := exec.Command(filepath.Join(y.dir, ".ci/release"), name)
	cmd.Env = append(slices.Clone(y.env), env...)
	out, err := cmd.CombinedOutput()
	return string(out), y.read("calls"), err
}

func (y *yard) must(name string, env ...string) (said, calls string) {
	y.t.Helper()
	said, calls, err := y.step(name, env...)
	require.NoError(y.t, err, said)
	return said, calls
}

// A fork's first tag needs no setting, and what is half set is refused with what is missing.
func TestReleasePlan(t *testing.T) {
	ecr := []string{"ECR_REGISTRY=public.example", "ECR_IMAGES=public.example/x", "ECR_ROLE=role"}
	for name, c := range map[string]struct {
		env     []string
		output  string
		refused string
	}{
		"nothing is set": {output: "version=1.2.3 images=registry.example/owner ecr=false templates=false dry=false"},
		"all is set":     {env: append([]string{"TEMPLATES_BUCKET=b"}, ecr...), output: "version=1.2.3 images=registry.example/owner public.example/x ecr=true templates=true dry=false"},
		"own path":       {env: []string{"GHCR_IMAGES=registry.example/other"}, output: "version=1.2.3 images=registry.example/other ecr=false templates=false dry=false"},
		"by hand":        {env: []string{"GITHUB_REF_TYPE=branch", "GITHUB_REF_NAME=main"}, output: "version=0.0.0-dry images=registry.example/owner ecr=false templates=false dry=true"},
		"half of ECR":    {env: ecr[:1], refused: "set ECR_IMAGES ECR_ROLE as well"},
		"bucket alone":   {env: []string{"TEMPLATES_BUCKET=b"}, refused: "TEMPLATES_BUCKET needs ECR_ROLE"},
		"no version":     {env: []string{"GITHUB_REF_NAME=vnext"}, refused: "the tag vnext is no version"},
		"other module":   {env: []string{"GITHUB_REF_NAME=v1.2.4"}, refused: "go.mod requires another version of internal/ than v1.2.4"},
	} {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			said, calls, err := y.step("plan", c.env...)
			require.Empty(t, calls)
			if c.refused != "" {
				require.Error(t, err)
				require.Contains(t, said, c.refused)
				return
			}
			require.NoError(t, err, said)
			require.Equal(t, c.output, strings.ReplaceAll(strings.TrimSpace(y.read("output")), "\n", " "))
		})
	}
}

// All steps, with two registries and a bucket.
func TestReleaseScript(t *testing.T) {
	y := newYard(t)
	y.env = append(y.env, "VERSION=1.2.3", "IMAGES=registry.example/owner public.example/x", "TEMPLATES=true", "TEMPLATES_BUCKET=bucket", "DRY=false")
	said, calls := y.must("build")
	require.Contains(t, said, "two builds are the same")
	require.Equal(t, 2, strings.Count(calls, "make images"))
	_, calls = y.must("push")
	require.Equal(t, 8, strings.Count(calls, "cmd/images push"))
	pushed := strings.Fields(y.read("dist/pushed"))
	require.Len(t, pushed, 8)
	require.Contains(t, pushed, "public.example/x/versitygw@"+releaseDigest)
	_, calls = y.must("sign")
	require.Equal(t, 8, strings.Count(calls, "cosign sign --yes --recursive"))
	require.Equal(t, 16, strings.Count(calls, "cosign attest"), "a bill of materials for each platform of each image")
	require.Contains(t, calls, "linux-arm64/ipfs-aws/rootfs/usr/share/ipfs-aws/sbom.spdx.json registry.example/owner/ipfs-aws@"+releaseDigest)

	y.must("assemble")
	var files []string
	entries, err := os.ReadDir(filepath.Join(y.dir, "dist/release"))
	require.NoError(t, err)
	for _, e := range entries {
		files = append(files, e.Name())
	}
	for _, want := range []string{"ipfs-aws-1.2.3-linux-amd64.tar.gz", "ipfs-aws-1.2.3-linux-arm64.tar.gz", "ipfs-aws-1.2.3-darwin-arm64.tar.gz", "ipfs-aws-1.2.3-compose.tar.gz",
		"SHA256SUMS", "SHA256SUMS.sigstore.json", "images.txt", "onezone.json", "guard.json", "stack-policy.json", "cluster-aws-linux-arm64.spdx.json", "versitygw-linux-amd64.spdx.json"} {
		require.Contains(t, files, want)
	}
	check := exec.Command("sha256sum", "-c", "SHA256SUMS")
	check.Dir = filepath.Join(y.dir, "dist/release")
	out, err := check.CombinedOutput()
	require.NoError(t, err, string(out))
	archive := y.read("dist/release/ipfs-aws-1.2.3-linux-amd64.tar.gz")
	y.must("assemble")
	require.Equal(t, archive, y.read("dist/release/ipfs-aws-1.2.3-linux-amd64.tar.gz"), "the same bytes again")
	compose, err := exec.Command("tar", "-xzOf", filepath.Join(y.dir, "dist/release/ipfs-aws-1.2.3-compose.tar.gz"), "compose/compose.yaml").Output()
	require.NoError(t, err)
	require.Contains(t, string(compose), `image: "public.example/x/ipfs-aws@`+releaseDigest+`"`, "of two registries, the last")

	_, calls = y.must("publish")
	require.Contains(t, calls, "git push origin internal/v1.2.3")
	require.Contains(t, calls, "aws s3 cp --content-type application/json dist/release/onezone.json s3://bucket/v1.2.3/")
	require.NotContains(t, calls, "spdx.json s3:")
	require.Contains(t, calls, "gh release create v1.2.3 --verify-tag")
	require.Contains(t, y.read("dist/notes.md"), "templateURL=https://bucket.s3.amazonaws.com/v1.2.3/onezone.json&stackName=ipfs")
}

// A dry run builds and assembles everything, and reaches nobody.
func TestReleaseDryRun(t *testing.T) {
	y := newYard(t)
	y.env = append(y.env, "VERSION=0.0.0-dry", "IMAGES=registry.example/owner", "TEMPLATES=true", "TEMPLATES_BUCKET=bucket", "DRY=true")
	for _, step := range []string{"build", "push", "sign", "assemble", "publish"} {
		_, calls := y.must(step)
		for _, no := range []string{"go run ./cmd/images push", "cosign", "gh", "aws", "docker", "git push", "git tag"} {
			require.NotContains(t, "\n"+calls, "\n"+no+" ", step)
		}
	}
	require.FileExists(t, filepath.Join(y.dir, "dist/release/SHA256SUMS"))
	require.Contains(t, y.read("dist/pushed"), "registry.example/owner/ipfs-aws@"+releaseDigest)
}

// Two builds that differ end the release.
func TestReleaseRefusesBuildsThatDiffer(t *testing.T) {
	y := newYard(t)
	said, _, err := y.step("build", "VERSION=1.2.3", "FAULTY=1")
	require.Error(t, err, said)
	require.NotContains(t, said, "are the same")
}

// The script's lists of images and programs are those of the Makefile.
func TestReleaseKnowsAllImages(t *testing.T) {
	raw, err := os.ReadFile("../../.ci/release")
	require.NoError(t, err)
	recipes, err := filepath.Glob("../*.Dockerfile")
	require.NoError(t, err)
	require.Len(t, recipes, 4)
	for _, r := range recipes {
		require.Regexp(t, fmt.Sprintf(`(?m)^images=".*\b%s\b.*"$`, strings.TrimSuffix(filepath.Base(r), ".Dockerfile")), string(raw))
	}
}
