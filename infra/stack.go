// Package infra is the reference architecture as one CloudFormation template:
// two CloudFront distributions, one load balancer, a Fargate task per zone with
// a node and its sidecar, and the storage that was chosen.
//
// One file per concern: config (options) and parameters, network, storage, node,
// edge, observe. Nothing in it looks at an account: a template is made offline,
// carries no asset, and is the same for every account. All but guard.json are
// larger than the 51,200 bytes that a request takes, so CloudFormation reads them
// from a bucket; `cdk deploy` wants a bootstrapped account for that.
//
// The packages below it know nothing of the CDK and read the templates only:
// template, compose, costs, release.
package infra

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

// StackName is the name that `cdk deploy` gives the stack.
const StackName = "ipfs"

// NewApp is a CDK app that writes small templates and checks them. outdir may be
// empty. Feature flags are set here and not in cdk.json, which is read by the cdk
// command only.
func NewApp(outdir string, validate bool) awscdk.App {
	props := &awscdk.AppProps{
		AnalyticsReporting: jsii.Bool(false),
		TreeMetadata:       jsii.Bool(false),
		StackTraces:        jsii.Bool(false),
		PostCliContext: &map[string]any{
			"aws:cdk:enable-path-metadata": false,
		},
	}
	if outdir != "" {
		props.Outdir = jsii.String(outdir)
	}
	app := awscdk.NewApp(props)
	if validate {
		awscdk.Validations_Of(app).AddPlugins(awscdk.NewCloudFormationValidatePlugin(nil))
	}
	return app
}

// Quietly starts the program again without the validation that the CDK does by itself. That tries
// every combination of conditions, and does not end with the fourteen of these templates. The CDK
// runs in Node, which gets the environment that this process was started with: setting the variable
// here is too late. The CDK compares the value with the text "false", so nothing else will do, not
// even "false " with a blank. TestLint runs cfn-lint in its place.
func Quietly() {
	const variable, off = "CDK_VALIDATION", "false"
	if os.Getenv(variable) == off {
		return
	}
	env := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, variable+"=") })
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, append(env, variable+"="+off))
	}
	panic(fmt.Sprintf("start %s again: %v", self, err))
}

// New adds the architecture to an app.
func New(app awscdk.App, name string, o Options) awscdk.Stack {
	stack := awscdk.NewStack(app, jsii.String(name), &awscdk.StackProps{
		Description:                 jsii.String("ipfs-aws " + Version + ": an IPFS cluster over three zones, storage " + o.Storage),
		Synthesizer:                 awscdk.NewLegacyStackSynthesizer(), // writes nothing of a bootstrap into the template
		SuppressTemplateIndentation: jsii.Bool(true),
	})
	p := newParameters(stack, o)
	mappings(stack, o)
	network := newNetwork(stack, o, p)
	store := newStorage(stack, o, p, network)
	newNodes(stack, o, p, store, network)
	observe(stack, o, p, store, newEdge(stack, p, network))
	return stack
}
