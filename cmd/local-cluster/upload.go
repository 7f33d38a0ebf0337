package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// upload is one add through the cluster REST API.
type upload struct {
	api, user, password string
	source              string // file or folder
	hidden              bool   // with names that begin with a dot
	sent                atomic.Int64
}

// added is one line of the API's answer: a file, a folder, or at last the root.
type added struct {
	Name string `json:"name"`
	CID  string `json:"cid"`
	Size uint64 `json:"size"` // bytes, with the DAG's own
	// Error is set in the last line of an add that has failed.
	Error string `json:"error,omitempty"`
}

// run streams the source and returns the root. each is called for every line
// of the answer, while the body is still being sent.
func (u *upload) run(ctx context.Context, each func(added)) (root added, err error) {
	source, err := filepath.Abs(u.source)
	if err != nil {
		return root, fmt.Errorf("find %s: %w", u.source, err)
	}
	if _, err := os.Stat(source); err != nil {
		return root, fmt.Errorf("add %s: %w", u.source, err)
	}
	name := filepath.Base(source)
	body, w := io.Pipe()
	form := multipart.NewWriter(w)
	written := make(chan error, 1)
	go func() {
		err := errors.Join(u.write(form, source, name), form.Close())
		w.CloseWithError(err) // nil ends the body
		written <- err
	}()
	// An answer may come before all was read.
	defer body.Close()

	query := url.Values{"name": {name}, "cid-version": {"1"}, "stream-channels": {"true"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.api+"/add?"+query.Encode(), body)
	if err != nil {
		return root, err
	}
	req.SetBasicAuth(u.user, u.password)
	req.Header.Set("Content-Type", form.FormDataContentType())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		body.Close()
		if writeErr := <-written; writeErr != nil && !errors.Is(writeErr, io.ErrClosedPipe) {
			return root, writeErr // what could not be read here explains more
		}
		return root, unreachable(u.api, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return root, refusal("add", res)
	}
	lines := json.NewDecoder(res.Body)
	for {
		var a added
		if err := lines.Decode(&a); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return root, fmt.Errorf("the answer to the add broke off, so what was added may not be pinned: add it again (%w)", err)
		}
		if a.Error != "" {
			return root, fmt.Errorf("the cluster could not add %s: %s", u.source, a.Error)
		}
		root = a
		each(a)
	}
	if root.CID == "" {
		return root, fmt.Errorf("the cluster added nothing of %s: is it empty?", u.source)
	}
	return root, nil
}

// write sends a file or a folder, names relative to the root's parent.
func (u *upload) write(form *multipart.Writer, source, name string) error {
	return filepath.WalkDir(source, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read what is to be added: %w", err)
		}
		below, err := filepath.Rel(source, at)
		if err != nil {
			return err
		}
		if !u.hidden && below != "." && strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		return u.writeEntry(form, at, path.Join(name, filepath.ToSlash(below)), d)
	})
}

func (u *upload) writeEntry(form *multipart.Writer, at, name string, d fs.DirEntry) error {
	kind, content := "application/octet-stream", io.Reader(nil)
	switch {
	case d.IsDir():
		kind, content = "application/x-directory", strings.NewReader("")
	case d.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(at)
		if err != nil {
			return fmt.Errorf("read what is to be added: %w", err)
		}
		kind, content = "application/symlink", strings.NewReader(target)
	case d.Type().IsRegular():
		f, err := os.Open(at)
		if err != nil {
			return fmt.Errorf("read what is to be added: %w", err)
		}
		defer f.Close()
		content = f
	default:
		return fmt.Errorf("%s is neither a file, a folder nor a symbolic link: leave it out", at)
	}
	part, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {fmt.Sprintf(`form-data; name="file"; filename="%s"`, url.QueryEscape(name))},
		"Content-Type":        {kind},
	})
	if err != nil {
		return err
	}
	n, err := io.Copy(part, content)
	u.sent.Add(n)
	if err != nil {
		return fmt.Errorf("send %s: %w", at, err)
	}
	return nil
}

// refusal is the error of an answer other than 200.
func refusal(what string, res *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(res.Body, 8<<10))
	if err != nil {
		return fmt.Errorf("%s: the cluster answers %s", what, res.Status)
	}
	return fmt.Errorf("%s: the cluster answers %s: %s", what, res.Status, strings.Join(strings.Fields(string(b)), " "))
}

func unreachable(api string, err error) error {
	return fmt.Errorf("the cluster API at %s does not answer (%w): is `local-cluster up` running?", api, err)
}
