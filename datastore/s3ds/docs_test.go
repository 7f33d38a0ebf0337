package s3ds

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ipfs-aws/ipfs-aws/datastore/s3ds/bucket/mem"
)

// TestEveryMetricIsDocumented, with its labels and with what an operator does about it; and nothing else is.
func TestEveryMetricIsDocumented(t *testing.T) {
	descs := make(chan *prometheus.Desc, 100)
	newSite(mem.New()).open(t).Describe(descs)
	close(descs)
	registered := map[string][]string{}
	parse := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	for d := range descs {
		found := parse.FindStringSubmatch(d.String())
		require.NotNil(t, found, d.String())
		labels := []string{}
		for l := range strings.SplitSeq(found[2], ",") {
			if l = strings.TrimSpace(l); l != "" {
				labels = append(labels, l)
			}
		}
		slices.Sort(labels)
		registered[found[1]] = labels
	}
	text, err := os.ReadFile("../../docs/s3ds.md")
	require.NoError(t, err)
	documented := map[string][]string{}
	row := regexp.MustCompile("(?m)^\\| ((?:`s3ds_[a-z_]+`(?:, )?)+) \\|([^|]*)\\| ([^|]+) \\|$")
	names, all := regexp.MustCompile("`(s3ds_[a-z_]+)`"), regexp.MustCompile("`([a-z_]+)`")
	for _, r := range row.FindAllStringSubmatch(string(text), -1) {
		labels := []string{}
		for _, l := range all.FindAllStringSubmatch(r[2], -1) {
			labels = append(labels, l[1])
		}
		slices.Sort(labels)
		for _, name := range names.FindAllStringSubmatch(r[1], -1) {
			require.NotContains(t, documented, name[1], "twice")
			documented[name[1]] = labels
			require.Greater(t, len(strings.Fields(r[3])), 3, "%s: say what it means, and what to do", name[1])
		}
	}
	require.NotEmpty(t, documented)
	require.Equal(t, registered, documented)
}

// TestEverySettingIsDocumented, in one of the two tables.
func TestEverySettingIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/s3ds.md")
	require.NoError(t, err)
	for _, name := range Settings() {
		if name != "type" && name != "mountpoint" {
			require.Regexp(t, "(?m)^\\| (`[a-zA-Z]+`, )?`"+name+"`", string(text))
		}
	}
}
