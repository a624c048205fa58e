package vhostuser

import (
	"errors"
	"math"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dirtyLog is the bitmap of pages that were written while the guest is being migrated (vhost-user,
// "Migration"): a bit for each 4 KiB, shared with the front-end.
type dirtyLog struct {
	mapping []byte
	words   []uint32
	pages   uint64
}

const logPage = 12 // bits

var errLogSize = errors.New("dirty log: size or offset is impossible")

// mapLog maps size bytes of the file fd, which stays the caller's.
func mapLog(fd int, size, offset uint64) (*dirtyLog, error) {
	end := offset + size
	if size == 0 || size > math.MaxInt32 || end < size || offset%uint64(os.Getpagesize()) != 0 {
		return nil, errLogSize
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || uint64(st.Size) < end {
		return nil, errLogSize
	}
	m, err := unix.Mmap(fd, int64(offset), int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	// The mapping ends with a page, so there is a whole word at its end.
	return &dirtyLog{m, unsafe.Slice((*uint32)(unsafe.Pointer(&m[0])), (size+3)/4), size * 8}, nil
}

func (l *dirtyLog) unmap() {
	if l != nil {
		_ = unix.Munmap(l.mapping)
	}
}

// mark notes that the n bytes at a guest address have been written. The sender of the page must find the
// mark later than the bytes.
func (l *dirtyLog) mark(guest, n uint64) {
	if n == 0 {
		return
	}
	for page := guest >> logPage; page <= (guest+n-1)>>logPage && page < l.pages; page++ {
		atomic.OrUint32(&l.words[page/32], 1<<(page%32))
	}
}

func (l *dirtyLog) holds(a uintptr) bool {
	return l != nil && a-uintptr(unsafe.Pointer(&l.mapping[0])) < uintptr(len(l.mapping))
}

// logUsed notes a write to the device area of the ring.
func (v *ring) logUsed(at, n uint64) {
	if v.log != nil && v.address.logUsed {
		v.log.mark(v.guestUsed+at, n)
	}
}

// logDesc notes a write to the descriptors of a packed ring.
func (v *ring) logDesc(at, n uint64) {
	if v.log != nil && v.address.logUsed {
		v.log.mark(v.guestDesc+at, n)
	}
}
