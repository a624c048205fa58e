package extension

import (
	"iter"
	"math/bits"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/internal/memfault"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// Program is what frames pass at one port, by the list of one moment. It does not change.
type Program struct {
	port    *Port
	ingress []step // captures, filters, firewalls
	forward []step // at most one
	egress  []step // firewalls, filters, captures
	fates   []step
}

// step is a call of an extension.
type step struct {
	*loaded
	*attachment
	kind     Kind
	failOpen bool
	run      func(*Batch)
}

// Program returns the program of a port, nil if no extension sees its frames.
func (s *Stack) Program(p *Port) *Program {
	g := &Program{port: p}
	for _, kind := range []Kind{KindCapture, KindFilter, KindFirewall, KindForwarding} {
		for _, l := range s.list {
			a := l.at[p.Index]
			if l.Disabled || l.kinds&kind == 0 || a == nil {
				continue
			}
			g.add(l, a, kind)
		}
	}
	if len(g.ingress) == 0 && len(g.forward) == 0 {
		return nil
	}
	return g
}

// Injection returns what the frames pass that the extension of a name injects: the filters behind
// it, and forwarding.
func (s *Stack) Injection(name string) *Program {
	g := &Program{}
	behind := false
	for _, l := range s.list {
		if behind && l.kinds&KindFilter != 0 && !l.Disabled {
			g.add(l, &attachment{}, KindFilter)
		}
		behind = behind || l.Name == name
	}
	for _, l := range s.list {
		if l.kinds&KindForwarding != 0 && !l.Disabled {
			g.add(l, &attachment{}, KindForwarding)
		}
	}
	return g
}

func (g *Program) add(l *loaded, a *attachment, kind Kind) {
	st := step{loaded: l, attachment: a, kind: kind, failOpen: l.FailOpen || kind == KindCapture}
	switch kind {
	case KindCapture:
		st.run = l.Extension.(Capture).Capture
		if f, ok := l.Extension.(Fates); ok {
			told := st
			told.run = f.Fate
			g.fates = append(g.fates, told)
		}
	case KindFilter:
		st.run = l.Extension.(Filter).Filter
	case KindFirewall:
		st.run = st.authorize(l.Extension.(Firewall))
	case KindForwarding:
		st.run = l.Extension.(Forwarding).Forward
		g.forward = append(g.forward, st)
		return
	}
	g.ingress = append(g.ingress, st)
	g.egress = append([]step{st}, g.egress...)
}

// Names returns the names of the extensions that see frames of the port, in their order.
func (g *Program) Names() (names []string) {
	for _, steps := range [...][]step{g.ingress, g.forward} {
		for _, st := range steps {
			if !slices.Contains(names, st.Name) {
				names = append(names, st.Name)
			}
		}
	}
	return names
}

// Port is the port of the program.
func (g *Program) Port() *Port { return g.port }

// Decides reports whether an extension decides where frames go.
func (g *Program) Decides() bool { return len(g.forward) > 0 }

// WantsFates reports whether Fate has somebody to tell.
func (g *Program) WantsFates() bool { return len(g.fates) > 0 }

// Begin makes b the batch of frames on their way at the port. Frames whose bit is not in alive have been dropped.
// frames may be changed by what follows.
func (g *Program) Begin(b *Batch, d Direction, source *Port, now time.Duration, frames []*ports.Frame, alive uint64) {
	b.direction, b.port, b.source, b.now = d, g.port, source, now
	b.frames, b.alive = frames, alive
	b.edited, b.chosen, b.targets = 0, 0, b.targets[:0]
}

// Ingress runs captures, filters and firewalls for frames that come from the port.
func (g *Program) Ingress(b *Batch) { g.each(g.ingress, b) }

// Forward runs forwarding.
func (g *Program) Forward(b *Batch) { g.each(g.forward, b) }

// Egress runs firewalls, filters and captures for frames that go to the port.
func (g *Program) Egress(b *Batch) { g.each(g.egress, b) }

// Fate tells captures what became of the frames.
func (g *Program) Fate(b *Batch) {
	for i := range g.fates {
		if st := &g.fates[i]; st.failure.Load() == nil {
			b.state = st.state
			st.call(b)
		}
	}
	b.state = nil
}

func (g *Program) each(steps []step, b *Batch) {
	for i := range steps {
		if b.alive == 0 {
			break
		}
		st := &steps[i]
		before := b.alive
		b.kind, b.name, b.state = st.kind, st.name, st.state
		if st.failure.Load() != nil || !st.call(b) {
			st.closed(b)
		}
		if st.kind == KindFilter && b.edited != 0 {
			b.checkEdited()
		}
		if b.alive != before {
			st.dropped.Add(uint64(bits.OnesCount64(before &^ b.alive)))
		}
	}
	b.kind, b.name, b.state = 0, "", nil
}

// call runs the step and reports whether it came to its end.
func (st *step) call(b *Batch) (ok bool) {
	defer func() {
		if ok {
			return
		}
		r := recover()
		if _, ok := memfault.Of(r); ok {
			panic(r) // of the memory of a frame, which is the switch's to deal with
		}
		st.fail(r)
	}()
	st.run(b)
	return true
}

// closed drops what does not pass without the extension.
func (st *step) closed(b *Batch) {
	if st.failOpen {
		return
	}
	for i := range b.frames {
		b.drop(i, "failed")
	}
}

// checkEdited drops what the edits of a filter have made unfit for whoever comes next.
func (b *Batch) checkEdited() {
	for e := b.edited & b.alive; e != 0; e &= e - 1 {
		i := bits.TrailingZeros64(e)
		switch f := b.frames[i]; {
		case len(f.Head()) < etherHeader:
			b.drop(i, "edited into a runt")
		case !f.Offload.IsZero() && segment.Check(f) != nil:
			b.drop(i, "edited into a bad offload request")
		}
	}
}

const etherHeader = 14

// Alive are the frames that have not been dropped, as bits.
func (g *Program) Alive(b *Batch) uint64 { return b.alive }

// Edited are the frames that a filter has asked to edit, as bits.
func (g *Program) Edited(b *Batch) uint64 { return b.edited }

// Dropper is the kind of the extension that dropped frame i.
func (g *Program) Dropper(b *Batch, i int) Kind { return b.kinds[i] }

// Drop notes that the switch dropped frame i.
func (g *Program) Drop(b *Batch, i int, reason string) {
	b.alive &^= 1 << (i & 63)
	b.droppers[i], b.reasons[i] = "", reason
}

// Chosen are the frames whose destination an extension has decided, as bits.
func (g *Program) Chosen(b *Batch) uint64 { return b.chosen & b.alive }

// Resolve leaves out of Targets what is not connected. at returns the port that has an index, or nil; it is called
// with no negative one.
func (g *Program) Resolve(b *Batch, at func(index int) *Port) {
	kept := b.targets[:0]
	for _, t := range b.targets {
		if t.port.Index < 0 {
			continue
		}
		if p := at(t.port.Index); p != nil && p.is(t.port) {
			kept = append(kept, t)
		}
	}
	b.targets = kept
}

// Targets yields where the chosen frames go: the number of a frame and the index of a port.
func (g *Program) Targets(b *Batch) iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		for _, t := range b.targets {
			if b.Alive(t.frame) && !yield(t.frame, t.port.Index) {
				return
			}
		}
	}
}
