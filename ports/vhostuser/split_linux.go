package vhostuser

import (
	"sync/atomic"
	"unsafe"
)

// A split ring (virtio 1.2, 2.7) consists of
//
//	desc:  splitDesc × size
//	avail: le16 flags, le16 idx, le16 ring × size, le16 used_event
//	used:  le16 flags, le16 idx, {le32 id, le32 len} × size, le16 avail_event
type splitDesc struct {
	addr  uint64
	len   uint32
	flags uint16
	next  uint16
}

type usedElem struct{ id, len uint32 }

const (
	noInterrupt = 1 // avail.flags: the driver wants no notifications
	noNotify    = 1 // used.flags: nor do we
)

func (v *ring) availIndex() uint16 { return load16(unsafe.Add(v.avail, 2)) }

// setUsed writes flags and index of the used ring, after all that was written before.
func (v *ring) setUsed() {
	w := uint32(v.lastUsed) << 16
	if v.quiet && !v.eventIdx {
		w |= noNotify
	}
	atomic.StoreUint32((*uint32)(v.used), w)
}

func (v *ring) fetchSplit(max int) {
	n := int(v.availIndex() - v.lastAvail)
	if n+v.pending > int(v.size) {
		v.violate(errAvailIndex)
		return
	}
	n = min(n, max)
	e := v.entries[:n]
	slots := unsafe.Add(v.avail, 4)
	for i := range e {
		head := *(*uint16)(unsafe.Add(slots, 2*uintptr((v.lastAvail+uint16(i))&v.mask)))
		if head > v.mask {
			v.violate(errHead)
			return
		}
		e[i].id = head
	}
	for i := range e {
		e[i].load(v.desc)
	}
	v.entries = e
}

// load reads the first descriptor of a chain of a split ring.
func (e *entry) load(table unsafe.Pointer) {
	d := *(*splitDesc)(unsafe.Add(table, uintptr(e.id)*descLen))
	e.addr, e.len, e.flags, e.next, e.slots, e.mem = d.addr, d.len, d.flags, d.next, 1, nil
}

// usePlain is useSplit for a plain ring.
func (v *ring) usePlain(e *entry, n uint32) {
	i := (v.lastUsed + uint16(v.pending)) & v.mask
	*(*usedElem)(unsafe.Add(v.used, 4+8*uintptr(i))) = usedElem{uint32(e.id), n}
	v.pending++
	v.lastAvail++
}

func (v *ring) useSplit(e *entry, n uint32) {
	i := (v.lastUsed + uint16(v.pending)) & v.mask
	*(*usedElem)(unsafe.Add(v.used, 4+8*uintptr(i))) = usedElem{uint32(e.id), n}
	if v.log != nil {
		v.logUsed(4+8*uint64(i), 8)
	}
	v.pending++
	if len(v.resend) > 0 {
		v.resend = v.resend[1:]
		return
	}
	v.lastAvail++
}

// publishSplit reports whether the driver wants to be notified.
func (v *ring) publishSplit() bool {
	was := v.lastUsed
	v.lastUsed += uint16(v.pending)
	v.pending = 0
	v.setUsed()
	if v.log != nil {
		v.logUsed(0, 4)
	}
	if !v.eventIdx {
		return load16(v.avail)&noInterrupt == 0
	}
	return needEvent(load16(unsafe.Add(v.avail, 4+2*uintptr(v.size))), v.lastUsed, was)
}

func (v *ring) refuseNotifySplit() {
	v.quiet = true
	if !v.eventIdx { // else the driver notifies once only
		v.setUsed()
		v.logUsed(0, 4)
	}
}

func (v *ring) askNotifySplit() {
	v.quiet = false
	if v.eventIdx {
		at := 4 + 8*uint64(v.size)
		*(*uint16)(unsafe.Add(v.used, at)) = v.lastAvail
		v.logUsed(at, 2)
	}
	v.setUsed() // also the fence between that and a look at the index
	v.logUsed(0, 4)
}

func (v *ring) gatherSplit(e *entry, write uint16) (total uint64, err error) {
	d := splitDesc{e.addr, e.len, e.flags, e.next}
	for range min(v.size, maxChain) {
		if err := v.add(d.addr, d.len, d.flags, write); err != nil {
			return 0, err
		}
		total += uint64(d.len)
		if d.flags&descNext == 0 {
			return total, nil
		}
		if d.next > v.mask {
			return 0, errHead
		}
		d = *(*splitDesc)(unsafe.Add(v.desc, uintptr(d.next)*descLen))
	}
	return 0, errLoop
}
