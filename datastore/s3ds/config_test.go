package s3ds

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func parse(t *testing.T, text string) (Config, error) {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &m))
	return ParseConfig(m)
}

func TestParseConfig(t *testing.T) {
	yes := true
	c, err := parse(t, `{"type": "s3ds", "mountpoint": "/blocks", "region": "eu-west-1", "bucket": "my-blocks", "accessKey": "id", "secretKey": "secret",
		"sessionToken": "token", "regionEndpoint": "http://127.0.0.1:7070", "rootDirectory": "node-1", "workers": 32, "pathStyle": true,
		"sse": "aws:kms", "sseKMSKeyId": "key", "storageClass": "STANDARD_IA", "requestTimeout": "10s", "maxAttempts": 7}`)
	require.NoError(t, err)
	require.Equal(t, Config{
		Region: "eu-west-1", Bucket: "my-blocks", AccessKey: "id", SecretKey: "secret", SessionToken: "token", RegionEndpoint: "http://127.0.0.1:7070",
		RootDirectory: "node-1", Workers: 32, PathStyle: &yes, SSE: "aws:kms", SSEKMSKeyID: "key", StorageClass: "STANDARD_IA",
		RequestTimeout: 10 * time.Second, MaxAttempts: 7,
	}, c)
	require.Equal(t, map[string]any{"region": "eu-west-1", "bucket": "my-blocks", "rootDirectory": "node-1"}, c.DiskSpec())

	_, err = parse(t, `{"region": "us-east-1", "bucket": "my-blocks"}`)
	require.NoError(t, err, "credentials are never demanded")
	_, err = parse(t, `{"region": "us-east-1", "bucket": "my-blocks", "accessKey": "", "secretKey": "", "credentialsEndpoint": "http://169.254.170.2/role"}`)
	require.NoError(t, err)
}

func TestParseConfigNamesEveryProblem(t *testing.T) {
	_, err := parse(t, `{"type": "flatfs", "bucket": "B!", "regoin": "us-east-1", "accessKey": "id", "sessionToken": 1, "workers": 1.5, "maxAttempts": 0,
		"regionEndpoint": "ftp://x", "rootDirectory": "../up", "sse": "rot13", "storageClass": "GLACIER", "requestTimeout": 30, "pathStyle": "yes"}`)
	for _, name := range []string{"type", "bucket", "regoin", "region", "accessKey", "sessionToken", "workers", "maxAttempts", "regionEndpoint",
		"rootDirectory", "sse", "storageClass", "requestTimeout", "pathStyle"} {
		require.Regexp(t, `(?m)^(s3ds settings: )?`+name+`[:,]`, err.Error(), "one line each, beginning with its name")
	}
	require.Contains(t, err.Error(), "regoin: no such setting: use one of accessKey, bucket, cachePath")
}

func TestBadSettings(t *testing.T) {
	for setting, says := range map[string]string{
		`"workers": -1`: "workers", `"workers": 100000`: "use 1 to 1000", `"workers": "8"`: "use a whole number", `"maxAttempts": 101`: "use 1 to 100",
		`"bucket": ""`: "name the bucket", `"bucket": 7`: "use a string", `"region": "http://x"`: "use a name such as us-east-1",
		`"regionEndpoint": "http://user:hunter2@host"`: "take it out", `"regionEndpoint": "http://host:99999"`: "port",
		`"secretKey": "hunter2"`: "set both", `"sessionToken": "hunter2"`: "set all three", `"sseKMSKeyId": "k"`: "set sse to aws:kms",
		`"requestTimeout": "-1s"`: "positive duration", `"requestTimeout": "soon"`: "positive duration",
		`"accessKey": "a", "secretKey": "hunter2", "credentialsEndpoint": "http://x"`: "keep one of them",
	} {
		text := `{"region": "us-east-1", "bucket": "my-blocks", ` + setting + `}`
		_, err := parse(t, text)
		require.ErrorContains(t, err, says, setting)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	c := Config{Region: "us-east-1", Bucket: "b", AccessKey: "id", SecretKey: "hunter2-secret", SessionToken: "hunter2-token"}
	text, err := json.Marshal(c)
	require.NoError(t, err)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("config", "c", c, "secret", c.SecretKey)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("config", "c", c, "secret", c.SecretKey)
	printed := []string{string(text), log.String(), fmt.Sprint(c.DiskSpec())}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed = append(printed, fmt.Sprintf(verb, c), fmt.Sprintf(verb, &c), fmt.Sprintf(verb, c.SecretKey), fmt.Sprintf(verb, c.options()))
	}
	for _, s := range printed {
		require.NotContains(t, s, "hunter2")
		require.NotContains(t, s, fmt.Sprintf("%x", "hunter2"))
	}
	require.Contains(t, fmt.Sprintf("%+v", c), "[redacted]")
}
