package vhostuser

import (
	"sync/atomic"
	"unsafe"
)

// A packed ring (virtio 1.2, 2.8) is packedDesc × size, which driver and device both write. Driver and
// device area are {le16 off_wrap, le16 flags} each.
type packedDesc struct {
	addr  uint64
	len   uint32
	id    uint16
	flags uint16
}

// Values of flags of the event suppression structures (virtio 1.2, 2.8.14).
const (
	eventEnable  = 0
	eventDisable = 1
	eventDesc    = 2 // at off_wrap
)

// slot returns a descriptor of the ring.
func (v *ring) slot(i uint16) unsafe.Pointer { return unsafe.Add(v.desc, uintptr(i)*descLen) }

// idFlags reads the id (low half) and the flags of a descriptor, before what is read after it.
func idFlags(slot unsafe.Pointer) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Add(slot, 12)))
}

// isAvail reports whether a descriptor with these flags is the device's.
func isAvail(flags uint16, wrap bool) bool {
	return flags&descAvail != 0 == wrap && flags&descUsed != 0 != wrap
}

// step advances a position by n slots, n ≤ size.
func (v *ring) step(pos uint16, wrap bool, n uint16) (uint16, bool) {
	next := uint32(pos) + uint32(n)
	if next >= v.size {
		return uint16(next - v.size), !wrap
	}
	return uint16(next), wrap
}

func (v *ring) readyPacked() bool {
	return isAvail(uint16(idFlags(v.slot(v.lastAvail))>>16), v.availWrap)
}

func (v *ring) fetchPacked(max int) {
	pos, wrap := v.lastAvail, v.availWrap
	e := v.entries[:0]
	left := int(v.size - v.slots)
	for range max {
		if left == 0 {
			break
		}
		s := v.slot(pos)
		w := idFlags(s)
		flags := uint16(w >> 16)
		if !isAvail(flags, wrap) {
			break
		}
		e = e[:len(e)+1]
		f := &e[len(e)-1]
		f.addr, f.len = *(*uint64)(s), *(*uint32)(unsafe.Add(s, 8))
		f.flags, f.id, f.slots, f.pos, f.mem = flags, uint16(w), 1, pos, nil
		pos, wrap = v.step(pos, wrap, 1)
		if flags&(descNext|descIndirect) == descNext {
			// The last descriptor has the id; the driver made them all available with the first.
			for flags&descNext != 0 {
				if uint32(f.slots) == min(v.size, maxChain) {
					v.violate(errLoop)
					return
				}
				w = idFlags(v.slot(pos))
				flags = uint16(w >> 16)
				f.id = uint16(w)
				f.slots++
				pos, wrap = v.step(pos, wrap, 1)
			}
		}
		if uint32(f.id) >= v.size {
			v.violate(errID)
			return
		}
		if left -= int(f.slots); left < 0 {
			v.violate(errAvailIndex) // it has not got them back
			return
		}
	}
	v.entries = e
}

func (v *ring) usePacked(e *entry, n uint32) {
	v.usedList = append(v.usedList, usedChain{n, e.id, e.slots})
	v.pending++
	v.slots += uint32(e.slots)
	if len(v.resend) > 0 {
		v.resend = v.resend[1:]
		return
	}
	v.lastAvail, v.availWrap = v.step(v.lastAvail, v.availWrap, e.slots)
}

// publishPacked reports whether the driver wants to be notified.
func (v *ring) publishPacked() bool {
	slots := v.slots
	first, word := v.writeUsed()
	atomic.StoreUint32((*uint32)(unsafe.Add(first, 12)), word)

	w := atomic.LoadUint32((*uint32)(v.avail))
	switch flags := w >> 16; {
	case flags == eventDisable:
		return false
	case flags != eventDesc || !v.eventIdx:
		return true
	}
	// Distances from where we are now back to the event and to where we were.
	event := w & 0x7fff
	if (w&0x8000 != 0) != v.usedWrap {
		event -= v.size
	}
	return uint32(v.lastUsed)-event-1 < slots
}

// writeUsed writes what is pending to the ring but for id and flags of the first chain. It returns these, which make
// everything visible, and the descriptor that they belong to.
func (v *ring) writeUsed() (first unsafe.Pointer, firstWord uint32) {
	first = v.slot(v.lastUsed)
	for i, u := range v.usedList {
		s := v.slot(v.lastUsed)
		var flags uint32
		if v.usedWrap {
			flags = descAvail | descUsed
		}
		if u.len > 0 {
			flags |= descWrite
		}
		word := uint32(u.id) | flags<<16
		if i == 0 {
			*(*uint32)(unsafe.Add(s, 8)) = u.len
			firstWord = word
		} else { // the driver does not look here before the first is used
			*(*uint64)(unsafe.Add(s, 8)) = uint64(u.len) | uint64(word)<<32
		}
		if v.log != nil {
			v.logDesc(uint64(v.lastUsed)*descLen+8, 8)
		}
		v.lastUsed, v.usedWrap = v.step(v.lastUsed, v.usedWrap, u.slots)
	}
	v.pending, v.slots, v.usedList = 0, 0, v.usedList[:0]
	return first, firstWord
}

func (v *ring) refuseNotifyPacked() {
	v.quiet = true
	atomic.StoreUint32((*uint32)(v.used), eventDisable<<16)
	v.logUsed(0, 4)
}

func (v *ring) askNotifyPacked() {
	v.quiet = false
	w := uint32(eventEnable << 16)
	if v.eventIdx {
		w = eventDesc<<16 | uint32(v.lastAvail)
		if v.availWrap {
			w |= 0x8000
		}
	}
	atomic.StoreUint32((*uint32)(v.used), w)
	v.logUsed(0, 4)
}

func (v *ring) gatherPacked(e *entry, write uint16) (total uint64, err error) {
	if len(v.resend) > 0 {
		return v.gatherNoted(v.notes.chains[v.resend[0]], write)
	}
	if err := v.add(e.addr, e.len, e.flags&(descWrite|descIndirect), write); err != nil {
		return 0, err
	}
	total = uint64(e.len)
	pos := e.pos
	for range e.slots - 1 {
		pos, _ = v.step(pos, false, 1)
		d := *(*packedDesc)(v.slot(pos))
		if err := v.add(d.addr, d.len, d.flags&(descWrite|descIndirect), write); err != nil {
			return 0, err
		}
		total += uint64(d.len)
	}
	return total, nil
}

// gatherNoted is gatherPacked for a chain to be resent.
func (v *ring) gatherNoted(c notedChain, write uint16) (total uint64, err error) {
	for _, d := range c.descs {
		if err := v.add(d.addr, d.len, d.flags&(descWrite|descIndirect), write); err != nil {
			return 0, err
		}
		total += uint64(d.len)
	}
	return total, nil
}
