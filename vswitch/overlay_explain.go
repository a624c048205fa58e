package vswitch

import (
	"slices"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
)

// explainOutbound is encapsulate for Explain.
func (b *burst) explainOutbound() {
	b.explained(b.in.overlay.engine.ExplainOutbound(b.clock, b.in.tenant, b.pick(0)))
	b.settle()
	b.untake()
}

// explainInbound lets the overlay explain what it does with the frame that it has been given.
func (b *burst) explainInbound(e *overlay.Engine) {
	b.explained(e.ExplainInbound(b.clock, b.overlay.frames[0]))
}

func (b *burst) explained(x overlay.Explanation) {
	for _, s := range x.Steps {
		b.trace.note("%s", s)
	}
	for _, o := range x.Outputs {
		if r := overlayDrops[o.Drop]; r != 0 && r.String() != o.Drop.String() {
			b.trace.note("%s", o.Drop)
		}
	}
	b.overlay.out = x.Outputs
}

// encapsulated notes the frame that goes to the provider network.
func (t *trace) encapsulated(w *worker, f *ports.Frame) {
	d := &t.Deliveries[len(t.Deliveries)-1]
	whole, _ := w.segmenter.Split(f, 0)
	for _, f := range whole {
		wire := make([]byte, f.WireLen())
		f.CopyTo(wire)
		d.Encapsulated = append(d.Encapsulated, wire)
	}
	w.segmenter.Reset()
}

// merge makes one delivery of the last two if they are of the same kind to the same port: pieces of a frame.
func (t *trace) merge() {
	n := len(t.Deliveries)
	if n < 2 {
		return
	}
	a, b := &t.Deliveries[n-2], &t.Deliveries[n-1]
	if a.Port != b.Port || a.Drop != b.Drop || a.Tag != b.Tag || !slices.Equal(a.Steps, b.Steps) {
		return
	}
	a.Frames, a.TooBig = a.Frames+b.Frames, a.TooBig+b.TooBig
	a.Encapsulated = append(a.Encapsulated, b.Encapsulated...)
	t.Deliveries = t.Deliveries[:n-1]
}
