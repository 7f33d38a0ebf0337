package compose

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The task definitions of the templates run on this machine: a folder added
// through one node is read through each. IPFS_AWS_COMPOSE names the tag of the
// images, as `make test-infra-runs` does; without it the test is skipped, and says so.
func TestItRuns(t *testing.T) {
	tag := os.Getenv("IPFS_AWS_COMPOSE")
	if tag == "" {
		t.Skip("SKIPPED: set IPFS_AWS_COMPOSE to the tag of the images that `make images` made")
	}
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no Docker engine answers: %s", out)
	}
	for _, variant := range []string{"onezone", "standard", "s3"} {
		t.Run(variant, func(t *testing.T) { itRuns(t, variant, tag) })
	}
}

func itRuns(t *testing.T, variant, tag string) {
	dir, project := t.TempDir(), fmt.Sprintf("infra%d%s", os.Getpid(), variant)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"ClusterSecret": strings.Repeat("0123456789abcdef", 4), "Seed": strings.Repeat("s", 64), "AdminCredentials": "admin:word",
		"S3User": S3User, "S3Key": S3Key,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l := launch(t, variant)
	l.Values["NodeImage"], l.Values["ClusterImage"] = "ipfs-aws:"+tag, "cluster-aws:"+tag
	text, err := Make(l, Options{HolderImage: "local-cluster:" + tag, S3Image: "versitygw:" + tag, SecretsDir: dir, Namespace: "ipfs.internal"})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "compose.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	compose := func(arguments ...string) {
		t.Helper()
		if out, err := exec.Command("docker-compose", append([]string{"-p", project, "-f", file}, arguments...)...).CombinedOutput(); err != nil {
			t.Fatalf("docker-compose %v: %v\n%s", arguments, err, out)
		}
	}
	defer compose("down", "--volumes", "--timeout", "20")
	compose("up", "--detach")
	address := func(node string) string {
		out, err := exec.Command("docker", "inspect", project+"_"+node+"_1", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	client := http.Client{Timeout: time.Minute}
	// As the balancer would ask.
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		resp, err := client.Get("http://" + address("node-a") + ":9098/readyz")
		if err == nil {
			resp.Body.Close()
		}
		if err == nil && resp.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("node-a is not ready: %v", err)
		}
	}

	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	want := map[string]string{}
	for i := range 20 {
		name := fmt.Sprintf("tree/folder/file%d", i)
		want[name] = strings.Repeat(name, 1000)
		part, err := form.CreateFormFile("file", name)
		if err == nil {
			_, err = io.WriteString(part, want[name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	form.Close()
	req, err := http.NewRequest(http.MethodPost, "http://"+address("node-a")+":9094/add?wrap-with-directory=true&stream-channels=false", &body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.SetBasicAuth("admin", "word")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var added []struct{ CID string }
	if err := json.NewDecoder(resp.Body).Decode(&added); err != nil || resp.StatusCode != http.StatusOK || len(added) == 0 {
		t.Fatalf("add: %s, %v, %v", resp.Status, err, added)
	}
	root := added[len(added)-1].CID
	for _, node := range []string{"node-a", "node-b", "node-c"} {
		for name, content := range want {
			got, err := fetch(client, "http://"+address(node)+":8080/ipfs/"+root+"/"+name)
			if err != nil || got != content {
				t.Errorf("%s, %s: %v, %d bytes of %d", node, name, err, len(got), len(content))
			}
		}
	}
}

func fetch(client http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	return string(text), err
}
