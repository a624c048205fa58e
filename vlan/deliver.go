package vlan

import "iter"

// Deliver says with what tag a frame leaves at the port, or why it may not (IEEE 802.1Q 6.9 and
// 8.6.4).
//
// tci is what Admit returned where the frame came from, or of the same make: the VLAN as VID, 0 being
// the untagged VLAN, with PCP and DEI. nested is whether a tag follows the outermost one of the frame,
// as it was for Admit.
//
// outTPID 0 means that the frame leaves untagged; outTCI is then 0 as well. When drop is not zero, so
// are both.
//
// Any number of goroutines may call it.
func (m *Mode) Deliver(tci uint16, nested bool) (outTPID, outTCI uint16, drop Drop) {
	vid := tci & vidMask
	bare := vid == m.bare[0] || vid == m.bare[1]
	if bare && !nested {
		return 0, 0, 0
	}
	if m.set != nil && m.set.has(vid) {
		if m.tpid != 0 && (!nested || m.qinq) {
			return m.tpid, tci, 0
		}
		if m.tpid == 0 && !nested {
			return 0, 0, 0 // a secondary VLAN at a promiscuous port
		}
		return 0, 0, DropNested
	}
	if bare {
		return 0, 0, DropNested
	}
	return 0, 0, DropNotMember
}

// Receives reports whether frames of a VLAN leave at the port: whether it is in the member set of that
// VLAN (IEEE 802.1Q 8.8.10). VLAN 0 is the untagged VLAN.
func (m *Mode) Receives(vid uint16) bool {
	return vid <= MaxID && (vid == m.bare[0] || vid == m.bare[1] || m.set != nil && m.set.has(vid))
}

// Received yields the VLANs that the port receives, in ascending order: those for which Receives is
// true.
func (m *Mode) Received() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		if m.Receives(0) && !yield(0) {
			return
		}
		var s Set
		if m.set != nil {
			s = *m.set
		}
		for _, vid := range m.bare {
			if CheckID(vid) == nil {
				s.bits[vid/64] |= 1 << (vid % 64)
			}
		}
		s.All()(yield)
	}
}
