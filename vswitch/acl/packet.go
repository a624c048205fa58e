package acl

import (
	"math/bits"

	"github.com/hvswitch/hvswitch/internal/header"
)

// packet is a frame to be judged.
type packet struct {
	head      []byte         // private memory that does not change; the bytes that were parsed
	header    *header.Header // of head
	size      int            // of the frame, bytes: what a meter counts
	isolation uint32         // VLAN ID or virtual subnet ID, up to maxIsolation; 0 is none
}

// plain4 reports whether a packet is IPv4 with ports and whole, as most are.
func plain4(h *header.Header) bool {
	return h.Flags == header.IPv4|header.Ports && h.Reason == header.OK
}

// key4 returns the first word of the addresses and the tail of the flow of a packet that is plain4.
func key4(d Direction, head []byte, h *header.Header, isolation uint32) (addrs, tail uint64) {
	addrs = be64(head[h.L3+12:])
	local, remote := uint64(h.SrcPort), uint64(h.DstPort)
	if d == In {
		addrs = bits.RotateLeft64(addrs, 32)
		local, remote = remote, local
	}
	return addrs, local<<48 | remote<<32 | uint64(isolation&maxIsolation)<<8 | uint64(h.Proto)
}

// subject is a packet under judgement.
type subject struct {
	packet
	kind packetKind
	part bool // a fragment
	flow flow
}

// packetKind says how a packet is judged.
type packetKind uint8

const (
	notIP packetKind = iota
	malformed
	neighbor    // IPv6 neighbor discovery
	laterPart   // a fragment without a transport header
	segmentTCP  // has a connection with states
	datagram    // UDP, SCTP and other protocols: a connection without
	echoRequest // likewise, begins one
	echoReply   // does not
	errorICMP   // may be related to a connection
	otherICMP   // has no connection
)

// classify fills in what all stages need to know of the packet.
func (p *subject) classify(d Direction, key *hashKey, filterND bool) {
	h := p.header
	if h.Flags&(header.IPv4|header.IPv6) == 0 || h.Reason != header.OK {
		p.kind = malformed
		if h.EtherType != header.EtherTypeIPv4 && h.EtherType != header.EtherTypeIPv6 &&
			(h.Reason == header.OK || h.EtherType == header.EtherTypeARP) {
			p.kind = notIP
		}
		return
	}
	p.flow.setAddrs(h.AddrBytes(p.head), d)
	p.part = h.Flags&header.Fragment != 0
	switch {
	case h.Flags&header.Ports != 0:
		local, remote := h.SrcPort, h.DstPort
		if d == In {
			local, remote = remote, local
		}
		p.flow.tail = tailOf(local, remote, p.isolation, Protocol(h.Proto))
		p.kind = datagram
		if h.Proto == header.TCP {
			p.kind = segmentTCP
		}
	case h.Flags&(header.Fragment|header.FirstFragment) == header.Fragment:
		p.flow.tail = tailOf(0, 0, p.isolation, Protocol(h.Proto))
		p.kind = laterPart
		return
	default:
		p.flow.tail = tailOf(0, 0, p.isolation, Protocol(h.Proto))
		p.kind = datagram
		if h.Proto == header.ICMP && p.flow.family == v4 || h.Proto == header.ICMPv6 && p.flow.family == v6 {
			p.setICMP(d, filterND)
		}
	}
	p.flow.hash = key.hash(&p.flow)
}
