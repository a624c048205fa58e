package vswitch

// touchBuckets is the size of a table that no longer lies in the cache: there a burst first asks for
// all the memory it will look at, so that the waits overlap.
const touchBuckets = 1 << 13

// reservedGroup is 01-80-C2-00-00-00 as loaded, without the low nibble of its last octet.
const reservedGroup = 0x00_00_00_c2_80_01

// reserved reports whether the destination is one that bridges do not forward to.
func (m *meta) reserved() bool { return m.dst&^(0xf<<40) == reservedGroup }

// forward decides where each frame goes: one port, every port of its VLAN, or none.
func forward(b *burst) {
	f := b.sw.fdb
	t := f.table.Load()
	ageing := f.ageing.Load()
	if len(t.buckets) > touchBuckets {
		var s uint64
		for i := range b.meta {
			s += t.touch(makeKey(b.meta[i].dst, b.meta[i].fid))
		}
		b.touched += s
	}
	var last fdbKey
	var lastOut int32
	for i := range b.meta {
		m := &b.meta[i]
		if m.drop != 0 {
			continue
		}
		if m.dst&groupBit != 0 {
			if m.reserved() {
				m.drop = DropReserved
				continue
			}
			m.out = outGroup
			b.floods = true
			continue
		}
		k := makeKey(m.dst, m.fid)
		if k != last {
			last, lastOut = k, outUnknown
			if v := t.find(k); v != 0 && !v.expired(b.now, ageing) {
				lastOut = int32(v.port())
			}
		}
		m.out = lastOut
		if lastOut == outUnknown {
			b.floods = true
		} else if int(lastOut) == b.in.index && !b.in.hairpin {
			m.drop = DropSamePort
		}
	}
	if b.trace != nil {
		b.trace.foresees(b)
	}
}
