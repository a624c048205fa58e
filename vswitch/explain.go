package vswitch

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// Explanation is what a switch would do with a frame at the moment at which it was asked.
type Explanation struct {
	Switch, Port string
	Steps        []Step     // at the port that the frame comes from, in their order
	Drop         DropReason `json:",omitempty"` // there; 0 if it gets further
	Deliveries   []Delivery `json:",omitempty"` // to each port that it would go to, by name

	// Unknown are the extensions that cannot say what they would do: the rest is what happens if they
	// let the frame pass as it is.
	Unknown []string `json:",omitempty"`
}

// Step is what one stage of the pipeline says to a frame.
type Step struct {
	Stage    string // such as "VLAN" or "ACL"
	Decision string // such as "VLAN 10", or the rule that decides; of a drop, the reason
}

// Delivery is what becomes of a frame at a port that it is to be sent to.
type Delivery struct {
	Port   string
	Steps  []Step
	Drop   DropReason `json:",omitempty"` // 0 if it is sent, unless the queue is full then
	Tag    ports.Tag  // with which it leaves; zero without
	Frames int        // that are sent: several where a segment is cut in software
	TooBig int        `json:",omitempty"` // pieces of a segment that are not, because they exceed the MTU of the port

	// Encapsulated are the frames, as they look on the wire, that the overlay sends to the provider network:
	// for Explain at the uplink of the host that gets them.
	Encapsulated [][]byte `json:",omitempty"`
}

// Delivered reports whether the frame would be sent to any port.
func (e *Explanation) Delivered() bool {
	return slices.ContainsFunc(e.Deliveries, func(d Delivery) bool { return d.Drop == 0 })
}

// String returns the explanation as text of several lines.
func (e *Explanation) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "switch %q, from port %q\n", e.Switch, e.Port)
	steps := func(indent string, list []Step) {
		for _, t := range list {
			fmt.Fprintf(&s, "%s%-14s %s\n", indent, t.Stage, t.Decision)
		}
	}
	steps("  ", e.Steps)
	for _, d := range e.Deliveries {
		fmt.Fprintf(&s, "to port %q\n", d.Port)
		steps("  ", d.Steps)
	}
	for _, name := range e.Unknown {
		fmt.Fprintf(&s, "extension %q cannot say what it would do\n", name)
	}
	switch n := len(slices.DeleteFunc(slices.Clone(e.Deliveries), func(d Delivery) bool { return d.Drop != 0 })); {
	case e.Drop != 0:
		fmt.Fprintf(&s, "dropped: %s\n", e.Drop)
	case n == 1:
		fmt.Fprintf(&s, "sent to one port\n")
	default:
		fmt.Fprintf(&s, "sent to %d ports\n", n)
	}
	return s.String()
}

// Explain says what the switch would do with a frame that came from a port, by running the same pipeline that
// frames pass, with nothing sent, learned or counted. Queues that are full are not foreseen, nor copies to mirrors.
// The frame is not kept.
func (s *Switch) Explain(port string, frame *ports.Frame) (*Explanation, error) {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if s.deleted {
		return nil, fmt.Errorf("switch %q: %w", s.name, ErrClosed)
	}
	p := s.portNamed(port)
	if p == nil {
		return nil, fmt.Errorf("switch %q: port %q: %w", s.name, port, ErrNotFound)
	}
	t := &trace{Explanation: &Explanation{Switch: s.name, Port: port}}
	w := &worker{host: s.host, clock: s.host.clock()}
	w.burst.scratch = &w.scratch
	b := &w.burst
	b.sw, b.snap, b.in, b.clock, b.trace = s, s.snap.Load(), p, w.clock, t
	b.now = fdbTime(b.clock)
	f := new(ports.Frame)
	f.CopyFrom(frame)
	b.frames, b.meta = []*ports.Frame{f}, w.meta[:1]

	m := &b.meta[0]
	for _, stage := range p.ingress {
		if m.drop != 0 {
			break
		}
		t.steps = &t.Steps
		t.step(stage.name)
		stage.run(b)
		taken := b.untake()
		if m.drop != 0 {
			t.decide(m.drop.String())
		} else {
			t.describe(stage.name, b)
		}
		if taken {
			break
		}
	}
	if m.drop != 0 && b.overlaid {
		w.deliverOverlay(b) // what its sender is told
	}
	if m.drop == 0 {
		w.deliver(b)
		if m.drop != 0 { // nobody to flood it to
			t.steps = &t.Steps
			t.step("delivery")
			t.decide(m.drop.String())
		}
	}
	t.Drop = m.drop
	slices.SortFunc(t.Deliveries, func(a, b Delivery) int { return strings.Compare(a.Port, b.Port) })
	return t.Explanation, nil
}

// trace is an explanation in the making.
type trace struct {
	*Explanation
	steps   *[]Step // of the port where the frame is
	learned bool    // its source, had it been under way
}

// note adds to what the present step says.
func (t *trace) note(format string, args ...any) {
	last := &(*t.steps)[len(*t.steps)-1]
	if last.Decision != "" {
		last.Decision += "; "
	}
	last.Decision += fmt.Sprintf(format, args...)
}

// decide makes the last step say that the frame is dropped, and why.
func (t *trace) decide(reason string) {
	last := &(*t.steps)[len(*t.steps)-1]
	if last.Decision != "" {
		reason += " (" + last.Decision + ")"
	}
	last.Decision = "dropped: " + reason
}

// asks notes what extensions have answered.
func (t *trace) asks(answers []extension.Answer) {
	for _, a := range answers {
		if a.Unknown {
			t.note("%s %q cannot say", a.Kind, a.Name)
			t.Unknown = append(t.Unknown, a.Name)
		} else {
			t.note("%s %q", a.Kind, a.Name)
		}
	}
}

// learns notes what is learned from the frame, of whose source the forwarding database says v.
func (t *trace) learns(b *burst, v fdbVal) {
	switch {
	case v == 0 || v.expired(b.now, b.sw.fdb.ageing.Load()):
		t.note("new address")
	case v.port() == b.in.index:
		t.note("known here")
	default:
		t.note("known at %s until now", b.nameOf(v.port()))
	}
	t.learned = true
}

// foresees corrects where the frame goes if it goes to the address that is learned from it.
func (t *trace) foresees(b *burst) {
	m := &b.meta[0]
	if !t.learned || m.dst != m.src || m.drop != 0 {
		return
	}
	m.out, b.floods = int32(b.in.index), false
	if !b.in.hairpin {
		m.drop = DropSamePort
	}
}

// describe completes what a stage has said that let the frame pass.
func (t *trace) describe(stage string, b *burst) {
	m := &b.meta[0]
	switch stage {
	case "frame":
		t.note("%d bytes, %s to %s", m.len, storeMAC(m.src), storeMAC(m.dst))
		if tag := b.frames[0].VLAN; tag.TPID != 0 {
			t.note("tag of VLAN %d, priority %d", vlan.VID(tag.TCI), tag.TCI>>13)
		}
		if o := &b.frames[0].Offload; o.Segment != ports.SegmentNone {
			t.note("to be cut into segments of %d bytes", o.SegmentSize)
		}
	case "VLAN":
		if m.vid() == 0 {
			t.note("untagged")
		} else {
			t.note("VLAN %d, priority %d", m.vid(), m.tci>>13)
		}
	case "forwarding":
		switch {
		case m.out == outGroup:
			t.note("flooded: a group address")
		case m.out == outUnknown:
			t.note("flooded: the destination is not known")
		case m.out >= 0:
			t.note("to %s", b.nameOf(int(m.out)))
		}
	}
	t.complete()
}

// nameOf returns a port in words.
func (b *burst) nameOf(index int) string {
	if p := b.snap.ports.at(index); p != nil {
		return fmt.Sprintf("port %q", p.name)
	}
	return "a port that has gone"
}

// enterPort begins the explanation of a delivery.
func (t *trace) enterPort(to *portView) {
	t.Deliveries = append(t.Deliveries, Delivery{Port: to.name})
	t.steps = &t.Deliveries[len(t.Deliveries)-1].Steps
	t.step("VLAN")
}

// step begins a step.
func (t *trace) step(name string) {
	t.complete()
	*t.steps = append(*t.steps, Step{Stage: name})
}

// complete makes the last step, if any, say something.
func (t *trace) complete() {
	if n := len(*t.steps); n > 0 && (*t.steps)[n-1].Decision == "" {
		(*t.steps)[n-1].Decision = "passes"
	}
}

// traceLeaving ends the explanation of a delivery: what would be sent.
func (w *worker) traceLeaving(b *burst, to *portView) {
	p, t := &w.passage, b.trace
	d := &t.Deliveries[len(t.Deliveries)-1]
	f := p.frames[0]
	if p.drops[0] == 0 {
		t.step("sending")
		d.Tag = f.VLAN
		switch {
		case !to.up.Load():
			p.drops[0] = DropLinkDown
		case f.Len() > to.maxLen && f.Offload.Segment == ports.SegmentNone:
			p.drops[0] = DropTooBig
		default:
			pieces, err := w.segmenter.Split(f, to.info.Offloads)
			if err != nil && !errors.Is(err, segment.ErrFull) {
				p.drops[0] = DropUnsupportedOffload
			}
			for _, piece := range pieces {
				if piece.Offload.Segment != ports.SegmentNone || piece.Len() <= to.maxLen {
					d.Frames++
				} else {
					d.TooBig++
				}
			}
			if d.Frames == 0 && d.TooBig > 0 {
				p.drops[0] = DropTooBig
			}
			w.segmenter.Reset()
		}
	}
	d.Drop = p.drops[0]
	if d.Drop != 0 {
		t.decide(d.Drop.String())
		return
	}
	t.note("%s", tagText(d.Tag))
	if b.overlaid {
		t.encapsulated(w, f)
	}
	if d.Frames > 1 || d.TooBig > 0 {
		t.note("cut into %d frames", d.Frames+d.TooBig)
	}
	if d.TooBig > 0 {
		t.note("%d of them dropped: %s", d.TooBig, DropTooBig)
	}
}

func tagText(tag ports.Tag) string {
	if tag.TPID == 0 {
		return "without a tag"
	}
	return fmt.Sprintf("with tag %04x of VLAN %d, priority %d", tag.TPID, vlan.VID(tag.TCI), tag.TCI>>13)
}
