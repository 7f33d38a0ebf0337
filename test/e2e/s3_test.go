package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/ports"
	"github.com/ipfs-aws/ipfs-aws/internal/testkit/proc"
)

// externalS3 runs an S3 server that is not local-cluster's, with one bucket.
func externalS3(t *testing.T, bucket string) (endpoint string, env []string) {
	t.Helper()
	const access, secret = "EXTERNALKEY", "external-secret-key-0123456789"
	address := ports.Address(t)
	data := t.TempDir()
	cmd := proc.Command(filepath.Join(bin, "versitygw"), "--port", address, "--keep-alive", "--quiet", "posix", data)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+access, "ROOT_SECRET_KEY="+secret)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, patience, poll)
	endpoint = "http://" + address
	client := s3.New(s3.Options{BaseEndpoint: aws.String(endpoint), Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(access, secret, "")})
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	require.NoError(t, err)
	return endpoint, []string{"AWS_ACCESS_KEY_ID=" + access, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_EC2_METADATA_DISABLED=true"}
}

func TestAnS3ServerThatAlreadyRuns(t *testing.T) {
	endpoint, env := externalS3(t, "given")
	base := fmt.Sprint(ports.TakeBlock(t))
	dir := filepath.Join(t.TempDir(), "run")
	refused(t, env, []string{"--dir", dir, "--base-port", base, "--s3-endpoint", endpoint, "--s3-bucket", "absent"},
		"there is no bucket absent at "+endpoint, "--s3-bucket")
	require.NoFileExists(t, filepath.Join(dir, "state.json"), "the folder may still become anything")
	wrong := append(env[:1:1], "AWS_SECRET_ACCESS_KEY=wrong", env[2])
	refused(t, wrong, []string{"--dir", filepath.Join(t.TempDir(), "run"), "--base-port", base, "--s3-endpoint", endpoint, "--s3-bucket", "given"},
		"refuses access to the bucket given", "AWS_SECRET_ACCESS_KEY")

	dir = filepath.Join(t.TempDir(), "run")
	c := up(t, dir, env, "--tasks", "1", "--s3-endpoint", endpoint, "--s3-bucket", "given")
	require.NotNil(t, c.desc.S3)
	require.Equal(t, endpoint, c.desc.S3.Endpoint)
	require.Equal(t, "given", c.desc.S3.Bucket)
	require.Empty(t, c.desc.S3.SecretKey, "what the caller knows is not repeated")
	require.Zero(t, c.status(t).S3Server)
	f := file{path: "hello.txt", text: "kept in a bucket that was there before"}
	cid, err := add(c.desc.API, c.desc.User, c.desc.Password, "given", []file{f})
	require.NoError(t, err)
	c.awaitPinned(t, cid)
	require.NoError(t, sameFile(c.desc.Gateway, cid, f))
	checkCommands(t, c)
	c.end(t)
	refused(t, env, []string{"--dir", dir, "--base-port", base, "--tasks", "1"},
		"bucket given of an S3 server of its own", "--s3-endpoint")
	refused(t, env, []string{"--dir", dir, "--base-port", base, "--tasks", "1", "--s3-endpoint", endpoint, "--s3-bucket", "other"},
		"in the bucket given, not other", "--s3-bucket given")
}

// checkCommands tries the commands that a person is shown.
func checkCommands(t *testing.T, c *cluster) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "photos")
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "empty"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "a+b ü.txt"), []byte("a photo"), 0o600))
	run := func(args ...string) string {
		cmd := proc.Command(filepath.Join(bin, "local-cluster"), append(args, "--dir", c.dir)...)
		out, err := cmd.Output()
		require.NoError(t, err)
		return string(out)
	}
	root := strings.TrimSpace(run("add", "--quiet", folder))
	require.True(t, strings.HasSuffix(run("pins", "--watch", root), root+"  photos  task-1 pinned\n"))
	require.NoError(t, sameFile(c.desc.Gateway, root, file{path: "a+b ü.txt", text: "a photo"}))
	_, err := call(http.MethodGet, c.desc.Gateway+"/ipfs/"+root+"/empty/", "", "")
	require.NoError(t, err, "empty folders are kept")
}
