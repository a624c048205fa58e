package vswitch

import (
	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
)

// overlayBurst is what the overlay has made of a burst, as far as it goes to vNICs, or to the provider
// network.
type overlayBurst struct {
	burst
	frames [burstSize]*ports.Frame
	meta   [burstSize]meta
}

// deliverOverlay sends what the overlay makes of the frames of a burst on its way, which is that of other
// frames from the same port.
func (w *worker) deliverOverlay(b *burst) {
	if b.in.tenant != nil && b.trace == nil {
		b.encapsulate()
	}
	vms, provider := w.toVMs.begin(b), w.toProvider.begin(b)
	vms.virtual, provider.overlaid = true, true
	x := &b.overlay
	for n := range x.out {
		o := &x.out[n]
		switch {
		case o.Drop != 0:
		case o.Port != nil:
			b.toVM(w, vms, o)
		case b.snap.uplink == 0:
			b.lose(DropNoProvider)
		default:
			m := w.add(provider, o.Frame, b.snap.uplink-1)
			if o.Frame.VLAN.TPID != 0 {
				m.tci, provider.tagged = o.Frame.VLAN.TCI, true
				o.Frame.VLAN = ports.Tag{}
			}
		}
		if b.trace != nil {
			w.flush(vms)
			w.flush(provider)
			b.trace.merge()
		}
	}
	w.flush(vms)
	w.flush(provider)
	w.toVMs.burst, w.toProvider.burst = burst{}, burst{}
	x.end()
}

// toVM sends a frame to a vNIC, unless that is not there any more, or not yet.
func (b *burst) toVM(w *worker, vms *overlayBurst, o *overlay.Output) {
	id := o.Port.ID
	if id < 0 {
		b.lose(DropNotHere)
		return
	}
	if to := b.snap.ports.at(id); to == nil || to.tenant != o.Port {
		b.lose(DropNotHere)
		return
	}
	m := w.add(vms, o.Frame, id)
	source := &b.meta[b.overlay.index[o.Source]]
	m.mirrored = b.mirrored && source.mirrored && o.Port != b.in.tenant // what comes back is another frame
}

// lose counts a frame of the overlay that goes nowhere.
func (b *burst) lose(r DropReason) {
	if b.trace == nil {
		b.in.count.drop(r, 1)
	}
}

// begin makes o an empty burst of frames from where those of b came from.
func (o *overlayBurst) begin(b *burst) *overlayBurst {
	o.burst = burst{
		sw: b.sw, snap: b.snap, in: b.in, clock: b.clock, now: b.now, queue: b.queue, trace: b.trace,
		mirrored: true, scratch: b.scratch,
	}
	return o
}

// add adds a frame that goes to a port.
func (w *worker) add(o *overlayBurst, f *ports.Frame, out int) *meta {
	if len(o.burst.frames) == burstSize {
		w.flush(o)
	}
	n := len(o.burst.frames)
	o.frames[n] = f
	o.burst.frames, o.burst.meta = o.frames[:n+1], o.meta[:n+1]
	o.longest = max(o.longest, f.Len())
	o.offloads = o.offloads || !f.Offload.IsZero()
	m := &o.meta[n]
	*m = meta{len: int32(f.Len()), out: int32(out)}
	return m
}

// flush sends the frames of o.
func (w *worker) flush(o *overlayBurst) {
	b := &o.burst
	if len(b.frames) == 0 {
		return
	}
	b.parsed = false
	w.delivery.groups = w.delivery.groups[:0]
	for i := range b.meta {
		w.delivery.groupFor(b, int(b.meta[i].out)).add(b, i)
	}
	w.transmitGroups(b)
	clear(b.frames)
	b.frames, b.meta = nil, nil
	b.longest, b.offloads, b.tagged = 0, false, false
}

// keepApart drops the frames of a group that are of a VLAN and would get into a virtual subnet, or the
// other way round.
func (w *worker) keepApart(b *burst, to *portView, g *group) {
	if t := b.trace; t != nil {
		t.enterPort(to)
		t.decide(DropNotMember.String())
		t.Deliveries[len(t.Deliveries)-1].Drop = DropNotMember
		return
	}
	to.count.drop(DropNotMember, len(g.frames))
}
