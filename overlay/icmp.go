package overlay

import (
	"encoding/binary"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// icmpReason is why the router sends an ICMP error: type and code in IPv4 (RFC 792, RFC 1191) and IPv6
// (RFC 4443).
type icmpReason struct{ type4, code4, type6, code6 byte }

var (
	noRoute         = icmpReason{3, 0, 1, 0}
	hostUnreachable = icmpReason{3, 1, 1, 3}
	packetTooBig    = icmpReason{3, 4, 2, 0}
	timeExceeded    = icmpReason{11, 0, 3, 0}
)

const (
	icmpLen  = 8
	maxQuote = spareLen - ethernetLen - ipv6Len - icmpLen
)

// icmpError tells the sender of a packet why it went nowhere, in the name of the router of its subnet. The
// packet is as it was sent. mtu is that of packetTooBig, in bytes.
func (w *Worker) icmpError(f *ports.Frame, from origin, sub *subnet, why icmpReason, mtu int) {
	b, h := f.Head(), &w.h
	l3 := int(h.L3)
	router, ok := sub.routerFor(h.Flags&header.IPv4 != 0)
	if !ok || !mayBeTold(b, h) || !w.take(&from.port.limit) {
		return
	}
	g, buf := w.spares.next()
	if h.Flags&header.IPv4 != 0 {
		total := int(binary.BigEndian.Uint16(b[l3+2:]))
		quote := b[l3:min(l3+total, l3+maxQuote, len(b))]
		g.SetHead(buf, ports.Headroom, ethernetLen+ipv4Len+icmpLen+len(quote))
		r := g.Head()
		clear(r[:ethernetLen+ipv4Len+icmpLen])
		ip, icmp := r[ethernetLen:ethernetLen+ipv4Len], r[ethernetLen+ipv4Len:]
		binary.BigEndian.PutUint16(r[12:], typeIPv4)
		ip[0], ip[1], ip[8], ip[9] = 0x45, 0xc0, defaultHL, header.ICMP // precedence: RFC 1812, section 4.3.2.5
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(icmp)))
		binary.BigEndian.PutUint32(ip[12:], uint32(router.lo))
		copy(ip[16:], b[l3+12:l3+16])
		binary.BigEndian.PutUint16(ip[10:], checksum.Of(ip))
		icmp[0], icmp[1] = why.type4, why.code4
		if why == packetTooBig {
			binary.BigEndian.PutUint16(icmp[6:], uint16(mtu)) // RFC 1191, section 4
		}
		copy(icmp[icmpLen:], quote)
		binary.BigEndian.PutUint16(icmp[2:], checksum.Of(icmp))
	} else {
		total := ipv6Len + int(binary.BigEndian.Uint16(b[l3+4:]))
		quote := b[l3:min(l3+total, l3+maxQuote, len(b))]
		g.SetHead(buf, ports.Headroom, ethernetLen+ipv6Len+icmpLen+len(quote))
		r := g.Head()
		clear(r[:ethernetLen+ipv6Len+icmpLen])
		ip, icmp := r[ethernetLen:], r[ethernetLen+ipv6Len:]
		binary.BigEndian.PutUint64(ip[8:], router.hi)
		binary.BigEndian.PutUint64(ip[16:], router.lo)
		copy(ip[24:40], b[l3+8:l3+24])
		icmp[0], icmp[1] = why.type6, why.code6
		if why == packetTooBig {
			binary.BigEndian.PutUint32(icmp[4:], uint32(mtu))
		}
		copy(icmp[icmpLen:], quote)
		finishIPv6(r, header.ICMPv6, defaultHL)
	}
	r := g.Head()
	copy(r, from.mac[:])
	copy(r[6:], sub.router[:])
	w.toPort(g, from.port)
}

// routerFor returns an address of the router of that IP version.
func (s *subnet) routerFor(v4 bool) (a ca, ok bool) {
	for _, r := range s.routers {
		if (r.hi == 0 && r.lo>>32 == 0xffff) == v4 {
			return r, true
		}
	}
	return ca{}, false
}

// mayBeTold reports whether an ICMP error may be sent about a packet (RFC 1812, section 4.3.2.7; RFC 4443,
// section 2.4 (e)): it is unicast, no later fragment, of one sender, and no ICMP error itself.
func mayBeTold(b []byte, h *header.Header) bool {
	if ports.MAC(b).IsGroup() || h.Flags&header.Fragment != 0 && h.Flags&header.FirstFragment == 0 {
		return false
	}
	l3 := int(h.L3)
	switch {
	case h.Flags&header.IPv4 != 0:
		src, dst := ca4(b[l3+12:]), ca4(b[l3+16:])
		if src == wildcard(src) || isGroupCA(src) || isGroupCA(dst) {
			return false
		}
		if h.Proto != header.ICMP || h.L4 == 0 {
			return h.Proto != header.ICMP
		}
		switch b[h.L4] {
		case 0, 8, 13, 14: // echo and timestamp; the rest are errors, or nobody knows
			return true
		}
		return false
	case h.Flags&header.IPv6 != 0:
		src, dst := ca6(b[l3+8:]), ca6(b[l3+24:])
		if src == (ca{}) || isGroupCA(src) || isGroupCA(dst) {
			return false
		}
		return h.Proto != header.ICMPv6 || h.L4 != 0 && b[h.L4] >= 128 && b[h.L4] != 137
	}
	return false
}
