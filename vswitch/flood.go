package vswitch

// flood sends each frame that has no single destination to every member of its VLAN but the port it
// came from. Where a port also gets other frames of the burst, it gets all of them in the order in
// which they came.
func (w *worker) flood(b *burst) {
	d := &w.delivery
	flooded, unknown := w.mergeFloods(b)
	b.sw.flooded.Add(flooded)
	b.sw.floodedUnknown.Add(unknown)
	for i := range b.meta {
		m := &b.meta[i]
		if !m.flooded() || m.done {
			continue
		}
		// All frames for the same members go together.
		d.flooded = d.flooded[:0]
		var bytes uint64
		for j := i; j < len(b.meta); j++ {
			if o := &b.meta[j]; o.flooded() && o.out == m.out && o.vid == m.vid {
				o.done = true
				d.flooded = append(d.flooded, b.frames[j])
				bytes += uint64(o.len)
			}
		}
		members := m.members(b.snap)
		reached := false
		for index := range members.all() {
			if index == b.in.index && !b.in.hairpin {
				continue
			}
			reached = true
			if index < len(d.groupOf) && d.groupOf[index] != 0 {
				continue // has them in its group
			}
			w.transmit(b, b.snap.ports.at(index), d.flooded, bytes)
		}
		if !reached {
			b.in.count.drop(DropNoDestination, len(d.flooded))
		}
	}
}

func (m *meta) flooded() bool { return m.drop == 0 && (m.out == outGroup || m.out == outUnknown) }

// members returns who receives a flooded frame.
func (m *meta) members(s *snapshot) portSet {
	if m.out == outGroup {
		return s.flood(m.vid).group
	}
	return s.flood(m.vid).unknown
}

// mergeFloods makes the groups of the burst whole: those for single ports which are members of the
// VLAN of a flooded frame get that frame too. It returns the number of flooded frames, and how many
// of them because their destination is not known.
func (w *worker) mergeFloods(b *burst) (flooded, unknown uint64) {
	for i := range b.meta {
		m := &b.meta[i]
		m.done = false
		if m.flooded() {
			flooded++
			if m.out == outUnknown {
				unknown++
			}
		}
	}
	for n := range w.delivery.groups {
		g := &w.delivery.groups[n]
		index := g.to.index
		g.frames, g.bytes = g.frames[:0], 0
		for i := range b.meta {
			m := &b.meta[i]
			if m.drop != 0 {
				continue
			}
			if int(m.out) == index || m.flooded() && m.members(b.snap).has(index) {
				g.frames = append(g.frames, b.frames[i])
				g.bytes += uint64(m.len)
			}
		}
	}
	return flooded, unknown
}
