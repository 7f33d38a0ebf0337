package s3bill

import (
	"fmt"
	"os"
	"testing"

	goplugin "github.com/ipfs/go-ds-s3/plugin"
	"github.com/ipfs/kubo/cmd/ipfs/kubo"
	"github.com/ipfs/kubo/plugin/loader"

	"github.com/ipfs-aws/ipfs-aws/internal/testkit/s3test"
)

// roleEnv makes this binary a stock kubo with go-ds-s3.
const (
	roleEnv  = "S3BILL_ROLE"
	roleKubo = "kubo"
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleEnv); role {
	case "":
		s3test.Main(m)
	case roleKubo:
		os.Exit(kubo.Start(kubo.BuildEnv(func(l *loader.PluginLoader) error {
			for _, p := range goplugin.Plugins {
				if err := l.Load(p); err != nil {
					return err
				}
			}
			return nil
		})))
	default:
		fmt.Fprintln(os.Stderr, "no such role:", role)
		os.Exit(2)
	}
}
