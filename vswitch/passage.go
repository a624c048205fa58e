package vswitch

import (
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// passage is a group of frames on its way out of a port where somebody wants to know about each of them:
// extensions, a mirror, Explain. What transmit does for the group as a whole is done here frame by frame.
type passage struct {
	frames  []*ports.Frame
	drops   [burstSize]DropReason // by index in frames
	dropped bool                  // any of them
	edited  bool                  // some frames are others than those that came
	batch   extension.Batch
	shown   *portView // whose extensions have seen the frames and not been told their fate

	out    []*ports.Frame // what is sent, where that is not all
	owners []uint8        // of out: indices in frames
	lost   losses
}

// losses says what became of frames that were not taken, where somebody asks: of each frame, or piece of one, on its
// way to a backend, whose it is.
type losses struct {
	owners []uint8 // indices in drops; nil when they are the same
	drops  []DropReason
	any    bool
}

// add notes the reason for n frames from number at on.
func (l *losses) add(at, n int, r DropReason) {
	if l == nil {
		return
	}
	l.any = true
	for i := at; i < at+n; i++ {
		l.drops[l.owner(i)] = r
	}
}

// owner returns whose frame i is.
func (l *losses) owner(i int) uint8 {
	if l.owners == nil {
		return uint8(i)
	}
	return l.owners[i]
}

// pass sends the frames of a group, shown to the extensions of the port and to mirrors.
func (w *worker) pass(b *burst, to *portView, g *group) {
	p := &w.passage
	if b.trace != nil {
		b.trace.enterPort(to)
	}
	p.frames = append(p.frames[:0], g.frames...)
	drops := p.drops[:len(p.frames)]
	clear(drops)
	p.dropped, p.edited = false, false
	if b.tagged || !to.vlan.Receives(0) {
		p.tag(b, to, g.index)
	}
	if to.judgedIn {
		p.judge(b, to, g.index)
	}
	if to.program != nil {
		p.show(b, to)
	}
	if b.trace != nil {
		w.traceLeaving(b, to)
		return
	}
	if p.dropped {
		for _, r := range drops {
			if r != 0 {
				to.count.drop(r, 1)
			}
		}
	}
	p.shown = to
	w.sendPassage(b, to, g.bytes)
	p.shown = nil
	if to.program != nil && to.program.WantsFates() {
		p.fate(b, to)
	}
	if to.mirror == MirrorSource {
		w.mirrorReceived(b, g, drops)
	}
	clear(p.frames) // keep nothing alive
	clear(p.out)
}

// tag gives each frame the tag with which it leaves.
func (p *passage) tag(b *burst, to *portView, index []uint16) {
	for n, f := range p.frames {
		if tag, ok := to.tagOf(&b.meta[index[n]]); ok {
			f.VLAN = tag
		} else {
			p.drops[n], p.dropped = DropNotMember, true
		}
	}
}

// lose ends a passage in the midst of which the memory of a frame was gone.
func (p *passage) lose(b *burst) {
	to := p.shown
	if to == nil {
		return
	}
	p.shown = nil
	for n := range p.frames {
		if p.drops[n] == 0 {
			p.drops[n], p.dropped = DropBackendError, true
			to.count.drop(DropBackendError, 1)
		}
	}
	if to.program != nil && to.program.WantsFates() {
		p.fate(b, to)
	}
}

// judge asks the ACL of the vNIC.
func (p *passage) judge(b *burst, to *portView, index []uint16) {
	b.parse()
	if b.trace != nil {
		if p.drops[0] != 0 {
			return
		}
		b.trace.step("ACL")
		if !b.peek(to.acl, to.connections, acl.In, int(index[0]), to).Allowed() {
			p.drops[0], p.dropped = DropACLIn, true
		}
		return
	}
	j := to.connections.Begin(to.acl, acl.In, b.clock)
	for n, i := range index {
		m := &b.meta[i]
		if p.drops[n] == 0 && !j.Check(p.frames[n].Head(), &b.headers[i], int(m.len), to.isolation(m)).Allowed() {
			p.drops[n], p.dropped = DropACLIn, true
		}
	}
	j.End()
}

// show runs the extensions of the port.
func (p *passage) show(b *burst, to *portView) {
	g, e := to.program, &p.batch
	before := p.begin(b, g)
	if b.trace != nil {
		if before == 0 {
			return
		}
		b.trace.step("extensions")
		b.trace.asks(g.ExplainEgress(e))
	} else {
		g.Egress(e)
	}
	dropped := before &^ g.Alive(e)
	for n := 0; dropped>>n != 0; n++ {
		if dropped>>n&1 != 0 {
			p.drops[n], p.dropped = extensionDrops[g.Dropper(e, n)][extension.Egress], true
		}
	}
	p.edited = g.Edited(e) != 0
}

// fate tells the captures of the port what became of the frames.
func (p *passage) fate(b *burst, to *portView) {
	p.begin(b, to.program)
	to.program.Fate(&p.batch)
}

// begin makes the group the batch that the extensions of its port see, and returns which frames are alive.
func (p *passage) begin(b *burst, g *extension.Program) (alive uint64) {
	alive = 1<<len(p.frames) - 1
	if !p.dropped {
		g.Begin(&p.batch, extension.Egress, b.in.self, b.clock, p.frames, alive)
		return alive
	}
	for n := range p.frames {
		if p.drops[n] != 0 {
			alive &^= 1 << n
		}
	}
	g.Begin(&p.batch, extension.Egress, b.in.self, b.clock, p.frames, alive)
	for n := range p.frames {
		if r := p.drops[n]; r != 0 && !r.byExtension() {
			g.Drop(&p.batch, n, dropNames[r])
		}
	}
	return alive
}

// sendPassage sends what has not been dropped and notes what was not taken. The group is bytes long.
func (w *worker) sendPassage(b *burst, to *portView, bytes uint64) {
	p := &w.passage
	out, lost, whole := p.frames, &p.lost, !b.offloads && b.longest <= to.maxLen && !p.edited
	*lost = losses{drops: p.drops[:]}
	if up := to.up.Load(); p.dropped || p.edited || !up {
		out, lost.owners, bytes, whole = p.remaining(to, up)
	}
	if len(out) == 0 {
		return
	}
	w.send(b, to, out, bytes, whole, lost)
	p.dropped = p.dropped || lost.any
}

// remaining returns the frames that have not been dropped, their owners and length, and whether they may be sent as
// they are.
func (p *passage) remaining(to *portView, up bool) (out []*ports.Frame, owners []uint8, bytes uint64, whole bool) {
	out, owners, whole = p.out[:0], p.owners[:0], true
	for n, f := range p.frames {
		if p.drops[n] != 0 {
			continue
		}
		if !up {
			p.drops[n], p.dropped = DropLinkDown, true
			to.count.drop(DropLinkDown, 1)
			continue
		}
		out, owners = append(out, f), append(owners, uint8(n))
		bytes += uint64(f.Len())
		whole = whole && f.Offload.IsZero() && f.Len() <= to.maxLen
	}
	p.out, p.owners = out, owners
	return out, owners, bytes, whole
}
