package vswitch

import (
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// enter shows the frames to the extensions of the port they come from.
func enter(g *extension.Program) func(*burst) {
	return func(b *burst) {
		e := &b.entering
		before := b.begin(g)
		if b.trace != nil {
			b.trace.asks(g.ExplainIngress(e))
		} else {
			g.Ingress(e)
		}
		if g.Edited(e) != 0 {
			b.reclassify()
		}
		b.dropBy(g, before)
	}
}

// begin makes the burst the batch that the extensions of its source port see, and returns which frames are alive.
func (b *burst) begin(g *extension.Program) (alive uint64) {
	alive = b.alive()
	g.Begin(&b.entering, extension.Ingress, b.in.self, b.clock, b.frames, alive)
	for i := range b.meta {
		if r := b.meta[i].drop; r != 0 && !r.byExtension() {
			g.Drop(&b.entering, i, dropNames[r])
		}
	}
	return alive
}

// alive returns the frames that have not been dropped, as bits.
func (b *burst) alive() (mask uint64) {
	for i := range b.meta {
		if b.meta[i].drop == 0 {
			mask |= 1 << i
		}
	}
	return mask
}

// dropBy drops what extensions have dropped of the frames before.
func (b *burst) dropBy(g *extension.Program, before uint64) {
	dropped := before &^ g.Alive(&b.entering)
	for i := 0; dropped>>i != 0; i++ {
		if dropped>>i&1 != 0 {
			b.meta[i].drop = extensionDrops[g.Dropper(&b.entering, i)][extension.Ingress]
		}
	}
}

// extensionDrops are the reasons by kind and direction.
var extensionDrops = [...][2]DropReason{
	extension.KindFilter:     {DropFilterOut, DropFilterIn},
	extension.KindFirewall:   {DropFirewallOut, DropFirewallIn},
	extension.KindForwarding: {DropForwarding, 0},
}

// byExtension reports whether the reason is one of those above.
func (r DropReason) byExtension() bool {
	switch r {
	case DropFilterOut, DropFilterIn, DropFirewallOut, DropFirewallIn, DropForwarding:
		return true
	}
	return false
}

// reclassify reads the headers of frames anew that have been edited. What was dropped stays so.
func (b *burst) reclassify() {
	var drops [burstSize]DropReason
	for i := range b.meta {
		drops[i] = b.meta[i].drop
	}
	bytes := b.bytes
	classify(b)
	b.bytes, b.parsed = bytes, false // what was received counts
	for i, d := range drops[:len(b.meta)] {
		if d != 0 {
			b.meta[i].drop = d
		}
	}
}

// forwardBy is forward on a switch with a forwarding extension: what that leaves alone goes where the switch
// sends it.
func forwardBy(g *extension.Program) func(*burst) {
	return func(b *burst) {
		before := b.begin(g)
		if b.trace != nil {
			b.trace.asks(g.ExplainForward(&b.entering))
		} else {
			g.Forward(&b.entering)
		}
		b.dropBy(g, before)
		chosen := g.Chosen(&b.entering)
		if chosen == 0 {
			forward(b)
			return
		}
		b.forwardOthers(g, chosen)
	}
}

// forwardOthers is forward for the frames that an extension has left alone, and notes which of those that it has chosen
// go anywhere.
func (b *burst) forwardOthers(g *extension.Program, chosen uint64) {
	for i := range b.meta { // forward leaves alone what is dropped
		if chosen>>i&1 != 0 {
			b.meta[i].drop = DropForwarding
		}
	}
	forward(b)
	b.chosen = true
	for i := range b.meta {
		if chosen>>i&1 != 0 {
			b.meta[i].drop, b.meta[i].out, b.meta[i].done = DropNoDestination, outChosen, false
		}
	}
	g.Resolve(&b.entering, b.snap.self)
	for i := range g.Targets(&b.entering) {
		b.meta[i].drop = 0
	}
}

// fate tells the captures of the source port what became of the frames.
func (b *burst) fate() {
	if g := b.in.program; g.WantsFates() {
		b.begin(g)
		g.Fate(&b.entering)
	}
}

// self returns the port of an index as extensions know it, or nil.
func (s *snapshot) self(index int) *extension.Port {
	if p := s.ports.at(index); p != nil {
		return p.self
	}
	return nil
}
