package vhostuser

import (
	"slices"
	"sync/atomic"
	"unsafe"
)

// inflightPacked is the head of the region of a packed ring, before packedNote × size. Of each pair of fields, the old
// one is what holds if the batch that is being given back has not become visible to the driver.
type inflightPacked struct {
	features      uint64
	version       uint16
	size          uint16
	free, oldFree uint16 // the list of notes that are not in use
	used, oldUsed uint16
	wrap, oldWrap uint8
	_             [7]uint8
	_             [3]uint8
}

// packedNote notes a descriptor of a packed ring, where the driver and the device overwrite it.
type packedNote struct {
	inflight uint8 // inflight, last, num and counter are those of a chain, in the note of its first descriptor
	_        uint8
	next     uint16 // in the chain, or in the list of free notes
	last     uint16
	num      uint16
	counter  uint64
	id       uint16
	flags    uint16
	len      uint32
	addr     uint64
}

// packedNotes is what the device knows of the notes of a ring by itself, so that nobody can change it.
type packedNotes struct {
	free    []uint16 // those not in use, the first of their list last
	chains  map[uint16]notedChain
	counter uint64
	batch   []uint16 // heads of the chains that are being given back
}

// notedChain is a chain to be resent.
type notedChain struct {
	id    uint16
	descs []packedDesc
	notes []uint16
}

func (r *inflightRing) packed() *inflightPacked { return (*inflightPacked)(r.p) }

func (r *inflightRing) note(i uint16) *packedNote {
	return (*packedNote)(unsafe.Add(r.p, inflightHead+inflightDescLen*uintptr(i)))
}

// setFree writes both heads of the list, so that whoever comes next sees both or none.
func (h *inflightPacked) setFree(free, old uint16) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&h.free)), uint32(free)|uint32(old)<<16)
}

// setUsed writes both positions in the same way.
func (h *inflightPacked) setUsed(used uint16, wrap bool, old uint16, oldWrap bool) {
	w := uint64(used) | uint64(old)<<16 | uint64(bit(wrap))<<32 | uint64(bit(oldWrap))<<40
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&h.used)), w)
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

func (r *inflightRing) resumePacked(v *ring) {
	h := *r.packed()
	if h.version != inflightVersion || uint32(h.size) != v.size || uint32(h.used) >= v.size || uint32(h.oldUsed) >= v.size {
		r.reset(v)
		return
	}
	used, wrap, free := h.used, h.wrap != 0, h.free
	if oldWrap := h.oldWrap != 0; used == h.oldUsed && wrap == oldWrap {
		free = h.oldFree
	} else if isAvail(uint16(idFlags(v.slot(h.oldUsed))>>16), oldWrap) {
		// It died before the batch became visible, which that descriptor makes it.
		used, wrap, free = h.oldUsed, oldWrap, h.oldFree
	}
	slots, ok := r.readNotes(v, free)
	if !ok {
		r.reset(v)
		return
	}
	for _, i := range v.notes.free {
		r.note(i).inflight = 0
	}
	first := r.firstFree(v, 0)
	r.packed().setFree(first, first)
	r.packed().setUsed(used, wrap, used, wrap)
	v.lastUsed, v.usedWrap = used, wrap
	v.lastAvail, v.availWrap = v.step(used, wrap, slots)
}

// reset makes the region that of a ring of which nothing was taken.
func (r *inflightRing) reset(v *ring) {
	v.resend, v.notes = nil, &packedNotes{}
	for i := range uint16(v.size) {
		*r.note(i) = packedNote{next: i + 1}
		v.notes.free = append(v.notes.free, uint16(v.size)-1-i)
	}
	h := r.packed()
	h.features = 0
	h.setFree(0, 0)
	h.setUsed(v.lastUsed, v.usedWrap, v.lastUsed, v.usedWrap)
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&h.version)), inflightVersion|v.size<<16) // last: now it is valid
}

// readNotes finds the free notes, whose list begins at free, and the chains to be resent, and returns how many
// descriptors these have. It reports false when no back-end can have written that.
func (r *inflightRing) readNotes(v *ring, free uint16) (slots uint16, ok bool) {
	n := &packedNotes{chains: map[uint16]notedChain{}}
	seen := make([]bool, v.size)
	for i := free; uint32(i) < v.size && !seen[i]; i = r.note(i).next {
		seen[i] = true
		n.free = append(n.free, i)
	}
	slices.Reverse(n.free)
	var all []note
	for i := range uint16(v.size) {
		head := *r.note(i)
		if seen[i] || head.inflight != 1 {
			continue
		}
		if head.num == 0 || head.num > maxChain {
			return 0, false
		}
		var c notedChain
		for at := i; len(c.notes) < int(head.num); {
			if uint32(at) >= v.size || seen[at] {
				return 0, false
			}
			seen[at] = true
			d := *r.note(at)
			c.notes = append(c.notes, at)
			c.descs = append(c.descs, packedDesc{d.addr, d.len, d.id, d.flags})
			c.id = d.id // that of the last descriptor counts (virtio 1.2, 2.8.6)
			at = d.next
		}
		if uint32(c.id) >= v.size {
			return 0, false
		}
		n.chains[i] = c
		n.counter = max(n.counter, head.counter+1)
		all = append(all, note{i, head.counter})
		slots += head.num
	}
	v.notes, v.resend = n, inOrder(all)
	// Notes in neither were lost when a back-end died.
	for i := range uint16(v.size) {
		if !seen[i] {
			r.note(i).next = r.firstFree(v, 0)
			n.free = append(n.free, i)
		}
	}
	return slots, true
}

// firstFree returns the head of the list of free notes without the first n of them.
func (r *inflightRing) firstFree(v *ring, n int) uint16 {
	if free := v.notes.free; n < len(free) {
		return free[len(free)-1-n]
	}
	return uint16(v.size) // the end of the list
}

// noteBatch notes the chains that are about to be given back as if they were taken now: publishPacked writes over their
// descriptors before the first makes them all visible, and a back-end that finds only a part of that takes them from
// the notes. Their list of free notes is written as it is when the batch has become visible, and as it is if it does
// not (vhost-user, "Inflight I/O tracking").
func (r *inflightRing) noteBatch(v *ring) {
	n, h := v.notes, r.packed()
	resent := v.resentNow()
	n.batch = append(n.batch[:0], resent...)
	newSlots := v.slots
	for _, head := range resent {
		newSlots -= uint32(len(n.chains[head].descs))
	}
	pos := uint16((uint32(v.lastAvail) + v.size - newSlots) % v.size)
	taken := 0
	for _, u := range v.usedList[len(resent):] {
		head, last := r.firstFree(v, taken), uint16(0)
		for range u.slots {
			last = r.firstFree(v, taken)
			d, p := *(*packedDesc)(v.slot(pos)), r.note(last)
			p.addr, p.len, p.flags, p.id = d.addr, d.len, d.flags, u.id
			pos, _ = v.step(pos, false, 1)
			taken++
		}
		p := r.note(head)
		p.last, p.num, p.counter, p.inflight = last, u.slots, n.counter, 1
		n.counter++
		n.batch = append(n.batch, head)
	}
	left := r.firstFree(v, taken)
	h.setFree(left, left)
	for _, head := range resent {
		c := n.chains[head]
		r.note(c.notes[len(c.notes)-1]).next = r.firstFree(v, 0)
		slices.Reverse(c.notes)
		n.free = append(n.free, c.notes...)
	}
	h.setFree(r.firstFree(v, 0), left)
	used, wrap := v.step(v.lastUsed, v.usedWrap, uint16(v.slots))
	h.setUsed(used, wrap, v.lastUsed, v.usedWrap)
}

// forgetBatch takes the notes back when the batch has become visible.
func (r *inflightRing) forgetBatch(v *ring) {
	for _, head := range v.notes.batch {
		r.note(head).inflight = 0
		delete(v.notes.chains, head)
	}
	first := r.firstFree(v, 0)
	r.packed().setFree(first, first)
	r.packed().setUsed(v.lastUsed, v.usedWrap, v.lastUsed, v.usedWrap)
}

// loadNoted is load for a chain to be resent.
func (e *entry) loadNoted(c notedChain) {
	d := c.descs[0]
	e.addr, e.len, e.flags, e.id, e.slots, e.mem = d.addr, d.len, d.flags, c.id, uint16(len(c.descs)), nil
}
