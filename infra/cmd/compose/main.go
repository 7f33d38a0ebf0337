// Command compose makes a compose file of a template's task definitions:
//
//	go run ./cmd/compose templates/s3.json FOLDER
//	local-cluster compose up --files FOLDER
//
// It writes FOLDER/compose.yaml and FOLDER/edge.json; see package compose for what
// stands for what AWS has.
package main

import (
	"fmt"
	"os"
	"path/filepath"

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
		return fmt.Errorf("give a template, such as templates/s3.json, and the folder to write to")
	}
	t, err := template.Read(arguments[0])
	if err != nil {
		return err
	}
	files, err := compose.Make(template.Launch{Template: t, Values: compose.Values})
	if err != nil {
		return fmt.Errorf("make a compose file of %s: %w", arguments[0], err)
	}
	folder := arguments[1]
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	for name, text := range map[string][]byte{"compose.yaml": files.Compose, "edge.json": files.Edge} {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			return fmt.Errorf("write the compose file: %w", err)
		}
	}
	return nil
}
