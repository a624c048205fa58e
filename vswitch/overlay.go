package vswitch

import (
	"github.com/hvswitch/hvswitch/internal/guard"
	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
)

// overlayOf is the overlay of a switch: its engine, and a worker of it for each worker of the host.
type overlayOf struct {
	engine  *overlay.Engine
	workers []*overlay.Worker // by worker of the host, who makes his own when he needs it; the last of Host.caller
}

func (o *overlayOf) worker(b *burst) *overlay.Worker {
	w := &o.workers[b.overlay.worker]
	if *w == nil {
		*w = o.engine.NewWorker()
	}
	return *w
}

// overlaid is memory of a worker for the frames of a burst that the overlay gets, and what that makes of
// them.
type overlaid struct {
	worker int              // number of the worker
	frames []*ports.Frame   // what the overlay gets
	index  []uint8          // of frames in the burst
	forks  []*fork          // those of frames that are not the burst's
	out    []overlay.Output // until the engine's worker is called again
	taken  uint64           // frames of the burst, as bits, that are dropped in appearance only
}

type fork struct {
	ports.Frame
	buf [ports.Headroom + ports.HeadLen]byte
}

func (x *overlaid) begin() { x.frames, x.index, x.out, x.taken = x.frames[:0], x.index[:0], nil, 0 }

// end keeps nothing alive.
func (x *overlaid) end() {
	clear(x.frames)
	for _, f := range x.forks[:min(len(x.forks), len(x.frames))] {
		f.SetHead(f.buf[:], ports.Headroom, 0)
	}
	x.begin()
}

// pick gives frame i of the burst to the overlay, which changes it: where somebody wants to be told its
// fate, it is a copy.
func (b *burst) pick(i int) *ports.Frame {
	x := &b.overlay
	f := b.frames[i]
	if b.in.program != nil && b.in.program.WantsFates() {
		n := len(x.frames)
		for n >= len(x.forks) {
			k := new(fork)
			k.SetHead(k.buf[:], ports.Headroom, 0)
			x.forks = append(x.forks, k)
		}
		x.forks[n].Fork(f)
		f = &x.forks[n].Frame
	}
	x.frames, x.index = append(x.frames, f), append(x.index, uint8(i))
	return f
}

// settle notes which of its frames the overlay has dropped, and why. The others, which it has taken, seem to
// be dropped until untake, so that they are left alone.
func (b *burst) settle() {
	x := &b.overlay
	for _, i := range x.index {
		b.meta[i].drop = DropAnswered
		x.taken |= 1 << i
	}
	for n := range x.out {
		o := &x.out[n]
		if o.Drop == 0 {
			continue
		}
		i := x.index[o.Source]
		if o.Frame == x.frames[o.Source] {
			b.meta[i].drop = overlayDrops[o.Drop]
			x.taken &^= 1 << i
		} else if b.trace == nil { // a copy, on its way to one of many
			b.in.count.drop(overlayDrops[o.Drop], 1)
		}
	}
}

// untake ends the appearance that frames are dropped which the overlay has taken. It reports whether there
// were any.
func (b *burst) untake() bool {
	if !b.overlaid || b.overlay.taken == 0 {
		return false
	}
	for i := range b.meta {
		if b.overlay.taken>>i&1 != 0 {
			b.meta[i].drop = 0
		}
	}
	b.overlay.taken = 0
	return true
}

// intoOverlay ends the pipeline of a vNIC in a virtual subnet. What is left goes where the overlay sends it,
// see worker.deliverOverlay: mirrors have to see it first.
func intoOverlay(b *burst) {
	for i := range b.meta {
		switch m := &b.meta[i]; {
		case m.drop != 0:
		case m.reserved():
			m.drop = DropReserved
		default:
			b.overlaid = true
		}
	}
	if !b.overlaid {
		return
	}
	b.overlay.begin()
	if b.trace != nil {
		b.explainOutbound()
	}
}

// encapsulate gives the frames of a vNIC in a virtual subnet to the overlay.
func (b *burst) encapsulate() {
	x := &b.overlay
	for i := range b.meta {
		if b.meta[i].drop == 0 {
			b.pick(i)
		}
	}
	x.out = b.in.overlay.worker(b).Outbound(b.clock, b.in.tenant, x.frames)
	b.settle()
	b.untake()
}

// outOfOverlay gives the frames of the uplink to the overlay that concern it. Those that turn out to be
// others' go on.
func outOfOverlay(o *overlayOf) func(*burst) {
	return func(b *burst) {
		x := &b.overlay
		x.begin()
		for i, f := range b.frames {
			m := &b.meta[i]
			if m.drop != 0 || m.nested || !o.engine.Concerns(f, m.vid()) {
				continue
			}
			f = b.pick(i)
			f.VLAN = ports.Tag{}
			if m.vid() != 0 {
				f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: m.tci}
			}
		}
		if len(x.frames) == 0 {
			return
		}
		b.overlaid = true
		if b.trace != nil {
			b.explainInbound(o.engine)
		} else {
			x.out = o.worker(b).Inbound(b.clock, x.frames)
		}
		b.settle()
		b.release()
	}
}

// release lets those frames go on that are not for the overlay. One to a provider address does only where
// its MAC address is somebody else's as well: nobody else is to see it.
func (b *burst) release() {
	x := &b.overlay
	t, ageing := b.sw.fdb.table.Load(), b.sw.fdb.ageing.Load()
	for n, i := range x.index {
		m := &b.meta[i]
		if m.drop != 0 {
			continue
		}
		x.frames[n].VLAN = ports.Tag{}
		if m.dst&groupBit != 0 {
			continue
		}
		if v := t.find(makeKey(m.dst, m.fid)); v == 0 || v.expired(b.now, ageing) {
			m.drop = DropNoDestination
		}
	}
}

// limitGroups is limitStorm for a vNIC in a virtual subnet.
func limitGroups(l *guard.Storm) func(*burst) {
	limit := limitStorm(l)
	return func(b *burst) {
		for i := range b.meta {
			if m := &b.meta[i]; m.drop == 0 && m.dst&groupBit != 0 && !m.reserved() {
				m.out = outGroup
			}
		}
		limit(b)
		for i := range b.meta {
			b.meta[i].out = outNone
		}
	}
}

// isolation is the isolation ID that an ACL at a port sees.
func (p *portView) isolation(m *meta) uint32 {
	if p.vsid != 0 {
		return uint32(p.vsid)
	}
	return uint32(m.vid())
}

var overlayDrops = [...]DropReason{
	overlay.DropNotTunnel:       0, // it goes on
	overlay.DropOuter:           DropTunnelHeader,
	overlay.DropOuterChecksum:   DropTunnelHeader,
	overlay.DropFragment:        DropTunnelHeader,
	overlay.DropTunnelHeader:    DropTunnelHeader,
	overlay.DropOption:          DropTunnelHeader,
	overlay.DropReservedVSID:    DropTunnelHeader,
	overlay.DropInner:           DropTunnelHeader,
	overlay.DropInnerTag:        DropTunnelHeader,
	overlay.DropECN:             DropTunnelHeader,
	overlay.DropProviderVLAN:    DropTunnelSource,
	overlay.DropNotOurs:         DropTunnelSource,
	overlay.DropUnknownProvider: DropTunnelSource,
	overlay.DropUnknownVSID:     DropUnknownVSID,
	overlay.DropSource:          DropCustomerSource,
	overlay.DropTagged:          DropTagged,
	overlay.DropMalformed:       DropMalformed,
	overlay.DropNoRecord:        DropNoRecord,
	overlay.DropNotHere:         DropNotHere,
	overlay.DropNoRoute:         DropNoRoute,
	overlay.DropRouter:          DropRouter,
	overlay.DropTTL:             DropTTL,
	overlay.DropTooBig:          DropTunnelMTU,
	overlay.DropUnresolved:      DropUnresolved,
	overlay.DropNoProvider:      DropNoProvider,
	overlay.DropOffload:         DropBadOffload,
	overlay.DropSelf:            DropSamePort,
	overlay.DropAnswered:        DropAnswered,
	overlay.DropNoMember:        DropNoDestination,
	overlay.DropControl:         DropAnswered,
}
