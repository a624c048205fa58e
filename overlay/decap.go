package overlay

import (
	"encoding/binary"
	"net/netip"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// A Decoder takes outer headers away. The zero Decoder is ready. It is used by any number of goroutines
// at once.
type Decoder struct {
	// VXLANPort and GenevePort are UDP destination ports; 0 means those that IANA assigned.
	VXLANPort, GenevePort uint16

	// ZeroUDPChecksum takes UDP over IPv6 without a checksum (RFC 6936, section 5).
	ZeroUDPChecksum bool
}

// Encapsulated is what outer headers said.
type Encapsulated struct {
	Encapsulation Encapsulation
	VSID          VSID
	FlowID        uint8      // of NVGRE; 0 when the sender made none
	Src, Dst      netip.Addr // provider addresses
	DstMAC        ports.MAC
	VLAN          ports.Tag // of the provider network
}

// Decap checks the outer headers of f, which must be in its head, tells what they say in e, and removes
// them, so that f is the inner frame. The caller must own the head. With a reason other than zero f is
// unchanged but for a tag, which is then beside it, and e is not valid.
//
// The checks: no outer fragment (RFC 7637, section 4.4); the IPv4 header checksum, and that of UDP where
// there is one; GRE with a key and without checksum, routing and sequence number, version 0 (RFC 7637,
// section 3.2; RFC 2784, section 2.1); the I bit of VXLAN, reserved bits ignored (RFC 7348, section 5);
// Geneve version 0, no control message, options skipped if none is critical (RFC 8926, section 3.5); a
// VSID that is not reserved; a whole inner Ethernet header without a VLAN tag. Congestion marked on the
// way is handed on to the inner packet (RFC 6040, section 4.2).
func (d *Decoder) Decap(f *ports.Frame, e *Encapsulated) Drop {
	b := f.Head()
	if len(b) < ethernetLen+ipv4Len {
		return DropNotTunnel
	}
	if t := binary.BigEndian.Uint16(b[12:]); t != typeIPv4 && t != typeIPv6 {
		if !f.PopTag() {
			return DropNotTunnel
		}
		if b = f.Head(); len(b) < ethernetLen+ipv4Len {
			return DropNotTunnel
		}
	}
	end := f.Len()
	var l4 int
	var proto, class uint8
	switch binary.BigEndian.Uint16(b[12:]) {
	case typeIPv4:
		ip := b[ethernetLen:]
		proto, class = ip[9], ip[1]
		if proto != protoGRE && proto != protoUDP {
			return DropNotTunnel
		}
		n := int(ip[0]&15) * 4
		total := int(binary.BigEndian.Uint16(ip[2:]))
		if ip[0]>>4 != 4 || n < ipv4Len || total < n || ethernetLen+total > end || n > len(ip) {
			return DropOuter
		}
		if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
			return DropFragment
		}
		if n == ipv4Len && sumIPv4((*[ipv4Len]byte)(ip)) != 0 || n > ipv4Len && checksum.Of(ip[:n]) != 0 {
			return DropOuterChecksum
		}
		end = ethernetLen + total
		l4 = ethernetLen + n
		e.Src, e.Dst = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	case typeIPv6:
		if len(b) < ethernetLen+ipv6Len {
			return DropOuter
		}
		ip := b[ethernetLen:]
		proto, class = ip[6], ip[0]<<4|ip[1]>>4
		l4 = ethernetLen + ipv6Len
		total := ipv6Len + int(binary.BigEndian.Uint16(ip[4:]))
		if ip[0]>>4 != 6 || ethernetLen+total > end {
			return DropOuter
		}
		if proto != protoGRE && proto != protoUDP {
			// Such as a tunnel encapsulation limit (RFC 2473, section 4.1.1).
			var drop Drop
			if l4, proto, drop = behindExtensions(b, end); drop != 0 {
				return drop
			}
		}
		end = ethernetLen + total
		e.Src, e.Dst = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	default:
		return DropNotTunnel
	}
	if min(len(b), end) < l4+tunnelLen {
		return DropOuter
	}
	var at int // of the inner frame
	var drop Drop
	if proto == protoGRE {
		at, drop = decapNVGRE(b, l4, e)
	} else {
		at, drop = d.decapUDP(f, b, l4, end, e)
	}
	if drop != 0 {
		return drop
	}
	if !e.VSID.IsValid() {
		return DropReservedVSID
	}
	if min(len(b), end)-at < ethernetLen {
		return DropInner
	}
	if t := binary.BigEndian.Uint16(b[at+12:]); t == ports.TPID8021Q || t == ports.TPID8021AD {
		return DropInnerTag
	}
	if class&3 != 0 && !mark(b[at:], class&3) {
		return DropECN
	}
	if o := &f.Offload; proto == protoUDP && o.Segment == ports.SegmentNone && int(o.ChecksumStart) == l4 {
		f.Offload = ports.Offload{} // it asks for the outer checksum
	}
	e.DstMAC = ports.MAC(b[:6])
	e.VLAN, f.VLAN = f.VLAN, ports.Tag{}
	f.TrimFront(at)
	return 0
}

// sumIPv4 is checksum.Of for a header without options.
func sumIPv4(ip *[ipv4Len]byte) uint16 {
	s := uint64(binary.BigEndian.Uint32(ip[0:])) + uint64(binary.BigEndian.Uint32(ip[4:])) + uint64(binary.BigEndian.Uint32(ip[8:])) +
		uint64(binary.BigEndian.Uint32(ip[12:])) + uint64(binary.BigEndian.Uint32(ip[16:]))
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return ^uint16(s>>16 + s)
}

func behindExtensions(b []byte, frameLen int) (l4 int, proto uint8, drop Drop) {
	var h header.Header
	h.Parse(b, frameLen)
	switch {
	case h.Flags&header.Fragment != 0:
		return 0, 0, DropFragment
	case h.Reason != header.OK:
		return 0, 0, DropOuter
	case h.L4 == 0 || h.Proto != protoGRE && h.Proto != protoUDP:
		return 0, 0, DropNotTunnel
	}
	return int(h.L4), h.Proto, 0
}

func decapNVGRE(b []byte, at int, e *Encapsulated) (inner int, drop Drop) {
	// C, R, K, S and the bits up to 5 and the version decide; the rest is ignored (RFC 2784,
	// section 2.1).
	if w := binary.BigEndian.Uint32(b[at:]); w&0xfc07ffff != greKey<<16|typeTEB {
		return 0, DropTunnelHeader
	}
	key := binary.BigEndian.Uint32(b[at+4:])
	e.Encapsulation, e.VSID, e.FlowID = NVGRE, VSID(key>>8), uint8(key)
	return at + tunnelLen, 0
}

func (d *Decoder) decapUDP(f *ports.Frame, b []byte, at, end int, e *Encapsulated) (inner int, drop Drop) {
	udp := b[at:]
	port := binary.BigEndian.Uint16(udp[2:])
	switch port {
	case orDefault(d.VXLANPort, VXLANPort):
		e.Encapsulation = VXLAN
	case orDefault(d.GenevePort, GenevePort):
		e.Encapsulation = Geneve
	default:
		return 0, DropNotTunnel
	}
	e.FlowID = 0
	n := int(binary.BigEndian.Uint16(udp[4:]))
	if n < udpLen+tunnelLen || at+n > end || len(udp) < udpLen+tunnelLen {
		return 0, DropOuter
	}
	switch sum := binary.BigEndian.Uint16(udp[6:]); {
	case sum == 0:
		if e.Dst.Is6() && !d.ZeroUDPChecksum {
			return 0, DropOuterChecksum
		}
	case f.Offload.ChecksumValid, !f.Offload.IsZero():
		// Checked already, or it has never left memory and covers what is still to be done.
	default:
		addrs := b[ethernetLen+12 : ethernetLen+20]
		if e.Dst.Is6() {
			addrs = b[ethernetLen+8 : ethernetLen+40]
		}
		if sumOf(f, addrs, udp) != 0 {
			return 0, DropOuterChecksum
		}
	}
	t := udp[udpLen : udpLen+tunnelLen]
	e.VSID = VSID(binary.BigEndian.Uint32(t[4:]) >> 8)
	at += udpLen + tunnelLen
	if e.Encapsulation == VXLAN {
		if t[0]&0x08 == 0 {
			return 0, DropTunnelHeader
		}
		return at, 0
	}
	options := int(t[0]&0x3f) * 4
	if t[0]>>6 != 0 || binary.BigEndian.Uint16(t[2:]) != typeTEB {
		return 0, DropTunnelHeader
	}
	if t[1]&0xc0 != 0 { // O: a control message; C: a critical option, and none is known here
		return 0, DropOption
	}
	if at+options > min(len(b), end) {
		return 0, DropOuter
	}
	for o := b[at : at+options]; len(o) > 0; { // RFC 8926, section 3.5
		n := 4 + int(o[3]&0x1f)*4
		if n > len(o) {
			return 0, DropTunnelHeader
		}
		if o[2]&0x80 != 0 {
			return 0, DropOption
		}
		o = o[n:]
	}
	return at + options, 0
}

func orDefault(port, def uint16) uint16 {
	if port == 0 {
		return def
	}
	return port
}
