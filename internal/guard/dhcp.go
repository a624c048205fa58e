package guard

import (
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// UDP ports of DHCP.
const (
	dhcpv4ServerPort = 67 // RFC 2131, section 4.1; of relay agents too
	dhcpv4ClientPort = 68
	dhcpv6ClientPort = 546 // RFC 8415, section 7.2
	dhcpv6ServerPort = 547 // of relay agents too
)

// dhcpPort reports whether port is one of DHCP, of either version.
func dhcpPort(port uint16) bool { return port-dhcpv4ServerPort < 2 || port-dhcpv6ClientPort < 2 }

// bootRequest is the op of all messages of DHCPv4 clients (RFC 2131, section 2). It is the first byte.
const bootRequest = 1

// dhcpv6ServerTypes is the set of messages that servers send (IANA, DHCPv6 message types): ADVERTISE,
// REPLY, RECONFIGURE, RELAY-REPL (RFC 8415, section 7.3), the answers to leasequeries (RFC 5007, RFC
// 5460), RECONFIGURE-REPLY (RFC 6977), DHCPV4-RESPONSE (RFC 7341) and ADDR-REG-REPLY (RFC 9686). The type
// is the first byte of a message. Types that are not assigned nobody acts on.
const dhcpv6ServerTypes = 1<<2 | 1<<7 | 1<<10 | 1<<13 | 1<<15 | 1<<16 | 1<<17 | 1<<19 | 1<<21 | 1<<37

// dhcpv4Server reports whether a UDP datagram, or its first fragment, is a message of a DHCPv4 server.
//
// Everything to the port of clients is, whatever port it comes from: clients look at the destination
// only. What goes to the port of servers and relay agents is, unless it is a request. What comes from
// there goes to no other port but to relay agents with a port of their own (RFC 8357).
func (s *subject) dhcpv4Server() bool {
	switch {
	case s.DstPort == dhcpv4ClientPort:
		return true
	case s.DstPort == dhcpv4ServerPort:
		op, ok := s.firstByte(int(s.L4))
		return !ok || op != bootRequest
	}
	return s.SrcPort == dhcpv4ServerPort
}

// dhcpv6Server reports the same of DHCPv6 for the UDP header at at (RFC 7610, section 5). With
// certain unset it is not sure that there is a UDP header: then only what would reach a client or, with
// the type of a server, a relay agent counts.
func (s *subject) dhcpv6Server(at int, certain bool) bool {
	src, dst := word16(s.head, at), word16(s.head, at+2)
	switch dst {
	case dhcpv6ClientPort:
		return true
	case dhcpv6ServerPort:
		t, ok := s.firstByte(at)
		return !ok || t < 64 && dhcpv6ServerTypes>>t&1 != 0
	}
	return certain && src == dhcpv6ServerPort
}

// firstByte returns the first byte of the payload of the UDP datagram at at, if that is sure to be what
// a receiver gets: in sight, not to be overwritten by a checksum, and not cut into datagrams each of which
// has a first byte of its own. It may lie behind the length that UDP claims, because not every client
// looks at that.
func (s *subject) firstByte(at int) (b byte, ok bool) {
	at += udpLen
	if at >= min(s.end, len(s.head)) || s.frame.Offload.Segment != ports.SegmentNone || s.overwritten(at) {
		return 0, false
	}
	return s.head[at], true
}

// overwritten reports whether completing the checksum of the frame changes the byte at at.
func (s *subject) overwritten(at int) bool {
	o := &s.frame.Offload
	field := int(o.ChecksumStart) + int(o.ChecksumOffset)
	return o.NeedsChecksum && (at == field || at == field+1)
}

// dhcpv4Client reports whether a packet is a message of a DHCPv4 client that has no address yet, which is
// what the source 0.0.0.0 is for (RFC 2131, section 4.1).
func (s *subject) dhcpv4Client() bool {
	return s.Proto == header.UDP && s.Flags&(header.Ports|header.Fragment) == header.Ports &&
		s.SrcPort == dhcpv4ClientPort && s.DstPort == dhcpv4ServerPort &&
		word32(s.head, s.l3+16) == broadcast4
}

const broadcast4 = 0xffffffff
