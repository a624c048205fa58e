package overlay

import (
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// Outbound takes frames that a vNIC sent. now is a time that never runs backwards, from any moment on.
func (w *Worker) Outbound(now time.Duration, p *Port, frames []*ports.Frame) []Output {
	w.begin(now)
	sub := w.snap.subnets.get(uint32(p.VSID))
	for i, f := range frames {
		w.src = i
		if sub == nil {
			w.drop(f, DropUnknownVSID)
			continue
		}
		w.outbound(f, p, sub)
	}
	return w.out
}

func (w *Worker) outbound(f *ports.Frame, p *Port, sub *subnet) {
	h := &w.h
	if f.VLAN.TPID != 0 {
		if f.VLAN.VID() != 0 { // a tag with priority alone is none
			w.drop(f, DropTagged)
			return
		}
		f.VLAN = ports.Tag{}
	}
	b := f.Head()
	h.Parse(b, f.Len())
	switch {
	case h.Flags&header.Tagged != 0:
		w.drop(f, DropTagged)
		return
	case h.Reason != header.OK:
		w.drop(f, DropMalformed)
		return
	case !f.Offload.IsZero() && segment.CheckParsed(f, h) != nil:
		w.drop(f, DropOffload)
		return
	}
	if w.notes != nil {
		w.note("VSID %s of %s", p.VSID, sub.RDID)
	}
	src, ok := w.sender(b, h, p, sub)
	if w.notes != nil {
		w.noteRecord("sender", src)
	}
	if !ok || w.forgesControl(b, h) {
		w.drop(f, DropSource)
		return
	}
	local := 0 // the provider address of the sender
	if src != nil {
		local = w.snap.peers[src.peer].local
	}
	dst := ports.MAC(b)
	from := origin{port: p, local: local, mac: ports.MAC(b[6:])}
	switch {
	case h.Flags&header.ARP != 0:
		if w.arp(f, from, sub) {
			return
		}
	case isSolicitation(b, h):
		if w.solicitation(f, from, sub) {
			return
		}
	case dst == sub.router:
		w.route(f, from, sub)
		return
	}
	if dst.IsGroup() {
		w.flood(f, from, sub)
		return
	}
	m := w.recordOfMAC(p.VSID, macWord(dst))
	if w.notes != nil {
		w.noteRecord("receiver", m)
	}
	if m == nil {
		if sub.Unknown == FloodUnknown {
			w.flood(f, from, sub)
			return
		}
		w.drop(f, DropNoRecord)
		return
	}
	w.deliver(f, from, sub, sub, m)
}

// origin is where an outbound frame came from.
type origin struct {
	port   *Port
	local  int // provider address of the sender, by its place
	mac    ports.MAC
	routed bool // by the router, which has changed the frame
}

// sender checks who a port claims to be. It returns the record of its MAC address, or nil when there is
// none and need be none.
func (w *Worker) sender(b []byte, h *header.Header, p *Port, sub *subnet) (rec *entry, ok bool) {
	mac := ports.MAC(b[6:])
	rec = w.recordOfMAC(p.VSID, macWord(mac))
	if rec == nil {
		ok = sub.Unknown == FloodUnknown && mac.IsUnicast() && mac != sub.router
	} else {
		ok = mac == p.MAC && w.snap.peers[rec.peer].local >= 0
	}
	return rec, ok && w.owns(b, h, rec, sub)
}

// owns reports whether the sender of a frame, whose MAC address has the record rec or none, may use the
// customer address that it is from. It learns it where the subnet does.
func (w *Worker) owns(b []byte, h *header.Header, rec *entry, sub *subnet) bool {
	mac := macWord(ports.MAC(b[6:]))
	var a ca
	switch l3 := int(h.L3); {
	case h.Flags&header.IPv4 != 0:
		a = ca4(b[l3+12:])
	case h.Flags&header.IPv6 != 0:
		a = ca6(b[l3+8:])
		if a.hi>>54 == 0xfe80>>6 { // link-local: of no concern to records
			return true
		}
	case h.Flags&header.ARP != 0:
		if macWord(ports.MAC(b[l3+8:])) != mac {
			return false
		}
		a = ca4(b[l3+14:])
	default:
		return true
	}
	if a == wildcard(a) {
		return true // it has none yet (RFC 2131, section 4.1; RFC 5227; RFC 4862, section 5.4.2)
	}
	if isGroupCA(a) || sub.isRouter(a) {
		return false
	}
	vsid := sub.VSID
	r := w.record(vsid, a)
	mine := r != nil && (r.mac^mac)>>16 == 0
	switch {
	case r != nil && r.typ() == Static:
		return mine
	case rec == nil:
		return r == nil && w.onLink(sub, a)
	case sub.Learning && (rec.typ() == L2Only || rec.typ() == Dynamic) && w.onLink(sub, a):
		return mine && w.snap.learned.lookupCA(vsid, a) == nil || w.learn(vsid, a, mac)
	}
	return mine || r == nil && w.isGateway(sub, a, mac)
}

// isGroupCA reports whether no station can have the address: multicast and broadcast.
func isGroupCA(a ca) bool {
	if a.hi == 0 && a.lo>>32 == 0xffff {
		return uint32(a.lo) >= 0xe0000000
	}
	return a.hi>>56 == 0xff
}

// onLink reports whether the subnet is the one that the address is on.
func (w *Worker) onLink(sub *subnet, a ca) bool {
	v, ok := w.snap.domains.get(sub.domain).lookup(a)
	return ok && v.onLink && v.vsid == sub.VSID
}

func (s *subnet) isRouter(a ca) bool {
	for _, r := range s.routers {
		if r == a {
			return true
		}
	}
	return false
}

// isGateway reports whether a MAC address may forward packets of others, from the address a: that of the
// wildcard from what is on-link in no other subnet, that of a next hop from what is on-link in none.
func (w *Worker) isGateway(sub *subnet, a ca, mac uint64) bool {
	s := w.snap
	d := s.domains.get(sub.domain)
	v, ok := d.lookup(a)
	onLink := ok && v.onLink
	if onLink && v.vsid != sub.VSID {
		return false
	}
	if r := w.record(sub.VSID, wildcard(a)); r != nil && (r.mac^mac)>>16 == 0 {
		return true
	}
	for _, g := range d.gateways {
		if onLink || g.vsid != sub.VSID || wildcard(g.hop) != wildcard(a) {
			continue
		}
		if r := w.resolve(g.vsid, g.hop); r != nil && (r.mac^mac)>>16 == 0 {
			return true
		}
	}
	return false
}

// deliver sends a frame to the MAC address with record m in subnet sub, coming from subnet in.
func (w *Worker) deliver(f *ports.Frame, from origin, in, sub *subnet, m *entry) {
	to := w.snap.peers[m.peer]
	if to.local >= 0 {
		var p *Port
		if all := w.snap.members.get(uint32(sub.VSID)); all != nil {
			p = all.byMAC[m.addr()]
		}
		if w.notes != nil && p != nil {
			w.note("receiver: on this host")
		}
		switch p {
		case nil:
			w.drop(f, DropNotHere)
		case from.port:
			if in == sub {
				w.drop(f, DropSelf)
				return
			}
			fallthrough
		default:
			w.toPort(f, p)
		}
		return
	}
	w.send(f, from, in, sub.VSID, to, m.rule())
}

// send encapsulates a frame to another host.
func (w *Worker) send(f *ports.Frame, from origin, in *subnet, vsid VSID, to *peer, rule Encapsulation) {
	if from.local < 0 || from.local >= len(to.paths) || to.paths[from.local].hop == nil {
		w.drop(f, DropNoProvider)
		return
	}
	way := &to.paths[from.local]
	if w.notes != nil {
		w.note("sending: from host %s to %s by %s, VSID %s", w.snap.provider.Addresses[from.local].Address.Addr(), to.addr, rule, vsid)
	}
	next, known := w.nextHop(way.hop, from.local)
	if !known {
		w.drop(f, DropUnresolved)
		return
	}
	if !w.fits(f, way.mtu[rule]) {
		w.tooBig(f, from, in, vsid, way, rule, &next)
		return
	}
	w.encap(f, vsid, way.tunnels[rule], &next)
}

// encap sends a frame through a tunnel, or what a device takes in its place.
func (w *Worker) encap(f *ports.Frame, vsid VSID, t *Tunnel, next *ports.MAC) {
	if f.Offload.IsZero() {
		if t.put(f, &w.h, vsid, next) != nil {
			w.drop(f, DropOffload)
			return
		}
		w.toProvider(f)
		return
	}
	var err error
	c := &w.snap.provider.Config
	w.cut, err = w.split.append(w.cut[:0], f, &w.h, t, vsid, next, c.Offloads, c.MTU)
	if err != nil {
		w.drop(f, DropOffload)
		return
	}
	for _, g := range w.cut {
		w.toProvider(g)
	}
}
