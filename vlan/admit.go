package vlan

// Admit says which VLAN a frame that arrives at the port is in, or why it may not enter (IEEE 802.1Q
// 6.9 and 8.6.2).
//
// tpid and tci are those of the frame's outermost tag, tpid being 0 when there is none. nested is
// whether another tag follows that one, which IsTPID tells from the EtherType behind it.
//
// The result has the VLAN as its VID, 0 being the untagged VLAN, and the PCP and DEI of the tag. It is
// what Deliver takes. When drop is not zero, the result is 0.
//
// Any number of goroutines may call it.
func (m *Mode) Admit(tpid, tci uint16, nested bool) (_ uint16, drop Drop) {
	vid := tci & vidMask
	switch {
	case tpid == 0:
		if nested {
			return 0, DropNested // behind no tag, so the outermost one has not been read
		}
		if m.pvid == none {
			return 0, DropUntagged
		}
		return m.pvid, 0
	case m.tpid == 0 && (vid != 0 || tpid != TPID8021Q):
		return 0, DropTagged
	case m.tpid != 0 && m.tpid != tpid:
		return 0, DropTPID
	case nested && (vid == 0 || !m.qinq):
		return 0, DropNested
	case vid == 0:
		if m.pvid == none {
			return 0, DropUntagged
		}
		return m.pvid | tci&^vidMask, 0
	case m.set != nil && m.set.has(vid):
		return tci, 0
	case vid == reservedID:
		return 0, DropReserved
	}
	return 0, DropNotAllowed
}
