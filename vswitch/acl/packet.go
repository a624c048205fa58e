package acl

import (
	"math/bits"

	"github.com/hvswitch/hvswitch/internal/header"
)

// Packet is a frame to be judged. The caller fills in the first four fields; nothing of it is kept.
type Packet struct {
	Head      []byte         // private memory that does not change; the bytes that were parsed
	Header    *header.Header // of Head
	Len       int            // of the frame, bytes: what a meter counts
	Isolation uint32         // VLAN ID or virtual subnet ID, up to 16,777,215; 0 is none

	// Verdict is the result.
	Verdict Verdict

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
func (p *Packet) classify(d Direction, key *hashKey, filterND bool) {
	h := p.Header
	if h.Flags == header.IPv4|header.Ports && h.Reason == header.OK { // most
		w, ports := be64(p.Head[h.L3+12:]), uint64(h.SrcPort)<<48|uint64(h.DstPort)<<32
		if d == In {
			w = bits.RotateLeft64(w, 32)
			ports = uint64(h.DstPort)<<48 | uint64(h.SrcPort)<<32
		}
		tail := ports | uint64(p.Isolation&maxIsolation)<<8 | uint64(h.Proto)
		p.flow.addr[0], p.flow.tail, p.flow.family = w, tail, v4
		p.flow.hash = key.hash4(w, tail)
		p.kind, p.part = datagram, false
		if h.Proto == header.TCP {
			p.kind = segmentTCP
		}
		return
	}
	p.classifyAny(d, key, filterND)
}

func (p *Packet) classifyAny(d Direction, key *hashKey, filterND bool) {
	h := p.Header
	if h.Flags&(header.IPv4|header.IPv6) == 0 || h.Reason != header.OK {
		p.kind = malformed
		if h.EtherType != header.EtherTypeIPv4 && h.EtherType != header.EtherTypeIPv6 &&
			(h.Reason == header.OK || h.EtherType == header.EtherTypeARP) {
			p.kind = notIP
		}
		return
	}
	p.flow.setAddrs(h.AddrBytes(p.Head), d)
	p.part = h.Flags&header.Fragment != 0
	switch {
	case h.Flags&header.Ports != 0:
		local, remote := h.SrcPort, h.DstPort
		if d == In {
			local, remote = remote, local
		}
		p.flow.tail = tailOf(local, remote, p.Isolation, Protocol(h.Proto))
		p.kind = datagram
		if h.Proto == header.TCP {
			p.kind = segmentTCP
		}
	case h.Flags&(header.Fragment|header.FirstFragment) == header.Fragment:
		p.flow.tail = tailOf(0, 0, p.Isolation, Protocol(h.Proto))
		p.kind = laterPart
		return
	default:
		p.flow.tail = tailOf(0, 0, p.Isolation, Protocol(h.Proto))
		p.kind = datagram
		if h.Proto == header.ICMP && p.flow.family == v4 || h.Proto == header.ICMPv6 && p.flow.family == v6 {
			p.setICMP(d, filterND)
		}
	}
	p.flow.hash = key.hash(&p.flow)
}
