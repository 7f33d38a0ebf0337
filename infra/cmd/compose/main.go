// Command compose prints a compose file made of a template's task definitions:
//
//	go run ./cmd/compose templates/s3.json SECRETS_DIR > compose.json
//
// SECRETS_DIR must have a file for each secret, named as in the template. See
// package compose for what stands for what AWS has.
package main

import (
	"fmt"
	"os"

	"github.com/ipfs-aws/ipfs-aws/infra/compose"
	"github.com/ipfs-aws/ipfs-aws/infra/template"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "compose: "+err.Error())
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 2 {
		return fmt.Errorf("give a template and the folder of the secrets")
	}
	t, err := template.Read(arguments[0])
	if err != nil {
		return err
	}
	const version = "0.1.0-dev"
	text, err := compose.Make(template.Launch{Template: t, Values: map[string]string{
		"NodeImage": "ipfs-aws:" + version, "ClusterImage": "cluster-aws:" + version,
		"AWS::Region": "us-east-1", "AWS::StackName": "ipfs", "AWS::AccountId": "000000000000", "AWS::Partition": "aws",
	}}, compose.Options{
		HolderImage: "local-cluster:" + version, S3Image: "versitygw:" + version,
		SecretsDir: arguments[1], Namespace: "ipfs.internal",
	})
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(text, '\n'))
	return err
}
