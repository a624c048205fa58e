package overlay

import (
	"encoding/binary"
	"net/netip"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// A router that has to forward to, or to take from, a customer address that has not been learned asks for
// it as a router does: by ARP or Neighbor Discovery in the subnet, from its own MAC address, on this host
// and on all others of the subnet. A host that has learned the address of a VM of its own answers in the
// name of that VM; otherwise the VM's answer teaches its host, for the next time.

// inquire asks for a customer address of a subnet. local is the place of the provider address to ask from.
// The packet that is the reason for it is not kept.
func (w *Worker) inquire(sub *subnet, a ca, local int) {
	m := w.snap.members.get(uint32(sub.VSID))
	target := addrOf(a)
	router, ok := sub.routerFor(target.Is4())
	if m == nil || !ok {
		return
	}
	for _, p := range m.ports {
		w.toPort(w.question(target, addrOf(router), sub.router), p)
	}
	for _, to := range m.hosts {
		if p := w.snap.peers[to.peer()]; p.local < 0 {
			w.tell(w.question(target, addrOf(router), sub.router), sub.VSID, p, local, to.rule())
		}
	}
}

func addrOf(a ca) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b).Unmap()
}

// tell sends a frame that the worker has made to another host, if the way there is known.
func (w *Worker) tell(f *ports.Frame, vsid VSID, to *peer, local int, rule Encapsulation) (sent bool) {
	if local < 0 || local >= len(to.paths) || to.paths[local].hop == nil {
		return false
	}
	way := &to.paths[local]
	next, known := w.nextHop(way.hop, local)
	var h header.Header
	h.Parse(f.Head(), f.Len())
	if sent = known && way.tunnels[rule].put(f, &h, vsid, &next) == nil; sent {
		w.toProvider(f)
	}
	return sent
}

// inquiry answers the question of the router of another host, if it is one.
func (w *Worker) inquiry(f *ports.Frame, sub *subnet, m *members, e *Encapsulated, local int) bool {
	b, h := f.Head(), &w.h
	var asker, target ca
	switch {
	case h.Flags&header.ARP != 0 && binary.BigEndian.Uint16(b[h.L3+6:]) == arpRequest:
		asker, target = ca4(b[h.L3+14:]), ca4(b[h.L3+24:])
	case isSolicitation(b, h):
		asker, target = ca6(b[h.L3+8:]), ca6(b[h.L4+8:])
	default:
		return false
	}
	from := w.hostOf(sub, e)
	if !sub.Learning || !sub.isRouter(asker) || from == nil || m == nil {
		return false
	}
	rec := w.resolve(sub.VSID, target)
	if rec == nil {
		w.spread(f, m)
		return true
	}
	if w.snap.peers[rec.peer].local >= 0 {
		g := f
		if mac := rec.addr(); h.Flags&header.ARP != 0 {
			makeARPReply(b, int(h.L3), mac)
		} else {
			g = w.advertisement(b, h, mac, flagOverride)
		}
		if !w.tell(g, sub.VSID, from, local, e.Encapsulation) {
			w.drop(f, DropUnresolved)
		}
		return true
	}
	w.drop(f, DropAnswered) // another host knows better
	return true
}

// hostOf returns the host that a frame came from, if it has a part in the virtual network of a subnet.
func (w *Worker) hostOf(sub *subnet, e *Encapsulated) *peer {
	for _, vsid := range w.snap.domains.get(sub.domain).links {
		if m := w.snap.members.get(uint32(vsid)); m != nil && w.within(vsid, sub) {
			for _, to := range m.hosts {
				if p := w.snap.peers[to.peer()]; p.addr == e.Src && p.local < 0 {
					return p
				}
			}
		}
	}
	return nil
}

// isAnswer reports whether a frame is what an inquiry is answered with.
func isAnswer(b []byte, h *header.Header) bool {
	return h.Flags&header.ARP != 0 && binary.BigEndian.Uint16(b[h.L3+6:]) == arpReply || isND(b, h, typeNA)
}
