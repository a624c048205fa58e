package guard

import "github.com/hvswitch/hvswitch/internal/header"

// decisive is the number of bytes at the front of a datagram by which it is judged, rounded up to the
// unit of fragmentation: the UDP header and the first byte of a message, or the type of an ICMP message.
// First fragments hold as much of it as their verdict needs. No later fragment may reach into it (RFC
// 3128 says the same of TCP); senders cut far behind, at 1,232 bytes in IPv6 and hardly below 500 in
// IPv4.
const decisive = 16

// Parts of the fragmentation fields of IPv4 (RFC 791, section 3.1) and IPv6 (RFC 8200, section 4.5).
const (
	moreFragments4  = 0x2000
	fragmentOffset4 = 0x1fff // in units of 8 bytes
	moreFragments6  = 1
	fragmentOffset6 = 0xfff8 // in bytes
)

// fragment4 judges a fragment of IPv4 as a part of a datagram. Receivers match the protocol of
// fragments, so that of this one is the protocol of the datagram.
func (p *Program) fragment4(s *subject) Reason {
	if !p.messages() {
		return Pass
	}
	w := word16(s.head, s.l3+6)
	size := s.end - s.l3 - int(s.head[s.l3]&15)*4
	offset := int(w&fragmentOffset4) * 8
	return judgeFragment(offset, size, w&moreFragments4 != 0, s.Proto == header.UDP)
}

// judgeFragment judges size bytes at offset of a datagram. What is followed by more has a length that is
// a multiple of 8 (RFC 791, section 3.2): receivers cut off the rest, and with it might go a byte that
// the verdict was based on.
func judgeFragment(offset, size int, more, early bool) Reason {
	if more && size%8 != 0 || early && offset > 0 && offset < decisive {
		return BadFragment
	}
	return Pass
}

// Protocol numbers (IANA) of IPv6 extension headers.
const (
	nextHopByHop    = 0
	nextRouting     = 43
	nextFragment    = 44
	nextAuth        = 51
	nextDestination = 60
	nextShim6       = 140 // RFC 5533
	nextUnassigned  = 147 // the least; 253 and 254, for experiments, are beyond
)

// unknownNext reports whether something may follow the header with that number which is no transport
// protocol that is known. Such packets drop (RFC 7113, section 3; RFC 7610, section 5). Mobility (135) and HIP
// (139) are extension headers too, but nothing follows them (RFC 6275, section 6.1.1; RFC 7401, section
// 5.1).
func unknownNext(proto uint8) bool { return proto == nextShim6 || proto >= nextUnassigned }

// chain looks at the extension headers of a well-formed IPv6 packet as far as they concern fragments. It
// returns the offset of the fragment header; 0 when there is none.
//
// Nothing but the transport header may follow the fragment header. It could (RFC 8200, section 4.5), but
// nobody does so, and then the bytes by which a datagram is judged are its first ones.
//
// Not all receivers take the number of the next header from the fragment that they take the bytes from:
// some keep the first of two fragments that overlap, and the number of the second (FreeBSD before 12.2).
// So what is at the front of a datagram must be harmless as UDP, whatever it claims to be. That costs one
// in 65,000 of the pings that are too long for a packet: where their checksum is 546. As ICMPv6 it need not
// be harmless, because those receivers take no Neighbor Discovery from fragments.
func (p *Program) chain(s *subject) (fragment int, r Reason) {
	if !p.messages() {
		return 0, Pass
	}
	next, at := s.head[s.l3+6], s.l3+ipv6Len
	for at+8 <= min(s.end, len(s.head)) {
		this, n := next, 8
		switch this {
		case nextHopByHop, nextRouting, nextDestination:
			n = (int(s.head[at+1]) + 1) * 8
		case nextAuth:
			n = (int(s.head[at+1]) + 2) * 4
		case nextFragment:
			fragment = at
		default:
			return fragment, Pass
		}
		if fragment != 0 {
			break
		}
		next = s.head[at]
		at += n
	}
	if fragment == 0 {
		return 0, Pass // nothing behind the headers
	}
	at += 8
	w := word16(s.head, fragment+2)
	offset, more := int(w&fragmentOffset6), w&moreFragments6 != 0
	if r := judgeFragment(offset, s.end-at, more, true); r != Pass || offset > 0 {
		return fragment, r
	}
	switch s.head[fragment] {
	case nextHopByHop, nextRouting, nextFragment, nextAuth, nextDestination:
		return fragment, BadFragment
	}
	if !s.frame.Offload.IsZero() {
		return fragment, BadFragment // bytes at the front might still change
	}
	switch size := s.end - at; {
	case size == 0:
	case size < udpLen: // another fragment would complete the ports
		return fragment, BadFragment
	case p.dhcp && (at+udpLen > len(s.head) || s.dhcpv6Server(at, false)):
		return fragment, DHCPServer
	}
	return fragment, Pass
}
