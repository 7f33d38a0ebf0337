package span

import "golang.org/x/sys/unix"

func mapMemory(size int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err == nil {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // small pages do as well
	}
	return b, err
}

func unmapMemory(b []byte) { _ = unix.Munmap(b) }
