package vswitch

import (
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
)

// admit assigns each frame to the VLAN that the mode of the port and the frame's tag put it in. From
// here on the tag is in meta; where the frame leaves, it gets the one it leaves with.
func admit(mode *vlan.Mode, keepPriority bool) func(*burst) {
	return func(b *burst) {
		for i, f := range b.frames {
			m := &b.meta[i]
			if m.drop != 0 {
				continue
			}
			tci, why := mode.Admit(f.VLAN.TPID, f.VLAN.TCI, m.nested)
			if why != 0 {
				m.drop = admitDrops[why]
				continue
			}
			if !keepPriority {
				tci = vlan.VID(tci)
			}
			m.tci = tci
			m.fid = b.snap.fids.Of(vlan.VID(tci))
			f.VLAN = ports.Tag{}
			if tci != 0 {
				b.tagged = true
			}
		}
	}
}

// admitUntagged is admit for a port without a VLAN: the frames without a tag need nothing.
func admitUntagged(mode *vlan.Mode, keepPriority bool) func(*burst) {
	general := admit(mode, keepPriority)
	return func(b *burst) {
		for _, f := range b.frames {
			if f.VLAN.TPID != 0 {
				general(b)
				return
			}
		}
	}
}

var admitDrops = [...]DropReason{
	vlan.DropTagged:     DropTagged,
	vlan.DropUntagged:   DropUntagged,
	vlan.DropReserved:   DropInvalidVLAN,
	vlan.DropNotAllowed: DropVLANNotAllowed,
	vlan.DropTPID:       DropWrongTPID,
	vlan.DropNested:     DropNestedTag,
}

// leave gives each frame the tag with which it leaves at a port, and drops those that may not leave
// there. It returns the others, their index and their length.
func (w *worker) leave(b *burst, to *portView, frames []*ports.Frame, index []uint16) (out []*ports.Frame, at []uint16, bytes uint64) {
	out, at = w.leaving[:0], w.leavingIndex[:0]
	for i, f := range frames {
		m := &b.meta[index[i]]
		tag, ok := to.tagOf(m)
		if !ok {
			to.count.drop(DropNotMember, 1)
			continue
		}
		f.VLAN = tag
		out, at = append(out, f), append(at, index[i])
		bytes += uint64(m.len)
	}
	w.leaving, w.leavingIndex = out, at
	return out, at, bytes
}

// tagOf returns the tag with which a frame leaves at the port. It reports false when it may not leave there.
func (to *portView) tagOf(m *meta) (ports.Tag, bool) {
	tpid, tci, why := to.vlan.Deliver(m.tci, m.nested)
	if why != 0 {
		return ports.Tag{}, false
	}
	if priority := m.tci &^ vidMask; tpid == 0 && priority != 0 && to.priorityTag {
		tpid, tci = vlan.TPID8021Q, priority
	}
	return ports.Tag{TPID: tpid, TCI: tci}, true
}

const vidMask = 0xfff
