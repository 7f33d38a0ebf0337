// Package release gives the templates of a release the images of that release as defaults, by digest, so that a launch
// needs no image of the user's own.
package release

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// parameters that take an image, by the name of the image.
var parameters = map[string]string{"ipfs-aws": "NodeImage", "cluster-aws": "ClusterImage"}

var byDigest = regexp.MustCompile(`^([^ @]+/)?([a-z-]+)(:[^ @/]+)?@sha256:[0-9a-f]{64}$`)

// Images reads a list of images, one a line, each with its digest. If one is in two registries, the later
// line counts. Both images must be in it.
func Images(text string) (map[string]string, error) {
	found := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		m := byDigest.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%q is no image with a digest: push it, and give what the push printed", line)
		}
		found[m[2]] = line
	}
	for name := range parameters {
		if found[name] == "" {
			return nil, fmt.Errorf("the list has no image %s: push it first", name)
		}
	}
	return found, nil
}

// Template sets the defaults in a template, and the version in its description. A template without images is
// left as it is.
func Template(text []byte, images map[string]string, development, version string) ([]byte, error) {
	var t map[string]any
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, fmt.Errorf("read the template: %w", err)
	}
	if d, ok := t["Description"].(string); ok {
		t["Description"] = strings.Replace(d, development, version, 1)
	}
	all, _ := t["Parameters"].(map[string]any)
	for name, id := range parameters {
		if p, ok := all[id].(map[string]any); ok {
			p["Default"] = images[name]
		}
	}
	return json.Marshal(t)
}
