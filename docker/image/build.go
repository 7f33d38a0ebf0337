package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ipfs-aws/ipfs-aws/docker/recipe"
)

// Build makes an image of a stage.
func Build(stage, arch string, r *recipe.Recipe, date time.Time) (v1.Image, error) {
	config := &v1.ConfigFile{
		OS: "linux", Architecture: arch, Created: v1.Time{Time: date.UTC()}, Config: r.Config,
		RootFS: v1.RootFS{Type: "layers"},
	}
	img, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), config)
	if err != nil {
		return nil, fmt.Errorf("build an image of %s: %w", stage, err)
	}
	for _, c := range r.Copies {
		body, err := pack(filepath.Join(stage, c.From), c, date)
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
			tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, fmt.Errorf("build an image of %s: %w", stage, err)
		}
		img, err = mutate.Append(img, mutate.Addendum{Layer: layer, MediaType: types.OCILayer,
			History: v1.History{Created: v1.Time{Time: date.UTC()}, CreatedBy: "COPY " + c.From + " " + c.To}})
		if err != nil {
			return nil, fmt.Errorf("build an image of %s: %w", stage, err)
		}
	}
	return mutate.Annotations(img, r.Config.Labels).(v1.Image), nil
}

// pack is the layer of one COPY, as a tar.
func pack(dir string, c recipe.Copy, date time.Time) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Join(c.To, filepath.ToSlash(rel)), "/")
		if name == "" {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Uid: c.UID, Gid: c.GID, ModTime: date.UTC(), Format: tar.FormatPAX, Typeflag: tar.TypeReg, Size: info.Size()}
		if info.Mode()&os.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
		if d.IsDir() {
			h.Name, h.Typeflag, h.Size = name+"/", tar.TypeDir, 0
			return w.WriteHeader(h)
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a folder", at)
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		f, err := os.Open(at)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("pack the layer of %s: %w", dir, err)
	}
	return out.Bytes(), nil
}

// Size is what a registry transfers for an image, bytes.
func Size(img v1.Image) (int64, error) {
	m, err := img.Manifest()
	if err != nil {
		return 0, fmt.Errorf("measure an image: %w", err)
	}
	total := m.Config.Size
	for _, l := range m.Layers {
		total += l.Size
	}
	return total, nil
}
