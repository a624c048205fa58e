package vhostuser

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxTable is the number of regions in SET_MEM_TABLE (VHOST_MEMORY_BASELINE_NREGIONS).
	maxTable = 8

	// maxSlots is what GET_MAX_MEM_SLOTS tells: that of KVM on older kernels, less its own.
	maxSlots = 509

	regionLen = 32
)

// regionSpec is a memory region as the front-end describes it (vhost-user, "Memory region description").
type regionSpec struct {
	guest  uint64 // guest physical address
	size   uint64 // bytes
	user   uint64 // address in the front-end, in whose terms it tells where rings are
	offset uint64 // in the file
}

// region is mapped memory of the guest.
type region struct {
	regionSpec
	dev     uint64 // of the file
	inode   uint64
	base    unsafe.Pointer // where guest is here
	mapping []byte
	refs    atomic.Int32 // memory tables that have it
}

// nowhere is a region in which nothing lies.
var nowhere region

var (
	errRegionSize    = errors.New("memory region: size is 0 or address overflows")
	errRegionOverlap = errors.New("memory region overlaps another")
	errRegionFile    = errors.New("memory region: the file is not one of tmpfs or hugetlbfs")
	errRegionShort   = errors.New("memory region ends behind its file")
	errRegionMany    = fmt.Errorf("more than %d memory regions", maxSlots)
)

// mapRegion maps a region of the file fd, which stays the caller's.
//
// Only files in memory are mapped: to touch one of FUSE or of a network file system could take for ever.
func mapRegion(s regionSpec, fd int) (*region, error) {
	end := s.offset + s.size
	if s.size == 0 || s.guest+s.size < s.guest || s.user+s.size < s.user || end < s.size || int64(end) < 0 {
		return nil, errRegionSize
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return nil, os.NewSyscallError("fstatfs", err)
	}
	if uint32(fs.Type) != unix.TMPFS_MAGIC && uint32(fs.Type) != unix.HUGETLBFS_MAGIC {
		return nil, errRegionFile
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errRegionFile
	}
	if uint64(st.Size) < end {
		return nil, errRegionShort
	}
	page := uint64(os.Getpagesize())
	if uint32(fs.Type) == unix.HUGETLBFS_MAGIC {
		page = uint64(fs.Bsize)
	}
	from := s.offset &^ (page - 1)
	length := (end - from + page - 1) &^ (page - 1)
	if uint64(int(length)) != length || int(length) < 0 {
		return nil, errRegionSize
	}
	m, err := unix.Mmap(fd, int64(from), int(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	r := &region{regionSpec: s, dev: uint64(st.Dev), inode: st.Ino, mapping: m}
	r.base = unsafe.Pointer(&m[s.offset-from])
	return r, nil
}

// same reports whether two regions are the same memory at the same addresses.
func (r *region) same(o *region) bool {
	return r.regionSpec == o.regionSpec && r.dev == o.dev && r.inode == o.inode
}

func (r *region) drop() {
	if r.refs.Add(-1) == 0 {
		_ = unix.Munmap(r.mapping)
		r.base, r.mapping = nil, nil
	}
}

// at returns where the n bytes at a guest address are, or nil.
func (r *region) at(guest uint64, n uint32) unsafe.Pointer {
	if off := guest - r.guest; off < r.size && uint64(n) <= r.size-off {
		return unsafe.Add(r.base, off)
	}
	return nil
}

// holds reports whether address a of this process lies in the region.
func (r *region) holds(a uintptr) bool {
	return len(r.mapping) > 0 && a-uintptr(unsafe.Pointer(&r.mapping[0])) < uintptr(len(r.mapping))
}

// memory is the memory of a guest: an immutable table, unmapped when nobody uses it any more.
type memory struct {
	regions []*region // by guest address
	refs    atomic.Int32
}

// newMemory makes a table of regions, which must be mapped, with one user. It takes over their mappings
// unless it fails.
func newMemory(regions []*region) (*memory, error) {
	if len(regions) > maxSlots {
		return nil, errRegionMany
	}
	slices.SortFunc(regions, func(a, b *region) int {
		if a.guest < b.guest {
			return -1
		}
		return 1
	})
	for i, r := range regions {
		if i > 0 && r.guest-regions[i-1].guest < regions[i-1].size {
			return nil, errRegionOverlap
		}
	}
	for _, r := range regions {
		r.refs.Add(1)
	}
	m := &memory{regions: regions}
	m.refs.Store(1)
	return m, nil
}

func (m *memory) hold() { m.refs.Add(1) }

func (m *memory) drop() {
	if m != nil && m.refs.Add(-1) == 0 {
		for _, r := range m.regions {
			r.drop()
		}
	}
}

// find returns the region in which the n bytes at guest address a lie, or nil.
func (m *memory) find(a, n uint64) *region {
	i, j := 0, len(m.regions)
	for i < j {
		h := (i + j) / 2
		if r := m.regions[h]; a < r.guest {
			j = h
		} else if off := a - r.guest; off >= r.size {
			i = h + 1
		} else if n <= r.size-off {
			return r
		} else {
			return nil
		}
	}
	return nil
}

// findUser is find for an address of the front-end. It returns the guest address too.
func (m *memory) findUser(a, n uint64) (unsafe.Pointer, uint64) {
	if m != nil {
		for _, r := range m.regions {
			if off := a - r.user; off < r.size && n <= r.size-off {
				return unsafe.Add(r.base, off), r.guest + off
			}
		}
	}
	return nil, 0
}

// holds reports whether address a of this process lies in memory of the guest.
func (m *memory) holds(a uintptr) bool {
	return m != nil && slices.ContainsFunc(m.regions, func(r *region) bool { return r.holds(a) })
}
