package image

import (
	"fmt"
	"maps"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Platform is an image for one kind of processor.
type Platform struct {
	Arch  string
	Image v1.Image
}

// Index joins the images of a name. The annotations are those that all have in
// common.
func Index(images []Platform) (v1.ImageIndex, error) {
	idx := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var common map[string]string
	for _, p := range images {
		m, err := p.Image.Manifest()
		if err != nil {
			return nil, fmt.Errorf("join the images of all platforms: %w", err)
		}
		if common == nil {
			common = maps.Clone(m.Annotations)
		}
		maps.DeleteFunc(common, func(k, v string) bool { return m.Annotations[k] != v })
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: p.Image, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: p.Arch},
		}})
	}
	return mutate.Annotations(idx, common).(v1.ImageIndex), nil
}

// Write makes dir an OCI layout that holds one index under a tag, ready to be
// pushed by any tool.
func Write(dir, tag string, idx v1.ImageIndex) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("make room for the layout: %w", err)
	}
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write the layout %s: %w", dir, err)
	}
	if err := p.AppendIndex(idx, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})); err != nil {
		return fmt.Errorf("write the layout %s: %w", dir, err)
	}
	return nil
}

// Open reads the one index of a layout that [Write] has made.
func Open(dir string) (v1.ImageIndex, error) {
	all, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("read the layout %s: %w", dir, err)
	}
	m, err := all.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read the layout %s: %w", dir, err)
	}
	if len(m.Manifests) != 1 {
		return nil, fmt.Errorf("the layout %s holds %d indexes, and must hold one: make it anew with `make images PLATFORMS=…`", dir, len(m.Manifests))
	}
	return all.ImageIndex(m.Manifests[0].Digest)
}

// Digest is that of the index of a layout, or of its image for an architecture.
func Digest(dir, arch string) (string, error) {
	idx, err := Open(dir)
	if err != nil {
		return "", err
	}
	if arch == "" {
		d, err := idx.Digest()
		return d.String(), err
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return "", fmt.Errorf("read the layout %s: %w", dir, err)
	}
	for _, d := range m.Manifests {
		if d.Platform != nil && d.Platform.Architecture == arch {
			return d.Digest.String(), nil
		}
	}
	return "", fmt.Errorf("the layout %s has no image for %s", dir, arch)
}

// Push sends a layout to a registry under a reference and returns the reference
// by digest. Credentials are those of `docker login`.
func Push(dir, ref string) (string, error) {
	to, err := name.ParseReference(ref)
	if err != nil {
		return "", fmt.Errorf("push to %s: %w", ref, err)
	}
	idx, err := Open(dir)
	if err != nil {
		return "", err
	}
	if err := remote.WriteIndex(to, idx, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return "", fmt.Errorf("push %s to %s (log in with `docker login %s`): %w", dir, ref, to.Context().RegistryStr(), err)
	}
	digest, err := idx.Digest()
	if err != nil {
		return "", fmt.Errorf("name what was pushed: %w", err)
	}
	return to.Context().Digest(digest.String()).String(), nil
}
