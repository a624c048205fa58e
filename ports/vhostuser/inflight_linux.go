package vhostuser

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The in-flight buffer is memory in which a back-end notes what it has taken and not given back, so that
// the next one goes on where it ended (vhost-user, "Inflight I/O tracking"). It has a region of the same
// length for each ring.
//
// This device gives back in the order in which it takes. So what it has taken follows from how far the
// used ring got, and it need not note a descriptor when it takes it; but it heeds those that another
// back-end noted. Only a batch of a packed ring is noted while it is given back, see noteBatch.
type inflight struct {
	mapping []byte
	rings   int
	stride  int
	most    uint32 // descriptors of a ring
}

// inflightRing is the region of one ring.
type inflightRing struct {
	whole *inflight
	p     unsafe.Pointer
}

// inflightSplit is the head of the region of a split ring, before inflightDesc × size.
type inflightSplit struct {
	features  uint64
	version   uint16
	size      uint16
	lastBatch uint16
	used      uint16
}

// inflightDesc notes a descriptor of a split ring.
type inflightDesc struct {
	inflight uint8
	_        [5]uint8
	next     uint16
	counter  uint64
}

const (
	inflightVersion = 1
	inflightHead    = 32
	inflightDescLen = 32 // of a packed ring; half as much in a split one
	inflightAlign   = 64 // a cache line
)

var errInflight = errors.New("in-flight buffer: length or number of rings is impossible")

// newInflight makes a buffer for so many rings of so many descriptors in a new file.
func newInflight(rings, size int) (*inflight, int, error) {
	if rings < 1 || rings > 2*maxQueues || size < 1 || size > maxRing {
		return nil, -1, errInflight
	}
	stride := (inflightHead + inflightDescLen*size + inflightAlign - 1) &^ (inflightAlign - 1)
	fd, err := unix.MemfdCreate("vhost-user-inflight", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, -1, os.NewSyscallError("memfd_create", err)
	}
	if err = os.NewSyscallError("ftruncate", unix.Ftruncate(fd, int64(stride*rings))); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	var f *inflight
	if err == nil {
		f, err = mapInflight(fd, uint64(stride*rings), 0, rings, size)
	}
	if err != nil {
		unix.Close(fd)
		return nil, -1, err
	}
	return f, fd, nil
}

// mapInflight maps a buffer from the file fd, which stays the caller's.
func mapInflight(fd int, size, offset uint64, rings, descriptors int) (*inflight, error) {
	const most = 2 * maxQueues * (inflightHead + inflightDescLen*maxRing)
	if rings < 1 || rings > 2*maxQueues || descriptors < 1 || descriptors > maxRing || size > most ||
		offset%uint64(os.Getpagesize()) != 0 || int64(offset+size) < 0 || offset+size < offset {
		return nil, errInflight
	}
	stride := int(size) / rings
	if stride%8 != 0 || stride < inflightHead+inflightDescLen/2*descriptors {
		return nil, errInflight
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || uint64(st.Size) < offset+size {
		return nil, errInflight
	}
	m, err := unix.Mmap(fd, int64(offset), int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return &inflight{m, rings, stride, uint32(descriptors)}, nil
}

func (f *inflight) unmap() {
	if f != nil {
		_ = unix.Munmap(f.mapping)
	}
}

// ring returns the region of a ring, or nil if there is none.
func (f *inflight) ring(i int) *inflightRing {
	if f == nil || i >= f.rings {
		return nil
	}
	return &inflightRing{f, unsafe.Pointer(&f.mapping[i*f.stride])}
}

func (r *inflightRing) holds(a uintptr) bool {
	return r != nil && a-uintptr(unsafe.Pointer(&r.whole.mapping[0])) < uintptr(len(r.whole.mapping))
}

func (r *inflightRing) split() *inflightSplit { return (*inflightSplit)(r.p) }

func (r *inflightRing) desc(i uint32) *inflightDesc {
	return (*inflightDesc)(unsafe.Add(r.p, unsafe.Sizeof(inflightSplit{})+uintptr(i)*unsafe.Sizeof(inflightDesc{})))
}

// resume begins where the used ring ended: what was taken and not given back is taken again. A front-end
// knows no better when the back-end before has died.
func (v *ring) resume() {
	v.resend, v.notes = nil, nil
	if !v.packed {
		v.lastUsed = uint16(atomic.LoadUint32((*uint32)(v.used)) >> 16)
		v.lastAvail = v.lastUsed
	}
	switch r := v.inflight; {
	case r == nil:
	case v.size > r.whole.most:
		v.inflight = nil
	case !v.packed:
		r.resumeSplit(v)
	case r.whole.stride < inflightHead+inflightDescLen*int(v.size):
		v.inflight = nil
	default:
		r.resumePacked(v)
	}
	v.resent = v.resend
}

func (r *inflightRing) resumeSplit(v *ring) {
	h := r.split()
	if h.version != inflightVersion || uint32(h.size) != v.size {
		*h = inflightSplit{version: inflightVersion, size: uint16(v.size), used: v.lastUsed}
		return
	}
	if h.used != v.lastUsed {
		// The batch at lastBatch was given back, but the notes are from before.
		i := uint32(h.lastBatch)
		for range v.lastUsed - h.used {
			if i >= v.size {
				break
			}
			r.desc(i).inflight = 0
			i = uint32(r.desc(i).next)
		}
		h.used = v.lastUsed
	}
	var all []note
	for i := range v.size {
		if d := r.desc(i); d.inflight == 1 {
			all = append(all, note{uint16(i), d.counter})
		}
	}
	v.resend = inOrder(all)
	v.lastAvail += uint16(len(all))
}

// note is a chain that was taken and not given back: its head in the descriptor table of a split ring, or among the
// notes of a packed one.
type note struct {
	head    uint16
	counter uint64
}

// inOrder returns the heads of chains in the order in which they were taken.
func inOrder(all []note) (heads []uint16) {
	slices.SortStableFunc(all, func(a, b note) int { return cmp.Compare(a.counter, b.counter) })
	for _, n := range all {
		heads = append(heads, n.head)
	}
	return heads
}

// publishing is called before chains are given back.
func (r *inflightRing) publishing(v *ring) {
	if v.packed {
		r.noteBatch(v)
		return
	}
	h := r.split()
	for _, head := range v.resentNow() {
		r.desc(uint32(head)).next = h.lastBatch
		h.lastBatch = head
	}
}

// published is called after that.
func (r *inflightRing) published(v *ring) {
	if v.packed {
		r.forgetBatch(v)
	} else {
		for _, head := range v.resentNow() {
			r.desc(uint32(head)).inflight = 0
		}
		r.split().used = v.lastUsed
	}
	v.resent = v.resend
}

// resentNow returns those of the chains that another back-end had taken that were used since chains were given back
// last: the first of that batch.
func (v *ring) resentNow() []uint16 { return v.resent[:len(v.resent)-len(v.resend)] }

// fetchResent fetches the chains that another back-end has taken.
func (v *ring) fetchResent() {
	e := v.entries[:min(len(v.resend), fetchLen)]
	for i := range e {
		if head := v.resend[i]; v.packed {
			e[i].loadNoted(v.notes.chains[head])
		} else {
			e[i].id = head
			e[i].load(v.desc)
		}
	}
	v.entries = e
}
