package vswitch

// flood sends each frame that has no single destination to every member of its VLAN but the port it
// came from. Where a port also gets other frames of the burst, it gets all of them in the order in
// which they came.
func (w *worker) flood(b *burst) {
	d := &w.delivery
	flooded, unknown := w.mergeFloods(b)
	if b.trace == nil {
		b.sw.flooded.Add(flooded)
		b.sw.floodedUnknown.Add(unknown)
	}
	for i := range b.meta {
		m := &b.meta[i]
		if !m.flooded() || m.done {
			continue
		}
		// All frames for the same members go together.
		g := &d.flooded
		g.clear()
		for j := i; j < len(b.meta); j++ {
			if o := &b.meta[j]; o.flooded() && o.out == m.out && o.vid() == m.vid() {
				o.done = true
				g.add(b, j)
			}
		}
		reached := false
		for to := range b.snap.members(m.vid()) {
			if to.index == b.in.index && !b.in.hairpin || !m.reaches(to) {
				continue
			}
			reached = true
			if to.index < len(d.groupOf) && d.groupOf[to.index] != 0 {
				continue // has them in its group
			}
			w.transmit(b, to, g)
		}
		if !reached {
			for _, j := range g.index {
				b.meta[j].drop = DropNoDestination
			}
		}
	}
}

func (m *meta) flooded() bool { return m.drop == 0 && (m.out == outGroup || m.out == outUnknown) }

// reaches reports whether a flooded frame goes to a member of its VLAN.
func (m *meta) reaches(to *portView) bool { return m.out == outGroup || !to.blockUnknown }

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
		g.clear()
		for i := range b.meta {
			m := &b.meta[i]
			if m.drop == 0 && int(m.out) == g.to.index || m.flooded() && m.reaches(g.to) && g.to.vlan.Receives(m.vid()) {
				g.add(b, i)
			}
		}
	}
	return flooded, unknown
}
