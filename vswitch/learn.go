package vswitch

// learn notes the source of each frame in the forwarding database.
func learn(b *burst) {
	t := b.sw.fdb.table.Load()
	port := b.in.index
	want := learnedVal(port, b.now)
	ageing := b.sw.fdb.ageing.Load()
	last := fdbKey(0)
	if len(t.buckets) > touchBuckets {
		var s uint64
		for i := range b.meta {
			s += t.touch(makeKey(b.meta[i].src, b.meta[i].fid))
		}
		b.touched += s
	}
	for i := range b.meta {
		m := &b.meta[i]
		if m.drop != 0 {
			continue
		}
		k := makeKey(m.src, m.fid)
		if k == last {
			continue
		}
		v, slot := t.slot(k)
		switch {
		case v == want:
		case slot >= 0 && v.port() == port && !v.static() && !v.expired(b.now, ageing) && b.trace == nil:
			_, val := t.at(slot)
			val.CompareAndSwap(uint64(v), uint64(want))
		case v.static() && v.port() == port:
		case v.static() && b.bypasses(v.port()):
		case v.static():
			m.drop = DropSourceElsewhere
			continue
		case b.trace != nil:
			b.trace.learns(b, v)
		default:
			if !b.sw.fdb.learn(k, port, b.now) {
				m.drop = DropSourceElsewhere
				continue
			}
			t = b.sw.fdb.table.Load()
		}
		last = k
	}
}
