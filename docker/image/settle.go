package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"time"
)

// Settle copies an image that `docker save` has written to what `docker load`
// reads, with one date for everything: `docker build` writes the time of the
// build into it, so that no two builds are the same. It returns the image's ID.
func Settle(saved io.Reader, to io.Writer, tag string, date time.Time) (id string, err error) {
	files, err := unpack(saved)
	if err != nil {
		return "", fmt.Errorf("read the image %s: %w", tag, err)
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		return "", fmt.Errorf("read the image %s: its manifest is not that of one image (%v)", tag, err)
	}
	w := tar.NewWriter(to)
	add := func(name string, body []byte) {
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: date, Typeflag: tar.TypeReg}
		if err = errors.Join(err, w.WriteHeader(h)); err == nil {
			_, err = w.Write(body)
		}
	}
	var layers, diffs []string
	for _, name := range manifest[0].Layers {
		body, lerr := redate(files[name], date)
		if lerr != nil {
			return "", fmt.Errorf("read the layer %s of %s: %w", name, tag, lerr)
		}
		sum := hexSum(body)
		layers, diffs = append(layers, sum+".tar"), append(diffs, "sha256:"+sum)
		add(sum+".tar", body)
	}
	config, cerr := settleConfig(files[manifest[0].Config], diffs, date)
	if cerr != nil {
		return "", fmt.Errorf("read the configuration of %s: %w", tag, cerr)
	}
	id = hexSum(config)
	add(id+".json", config)
	out, merr := json.Marshal([]map[string]any{{"Config": id + ".json", "RepoTags": []string{tag}, "Layers": layers}})
	err = errors.Join(err, merr)
	add("manifest.json", out)
	if err = errors.Join(err, w.Close()); err != nil {
		return "", fmt.Errorf("write the image %s: %w", tag, err)
	}
	return "sha256:" + id, nil
}

// unpack reads an archive of `docker save` into memory, links as what they mean.
func unpack(r io.Reader) (map[string][]byte, error) {
	files := map[string][]byte{}
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		switch h.Typeflag {
		case tar.TypeReg:
			if files[path.Clean(h.Name)], err = io.ReadAll(t); err != nil {
				return nil, err
			}
		case tar.TypeSymlink:
			target := path.Join(path.Dir(h.Name), h.Linkname)
			if files[path.Clean(h.Name)] = files[target]; files[target] == nil {
				return nil, fmt.Errorf("%s is a link to %s, which has not come", h.Name, target)
			}
		}
	}
}

// redate gives every file of a layer the date.
func redate(layer []byte, date time.Time) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for t := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			err = w.Close()
			return out.Bytes(), err
		}
		if err != nil {
			return nil, err
		}
		h.ModTime, h.AccessTime, h.ChangeTime = date, time.Time{}, time.Time{}
		h.PAXRecords, h.Format = nil, tar.FormatUnknown
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.Copy(w, t); err != nil {
			return nil, err
		}
	}
}

// settleConfig keeps of an image's configuration what says how to run it.
func settleConfig(text []byte, diffs []string, date time.Time) ([]byte, error) {
	var c struct {
		Architecture string                     `json:"architecture"`
		OS           string                     `json:"os"`
		Variant      string                     `json:"variant,omitempty"`
		Created      time.Time                  `json:"created"`
		Config       map[string]json.RawMessage `json:"config"`
		History      []map[string]any           `json:"history"`
		RootFS       struct {
			Type string   `json:"type"`
			Diff []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, err
	}
	for _, key := range []string{"Hostname", "Domainname", "Image"} { // of the container that it was built in
		delete(c.Config, key)
	}
	for _, h := range c.History {
		h["created"] = date.UTC()
	}
	c.Created, c.RootFS.Diff = date.UTC(), diffs
	return json.Marshal(c)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
