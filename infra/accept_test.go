package infra

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// The function is run as CloudFront would, by Node.
func TestAccept(t *testing.T) {
	cases := [][2]string{
		{"", ""}, {"*/*", ""}, {"text/html,application/xhtml+xml;q=0.9", ""}, {"image/avif,image/webp,*/*", ""},
		{"application/vnd.ipld.car", "application/vnd.ipld.car"},
		{"application/vnd.ipld.car; version=1; order=dfs, */*;q=0.1", "application/vnd.ipld.car; version=1; order=dfs"},
		{"application/vnd.ipfs.ipns-record", "application/vnd.ipfs.ipns-record"}, {"application/x-tar", "application/x-tar"},
		{"application/vnd.ipld.dag-json", "application/vnd.ipld.dag-json"}, {"application/json", "application/json"},
	}
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	script := acceptFunction + `
console.log(JSON.stringify(` + string(input) + `.map(function (c) {
  var r = handler({ request: { headers: c[0] ? { accept: { value: c[0] } } : {} } });
  return r.headers.accept ? r.headers.accept.value : '';
})))`
	out, err := exec.Command("node", "-e", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if got[i] != c[1] {
			t.Errorf("Accept: %q becomes %q, want %q", c[0], got[i], c[1])
		}
	}
}
