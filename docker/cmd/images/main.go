// Command images makes the container images of this project. It is called by
// `make images`; a person seldom calls it.
package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipfs-aws/ipfs-aws/docker/image"
	"github.com/ipfs-aws/ipfs-aws/docker/modules"
	"github.com/ipfs-aws/ipfs-aws/docker/recipe"
)

// maxSize is what an image may be, compressed: the promise of docs/images.md.
const maxSize = 60 << 20

// volumes are the folders of each image that belong to its user.
var volumes = map[string][]string{
	"ipfs-aws":      {"ipfs", "cache"},
	"cluster-aws":   {"ipfs-cluster"},
	"local-cluster": {"secrets", "tls"},
	"versitygw":     {"s3"},
}

func main() {
	if err := root().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// build is what all commands need to know.
type build struct {
	top, out, version, commit string
	date                      int64
}

func (b *build) when() time.Time { return time.Unix(b.date, 0).UTC() }

func root() *cobra.Command {
	b := &build{}
	cmd := &cobra.Command{
		Use:   "images",
		Short: "Make the container images of ipfs-aws",
		Long: `images makes container images from scratch of the binaries, the same bytes for
the same commit. make images calls it.`,
		Example: "  images docker ipfs-aws --binaries bin --version 1.0.0 --commit 0123456789ab --date 1767225600\n" +
			"  images push dist/oci/ipfs-aws registry.example/ipfs-aws:1.0.0",
		SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&b.top, "top", "..", "the repository")
	f.StringVar(&b.out, "out", "../dist", "where to put what is made")
	f.StringVar(&b.version, "version", "", "the version in labels and tags")
	f.StringVar(&b.commit, "commit", "", "the commit in labels")
	f.Int64Var(&b.date, "date", 0, "the date of everything, seconds since 1970: that of the commit")
	cmd.AddCommand(dockerCommand(b), layoutCommand(b), pushCommand(), digestCommand())
	return cmd
}

func dockerCommand(b *build) *cobra.Command {
	var binaries string
	cmd := &cobra.Command{
		Use:   "docker NAME…",
		Short: "Build images for this machine with docker build",
		Long: `Stages each binary, runs docker build on its Dockerfile, and gives the image the
date of the commit, so that two builds of one commit have the same ID. The tag is
NAME:VERSION.`,
		Example: "  images docker ipfs-aws cluster-aws --binaries ../bin --version 1.0.0 --commit 0123456789ab --date 1767225600",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			for _, name := range names {
				id, err := b.docker(name, binaries)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s:%s %s\n", name, b.version, id)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&binaries, "binaries", "../bin", "the folder of the binaries")
	return cmd
}

func layoutCommand(b *build) *cobra.Command {
	var platforms string
	cmd := &cobra.Command{
		Use:   "layout NAME…",
		Short: "Write an OCI layout per image, for several platforms",
		Long: `Stages the binaries in OUT/bin/OS-ARCH and writes OUT/oci/NAME, an OCI layout that
any tool can push. It needs no Docker. An image of more than 60 MiB is an error.`,
		Example: "  images layout ipfs-aws cluster-aws --platforms linux/amd64,linux/arm64 --version 1.0.0 --commit 0123456789ab --date 1767225600",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			for _, name := range names {
				if err := b.layout(cmd.OutOrStdout(), name, strings.Split(platforms, ",")); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&platforms, "platforms", "linux/"+runtime.GOARCH, "platforms, separated by commas")
	return cmd
}

func pushCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "push LAYOUT REFERENCE…",
		Short: "Push an OCI layout to registries",
		Long: `Pushes an OCI layout under each reference and prints it with its digest, which is
what is signed. Credentials are those of docker login.`,
		Example: "  images push ../dist/oci/ipfs-aws registry.example/ipfs-aws:1.0.0",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, ref := range args[1:] {
				pushed, err := image.Push(args[0], ref)
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), pushed)
			}
			return nil
		},
	}
}

func digestCommand() *cobra.Command {
	var arch string
	cmd := &cobra.Command{
		Use:     "digest LAYOUT",
		Short:   "Print the digest of an OCI layout, or of its image for a processor",
		Example: "  images digest ../dist/oci/ipfs-aws --arch arm64",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			digest, err := image.Digest(args[0], arch)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), digest)
			return err
		},
	}
	cmd.Flags().StringVar(&arch, "arch", "", "amd64 or arm64; without it, the digest of the index of all")
	return cmd
}

// stage stages a program for an architecture and returns its folder.
func (b *build) stage(name, binaries, arch string) (string, error) {
	vol, ok := volumes[name]
	if !ok {
		return "", fmt.Errorf("there is no image %q: see the Dockerfiles in docker/", name)
	}
	cache := modules.Cache{Main: b.top}
	if name == "versitygw" {
		cache.Main = "" // not ours
	}
	for variable, to := range map[string]*string{"GOMODCACHE": &cache.Dir, "GOROOT": &cache.GoRoot} {
		out, err := exec.Command("go", "env", variable).Output()
		if err != nil {
			return "", fmt.Errorf("ask Go for %s: %w", variable, err)
		}
		*to = strings.TrimSpace(string(out))
	}
	dir := filepath.Join(b.out, "_stage", "linux-"+arch, name) // the go command looks into no folder whose name begins with _
	return dir, image.Stage(dir, image.Program{
		Name: name, Binary: filepath.Join(binaries, name), Arch: arch, Volumes: vol,
		Version: b.version, Commit: b.commit, Date: b.when(),
	}, cache)
}

func (b *build) recipePath(name string) string {
	return filepath.Join(b.top, "docker", name+".Dockerfile")
}

func (b *build) args() map[string]string {
	return map[string]string{"VERSION": b.version, "COMMIT": b.commit, "CREATED": b.when().Format(time.RFC3339)}
}

func (b *build) docker(name, binaries string) (id string, err error) {
	dir, err := b.stage(name, binaries, runtime.GOARCH)
	if err != nil {
		return "", err
	}
	tag := name + ":" + b.version
	args := []string{"build", "--quiet", "--file", b.recipePath(name), "--tag", tag}
	values := b.args()
	for _, k := range slices.Sorted(maps.Keys(values)) {
		args = append(args, "--build-arg", k+"="+values[k])
	}
	if err := run(nil, nil, append(args, dir)...); err != nil {
		return "", err
	}
	var saved, settled bytes.Buffer
	if err := run(nil, &saved, "save", tag); err != nil {
		return "", err
	}
	if id, err = image.Settle(&saved, &settled, tag, b.when()); err != nil {
		return "", err
	}
	return id, run(&settled, nil, "load", "--quiet")
}

func run(in io.Reader, out io.Writer, args ...string) error {
	cmd := exec.Command("docker", args...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
	}
	return nil
}

func (b *build) layout(out io.Writer, name string, platforms []string) error {
	r, err := recipe.Read(b.recipePath(name), b.args())
	if err != nil {
		return err
	}
	var images []image.Platform
	for _, p := range platforms {
		system, arch, ok := strings.Cut(strings.TrimSpace(p), "/")
		if !ok || system != "linux" {
			return fmt.Errorf("platform %q: must be linux/amd64 or linux/arm64", p)
		}
		dir, err := b.stage(name, filepath.Join(b.out, "bin", "linux-"+arch), arch)
		if err != nil {
			return err
		}
		img, err := image.Build(dir, arch, r, b.when())
		if err != nil {
			return err
		}
		size, err := image.Size(img)
		if err != nil {
			return err
		}
		digest, err := img.Digest()
		if err != nil {
			return fmt.Errorf("name the image %s: %w", name, err)
		}
		fmt.Fprintf(out, "%s:%s %s %s %.1f MiB\n", name, b.version, p, digest, float64(size)/(1<<20))
		if size > maxSize {
			return fmt.Errorf("the image %s for %s has %d bytes, and at most %d are promised: find what has grown with `go tool nm -size -sort size`", name, p, size, maxSize)
		}
		images = append(images, image.Platform{Arch: arch, Image: img})
	}
	idx, err := image.Index(images)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.out, "oci", name)
	if err := image.Write(dir, b.version, idx); err != nil {
		return err
	}
	digest, err := idx.Digest()
	if err != nil {
		return fmt.Errorf("name the index of %s: %w", name, err)
	}
	fmt.Fprintf(out, "%s:%s %s in %s\n", name, b.version, digest, dir)
	return nil
}
