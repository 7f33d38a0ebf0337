// Command infra writes the CloudFormation template of the stack. The cdk command
// runs it (cdk.json), and so does `make synth`; options are key=value here, and
// `-c key=value` there.
package main

import (
	"fmt"
	"os"

	"github.com/aws/jsii-runtime-go"

	"github.com/ipfs-aws/ipfs-aws/infra"
)

func main() {
	infra.Quietly()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "infra: "+err.Error())
		os.Exit(1)
	}
}

func run(words []string) error {
	if _, err := infra.Parse(nil, words); err != nil {
		return err // before a second is spent on starting the CDK
	}
	defer jsii.Close()
	app := infra.NewApp("", false)
	o, err := infra.Parse(func(key string) string {
		v := app.Node().TryGetContext(&key)
		if v == nil {
			return ""
		}
		return fmt.Sprint(v)
	}, words)
	if err != nil {
		return err
	}
	infra.New(app, infra.StackName, o)
	app.Synth(nil)
	return nil
}
