package acl

import "github.com/hvswitch/hvswitch/internal/header"

// Types of ICMP (RFC 792) and ICMPv6 (RFC 4443, RFC 4861).
const (
	echoReply4   = 0
	unreachable4 = 3
	quench4      = 4
	echoRequest4 = 8
	exceeded4    = 11
	parameter4   = 12

	unreachable6  = 1
	parameter6    = 4 // types 1 to 4 are errors
	echoRequest6  = 128
	echoReply6    = 129
	solicitation  = 135
	advertisement = 136
)

// setICMP fills in what is known of the first part of an ICMP message.
func (p *subject) setICMP(d Direction, filterND bool) {
	h := p.header
	b := p.head[h.L4:]
	typ, request := b[0], false
	p.kind = otherICMP
	if p.flow.family == v4 {
		switch typ {
		case unreachable4, quench4, exceeded4, parameter4:
			p.kind = errorICMP
			return
		case echoRequest4:
			request = true
		case echoReply4:
		default:
			return
		}
	} else {
		switch typ {
		case echoRequest6:
			request = true
		case echoReply6:
		case solicitation, advertisement:
			// The only ones that a host takes (RFC 4861, section 7.1; RFC 6980).
			if !filterND && p.head[h.L3+7] == 255 && b[1] == 0 && h.Flags&header.Fragment == 0 {
				p.kind = neighbor
			}
			return
		default:
			if typ >= unreachable6 && typ <= parameter6 {
				p.kind = errorICMP
			}
			return
		}
	}
	p.kind = echoReply
	if request {
		p.kind = echoRequest
	}
	asked := uint16(0)
	if request == (d == In) {
		asked = 1
	}
	p.flow.tail = tailOf(be16(b[4:]), asked, p.isolation, p.flow.protocol())
}

// quoted returns the flow of the packet that an ICMP error is about: one that went the other way. It
// reports false when there is no telling. seq is the sequence number when it is TCP.
func (p *subject) quotedFlow(d Direction) (f flow, seq uint32, ok bool) {
	h := p.header
	end := min(len(p.head), header.Limit)
	at := int(h.L4) + 8
	proto, l4 := uint8(0), 0
	quotedFamily := p.flow.family
	var addrs []byte
	if quotedFamily == v4 {
		if at+20 > end || p.head[at]>>4 != 4 {
			return f, 0, false
		}
		b := p.head[at:]
		n := int(b[0]&15) * 4
		if n < 20 || be16(b[6:])&0x1fff != 0 { // a later fragment has no ports
			return f, 0, false
		}
		proto, l4, addrs = b[9], at+n, b[12:20]
	} else {
		if at+40 > end || p.head[at]>>4 != 6 {
			return f, 0, false
		}
		addrs = p.head[at+8 : at+40]
		proto, l4 = p.head[at+6], at+40
		var fragment int
		proto, l4, fragment = skipExtensions(p.head[:end], proto, l4)
		if fragment > 0 && be16(p.head[fragment+2:])&0xfff8 != 0 {
			return f, 0, false
		}
	}
	if l4 <= 0 || l4+8 > end { // RFC 792 and RFC 4443 promise as much
		return f, 0, false
	}
	// The error goes to whoever sent the packet.
	half := len(addrs) / 2
	if string(h.AddrBytes(p.head)[half:]) != string(addrs[:half]) {
		return f, 0, false
	}
	other := Both - d
	f.setAddrs(addrs, other)
	b := p.head[l4:]
	switch {
	case hasPorts(Protocol(proto)):
		local, remote := be16(b), be16(b[2:])
		if other == In {
			local, remote = remote, local
		}
		f.tail = tailOf(local, remote, p.isolation, Protocol(proto))
		seq = be32(b[4:])
	case proto == header.ICMP && quotedFamily == v4 && (b[0] == echoRequest4 || b[0] == echoReply4),
		proto == header.ICMPv6 && quotedFamily == v6 && (b[0] == echoRequest6 || b[0] == echoReply6):
		asked := uint16(0)
		if (b[0] == echoRequest4 || b[0] == echoRequest6) == (other == In) {
			asked = 1
		}
		f.tail = tailOf(be16(b[4:]), asked, p.isolation, Protocol(proto))
	case proto == header.ICMP && quotedFamily == v4, proto == header.ICMPv6 && quotedFamily == v6:
		return f, 0, false
	default:
		f.tail = tailOf(0, 0, p.isolation, Protocol(proto))
	}
	return f, seq, true
}

// skipExtensions follows the chain of IPv6 extension headers from the header proto at at, as far as the
// bytes go. It returns the header behind it and its place, or 0 when it is not there, and the place of
// the fragment header, or 0. Behind that of a later fragment it does not look.
func skipExtensions(b []byte, proto uint8, at int) (last uint8, l4, fragment int) {
	for range 8 { // as many as the parser takes
		if !isExtension(proto) {
			return proto, at, fragment
		}
		if at+8 > len(b) {
			return proto, 0, fragment
		}
		this, n := proto, (int(b[at+1])+1)*8
		proto = b[at]
		switch this {
		case authentication:
			n = (int(b[at+1]) + 2) * 4
		case fragmentation:
			n, fragment = 8, at
			if be16(b[at+2:])&0xfff8 != 0 {
				return proto, at + n, fragment
			}
		}
		at += n
	}
	return proto, 0, fragment
}

// Extension headers (RFC 8200, section 4).
const (
	hopByHop       = 0
	routing        = 43
	fragmentation  = 44
	authentication = 51
	destination    = 60
)

func isExtension(proto uint8) bool {
	switch proto {
	case hopByHop, routing, fragmentation, authentication, destination:
		return true
	}
	return false
}
