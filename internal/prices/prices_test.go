package prices

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPricesHaveMonthAndSource(t *testing.T) {
	for name, p := range List.Items {
		require.Positive(t, p.USD, name)
		require.NotEmpty(t, p.Unit, name)
		require.True(t, p.Seen == "" || len(p.Seen) == len("2026-11"), name)
		require.True(t, strings.HasPrefix(p.Source, "https://aws.amazon.com/"), name)
		require.False(t, p.Quoted != "" && p.Seen == "", name)
	}
}

func TestInWords(t *testing.T) {
	require.Equal(t, "$0.16 per GB-month", Say("efs.onezone.gb-month"))
	require.Equal(t, "$0.6 per million requests", Million("waf.request"))
	require.Panics(t, func() { Of("gold") })
}
