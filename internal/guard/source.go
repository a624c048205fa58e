package guard

import "github.com/hvswitch/hvswitch/internal/header"

// protoIGMP is IGMP (RFC 3376, section 4), of which 0x11 is the type of queries.
const (
	protoIGMP = 2
	igmpQuery = 0x11
)

// Messages of Multicast Listener Discovery by which hosts report: RFC 2710, section 3 and RFC 3810,
// section 5.2.
const (
	mldReport  = 131
	mldDone    = 132
	mldReport2 = 143
)

// source4 judges the source of an IPv4 packet. Besides the assigned addresses there is 0.0.0.0, for hosts
// that have none yet: they send DHCP requests, and IGMP reports (RFC 3376, section 4.2.13).
func (p *Program) source4(s *subject) Reason {
	src := word32(s.head, s.l3+12)
	if p.assigned.has4(src) || src == 0 && (s.dhcpv4Client() || s.igmpReport()) {
		return Pass
	}
	return SourceAddress
}

func (s *subject) igmpReport() bool {
	return s.Proto == protoIGMP && s.Flags&header.Fragment == 0 && s.L4 != 0 &&
		s.head[s.L4] != igmpQuery && !s.overwritten(int(s.L4)) &&
		s.head[s.l3+16]>>4 == 0xe // to a group, 224.0.0.0/4
}

// source6 judges the source of an IPv6 packet. Besides the assigned addresses there is ::, for hosts that
// have none yet: they send solicitations, and reports about the groups that these are for (RFC 3590).
func (p *Program) source6(s *subject) Reason {
	src := load6(s.head, s.l3+8)
	if p.has6(s, src) || src == (addr6{}) && s.unspecified6() {
		return Pass
	}
	return SourceAddress
}

// unspecified6 reports whether a packet may have the source ::. It goes to groups of the link only.
func (s *subject) unspecified6() bool {
	if s.Proto != header.ICMPv6 || s.Flags&header.Fragment != 0 || s.L4 == 0 || word16(s.head, s.l3+24) != 0xff02 {
		return false
	}
	switch s.head[s.L4] {
	case icmpRouterSolicitation, mldReport, mldDone, mldReport2:
		return true
	case icmpNeighborSolicitation:
		return s.head[s.l3+24+11] == 1 && s.head[s.l3+24+12] == 0xff // ff02::1:ff00:0/104, RFC 4862, section 5.4.2
	}
	return false
}

// has6 reports whether a is assigned. With any MAC allowed that includes the link-local address which
// follows from that of the frame.
func (p *Program) has6(s *subject, a addr6) bool {
	return p.assigned.has6(a) || p.mac == 0 && a == linkLocalOf(p.hardware(s))
}

// hardware returns the hardware address that messages of this frame may claim.
func (p *Program) hardware(s *subject) uint64 {
	if p.mac != 0 {
		return p.mac
	}
	return loadMAC(s.head[6:])
}
