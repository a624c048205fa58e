package vhostuser

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hvswitch/hvswitch/ports"
)

const (
	// maxRing is the longest ring (virtio 1.2, 2.7 and 2.8.10).
	maxRing = 32768

	// maxChain bounds the descriptors of a chain, which in an indirect table may be more than the
	// ring has: Linux does so. It is the bound of QEMU (VIRTQUEUE_MAX_SIZE).
	maxChain = 1024

	// fetchLen is how many chains are looked at before the first of them is used, so that the
	// processor waits for their memory at the same time.
	fetchLen = 32

	descLen = 16
)

// Flags of descriptors (virtio 1.2, 2.7.5 and 2.8.13).
const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4
	descAvail    = 1 << 7 // packed rings only
	descUsed     = 1 << 15
)

// What a guest can do wrong with a ring.
var (
	errAvailIndex = errors.New("more chains are available than the ring is long")
	errHead       = errors.New("descriptor index is beyond the ring")
	errAddress    = errors.New("buffer is not in the memory of the guest")
	errLoop       = errors.New("descriptor chain is too long")
	errEmpty      = errors.New("buffer of length 0")
	errReadOnly   = errors.New("buffer to receive into is not writable")
	errWriteOnly  = errors.New("buffer to send is not readable")
	errIndirect   = errors.New("indirect table is not allowed here or has an impossible length")
	errNoHeader   = errors.New("buffers are too short for the virtio-net header")
	errID         = errors.New("buffer id is beyond the ring")
)

// What a front-end can do wrong with a ring.
var (
	errRingRuns    = errors.New("ring is running")
	errRingSize    = errors.New("ring length is impossible")
	errRingAddress = errors.New("ring is not in the memory of the guest, or not aligned")
)

// ringAddress is where a ring is, in addresses of the front-end (vhost-user, "Vring address
// description").
type ringAddress struct {
	set                    bool
	logUsed                bool // VHOST_VRING_F_LOG
	desc, used, avail, log uint64
}

// ring is one virtqueue: of a pair of queues, the first is the one on which the guest receives. What
// it holds is guarded by mu, which the data path takes once per batch.
type ring struct {
	dev   *device
	index int

	// active tells whether the ring can be used; it is written under mu.
	active atomic.Bool

	// pause makes the data path leave the ring alone, so that frames lent from it come back soon.
	pause atomic.Bool

	mu sync.Mutex

	// As the front-end set them.
	size     uint32 // descriptors
	base     uint32 // where to begin, see position
	address  ringAddress
	kicked   bool // SET_VRING_KICK has come
	enabled  bool
	features uint64
	call     int // eventfd, or -1
	errfd    int // eventfd, or -1
	mem      *memory
	log      *dirtyLog
	inflight *inflightRing
	mtu      int // of frames to the guest

	// guestTakes is what can be left to the guest.
	guestTakes ports.Offloads

	// What follows from that.
	running   bool // may be touched
	broken    bool // until it is started again
	packed    bool
	mergeable bool
	eventIdx  bool
	hdrLen    uint32
	mask      uint16 // of a split ring
	desc      unsafe.Pointer
	avail     unsafe.Pointer // driver area
	used      unsafe.Pointer // device area
	guestDesc uint64         // guest addresses, for the log
	guestUsed uint64

	// How far the ring has been worked off: chains up to lastAvail have been taken; those between
	// lastUsed and it, pending in number, have not been given back yet. In a packed ring these are
	// slots and the wrap counters belong to them.
	lastAvail, lastUsed uint16
	availWrap, usedWrap bool
	pending             int
	slots               uint32      // of the pending chains of a packed ring
	usedList            []usedChain // of a packed ring
	quiet               bool        // the driver need not notify us

	hot     *region  // where the last buffer was
	entries []entry  // fetched
	next    int      // of entries to be used
	plain   bool     // a split ring without log and resend, whose use is the most frequent
	resend  []uint16 // chains that another back-end had taken, which come first, see note
	resent  []uint16 // resend when chains were given back last
	notes   *packedNotes
	chain   []span
	held    []*memory // of frames lent before the memory table changed
	lent    bool      // frames are out
}

// entry is a chain that was fetched: its first descriptor, and how it is given back.
type entry struct {
	addr  uint64
	len   uint32
	flags uint16
	next  uint16 // index of the second descriptor of a split ring
	id    uint16 // index of the first, or the buffer id
	slots uint16 // descriptors in the ring itself; 1 in a split ring
	pos   uint16 // of the first in a packed ring

	hdr uint64         // first bytes of the virtio-net header, if mem is set
	mem unsafe.Pointer // where the only buffer of the chain is
}

// usedChain is a chain that is to be given back to a packed ring.
type usedChain struct {
	len       uint32
	id, slots uint16
}

// span is a buffer of a chain.
type span struct {
	p     unsafe.Pointer
	n     uint32
	guest uint64
}

func (s *span) bytes() []byte { return unsafe.Slice((*byte)(s.p), s.n) }

// at returns where the n bytes at a guest address are, or nil.
func (v *ring) at(guest uint64, n uint32) unsafe.Pointer {
	if p := v.hot.at(guest, n); p != nil {
		return p
	}
	return v.atOther(guest, n)
}

func (v *ring) atOther(guest uint64, n uint32) unsafe.Pointer {
	r := v.mem.find(guest, uint64(n))
	if r == nil {
		return nil
	}
	v.hot = r
	return unsafe.Add(r.base, guest-r.guest)
}

// update makes running and active follow from the rest, after something has changed. It reports an
// error when the ring cannot be where the front-end says.
func (v *ring) update() error {
	err := v.start()
	v.active.Store(v.running && v.enabled)
	return err
}

func (v *ring) start() error {
	if v.running || v.broken || !v.kicked || !v.address.set || v.size == 0 || v.mem == nil {
		return nil
	}
	v.packed = v.features&featPacked != 0
	v.mergeable = v.features&featMergeable != 0
	v.eventIdx = v.features&featEventIdx != 0
	v.hdrLen = 10
	if v.features&(featMergeable|featVersion1) != 0 {
		v.hdrLen = 12
	}
	if !v.packed && v.size&(v.size-1) != 0 {
		return errRingSize
	}
	if err := v.resolve(); err != nil {
		return err
	}
	v.mask = uint16(v.size - 1)
	v.lastAvail, v.availWrap = uint16(v.base), false
	if v.packed {
		v.lastAvail, v.availWrap = uint16(v.base)&0x7fff, v.base&0x8000 != 0
		if uint32(v.lastAvail) >= v.size {
			return errRingSize
		}
		if v.usedList == nil {
			v.usedList = make([]usedChain, 0, v.size)
		}
	}
	v.lastUsed, v.usedWrap = v.lastAvail, v.availWrap
	v.pending, v.slots, v.usedList = 0, 0, v.usedList[:0]
	if v.entries == nil {
		v.entries = make([]entry, 0, fetchLen)
	}
	v.drop()
	return v.guarded(func() {
		v.resume()
		v.running, v.quiet = true, true
		if v.index%2 == 1 {
			v.askNotify()
		} else {
			v.refuseNotify()
		}
	})
}

// drop forgets what was fetched.
func (v *ring) drop() { v.entries, v.next = v.entries[:0], 0 }

// resolve finds the parts of the ring in memory.
func (v *ring) resolve() error {
	v.hot = &nowhere
	n := uint64(v.size)
	desc, avail, used := n*descLen, 6+2*n, 6+8*n
	if v.packed {
		avail, used = 4, 4 // event suppression structures, virtio 1.2, 2.8.14
	}
	var guest uint64
	if v.desc, v.guestDesc = v.mem.findUser(v.address.desc, desc); v.desc == nil || v.guestDesc%16 != 0 {
		return errRingAddress
	}
	if v.avail, guest = v.mem.findUser(v.address.avail, avail); v.avail == nil || guest%2 != 0 || v.packed && guest%4 != 0 {
		return errRingAddress
	}
	if v.used, v.guestUsed = v.mem.findUser(v.address.used, used); v.used == nil || v.guestUsed%4 != 0 {
		return errRingAddress
	}
	// A file may be mapped at any byte of it, so what is aligned for the guest may not be here.
	if uintptr(v.desc)%8 != 0 || uintptr(v.avail)%2 != 0 || uintptr(v.used)%4 != 0 || v.packed && uintptr(v.avail)%4 != 0 {
		return errRingAddress
	}
	if v.address.log != 0 && !v.packed {
		v.guestUsed = v.address.log
	}
	return nil
}

// stop ends the use of the ring. Chains that have not been given back will be found again by whoever
// starts it next.
func (v *ring) stop() {
	if v.running {
		v.base = v.position()
	}
	v.running, v.pending, v.slots, v.usedList = false, 0, 0, v.usedList[:0]
	v.drop()
	v.active.Store(false)
}

// position is where the ring begins when it is started again: an index, or in a packed ring slot and
// wrap counter, for both available (low half) and used (high half).
func (v *ring) position() uint32 {
	n := uint32(v.lastUsed)
	if v.packed {
		if v.usedWrap {
			n |= 0x8000
		}
		n |= n << 16
	}
	return n
}

// release ends the use of the memory by a ring that is stopped. Frames that are lent keep theirs.
func (v *ring) release() {
	if v.mem != nil {
		if v.lent {
			v.held = append(v.held, v.mem)
		} else {
			v.mem.drop()
		}
	}
	v.mem, v.hot = nil, &nowhere
	v.desc, v.avail, v.used = nil, nil, nil
}

// setMemory gives the ring another memory table, of which it becomes a user.
func (v *ring) setMemory(m *memory) error {
	v.release()
	m.hold()
	v.mem = m
	if v.running {
		v.drop()
		if err := v.resolve(); err != nil {
			v.violate(err)
			return err
		}
	}
	return v.update()
}

// violate stops a ring that breaks the rules.
func (v *ring) violate(err error) {
	v.stop()
	v.broken = true
	v.dev.ringBroke(v, err)
}

// calm locks the ring as soon as no frames are lent from it, or after a second, or when the device is being
// closed.
func (v *ring) calm() {
	v.pause.Store(true)
	defer v.pause.Store(false)
	for wait := 10 * time.Microsecond; ; wait *= 2 {
		v.mu.Lock()
		if !v.lent || wait > time.Second/2 || v.dev.closed.Load() {
			return
		}
		v.mu.Unlock()
		time.Sleep(wait)
	}
}

// fetch makes the next chains, max at most, entries. They are not used yet.
func (v *ring) fetch(max int) {
	v.entries, v.next = v.entries[:0], 0
	v.plain = !v.packed && v.log == nil && len(v.resend) == 0
	max = min(max, fetchLen)
	switch {
	case len(v.resend) > 0:
		v.fetchResent()
	case v.packed:
		v.fetchPacked(max)
	default:
		v.fetchSplit(max)
	}
}

// use marks a chain, the next that was fetched, as used; n bytes were written to it.
func (v *ring) use(e *entry, n uint32) {
	if v.plain {
		v.usePlain(e, n)
	} else if v.packed {
		v.usePacked(e, n)
	} else {
		v.useSplit(e, n)
	}
}

// publish gives what is pending back to the driver, and notifies it if it wants that.
func (v *ring) publish() {
	if v.pending == 0 {
		return
	}
	if v.inflight != nil {
		v.inflight.publishing(v)
	}
	var wants bool
	if v.packed {
		wants = v.publishPacked()
	} else {
		wants = v.publishSplit()
	}
	if v.inflight != nil {
		v.inflight.published(v)
	}
	if wants && v.call >= 0 {
		signal(v.call)
	}
}

// empty reports whether there is no chain to fetch.
func (v *ring) empty() bool {
	if len(v.resend) > 0 {
		return false
	}
	if v.packed {
		return !v.readyPacked()
	}
	return v.lastAvail == v.availIndex()
}

// refuseNotify tells the driver not to notify us.
func (v *ring) refuseNotify() {
	if v.packed {
		v.refuseNotifyPacked()
	} else {
		v.refuseNotifySplit()
	}
	v.quiet = true
}

// askNotify asks the driver to notify us of the next chain. What became available before must be
// looked for after it.
func (v *ring) askNotify() {
	if v.packed {
		v.askNotifyPacked()
	} else {
		v.askNotifySplit()
	}
	v.quiet = false
}

// gather lists the buffers of a chain behind those in v.chain, and returns their length in all.
func (v *ring) gather(e *entry, write uint16) (total uint64, err error) {
	if e.flags&descIndirect != 0 {
		return v.gatherIndirect(e, write)
	}
	if v.packed {
		return v.gatherPacked(e, write)
	}
	return v.gatherSplit(e, write)
}

// add adds a buffer to v.chain.
func (v *ring) add(addr uint64, n uint32, flags, write uint16) error {
	if flags&descIndirect != 0 {
		return errIndirect
	}
	if flags&descWrite != write {
		return direction(write)
	}
	if n == 0 {
		return errEmpty
	}
	p := v.at(addr, n)
	if p == nil {
		return errAddress
	}
	v.chain = append(v.chain, span{p, n, addr})
	return nil
}

// direction is the error of a descriptor that is not what write says.
func direction(write uint16) error {
	if write != 0 {
		return errReadOnly
	}
	return errWriteOnly
}

// gatherIndirect is gather for a table elsewhere (virtio 1.2, 2.7.5.3 and 2.8.7).
func (v *ring) gatherIndirect(e *entry, write uint16) (total uint64, err error) {
	n := e.len / descLen
	if v.features&featIndirect == 0 || e.flags&descNext != 0 || e.len%descLen != 0 || n == 0 || n > maxRing {
		return 0, errIndirect
	}
	table := v.at(e.addr, e.len)
	if table == nil {
		return 0, errAddress
	}
	if v.packed {
		if n > maxChain {
			return 0, errLoop
		}
		for i := range n { // flags other than that of direction are reserved
			d := *(*packedDesc)(unsafe.Add(table, uintptr(i)*descLen))
			if err := v.add(d.addr, d.len, d.flags&(descWrite|descIndirect), write); err != nil {
				return 0, err
			}
			total += uint64(d.len)
		}
		return total, nil
	}
	i := uint32(0)
	for range maxChain {
		d := *(*splitDesc)(unsafe.Add(table, uintptr(i)*descLen))
		if err := v.add(d.addr, d.len, d.flags, write); err != nil {
			return 0, err
		}
		total += uint64(d.len)
		if d.flags&descNext == 0 {
			return total, nil
		}
		if i = uint32(d.next); i >= n {
			return 0, errHead
		}
	}
	return 0, errLoop
}

// load16 reads a 16-bit field of memory that is shared with the driver, with the order of an atomic.
// There is none of that width, so it reads the word of 4 bytes around it, which is in the same page.
func load16(p unsafe.Pointer) uint16 {
	odd := uintptr(p) & 2
	return uint16(atomic.LoadUint32((*uint32)(unsafe.Add(p, -int(odd)))) >> (8 * odd))
}

// needEvent says whether the step from index was to is passed event (virtio 1.2, 2.7.7.1).
func needEvent(event, is, was uint16) bool { return is-event-1 < is-was }
