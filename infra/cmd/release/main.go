// Command release writes templates with the images of a release as defaults:
//
//	go run ./cmd/release -images ../dist/pushed -version 1.2.3 -to ../dist/release templates/*.json
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ipfs-aws/ipfs-aws/infra/release"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "release: "+err.Error())
		os.Exit(1)
	}
}

func run() error {
	list := flag.String("images", "", "a file of images with digests, one a line")
	version := flag.String("version", "", "of the release")
	development := flag.String("development", "0.1.0-dev", "the version in the templates")
	folder := flag.String("to", "", "the folder to write to")
	flag.Parse()
	if *list == "" || *version == "" || *folder == "" || flag.NArg() == 0 {
		return fmt.Errorf("give -images, -version, -to and the templates")
	}
	text, err := os.ReadFile(*list)
	if err != nil {
		return fmt.Errorf("read the list of images: %w", err)
	}
	images, err := release.Images(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", *list, err)
	}
	for _, path := range flag.Args() {
		before, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read a template: %w", err)
		}
		after, err := release.Template(before, images, *development, *version)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := os.WriteFile(filepath.Join(*folder, filepath.Base(path)), after, 0o644); err != nil {
			return fmt.Errorf("write a template: %w", err)
		}
	}
	return nil
}
