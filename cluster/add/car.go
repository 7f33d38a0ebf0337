package add

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"slices"

	"github.com/ipfs-cluster/ipfs-cluster/api"
	"github.com/ipfs/boxo/files"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/go-cid"
	car "github.com/ipld/go-car/v2"

	"github.com/ipfs-aws/ipfs-aws/cluster/kubo"
)

// maxRoots is how many roots the CAR files of an add may have. Each is held on every destination and pinned
// before the add is answered, some 10 ms, and a client behind CloudFront waits for 60 s.
const maxRoots = 1000

// addCARs adds the CAR files of a form, versions 1 and 2, and pins their roots. It reports one object for
// each, when all are pinned. ipfs-cluster's own takes one file of version 1 with one root.
func (f *Fanout) addCARs(ctx context.Context, form *multipart.Reader, output chan<- api.AddedOutput) (err error) {
	defer close(output)
	sent, err := files.NewFileFromPartReader(form, "multipart/form-data")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sent.Close()) }()
	if f.params.Wrap {
		return errors.New("wrap-with-directory: a CAR file cannot be wrapped")
	}
	var roots []cid.Cid
	var added []api.AddedOutput
	it := sent.Entries()
	for it.Next() {
		file, ok := it.Node().(files.File)
		if !ok {
			return fmt.Errorf("%s is a folder: send CAR files", it.Name())
		}
		read, err := f.addCAR(ctx, file)
		if err != nil {
			return fmt.Errorf("read the CAR file %s: %w", it.Name(), err)
		}
		for _, root := range read.roots {
			if slices.Contains(roots, root) {
				continue
			}
			roots = append(roots, root)
			added = append(added, api.AddedOutput{Name: it.Name(), Cid: api.NewCid(root), Bytes: read.bytes, Size: read.size[root]})
		}
		if len(roots) > maxRoots {
			return fmt.Errorf("the CAR files have more than %d roots: add them one after the other", maxRoots)
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	if len(roots) == 0 {
		return errors.New("there is no CAR file in the request")
	}
	if err := f.FinalizeAll(ctx, roots); err != nil {
		return err
	}
	for _, one := range added {
		one.Allocations = f.Allocations()
		output <- one
	}
	return nil
}

// readCAR is what there was in a CAR file.
type readCAR struct {
	roots []cid.Cid
	bytes uint64             // of all blocks
	size  map[cid.Cid]uint64 // of the files that roots are
}

func (f *Fanout) addCAR(ctx context.Context, file io.Reader) (readCAR, error) {
	in, err := car.NewBlockReader(struct{ io.Reader }{file}) // that of a form has a Seek that fails
	if err != nil {
		return readCAR{}, err
	}
	out := readCAR{roots: in.Roots, size: map[cid.Cid]uint64{}}
	if len(out.roots) == 0 {
		return out, errors.New("it names no root, so there is nothing to pin")
	}
	for {
		b, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		node, err := kubo.Node(b)
		if err != nil {
			return out, err
		}
		out.bytes += uint64(len(b.RawData()))
		if slices.Contains(out.roots, b.Cid()) {
			if fs, err := unixfs.ExtractFSNode(node); err == nil {
				out.size[b.Cid()] = fs.FileSize()
			}
		}
		if err := f.Add(ctx, node); err != nil {
			return out, err
		}
	}
}
