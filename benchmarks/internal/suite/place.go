package suite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/s3model"
)

// Place is where one store lives for one unit of work. It is empty when the unit begins, and gone when it has ended.
type Place struct {
	// Dir is the folder of the repo, on the file system that the store is meant for.
	Dir string
	// Endpoint, Bucket, Prefix and Region say where its objects go; the keys are such that any client is content, for the
	// endpoint signs anew. Prefix is "" with the local server.
	Endpoint, Bucket, Prefix, Region string
	AccessKey, SecretKey             string
	// SealAge is how long packs wait.
	SealAge time.Duration
	// NamesDurable says that Dir is on a stand-in for NFS.
	NamesDurable bool

	proxy  *s3model.Proxy
	mount  *efsmodel.Mounted
	real   *mountstats // of a real NFS mount
	remove []func() error
}

// counters are what the servers behind a place have counted.
type counters struct {
	s3  *s3model.Counts
	efs *record.EFS
}

func (p *Place) counters() (counters, error) {
	var c counters
	if p.proxy != nil {
		n := p.proxy.Counts()
		c.s3 = &n
	}
	switch {
	case p.mount != nil:
		st, err := p.mount.Stats()
		if err != nil {
			return c, err
		}
		c.efs = &record.EFS{
			Requests: maps.Clone(st.Requests), BytesRead: st.BytesRead, BytesWritten: st.BytesWritten,
			MeteredRead: st.MeteredRead, MeteredWritten: st.MeteredWritten,
		}
	case p.real != nil:
		e, err := p.real.read()
		if err != nil {
			return c, err
		}
		c.efs = e
	}
	return c, nil
}

func (c counters) minus(o counters) counters {
	var d counters
	if c.s3 != nil {
		n := c.s3.Minus(*o.s3)
		d.s3 = &n
	}
	if c.efs != nil {
		d.efs = &record.EFS{
			Requests:  map[efsmodel.Kind]int64{},
			BytesRead: c.efs.BytesRead - o.efs.BytesRead, BytesWritten: c.efs.BytesWritten - o.efs.BytesWritten,
			MeteredRead: c.efs.MeteredRead - o.efs.MeteredRead, MeteredWritten: c.efs.MeteredWritten - o.efs.MeteredWritten,
		}
		for k, n := range c.efs.Requests {
			if n -= o.efs.Requests[k]; n != 0 {
				d.efs.Requests[k] = n
			}
		}
	}
	return d
}

// dilate sets how slow everything behind the place is. What is real takes its own time.
func (p *Place) dilate(d float64) error {
	if p.proxy != nil && p.Prefix == "" {
		p.proxy.Dilate(d)
	}
	if p.mount != nil {
		return p.mount.SetDilation(d)
	}
	return nil
}

// quietFor is how long no request may come for the counters to be taken as final.
const quietFor = 60 * time.Millisecond

// quiet waits until no request is under way, and none comes.
func (p *Place) quiet(ctx context.Context) error {
	total := func() (n int64, err error) {
		c, err := p.counters()
		if c.s3 != nil {
			n += c.s3.Total() + int64(p.proxy.Active())
		}
		if c.efs != nil {
			n += c.efs.Total()
		}
		return n, err
	}
	if p.proxy == nil && p.mount == nil {
		return nil
	}
	for {
		before, err := total()
		if err != nil {
			return err
		}
		if err := sleep(ctx, quietFor); err != nil {
			return err
		}
		after, err := total()
		if err != nil {
			return err
		}
		if before == after && (p.proxy == nil || p.proxy.Active() == 0) {
			return nil
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// forget drops what the page cache has of the place, which a new task would not have.
func (p *Place) forget() error {
	return filepath.WalkDir(p.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return ignoreMissing(err)
		}
		f, err := os.Open(path)
		if err != nil {
			return ignoreMissing(err)
		}
		return errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	})
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// close takes the place down, in the opposite order.
func (p *Place) close() error {
	var errs []error
	for i := len(p.remove) - 1; i >= 0; i-- {
		errs = append(errs, p.remove[i]())
	}
	return errors.Join(errs...)
}

// place makes the place of a unit.
func (r *Runner) place(ctx context.Context, s *Store, level string, round int) (_ *Place, err error) {
	name := fmt.Sprintf("%s-%s-%d-%d", s.Name, level, round, r.places.Add(1))
	p := &Place{Region: r.upstream.Region, AccessKey: "any", SecretKey: "any", SealAge: time.Duration(r.Results.Settings.Sizes.SealSeconds * float64(time.Second))}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make the place of %s: %w", s.Name, err), p.close())
		}
	}()
	base := filepath.Join(r.work, name)
	if err := os.Mkdir(base, 0o755); err != nil {
		return p, err
	}
	p.remove = append(p.remove, func() error { return os.RemoveAll(base) })
	p.Dir = filepath.Join(base, "repo")
	if s.EFS != nil {
		if err := r.placeOnEFS(p, s, base, name); err != nil {
			return p, err
		}
	}
	if err := os.Mkdir(p.Dir, 0o755); err != nil {
		return p, err
	}
	if s.S3 != "" {
		if err := r.placeInS3(ctx, p, s, name, round); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (r *Runner) placeOnEFS(p *Place, s *Store, base, name string) error {
	if path := r.Results.Settings.EFSPath; path != "" {
		dir := filepath.Join(path, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		p.remove = append(p.remove, func() error { return os.RemoveAll(dir) })
		p.Dir = filepath.Join(dir, "repo")
		real, err := findMountstats(mountstatsFile, path)
		if err != nil {
			return err
		}
		if p.real, p.NamesDurable = real, real != nil; real == nil {
			r.say("%s is not on an NFS mount: its requests are not counted", path)
		}
		return nil
	}
	p.NamesDurable = true
	backing, mnt := filepath.Join(r.scratch, name), filepath.Join(base, "mnt")
	if err := errors.Join(os.Mkdir(backing, 0o755), os.Mkdir(mnt, 0o755)); err != nil {
		return err
	}
	p.remove = append(p.remove, func() error { return os.RemoveAll(backing) })
	m, err := efsmodel.Mount(efsmodel.Options{
		Backing: backing, Mountpoint: mnt, Profile: s.EFS.Profile, Throughput: s.EFS.Throughput, FolderDepth: 2, LimitOps: true,
		Dilation: r.Results.Settings.Dilation, // for how long the kernel believes what it knows
	})
	if err != nil {
		return err
	}
	p.mount = m
	p.remove = append(p.remove, m.Unmount)
	p.Dir = filepath.Join(mnt, "repo")
	return m.SetDilation(0)
}

func (r *Runner) placeInS3(ctx context.Context, p *Place, s *Store, name string, round int) error {
	proxy, err := s3model.New(r.class(s), r.upstream, uint64(round)<<16|uint64(s.Rank))
	if err != nil {
		return err
	}
	p.proxy, p.Endpoint = proxy, proxy.URL
	p.remove = append(p.remove, proxy.Close)
	if bucket := r.Results.Settings.Bucket; bucket != "" {
		p.Bucket, p.Prefix = bucket, r.prefix+"/"+name
		p.remove = append(p.remove, func() error { return r.upstream.Remove(context.WithoutCancel(ctx), p.Bucket, p.Prefix) })
		return nil
	}
	p.Bucket = "bench-" + name
	if len(p.Bucket) > 63 {
		p.Bucket = p.Bucket[len(p.Bucket)-63:]
	}
	p.remove = append(p.remove, func() error { return r.dropBucket(p.Bucket) })
	return r.upstream.MakeBucket(ctx, p.Bucket)
}

// class is the storage class of a store.
func (r *Runner) class(s *Store) s3model.Class {
	name := s.S3
	if name == DefaultClass {
		name = r.Results.Settings.S3Class
	}
	c, err := s3model.FindClass(name)
	if err != nil {
		panic(err) // settings and registry are checked when a run begins
	}
	return c
}
