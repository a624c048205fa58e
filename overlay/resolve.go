package overlay

import (
	"encoding/binary"
	"net/netip"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// Operations of ARP (RFC 826).
const (
	arpRequest = 1
	arpReply   = 2
	arpLen     = 28
)

// arp answers the ARP requests of guests: for the router and, from the records, for everybody. It returns
// false when the frame is to go the way of other frames.
func (w *Worker) arp(f *ports.Frame, from origin, sub *subnet) bool {
	b := f.Head()
	a := b[w.h.L3 : w.h.L3+arpLen]
	if binary.BigEndian.Uint16(a[6:]) != arpRequest {
		if ports.MAC(b).IsGroup() && !sub.Learning && sub.Unknown == DropUnknown {
			w.drop(f, DropAnswered) // an announcement (RFC 5227, section 3) of what the records say
			return true
		}
		return false
	}
	target := ca4(a[24:])
	if target == ca4(a[14:]) && target != wildcard(target) { // an announcement
		if sub.Learning || sub.Unknown == FloodUnknown {
			return false
		}
		w.drop(f, DropAnswered)
		return true
	}
	mac, known := w.resolveFor(sub, target)
	switch {
	case mac == from.mac:
		w.drop(f, DropAnswered) // its own, such as when it looks whether it is the only one
	case known:
		if w.notes != nil {
			w.note("ARP: answered that %s is at %s", addrOf(target), mac)
		}
		makeARPReply(b, int(w.h.L3), mac)
		f.Offload = ports.Offload{}
		w.toPort(f, from.port)
	case sub.Learning || sub.Unknown == FloodUnknown:
		return false
	default:
		w.drop(f, DropNoRecord)
	}
	return true
}

// resolveFor returns the MAC address that a guest is to use for an address in its subnet.
func (w *Worker) resolveFor(sub *subnet, a ca) (mac ports.MAC, known bool) {
	if sub.isRouter(a) {
		return sub.router, true
	}
	if r := w.resolve(sub.VSID, a); r != nil && a != wildcard(a) {
		return r.addr(), true
	}
	return ports.MAC{}, false
}

// makeARPReply makes a request the answer that its target has mac.
func makeARPReply(b []byte, at int, mac ports.MAC) {
	a := b[at : at+arpLen]
	copy(b[:6], a[8:14])
	copy(b[6:12], mac[:])
	binary.BigEndian.PutUint16(a[6:], arpReply)
	swap(a[14:18], a[24:28])
	copy(a[18:24], a[8:14])
	copy(a[8:14], mac[:])
}

// Neighbor Discovery (RFC 4861, sections 4.3 and 4.4).
const (
	typeNS = 135
	typeNA = 136
	ndLen  = 24 // without options

	flagRouter    = 0x80
	flagSolicited = 0x40
	flagOverride  = 0x20
)

// isSolicitation reports whether a frame is a neighbor solicitation that a host takes (RFC 4861, section
// 7.1.1).
func isSolicitation(b []byte, h *header.Header) bool { return isND(b, h, typeNS) }

func isND(b []byte, h *header.Header, typ byte) bool {
	return h.Flags&header.IPv6 != 0 && h.Proto == header.ICMPv6 && h.L4 != 0 && h.Flags&header.Fragment == 0 &&
		b[h.L4] == typ && b[h.L4+1] == 0 && b[h.L3+7] == 255 && len(b) >= int(h.L4)+ndLen
}

// solicitation answers the neighbor solicitations of guests as arp does.
func (w *Worker) solicitation(f *ports.Frame, from origin, sub *subnet) bool {
	b, h := f.Head(), &w.h
	target := ca6(b[h.L4+8:])
	if target.hi>>54 == 0xfe80>>6 {
		return false // of no concern to records
	}
	mac, known := w.resolveFor(sub, target)
	switch {
	case mac == from.mac:
		if sub.Learning || sub.Unknown == FloodUnknown {
			return false
		}
		w.drop(f, DropAnswered)
	case known:
		if w.notes != nil {
			w.note("Neighbor Discovery: answered that %s is at %s", addrOf(target), mac)
		}
		flags := byte(flagOverride)
		if mac == sub.router {
			flags |= flagRouter
		}
		w.toPort(w.advertisement(b, h, mac, flags), from.port)
	case sub.Learning || sub.Unknown == FloodUnknown:
		return false
	default:
		w.drop(f, DropNoRecord)
	}
	return true
}

// advertisement returns the answer to a solicitation: that its target has mac. To somebody who looks
// whether the address is free it goes to all nodes (RFC 4861, section 7.2.4).
func (w *Worker) advertisement(b []byte, h *header.Header, mac ports.MAC, flags byte) *ports.Frame {
	const n = ethernetLen + ipv6Len + ndLen + 8
	g, buf := w.spares.next()
	g.SetHead(buf, ports.Headroom, n)
	r := g.Head()
	clear(r)
	copy(r, b[6:12])
	ip, icmp := r[ethernetLen:], r[ethernetLen+ipv6Len:]
	copy(ip[24:40], b[h.L3+8:h.L3+24])
	if src := ca6(b[h.L3+8:]); src == (ca{}) {
		copy(r, []byte{0x33, 0x33, 0, 0, 0, 1})
		copy(ip[24:], []byte{0xff, 0x02, 15: 1})
	} else {
		flags |= flagSolicited
	}
	copy(r[6:], mac[:])
	copy(ip[8:24], b[h.L4+8:h.L4+24])
	icmp[0], icmp[4] = typeNA, flags
	copy(icmp[8:24], b[h.L4+8:h.L4+24])
	icmp[24], icmp[25] = 2, 1 // target link-layer address
	copy(icmp[26:], mac[:])
	finishIPv6(r, header.ICMPv6, 255)
	return g
}

// finishIPv6 fills in what is left of an ICMPv6 packet whose addresses and message are there.
func finishIPv6(r []byte, proto, hops byte) {
	binary.BigEndian.PutUint16(r[12:], typeIPv6)
	ip, icmp := r[ethernetLen:], r[ethernetLen+ipv6Len:]
	ip[0], ip[6], ip[7] = 0x60, proto, hops
	binary.BigEndian.PutUint16(ip[4:], uint16(len(icmp)))
	icmp[2], icmp[3] = 0, 0
	var s checksum.Sum
	s.AddPseudo(ip[8:40], proto, uint32(len(icmp)))
	s.Add(icmp)
	binary.BigEndian.PutUint16(icmp[2:], s.Checksum())
}

// nextHop returns the MAC address of a next hop, and whether it is known. local is the place of the provider
// address to ask from.
func (w *Worker) nextHop(n *neighbor, local int) (mac ports.MAC, known bool) {
	if w.notes != nil {
		if mac, known = n.known(); known {
			w.note("next hop: %s is at %s", n.addr, mac)
		} else {
			w.note("next hop: %s is not known, and would be asked for", n.addr)
		}
		return mac, known
	}
	mac, known, ask := n.resolve(w.now)
	if ask {
		w.ask(n, &w.snap.provider.Addresses[local])
	}
	return mac, known
}

// ask sends a question for a next hop into the provider network.
func (w *Worker) ask(n *neighbor, a *ProviderAddress) {
	g := w.question(n.addr, a.Address.Addr(), a.MAC)
	g.VLAN = a.tag()
	w.toProvider(g)
}

// question returns an ARP request or a neighbor solicitation for target from the station with src and mac.
func (w *Worker) question(target, src netip.Addr, mac ports.MAC) *ports.Frame {
	g, buf := w.spares.next()
	if target.Is4() {
		g.SetHead(buf, ports.Headroom, ethernetLen+arpLen)
		r := g.Head()
		clear(r)
		copy(r, ports.Broadcast[:])
		copy(r[6:], mac[:])
		binary.BigEndian.PutUint16(r[12:], typeARP)
		p := r[ethernetLen:]
		binary.BigEndian.PutUint64(p, 0x0001_0800_0604_0001)
		copy(p[8:], mac[:])
		put4(p[14:], src)
		put4(p[24:], target)
		return g
	}
	g.SetHead(buf, ports.Headroom, ethernetLen+ipv6Len+ndLen+8)
	r := g.Head()
	clear(r)
	s, t := src.As16(), target.As16()
	copy(r, []byte{0x33, 0x33, 0xff, t[13], t[14], t[15]})
	copy(r[6:], mac[:])
	ip, icmp := r[ethernetLen:], r[ethernetLen+ipv6Len:]
	copy(ip[8:], s[:])
	copy(ip[24:], []byte{0xff, 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]}) // RFC 4291, section 2.7.1
	icmp[0] = typeNS
	copy(icmp[8:], t[:])
	icmp[24], icmp[25] = 1, 1 // source link-layer address
	copy(icmp[26:], mac[:])
	finishIPv6(r, header.ICMPv6, 255)
	return g
}

func put4(b []byte, a netip.Addr) {
	v := a.As4()
	copy(b, v[:])
}
