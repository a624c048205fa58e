package overlay

import (
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// Inbound takes frames from the provider network. now is the time that Outbound gets.
//
// A frame goes to a port only if its outer source is the host that the records of its inner source name,
// so neither a forged inner source nor an unknown provider address passes. ARP, Neighbor Discovery and
// ICMP echo to provider addresses of this host are answered; what else is not encapsulated is dropped as
// DropNotTunnel, unchanged, and may be given to others.
func (w *Worker) Inbound(now time.Duration, frames []*ports.Frame) []Output {
	w.begin(now)
	p := w.snap.provider
	for i, f := range frames {
		w.src = i
		var e Encapsulated
		in := arrived{f.Head(), ethernetLen}
		tagged := f.VLAN.Present()
		switch d := p.decoder.Decap(f, &e); d {
		case 0:
			if !tagged && e.VLAN.Present() { // it was among the bytes
				in = arrived{in.head[tagLen:], ethernetLen}
			}
			w.inbound(f, in, &e)
		case DropNotTunnel:
			w.underlay(f)
		default:
			w.drop(f, d)
		}
	}
	return w.out
}

func (w *Worker) inbound(f *ports.Frame, in arrived, e *Encapsulated) {
	p := w.snap.provider
	i := p.local(e.Dst)
	if i < 0 || p.Addresses[i].MAC != e.DstMAC {
		w.drop(f, DropNotOurs)
		return
	}
	if p.Addresses[i].VLAN != e.VLAN.VID() {
		w.drop(f, DropProviderVLAN)
		return
	}
	b, h := f.Head(), &w.h
	m := w.snap.members.get(uint32(e.VSID))
	sub := w.snap.subnets.get(uint32(e.VSID))
	if sub == nil {
		h.Parse(b, f.Len())
		w.drop(f, DropUnknownVSID)
		w.gone(f, in, e, nil, m)
		return
	}
	if w.notes != nil {
		w.note("%s from host %s to %s, VSID %s of %s", e.Encapsulation, e.Src, e.Dst, e.VSID, sub.RDID)
	}
	h.Parse(b, f.Len())
	if h.Reason != header.OK || h.Flags&header.Tagged != 0 {
		w.drop(f, DropMalformed)
		return
	}
	if !f.Offload.IsZero() && segment.CheckParsed(f, h) != nil {
		w.drop(f, DropOffload)
		return
	}
	if w.control(f, m, e) {
		return
	}
	dst, src := ports.MAC(b), ports.MAC(b[6:])
	var ok bool
	if src == sub.router {
		if dst.IsGroup() {
			if w.inquiry(f, sub, m, e, i) {
				return
			}
		} else {
			ok = w.routedFrom(b, h, sub, e, i)
		}
	} else {
		ok = w.from(b, h, sub, m, src, e)
	}
	if !ok {
		if w.memberAt(m, e) {
			w.drop(f, DropSource)
		} else {
			w.drop(f, DropUnknownProvider)
		}
		return
	}
	if dst == sub.router {
		if isAnswer(b, h) {
			w.drop(f, DropAnswered) // it has been learned from
		} else {
			w.drop(f, DropNotHere)
		}
		return
	}
	if dst.IsGroup() {
		w.spread(f, m)
		return
	}
	if m != nil {
		if port := m.byMAC[dst]; port != nil {
			if w.notes != nil {
				w.note("receiver: MAC %s is here", dst)
			}
			w.toPort(f, port)
			return
		}
	}
	rec := w.recordOfMAC(sub.VSID, macWord(dst))
	if sub.Unknown == FloodUnknown && rec == nil {
		w.spread(f, m)
		return
	}
	w.drop(f, DropNotHere)
	w.gone(f, in, e, rec, m)
}

// from reports whether a frame comes from the host where its sender lives.
func (w *Worker) from(b []byte, h *header.Header, sub *subnet, m *members, src ports.MAC, e *Encapsulated) bool {
	rec := w.recordOfMAC(sub.VSID, macWord(src))
	if rec == nil {
		if sub.Unknown != FloodUnknown || !src.IsUnicast() || !w.memberAt(m, e) {
			return false
		}
	} else if !w.lives(rec, e) {
		w.back(rec, e)
		return false
	}
	return w.owns(b, h, rec, sub)
}

// lives reports whether a record is of the host, another one, that a frame came from.
func (w *Worker) lives(rec *entry, e *Encapsulated) bool {
	if w.notes != nil {
		w.noteRecord("sender", rec)
	}
	p := w.snap.peers[rec.peer]
	return p.addr == e.Src && p.local < 0
}

// memberAt reports whether a frame came from another host with members of the subnet.
func (w *Worker) memberAt(m *members, e *Encapsulated) bool {
	if m == nil {
		return false
	}
	for _, to := range m.hosts {
		if p := w.snap.peers[to.peer()]; p.addr == e.Src {
			return p.local < 0
		}
	}
	return false
}

// routedFrom reports whether a packet that the router of another host forwarded comes from where its
// source address lives: the way back to it leads there (RFC 3704, section 2.2). What comes from outside
// the virtual network may come from any of its gateways. local is the place of the provider address.
func (w *Worker) routedFrom(b []byte, h *header.Header, sub *subnet, e *Encapsulated, local int) bool {
	var a ca
	switch l3 := int(h.L3); {
	case h.Flags&header.IPv4 != 0:
		a = ca4(b[l3+12:])
	case h.Flags&header.IPv6 != 0:
		a = ca6(b[l3+8:])
	default:
		return false
	}
	if a == wildcard(a) || isGroupCA(a) {
		return false
	}
	s := w.snap
	d := s.domains.get(sub.domain)
	v, ok := d.lookup(a)
	if ok && v.onLink {
		in := s.subnets.get(uint32(v.vsid))
		if !w.within(v.vsid, sub) || in.isRouter(a) {
			return false
		}
		rec := w.receiver(v.vsid, a)
		if rec == nil && in.Learning && w.hostOf(sub, e) != nil && w.take(&w.e.inquiries) {
			w.inquire(in, a, local)
		}
		if rec == nil || w.lives(rec, e) {
			return rec != nil
		}
		w.back(rec, e)
		return false
	}
	for _, g := range d.gateways {
		if wildcard(g.hop) == wildcard(a) && w.within(g.vsid, sub) {
			if rec := w.resolve(g.vsid, g.hop); rec != nil && w.lives(rec, e) {
				return true
			}
		}
	}
	for _, vsid := range d.links {
		if w.within(vsid, sub) {
			if rec := w.record(vsid, wildcard(a)); rec != nil && w.lives(rec, e) {
				return true
			}
		}
	}
	return false
}

// within reports whether a subnet is of the same virtual network as sub.
func (w *Worker) within(vsid VSID, sub *subnet) bool {
	in := w.snap.subnets.get(uint32(vsid))
	return in != nil && in.domain == sub.domain
}
