package recipe

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var args = map[string]string{"VERSION": "1.2.3", "COMMIT": "abc", "CREATED": "2026-01-02T03:04:05Z"}

// What is promised of every image stands in its Dockerfile.
func TestTheDockerfiles(t *testing.T) {
	paths, err := filepath.Glob("../*.Dockerfile")
	require.NoError(t, err)
	require.Len(t, paths, 4)
	for _, path := range paths {
		r, err := Read(path, args)
		require.NoError(t, err)
		require.Equal(t, "1000:1000", r.Config.User, path)
		require.Contains(t, r.Config.Env, "PATH=/usr/local/bin")
		require.Equal(t, []Copy{{From: "rootfs/", To: "/"}, {From: "volumes/", To: "/data/", UID: 1000, GID: 1000}}, r.Copies)
		require.Equal(t, "1.2.3", r.Config.Labels["org.opencontainers.image.version"])
		require.Equal(t, "abc", r.Config.Labels["org.opencontainers.image.revision"])
		require.Equal(t, args["CREATED"], r.Config.Labels["org.opencontainers.image.created"])
		for _, name := range []string{"title", "description", "source", "documentation", "licenses"} {
			require.NotEmpty(t, r.Config.Labels["org.opencontainers.image."+name], "%s %s", path, name)
		}
		require.Len(t, r.Config.Labels, 8)
	}
	r, err := Read("../ipfs-aws.Dockerfile", args)
	require.NoError(t, err)
	require.Equal(t, []string{"ipfs-aws"}, r.Config.Entrypoint)
	require.Equal(t, []string{"container"}, r.Config.Cmd)
	require.Equal(t, []string{"CMD", "ipfs-aws", "health"}, r.Config.Healthcheck.Test)
	require.Equal(t, 10*time.Second, r.Config.Healthcheck.Interval)
	require.Contains(t, r.Config.Volumes, "/data/ipfs")
	require.Contains(t, r.Config.ExposedPorts, "8080/tcp")
	require.NotContains(t, r.Config.ExposedPorts, "5001/tcp", "the RPC is nobody else's")
}

func TestRefusals(t *testing.T) {
	const good = "FROM scratch\nCOPY a/ /b/\nENTRYPOINT [\"x\"]\n"
	_, err := parse(good, nil)
	require.NoError(t, err)
	for text, want := range map[string]string{
		"FROM debian":                          "only scratch",
		"RUN make":                             "not known here",
		"CMD x":                                "there is no shell",
		"COPY a b":                             "one folder to another",
		"COPY --chown=root:root a/ /":          "must be numbers",
		"ARG OTHER":                            "no value was given",
		"USER ${WHO}":                          "no ARG before it",
		"LABEL a=b":                            `name="value"`,
		"HEALTHCHECK NONE":                     "must have a CMD",
		"HEALTHCHECK --interval=x CMD [\"y\"]": "--interval=x",
	} {
		_, err := parse(good+text, nil)
		require.ErrorContains(t, err, want, text)
	}
	_, err = parse("FROM scratch", nil)
	require.ErrorContains(t, err, "ENTRYPOINT")
}
