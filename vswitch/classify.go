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

const etherHeader = 14

// classify reads the Ethernet header of each frame, brings its tag beside it and drops what is no
// frame. Every pipeline begins with it.
func classify(b *burst) {
	b.bytes, b.longest, b.offloads, b.floods, b.chosen, b.tagged = 0, 0, false, false, false, false
	limit := b.in.maxLen
	for i, f := range b.frames {
		m := &b.meta[i]
		h := f.Head()
		n := f.Len()
		b.bytes += uint64(n)
		m.len, m.drop, m.out = int32(n), 0, outNone
		m.tci, m.fid = 0, 0
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
