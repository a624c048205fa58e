package vswitch

import (
	"encoding/binary"

	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// TPIDs as loaded from a frame, in little endian.
const (
	loadedTPIDQ  = 0x0081
	loadedTPIDAD = 0xa888
)

func isTPID(loaded uint64) bool { return loaded == loadedTPIDQ || loaded == loadedTPIDAD }

const (
	etherHeader = 14
	reservedVID = 4095 // IEEE 802.1Q table 9-2
)

// classify reads the Ethernet header of each frame, brings its tag beside it and drops what is no
// frame. Every pipeline begins with it.
func classify(b *burst) {
	b.bytes, b.longest, b.offloads, b.floods = 0, 0, false, false
	limit := b.in.maxLen
	for i, f := range b.frames {
		m := &b.meta[i]
		h := f.Head()
		n := f.Len()
		b.bytes += uint64(n)
		m.len, m.drop, m.vid, m.out = int32(n), 0, 0, outNone
		if len(h) < etherHeader {
			m.drop = DropRunt
			continue
		}
		src := binary.LittleEndian.Uint64(h[6:])
		m.nested = false
		if isTPID(src>>48) || f.VLAN.TPID != 0 {
			if f.PopTag() {
				h = f.Head()
				n = f.Len()
				m.len = int32(n)
				src = binary.LittleEndian.Uint64(h[6:])
			}
			m.nested = isTPID(src >> 48)
			if m.nested && f.VLAN.TPID == 0 {
				m.drop = DropRunt // cut off within its tag
				continue
			}
		}
		m.src = src & macMask
		m.dst = binary.LittleEndian.Uint64(h) & macMask
		if !f.Offload.IsZero() {
			b.offloads = true
			if segment.Check(f) != nil {
				m.drop = DropBadOffload
				continue
			}
		}
		if n > limit && (f.Offload.Segment == ports.SegmentNone || n > ports.MaxFrame) {
			m.drop = DropGiant
			continue
		}
		b.longest = max(b.longest, n)
	}
}

// admitUntagged takes frames without a tag, and those whose only tag is a priority, which it removes.
func admitUntagged(b *burst) {
	for i, f := range b.frames {
		if f.VLAN.TPID == 0 {
			continue
		}
		if m := &b.meta[i]; m.drop == 0 {
			if f.VLAN.VID() != 0 || m.nested {
				m.drop = DropTagged
				continue
			}
			f.VLAN = ports.Tag{}
		}
	}
}

// admitTrunk assigns each frame to the VLAN of its tag. Behind a tag that is a priority only there
// must be no other: without it, the frame would be in the VLAN of that.
func admitTrunk(b *burst) {
	for i, f := range b.frames {
		if f.VLAN.TPID == 0 {
			continue
		}
		if m := &b.meta[i]; m.drop == 0 {
			switch vid := f.VLAN.VID(); {
			case vid == reservedVID:
				m.drop = DropInvalidVLAN
			case vid != 0:
				m.vid = vid
			case m.nested:
				m.drop = DropTagged
			default:
				f.VLAN = ports.Tag{}
			}
		}
	}
}
