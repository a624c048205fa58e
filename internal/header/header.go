package header

import "net/netip"

// Limit is how far into a frame headers are parsed, in bytes. It equals ports.HeadLen, so the verdict on
// a frame does not depend on how much of it a backend put into the head, and all offsets stay inside the
// head of a fork.
const Limit = 256

// Header says where the headers of one frame are. It holds no pointers. Offsets count from the first
// byte of the head that was parsed; when bytes are put in front of it or taken away, it is to be parsed
// again.
//
// Of a malformed frame what lies in front of the fault is valid, and L4 and Payload are 0.
type Header struct {
	Flags Flags

	// EtherType is the type behind all tags and SNAP; a value below 0x600 is the length of an
	// 802.2 frame (IEEE 802.3, 3.2.6). 0 when the frame is too short.
	EtherType uint16

	// L3 is the offset of what follows the EtherType; 0 when the frame is too short.
	L3 uint16

	// L4 is the offset of the transport header; 0 when there is none, as in a later fragment.
	// The whole header of TCP (with options), UDP, SCTP and 8 bytes of ICMP are in the head.
	L4 uint16

	// Payload is the offset behind the TCP or UDP header; 0 for other protocols. It may be the
	// end of the frame.
	Payload uint16

	// SrcPort and DstPort are valid with Ports.
	SrcPort, DstPort uint16

	// Proto is the transport protocol (IANA protocol numbers): the last header behind all
	// extension headers of IPv6. Of a later fragment it is what the fragment header says. Valid
	// with IPv4 and IPv6.
	Proto uint8

	// Reason says what is wrong with the frame; OK when nothing is.
	Reason Reason
}

// Flags is a set of facts about a frame.
type Flags uint16

// Members of Flags.
const (
	// IPv4 and IPv6: a fixed IP header of that version is in the head, so its addresses can be
	// read; also of a malformed frame.
	IPv4 Flags = 1 << iota
	IPv6

	// ARP: a whole ARP packet for IPv4 over Ethernet (RFC 826) is in the head at L3.
	ARP

	// Fragment: a part of an IP datagram. An IPv6 fragment that is the whole datagram (RFC 6946)
	// is not one.
	Fragment

	// FirstFragment: the part at offset 0. It has a transport header.
	FirstFragment

	// Ports: SrcPort and DstPort are those of TCP, UDP or SCTP.
	Ports

	// Tagged: at least one VLAN tag is among the bytes.
	Tagged

	// SNAP: the EtherType stands in an 802.2 SNAP header (RFC 1042), behind an 802.3 length.
	SNAP
)

// Has reports whether all of want are set.
func (f Flags) Has(want Flags) bool { return f&want == want }

// Protocol numbers (IANA) that the parser knows.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
	SCTP   = 132

	hopByHop    = 0
	routing     = 43
	fragment    = 44
	auth        = 51
	noNext      = 59
	destination = 60
)

// EtherTypes (IEEE registration authority) that the parser knows.
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeIPv6 = 0x86dd

	etherType8021Q  = 0x8100
	etherType8021AD = 0x88a8
	etherTypeLeast  = 0x0600 // below is a length (IEEE 802.3, 3.2.6)
)

const (
	macsLen     = 12
	ethernetLen = 14
	tagLen      = 4
	snapLen     = 8
	arpLen      = 28
	ipv4Len     = 20
	ipv6Len     = 40
	tcpLen      = 20
	udpLen      = 8
	sctpLen     = 12
	icmpLen     = 8
)

// Addrs returns the IP source and destination of the frame whose head was parsed, or zero values when
// it has none.
func (h *Header) Addrs(head []byte) (src, dst netip.Addr) {
	switch a := h.AddrBytes(head); len(a) {
	case 8:
		return netip.AddrFrom4([4]byte(a)), netip.AddrFrom4([4]byte(a[4:]))
	case 32:
		return netip.AddrFrom16([16]byte(a)), netip.AddrFrom16([16]byte(a[16:]))
	}
	return netip.Addr{}, netip.Addr{}
}

// AddrBytes returns IP source and destination as they stand in the head, one behind the other: 8 bytes
// of IPv4, 32 of IPv6, else nil.
func (h *Header) AddrBytes(head []byte) []byte {
	switch l3 := int(h.L3); {
	case h.Flags&IPv4 != 0:
		return head[l3+12 : l3+20]
	case h.Flags&IPv6 != 0:
		return head[l3+8 : l3+40]
	}
	return nil
}
