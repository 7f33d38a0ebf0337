package release

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestImages(t *testing.T) {
	const node, cluster = "one.example/a/ipfs-aws:1.2.3" + digest, "one.example/a/cluster-aws:1.2.3" + digest
	for text, says := range map[string]string{
		node + "\n" + cluster + "\n":             "",
		node + "\n":                              "no image cluster-aws",
		node + "\none.example/a/cluster-aws:1\n": "no image with a digest",
		"":                                       "no image",
	} {
		_, err := Images(text)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
	two, err := Images(node + "\n" + cluster + "\ntwo.example/ipfs-aws:1.2.3" + digest)
	if err != nil || two["ipfs-aws"] != "two.example/ipfs-aws:1.2.3"+digest {
		t.Errorf("%v, %v", two, err)
	}
}

// Nothing of a template changes but two defaults and the version.
func TestTemplate(t *testing.T) {
	files, err := filepath.Glob("../templates/*.json")
	if err != nil || len(files) < 7 {
		t.Fatalf("%v, %v", files, err)
	}
	images := map[string]string{"ipfs-aws": "x/ipfs-aws" + digest, "cluster-aws": "x/cluster-aws" + digest}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		made, err := Template(text, images, "0.1.0-dev", "1.2.3")
		if err != nil {
			t.Fatal(err)
		}
		var before, after map[string]any
		if json.Unmarshal(text, &before) != nil || json.Unmarshal(made, &after) != nil {
			t.Fatal(f)
		}
		if !strings.Contains(after["Description"].(string), "1.2.3") {
			t.Errorf("%s: %v", f, after["Description"])
		}
		after["Description"] = before["Description"]
		for name, id := range parameters {
			p, ok := after["Parameters"].(map[string]any)[id].(map[string]any)
			if !ok {
				continue // guard.json has no images
			}
			if p["Default"] != images[name] {
				t.Errorf("%s: %s is %v", f, id, p["Default"])
			}
			delete(p, "Default")
		}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s: more changed than images and version", f)
		}
	}
}
