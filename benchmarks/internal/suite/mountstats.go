package suite

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/ipfs-aws/ipfs-aws/benchmarks/efsmodel"
	"github.com/ipfs-aws/ipfs-aws/benchmarks/internal/record"
)

// mountstats reads what the kernel's NFS client has sent for one mount: the nearest to the server's side that there is.
type mountstats struct{ file, mount string }

// kindOf are the operations of NFS 4.1 that efsmodel has a kind for.
var kindOf = map[string]efsmodel.Kind{
	"READ": efsmodel.Read, "WRITE": efsmodel.Write, "OPEN": efsmodel.Open, "OPEN_NOATTR": efsmodel.Open, "CREATE": efsmodel.Create,
	"CLOSE": efsmodel.Close, "SETATTR": efsmodel.Setattr, "GETATTR": efsmodel.Getattr, "LOOKUP": efsmodel.Lookup, "ACCESS": efsmodel.Getattr,
	"RENAME": efsmodel.Rename, "REMOVE": efsmodel.Remove, "READDIR": efsmodel.Readdir,
}

// mountstatsFile is the kernel's.
const mountstatsFile = "/proc/self/mountstats"

// findMountstats returns the NFS mount that holds path; nil if it is on none, and then nothing is counted.
func findMountstats(file, path string) (*mountstats, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) { // not Linux, or no mount to speak of
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the NFS mount of %s: %w", path, err)
	}
	defer f.Close()
	best := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		mount, ok := nfsMount(lines.Text())
		if ok && (path == mount || strings.HasPrefix(path, strings.TrimSuffix(mount, "/")+"/")) && len(mount) > len(best) {
			best = mount
		}
	}
	if best == "" {
		return nil, nil
	}
	return &mountstats{file, best}, nil
}

// nfsMount is the mount point in a line such as "device fs-1:/ mounted on /mnt/efs with fstype nfs4 statvers=1.1".
func nfsMount(line string) (string, bool) {
	_, rest, ok := strings.Cut(line, " mounted on ")
	mount, fstype, with := strings.Cut(rest, " with fstype ")
	return mount, ok && with && strings.HasPrefix(line, "device ") && strings.HasPrefix(fstype, "nfs")
}

func (m *mountstats) read() (*record.EFS, error) {
	f, err := os.Open(m.file)
	if err != nil {
		return nil, fmt.Errorf("count the requests of %s: %w", m.mount, err)
	}
	defer f.Close()
	e := &record.EFS{Requests: map[efsmodel.Kind]int64{}}
	inside := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "device ") {
			mount, ok := nfsMount(line)
			inside = ok && mount == m.mount
			continue
		}
		name, figures, ok := strings.Cut(line, ": ")
		kind, known := kindOf[name]
		if !inside || !ok || !known {
			continue
		}
		// ops, transmissions, timeouts, bytes sent, bytes received, …
		words := strings.Fields(figures)
		if len(words) < 5 {
			continue
		}
		var n [5]int64
		for i := range n {
			if n[i], err = strconv.ParseInt(words[i], 10, 64); err != nil {
				return nil, fmt.Errorf("count the requests of %s: %q: %w", m.mount, line, err)
			}
		}
		e.Requests[kind] += n[0]
		bytes := int64(0)
		switch kind {
		case efsmodel.Read:
			bytes = n[4]
			e.BytesRead += bytes
		case efsmodel.Write:
			bytes = n[3]
			e.BytesWritten += bytes
		}
		read, written := efsmodel.Metered(kind, n[0], bytes)
		e.MeteredRead += read
		e.MeteredWritten += written
	}
	return e, nil
}
