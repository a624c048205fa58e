package ipfix

import (
	"encoding/binary"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// kind says which of the templates describes a flow.
type kind uint8

const (
	layer2 kind = iota
	ipv4
	ipv6
)

// key is what the packets of one flow at one port have in common. It has no pointers and no padding, so
// it is hashed and compared as 40 bytes of memory.
type key struct {
	addrs [32]byte // source and destination: 8 bytes of IPv4, 32 of IPv6; else 12 of destination and source MAC
	ports uint32   // source port << 16 | destination port; of ICMP type << 8 | code; of layer 2 the EtherType
	vlan  uint16
	proto uint8
	kind  kind
}

// packet is what metering needs of one packet.
type packet struct {
	key
	macs   [12]byte // destination and source
	octets uint32
	tcp    uint16 // control bits
}

// TCP control bits as bytes 12 and 13 of the header have them (RFC 9293, section 3.1), without the data
// offset.
const (
	tcpFIN     = 0x001
	tcpRST     = 0x004
	tcpControl = 0xfff
)

// read makes p what f is. A frame that is shorter than an Ethernet header has zero addresses.
func (p *packet) read(f *ports.Frame) {
	var h header.Header
	head := f.Head()
	h.Parse(head, f.Len())
	*p = packet{}
	copy(p.macs[:], head)
	p.vlan = f.VLAN.VID()
	l3 := int(h.L3)
	switch {
	case h.Flags&header.IPv4 != 0:
		p.kind = ipv4
		copy(p.addrs[:], head[l3+12:l3+20])
		p.octets = uint32(binary.BigEndian.Uint16(head[l3+2:]))
	case h.Flags&header.IPv6 != 0:
		p.kind = ipv6
		copy(p.addrs[:], head[l3+8:l3+40])
		p.octets = 40 + uint32(binary.BigEndian.Uint16(head[l3+4:]))
	default:
		copy(p.addrs[:], p.macs[:])
		p.ports = uint32(h.EtherType)
		p.octets = uint32(f.Len())
		return
	}
	p.proto = h.Proto
	if h.Reason != header.OK {
		p.octets = uint32(f.Len() - l3) // the length it claims may be the fault
	}
	switch l4 := int(h.L4); {
	case h.Flags&header.Ports != 0:
		p.ports = uint32(h.SrcPort)<<16 | uint32(h.DstPort)
		if h.Proto == header.TCP {
			p.tcp = binary.BigEndian.Uint16(head[l4+12:]) & tcpControl
		}
	case l4 != 0 && p.isICMP():
		p.ports = uint32(binary.BigEndian.Uint16(head[l4:]))
	}
}

// isICMP reports whether the ports of k are type and code: ICMP over IPv4 or ICMPv6 over IPv6.
func (k *key) isICMP() bool {
	return k.kind == ipv4 && k.proto == header.ICMP || k.kind == ipv6 && k.proto == header.ICMPv6
}

// flow is what is known about the packets of one flow.
type flow struct {
	key
	macs            [12]byte // of the first packet: destination and source
	tcp             uint16   // control bits of all packets
	first, last     int64    // packet, in ms since the epoch of the exporter
	packets, octets uint64
}

func (f *flow) add(p *packet, now int64) {
	f.packets++
	f.octets += uint64(p.octets)
	f.tcp |= p.tcp
	f.last = now
}

// endReason says why a flow is reported (IANA flowEndReason, RFC 5102, section 5.11.3).
type endReason uint8

const (
	idleTimeout endReason = 1 + iota
	activeTimeout
	endDetected
	forcedEnd
	lackOfResources
)

// record is a flow that is to be reported.
type record struct {
	flow
	port   uint32 // ingressInterface
	reason endReason
}
