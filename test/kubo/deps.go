//go:build deps

package kubo

// What kubo's tests import, for go mod tidy; and the node, whose versions these
// tests are built with.
import (
	_ "github.com/ipfs-aws/ipfs-aws/plugin/blocks"
	_ "github.com/ipfs/go-test/random/files"
	_ "github.com/ipfs/kubo/test/cli/harness"
	_ "github.com/ipfs/kubo/test/cli/testutils/httprouting"
	_ "github.com/ipfs/kubo/test/cli/testutils/pinningservice"
	_ "github.com/tidwall/gjson"
	_ "github.com/tidwall/sjson"
)
