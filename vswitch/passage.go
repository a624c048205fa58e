package vswitch

import (
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// passage is a group of frames on its way out of a port where somebody wants to know about each of them:
// extensions, a mirror, Explain. What transmit does for the group as a whole is done here frame by frame.
type passage struct {
	frames []*ports.Frame
	drops  [burstSize]DropReason // by index in frames
	batch  extension.Batch

	out  []*ports.Frame // what is sent
	lost losses
}

// losses says what became of frames that were not taken, where somebody asks: of each frame, or piece of one, on its
// way to a backend, whose it is.
type losses struct {
	owners []uint8 // indices in drops
	drops  []DropReason
}

// add notes the reason for n frames from number at on.
func (l *losses) add(at, n int, r DropReason) {
	if l == nil {
		return
	}
	for _, i := range l.owners[at : at+n] {
		l.drops[i] = r
	}
}

// pass sends the frames of a group, shown to the extensions of the port and to mirrors.
func (w *worker) pass(b *burst, to *portView, g *group) {
	p := &w.passage
	if b.trace != nil {
		b.trace.enterPort(to)
	}
	p.frames = append(p.frames[:0], g.frames...)
	drops := p.drops[:len(p.frames)]
	for n, f := range p.frames {
		drops[n] = 0
		if tag, ok := to.tagOf(&b.meta[g.index[n]]); ok {
			f.VLAN = tag
		} else {
			drops[n] = DropNotMember
		}
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
	for _, r := range drops {
		if r != 0 {
			to.count.drop(r, 1)
		}
	}
	w.sendPassage(to, b.queue)
	if to.program != nil && to.program.WantsFates() {
		p.fate(b, to)
	}
	if to.mirror == MirrorSource {
		w.mirrorReceived(b, g, drops)
	}
	clear(p.frames) // keep nothing alive
	clear(p.out)
}

// judge asks the ACL of the vNIC.
func (p *passage) judge(b *burst, to *portView, index []uint16) {
	b.parse()
	if b.trace != nil {
		if p.drops[0] != 0 {
			return
		}
		b.trace.step("ACL")
		if !b.peek(to.acl, to.connections, acl.In, int(index[0])).Allowed() {
			p.drops[0] = DropACLIn
		}
		return
	}
	j := to.connections.Begin(to.acl, acl.In, b.clock)
	for n, i := range index {
		m := &b.meta[i]
		if p.drops[n] == 0 && !j.Check(p.frames[n].Head(), &b.headers[i], int(m.len), uint32(m.vid())).Allowed() {
			p.drops[n] = DropACLIn
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
			p.drops[n] = extensionDrops[g.Dropper(e, n)][extension.Egress]
		}
	}
}

// fate tells the captures of the port what became of the frames.
func (p *passage) fate(b *burst, to *portView) {
	p.begin(b, to.program)
	to.program.Fate(&p.batch)
}

// begin makes the group the batch that the extensions of its port see, and returns which frames are alive.
func (p *passage) begin(b *burst, g *extension.Program) (alive uint64) {
	for n := range p.frames {
		if p.drops[n] == 0 {
			alive |= 1 << n
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

// sendPassage sends what has not been dropped and notes what was not taken.
func (w *worker) sendPassage(to *portView, queue int) {
	p := &w.passage
	p.out = p.out[:0]
	p.lost.owners, p.lost.drops = p.lost.owners[:0], p.drops[:]
	up, whole := to.up.Load(), true
	for n, f := range p.frames {
		if p.drops[n] != 0 {
			continue
		}
		if !up {
			p.drops[n] = DropLinkDown
			to.count.drop(DropLinkDown, 1)
			continue
		}
		p.out, p.lost.owners = append(p.out, f), append(p.lost.owners, uint8(n))
		whole = whole && f.Offload.IsZero() && f.Len() <= to.maxLen
	}
	if len(p.out) == 0 {
		return
	}
	q := to.tx[queue%len(to.tx)]
	q.mu.Lock()
	defer q.mu.Unlock()
	if whole {
		q.send(to.port, p.out, lenOf(p.out), &p.lost)
	} else {
		w.adapt(q, to, p.out, &p.lost)
	}
}
