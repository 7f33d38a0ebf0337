package image

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ipfs-aws/ipfs-aws/docker/modules"
)

// Program is a binary that becomes an image.
type Program struct {
	Name    string // of the image and of the program in it
	Binary  string // the file
	Arch    string // that it must have been built for, in Go's words
	Volumes []string
	Version string
	Commit  string
	Date    time.Time // of every file, and of the image
}

// Where things are in an image.
const (
	programs = "usr/local/bin"
	share    = "usr/share"
	sbomName = "sbom.spdx.json"
)

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// Stage makes dir anew: rootfs/ with the program, accounts, licences and bill of
// materials, and volumes/ with the empty folders that will belong to the user.
func Stage(dir string, p Program, c modules.Cache) error {
	body, err := os.ReadFile(p.Binary)
	if err != nil {
		return fmt.Errorf("stage %s: %w", p.Name, err)
	}
	if err := static(p); err != nil {
		return err
	}
	made, err := modules.Read(p.Binary, c)
	if err != nil {
		return fmt.Errorf("stage %s: %w", p.Name, err)
	}
	sum := sha256.Sum256(body)
	bill, err := made.SPDX(modules.About{
		Name: p.Name, Version: p.Version, Commit: p.Commit, Created: p.Date,
		SHA256: hex.EncodeToString(sum[:]), File: "/" + programs + "/" + p.Name,
	})
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("stage %s: %w", p.Name, err)
	}
	root := filepath.Join(dir, "rootfs")
	for _, f := range []struct {
		name string
		body []byte
		mode os.FileMode
	}{
		{filepath.Join(programs, p.Name), body, 0o755},
		{filepath.Join(share, p.Name, sbomName), bill, 0o644},
		// For programs that ask who they are.
		{"etc/passwd", []byte("root:x:0:0:root:/:\nipfs:x:1000:1000:ipfs:/data:\n"), 0o644},
		{"etc/group", []byte("root:x:0:\nipfs:x:1000:\n"), 0o644},
	} {
		at := filepath.Join(root, f.name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, f.body, f.mode)); err != nil {
			return fmt.Errorf("stage %s: %w", p.Name, err)
		}
	}
	if err := made.Write(filepath.Join(root, share, p.Name, "licenses")); err != nil {
		return err
	}
	for _, v := range append(p.Volumes, ".") {
		if err := os.MkdirAll(filepath.Join(dir, "volumes", v), 0o755); err != nil {
			return fmt.Errorf("stage %s: %w", p.Name, err)
		}
	}
	tmp := filepath.Join(root, "tmp") // anybody's, as everywhere
	if err := errors.Join(os.Mkdir(tmp, 0o755), os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
		return fmt.Errorf("stage %s: %w", p.Name, err)
	}
	return date(dir, p.Date)
}

// static makes sure that a binary runs where there is nothing else.
func static(p Program) error {
	f, err := elf.Open(p.Binary)
	if err != nil {
		return fmt.Errorf("stage %s: %s is no Linux program (%w): build it with GOOS=linux", p.Name, p.Binary, err)
	}
	defer f.Close()
	if want, ok := machines[p.Arch]; !ok || f.Machine != want {
		return fmt.Errorf("stage %s: %s is for %s, not for %s: build it with GOARCH=%s", p.Name, p.Binary, f.Machine, p.Arch, p.Arch)
	}
	for _, s := range f.Progs {
		if s.Type == elf.PT_INTERP {
			return fmt.Errorf("stage %s: %s needs a loader, which the image has not: build it with CGO_ENABLED=0", p.Name, p.Binary)
		}
	}
	return nil
}

// date gives everything below dir a date, folders after what is in them.
func date(dir string, when time.Time) error {
	var folders []string
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			folders = append(folders, at)
			return nil
		}
		return os.Chtimes(at, when, when)
	})
	for i := len(folders) - 1; i >= 0 && err == nil; i-- {
		err = os.Chtimes(folders[i], when, when)
	}
	if err != nil {
		return fmt.Errorf("date what is staged: %w", err)
	}
	return nil
}
