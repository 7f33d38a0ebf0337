// Package keep holds module requirements until the packages that use them land.
package keep

import (
	_ "github.com/Shopify/toxiproxy/v2"
	_ "github.com/aws/aws-sdk-go-v2/aws"
	_ "github.com/aws/aws-sdk-go-v2/config"
	_ "github.com/aws/aws-sdk-go-v2/credentials"
	_ "github.com/aws/aws-sdk-go-v2/service/s3"
	_ "github.com/cockroachdb/pebble/v2"
	_ "github.com/hanwen/go-fuse/v2/fuse"
	_ "github.com/ipfs/go-ds-flatfs"
	_ "github.com/ipfs/go-ds-s3"
	_ "github.com/ipld/go-car/v2"
	_ "github.com/johannesboyne/gofakes3"
	_ "github.com/spf13/cobra"
	_ "github.com/stretchr/testify/require"
	_ "golang.org/x/sync/errgroup"
	_ "pgregory.net/rapid"
)
