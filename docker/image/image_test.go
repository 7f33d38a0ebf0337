package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/docker/modules"
	"github.com/ipfs-aws/ipfs-aws/docker/recipe"
)

var day = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// program builds a small binary for a platform; the tests make images of it.
func program(t *testing.T, arch string) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "images")
	cmd := exec.Command("go", "build", "-trimpath", "-o", at, "../cmd/images")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return at
}

func cache(t *testing.T) modules.Cache {
	env := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}
	return modules.Cache{Dir: env("GOMODCACHE"), GoRoot: env("GOROOT"), Main: "../.."}
}

func stage(t *testing.T, binary, arch string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "stage")
	require.NoError(t, Stage(dir, Program{Name: "ipfs-aws", Binary: binary, Arch: arch, Volumes: []string{"ipfs"}, Version: "1.0.0", Commit: "abc", Date: day}, cache(t)))
	return dir
}

func read(t *testing.T) *recipe.Recipe {
	r, err := recipe.Read("../ipfs-aws.Dockerfile", map[string]string{"VERSION": "1.0.0", "COMMIT": "abc", "CREATED": day.Format(time.RFC3339)})
	require.NoError(t, err)
	return r
}

func build(t *testing.T, binary, arch string) v1.Image {
	t.Helper()
	img, err := Build(stage(t, binary, arch), arch, read(t), day)
	require.NoError(t, err)
	return img
}

func digest(t *testing.T, x interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := x.Digest()
	require.NoError(t, err)
	return d.String()
}

func TestImage(t *testing.T) {
	binary := program(t, "amd64")
	img := build(t, binary, "amd64")
	files := map[string]*tar.Header{}
	var bill struct{ Packages []struct{ Name string } }
	layers := mutate.Extract(img)
	defer layers.Close()
	for r := tar.NewReader(layers); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		require.True(t, h.ModTime.Equal(day), h.Name)
		files[strings.TrimSuffix(h.Name, "/")] = h
		if h.Name == "usr/share/ipfs-aws/sbom.spdx.json" {
			require.NoError(t, json.NewDecoder(r).Decode(&bill))
		}
	}
	require.Equal(t, int64(0o755), files["usr/local/bin/ipfs-aws"].Mode)
	require.Zero(t, files["usr/local/bin/ipfs-aws"].Uid)
	require.Equal(t, 1000, files["data/ipfs"].Uid, "the volume belongs to the user")
	require.Equal(t, int64(0o1777), files["tmp"].Mode)
	require.Greater(t, len(bill.Packages), 10)
	licences := 0
	for name, h := range files {
		if strings.HasPrefix(name, "usr/share/ipfs-aws/licenses/") && h.Typeflag == tar.TypeReg {
			licences++
		}
		require.Zero(t, h.Mode&0o6000, "%s: nothing becomes another user", name)
		require.NotContains(t, name, "bin/sh")
	}
	require.GreaterOrEqual(t, licences, len(bill.Packages)-1)

	config, err := img.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "amd64", config.Architecture)
	require.Equal(t, "1000:1000", config.Config.User)
	m, err := img.Manifest()
	require.NoError(t, err)
	require.Equal(t, "1.0.0", m.Annotations["org.opencontainers.image.version"])
	require.Equal(t, "abc", config.Config.Labels["org.opencontainers.image.revision"])
}

func TestTheSameInputIsTheSameImage(t *testing.T) {
	binary := program(t, "amd64")
	first := build(t, binary, "amd64")
	require.Equal(t, digest(t, first), digest(t, build(t, program(t, "amd64"), "amd64")))

	dir := stage(t, binary, "amd64")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rootfs", "more"), nil, 0o644))
	other, err := Build(dir, "amd64", read(t), day)
	require.NoError(t, err)
	require.NotEqual(t, digest(t, first), digest(t, other))
}

func TestALayoutIsPushedAndPulled(t *testing.T) {
	idx, err := Index([]Platform{{"amd64", build(t, program(t, "amd64"), "amd64")}, {"arm64", build(t, program(t, "arm64"), "arm64")}})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "layout")
	for range 2 { // the second takes the place of the first
		require.NoError(t, Write(dir, "1.0.0", idx))
	}
	reopened, err := Open(dir)
	require.NoError(t, err)
	require.NoError(t, validate.Index(reopened))

	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	ref := strings.TrimPrefix(srv.URL, "http://") + "/ipfs-aws/ipfs-aws:1.0.0"
	pushed, err := Push(dir, ref)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(pushed, "@"+digest(t, idx)))
	parsed, err := name.ParseReference(pushed)
	require.NoError(t, err)
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := remote.Image(parsed, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
		require.NoError(t, err)
		config, err := img.ConfigFile()
		require.NoError(t, err)
		require.Equal(t, arch, config.Architecture)
		size, err := Size(img)
		require.NoError(t, err)
		require.Greater(t, size, int64(1<<20))
	}
	m, err := reopened.IndexManifest()
	require.NoError(t, err)
	require.Equal(t, "1.0.0", m.Annotations["org.opencontainers.image.version"])
}

func TestWhatIsNoProgramForTheImage(t *testing.T) {
	binary := program(t, "amd64")
	dir := filepath.Join(t.TempDir(), "stage")
	try := func(binary, arch string) error {
		return Stage(dir, Program{Name: "ipfs-aws", Binary: binary, Arch: arch, Date: day}, cache(t))
	}
	require.ErrorContains(t, try(binary, "arm64"), "build it with GOARCH=arm64")
	require.ErrorContains(t, try("image_test.go", "amd64"), "is no Linux program")
	require.ErrorContains(t, try("nothing", "amd64"), "no such file")
	require.NoDirExists(t, dir)
}

// saved is what docker save writes for an image that was built at some time.
func saved(t *testing.T, built time.Time) io.Reader {
	t.Helper()
	archive := func(add func(func(name, body string))) []byte {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		add(func(name, body string) {
			require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: built}))
			_, err := io.WriteString(w, body)
			require.NoError(t, err)
		})
		require.NoError(t, w.Close())
		return out.Bytes()
	}
	layer := archive(func(file func(name, body string)) { file("a", "content") })
	config := `{"architecture":"amd64","os":"linux","created":"` + built.Format(time.RFC3339) + `","container":"` + built.String() + `",
		"config":{"User":"1000:1000","Hostname":"x","Entrypoint":["a"],"Healthcheck":{"Test":["CMD","a"]}},
		"history":[{"created":"` + built.Format(time.RFC3339) + `","created_by":"COPY"}],"rootfs":{"type":"layers","diff_ids":["sha256:old"]}}`
	return bytes.NewReader(archive(func(file func(name, body string)) {
		file("abc/layer.tar", string(layer))
		file("c.json", config)
		file("manifest.json", `[{"Config":"c.json","RepoTags":["x:1"],"Layers":["abc/layer.tar"]}]`)
	}))
}

func TestSettledBuildsAreTheSame(t *testing.T) {
	var one, two bytes.Buffer
	first, err := Settle(saved(t, time.Unix(1, 0)), &one, "x:1", day)
	require.NoError(t, err)
	second, err := Settle(saved(t, time.Unix(2000, 0)), &two, "x:1", day)
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Equal(t, one.Bytes(), two.Bytes())
	files, err := unpack(&one)
	require.NoError(t, err)
	config := string(files[strings.TrimPrefix(first, "sha256:")+".json"])
	for _, kept := range []string{`"User":"1000:1000"`, `"Entrypoint":["a"]`, `"Healthcheck":{"Test":["CMD","a"]}`, "2026-01-02T03:04:05Z"} {
		require.Contains(t, config, kept)
	}
	require.NotContains(t, config, "Hostname")
	_, err = Settle(strings.NewReader("nothing"), io.Discard, "x:1", day)
	require.Error(t, err)
}
