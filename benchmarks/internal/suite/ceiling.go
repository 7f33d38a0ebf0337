package suite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
)

// What the ceiling is measured with: so many clients that neither latency nor one connection is the limit.
const (
	ceilingClients = 16
	ceilingBytes   = 4 << 20 // an object or file
	smallClients   = 64
	smallReads     = 1024
)

// raw reads and writes through a model with nothing in between: the most that any store could get here.
type raw interface {
	write(ctx context.Context, name string, body []byte) error
	read(ctx context.Context, name string) (int, error)
}

// ceilings measures what each model lets through on this machine, at the run's dilation.
func (r *Runner) ceilings(ctx context.Context) error {
	models := r.models()
	var names []string
	for name := range models {
		if !slices.ContainsFunc(r.Results.Ceilings, func(c record.Ceiling) bool { return c.Model == name }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		c, err := r.ceiling(ctx, name, models[name])
		if err != nil {
			return fmt.Errorf("measure the ceiling of %s: %w", name, err)
		}
		r.say("ceiling of %s: %.0f MB/s read, %.0f MB/s written, %.0f small reads/s; limit %.0f MB/s (%s)", name, c.ReadBytes/1e6, c.WriteBytes/1e6, c.SmallPerSecond, c.LimitBytes/1e6, c.Formula)
		r.note(func(res *record.Results) { res.Ceilings = append(res.Ceilings, c) })
	}
	return nil
}

func (r *Runner) ceiling(ctx context.Context, name string, s *Store) (c record.Ceiling, err error) {
	p, err := r.place(ctx, s, "raw", 0)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	c = record.Ceiling{Model: name}
	var through raw
	if s.S3 != "" {
		class := r.class(s)
		c.LimitBytes = class.ClientBytes
		c.Formula = fmt.Sprintf("network of one task; one request gets %.0f MB/s", class.ConnBytes/1e6)
		through = &rawS3{p, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: smallClients, DisableCompression: true}}}
	} else {
		c.LimitBytes = float64(efsmodel.LimitBytes(s.EFS.Profile, s.EFS.Throughput))
		c.Formula = fmt.Sprintf("the smaller of %d MiB/s for one client and what %s throughput allows", s.EFS.Profile.ClientBytes>>20, s.EFS.Throughput.Mode)
		through = rawEFS{p}
	}
	size := int(min(ceilingBytes, max(r.Results.Settings.Sizes.FileBytes/4, 64<<10)))
	small := min(smallReads, 4*r.Results.Settings.Sizes.GatewayRequests)
	body, few := make([]byte, size), make([]byte, 1024)
	_, _ = Random(SeedFile).Read(body) // never fails
	dilation := r.Results.Settings.Dilation
	timed := func(clients, n int, f func(i int) error) (float64, error) {
		if err := p.dilate(dilation); err != nil {
			return 0, err
		}
		began := time.Now()
		err := Parallel(ctx, clients, n, f)
		return time.Since(began).Seconds() / dilation, errors.Join(err, p.dilate(0))
	}
	took, err := timed(ceilingClients, 2*ceilingClients, func(i int) error { return through.write(ctx, fmt.Sprintf("large-%d", i), body) })
	if err != nil {
		return c, err
	}
	c.WriteBytes = float64(2*ceilingClients*size) / took
	for i := range smallClients {
		if err := through.write(ctx, fmt.Sprintf("small-%d", i), few); err != nil {
			return c, err
		}
	}
	if err := p.forget(); err != nil {
		return c, err
	}
	expect := func(name string, want int) error {
		n, err := through.read(ctx, name)
		if err == nil && n != want {
			err = fmt.Errorf("%s has %d bytes instead of %d", name, n, want)
		}
		return err
	}
	took, err = timed(ceilingClients, 2*ceilingClients, func(i int) error { return expect(fmt.Sprintf("large-%d", i), size) })
	if err != nil {
		return c, err
	}
	c.ReadBytes = float64(2*ceilingClients*size) / took
	took, err = timed(smallClients, small, func(i int) error { return expect(fmt.Sprintf("small-%d", i%smallClients), len(few)) })
	if err != nil {
		return c, err
	}
	c.SmallPerSecond = float64(small) / took
	return c, nil
}

type rawS3 struct {
	p *Place
	c *http.Client
}

func (s *rawS3) url(name string) string {
	return s.p.Endpoint + "/" + s.p.Bucket + "/" + s.p.Prefix + "ceiling-" + name
}

func (s *rawS3) write(ctx context.Context, name string, body []byte) error {
	_, err := s.do(ctx, http.MethodPut, name, body)
	return err
}

func (s *rawS3) read(ctx context.Context, name string) (int, error) {
	return s.do(ctx, http.MethodGet, name, nil)
}

func (s *rawS3) do(ctx context.Context, method, name string, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url(name), bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp, err := s.c.Do(req)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err
	}
	if resp.StatusCode >= 300 {
		return 0, fmt.Errorf("%s %s: %s", method, name, resp.Status)
	}
	return int(n), nil
}

type rawEFS struct{ p *Place }

func (e rawEFS) write(_ context.Context, name string, body []byte) error {
	f, err := os.Create(filepath.Join(e.p.Dir, name))
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	return errors.Join(err, f.Sync(), f.Close())
}

func (e rawEFS) read(_ context.Context, name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(e.p.Dir, name))
	return len(b), err
}
