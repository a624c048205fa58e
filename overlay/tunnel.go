package overlay

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// TunnelConfig is the outer header of frames to one provider address.
type TunnelConfig struct {
	Encapsulation Encapsulation

	// Src and Dst are provider addresses of the same family.
	Src, Dst netip.Addr

	// SrcMAC is that of the interface, DstMAC that of the next hop.
	SrcMAC, DstMAC ports.MAC

	// VLAN is the tag of the provider network; it rides beside the encapsulated frame.
	VLAN ports.Tag

	// TTL is the outer TTL or hop limit; 0 means 64.
	TTL uint8

	// DSCP is that of the outer header, 0 … 63. With CopyDSCP the inner one is copied instead
	// (RFC 2983, section 3.1, the uniform model), so guests choose their class of service on the
	// provider network. ECN is always copied (RFC 6040, section 4.1, normal mode).
	DSCP     uint8
	CopyDSCP bool

	// Port is the UDP destination port of VXLAN and Geneve; 0 means VXLANPort or GenevePort.
	Port uint16

	// ZeroUDPChecksum sends UDP over IPv6 without a checksum, which the receiver must have been
	// told to take (RFC 6935, section 5; RFC 6936, section 5). Over IPv4 none is sent anyway
	// (RFC 7348, section 5; RFC 8926, section 3.3).
	ZeroUDPChecksum bool
}

// A Tunnel encapsulates frames to one provider address. It is immutable and used by any number of
// goroutines.
type Tunnel struct {
	outer    [maxOuterLen]byte // all that does not depend on the frame
	n        int               // bytes of outer
	sum      uint32            // of the IPv4 header in outer
	dscp     uint8             // in the bits of the traffic class
	copyDSCP bool
	v6       bool
	checksum bool // of UDP is to be computed
	encap    Encapsulation
	vlan     ports.Tag
}

// NewTunnel returns the tunnel of a configuration, or a *ConfigError.
func NewTunnel(c *TunnelConfig) (*Tunnel, error) {
	wrong := func(field string, value any, reason string) (*Tunnel, error) {
		return nil, &ConfigError{fmt.Sprintf("tunnel %s → %s", c.Src, c.Dst), field, fmt.Sprint(value), reason}
	}
	switch {
	case c.Encapsulation >= encapsulations:
		return wrong("Encapsulation", uint8(c.Encapsulation), "does not exist")
	case !isUnicast(c.Src):
		return wrong("Src", c.Src, notUnicast)
	case !isUnicast(c.Dst):
		return wrong("Dst", c.Dst, notUnicast)
	case c.Src.Is4() != c.Dst.Is4():
		return wrong("Dst", c.Dst, "is of another IP version than Src")
	case c.DSCP > 63:
		return wrong("DSCP", c.DSCP, "is out of 0–63")
	}
	t := &Tunnel{
		n:        c.Encapsulation.Overhead(c.Dst),
		dscp:     c.DSCP << 2,
		copyDSCP: c.CopyDSCP,
		v6:       c.Dst.Is6(),
		encap:    c.Encapsulation,
		vlan:     c.VLAN,
	}
	t.checksum = t.v6 && c.Encapsulation != NVGRE && !c.ZeroUDPChecksum
	ttl := c.TTL
	if ttl == 0 {
		ttl = defaultHL
	}
	b := t.outer[:]
	copy(b, c.DstMAC[:])
	copy(b[6:], c.SrcMAC[:])
	proto := uint8(protoUDP)
	if c.Encapsulation == NVGRE {
		proto = protoGRE
	}
	l4 := b[ethernetLen+ipv4Len:]
	if ip := b[ethernetLen:]; t.v6 {
		binary.BigEndian.PutUint16(b[12:], typeIPv6)
		ip[0], ip[6], ip[7] = 0x60, proto, ttl
		copy(ip[8:], c.Src.AsSlice())
		copy(ip[24:], c.Dst.AsSlice())
		l4 = b[ethernetLen+ipv6Len:]
	} else {
		binary.BigEndian.PutUint16(b[12:], typeIPv4)
		ip[0], ip[8], ip[9] = 0x45, ttl, proto
		// Never fragmented on the way (RFC 7637, section 4.4; RFC 7348, section 4.3), so no ID is
		// needed (RFC 6864, section 4.1).
		binary.BigEndian.PutUint16(ip[6:], dontFrag)
		copy(ip[12:], c.Src.AsSlice())
		copy(ip[16:], c.Dst.AsSlice())
		t.sum = uint32(^checksum.Of(ip[:ipv4Len]))
	}
	port := c.Port
	switch c.Encapsulation {
	case NVGRE:
		binary.BigEndian.PutUint16(l4, greKey)
		binary.BigEndian.PutUint16(l4[2:], typeTEB)
	case VXLAN:
		if port == 0 {
			port = VXLANPort
		}
		binary.BigEndian.PutUint16(l4[2:], port)
		binary.BigEndian.PutUint16(l4[udpLen:], vxlanVNI)
	case Geneve:
		if port == 0 {
			port = GenevePort
		}
		binary.BigEndian.PutUint16(l4[2:], port)
		binary.BigEndian.PutUint16(l4[udpLen+2:], typeTEB)
	}
	return t, nil
}

const notUnicast = "is no unicast address"

func isUnicast(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// Overhead returns the bytes that Encap puts in front of a frame.
func (t *Tunnel) Overhead() int { return t.n }

// Encap puts the outer headers in front of f, whose head the caller must own: in the headroom, the
// payload does not move. A VLAN tag beside or inside the inner frame is removed (RFC 7637, section 3.3),
// that of the provider network is then beside the frame. With an error f is unchanged but for its tag.
//
// The FlowID, or the UDP source port, is a hash of the inner flow: all frames of a flow carry the same,
// so the provider network may balance by it without reordering (RFC 7637, section 4.1).
//
// A frame that asks for segmentation is encapsulated as a whole with its request, whose offsets then
// lead into the inner headers. Decap gives it back. Only a provider network in memory carries such a
// frame; for any other, a Splitter makes frames that fit its MTU.
func (t *Tunnel) Encap(f *ports.Frame, id VSID) error {
	var h header.Header
	if err := parse(f, &h); err != nil {
		return err
	}
	return t.put(f, &h, id, nil)
}

// parse finds the headers of an inner frame, and removes its VLAN tag.
func parse(f *ports.Frame, h *header.Header) error {
	h.Parse(f.Head(), f.Len())
	if f.VLAN.TPID == 0 && h.Flags&header.Tagged == 0 {
		return nil
	}
	beside := f.VLAN.Present()
	f.VLAN = ports.Tag{}
	if f.PopTag() {
		if beside {
			return ErrTagged
		}
		f.VLAN = ports.Tag{}
		if f.PopTag() {
			return ErrTagged
		}
	}
	h.Parse(f.Head(), f.Len())
	return nil
}

// put encapsulates f, which has no tag and whose headers are h. next is the address of the next hop
// where the configuration does not have it.
func (t *Tunnel) put(f *ports.Frame, h *header.Header, id VSID, next *ports.MAC) error {
	if !id.IsValid() {
		return ErrVSID
	}
	inner := f.Head()
	if len(inner) < ethernetLen {
		return ErrHeadroom
	}
	total := f.Len() + t.n - ethernetLen
	if total > 65535 {
		return ErrTooLong
	}
	class := t.dscp
	switch l3 := int(h.L3); {
	case h.Flags&header.IPv4 != 0:
		class |= t.inherit(inner[l3+1])
	case h.Flags&header.IPv6 != 0:
		class |= t.inherit(inner[l3]<<4 | inner[l3+1]>>4)
	}
	if t.checksum {
		if f.Offload.Segment != ports.SegmentNone {
			return ErrUnfinished
		}
		if f.Offload.NeedsChecksum {
			if err := segment.Finish(f); err != nil {
				return err
			}
		}
	}
	flow := h.Hash(inner)
	b := f.Prepend(t.n)
	if b == nil {
		return ErrHeadroom
	}
	b = b[:copy(b, t.outer[:t.n])]
	if next != nil {
		*(*[6]byte)(b) = *next
	}
	l4 := b[ethernetLen+ipv4Len:]
	if t.v6 {
		l4 = b[ethernetLen+ipv6Len:]
		b[ethernetLen] |= class >> 4
		b[ethernetLen+1] |= class << 4
		binary.BigEndian.PutUint16(b[ethernetLen+4:], uint16(total-ipv6Len))
	} else {
		ip := (*[ipv4Len]byte)(b[ethernetLen:])
		ip[1] = class
		binary.BigEndian.PutUint16(ip[2:], uint16(total))
		s := t.sum + uint32(class) + uint32(total)
		s = s>>16 + s&0xffff
		s = s>>16 + s&0xffff
		binary.BigEndian.PutUint16(ip[10:], ^uint16(s))
	}
	if t.encap == NVGRE {
		binary.BigEndian.PutUint32(l4[4:], uint32(id)<<8|flow>>24^flow&0xff)
	} else {
		_ = l4[udpLen+tunnelLen-1]
		binary.BigEndian.PutUint16(l4, uint16(0xc000|flow>>18^flow&0x3fff)) // RFC 7348, section 5: 49152 … 65535
		binary.BigEndian.PutUint16(l4[4:], uint16(f.Len()-(t.n-udpLen-tunnelLen)))
		binary.BigEndian.PutUint32(l4[udpLen+4:], uint32(id)<<8)
		if t.checksum {
			t.sumUDP(f)
		}
	}
	f.VLAN = t.vlan
	return nil
}

// inherit returns what of the inner traffic class goes to the outer one: ECN, which 0xff covers too.
func (t *Tunnel) inherit(class uint8) uint8 {
	if t.copyDSCP {
		return class
	}
	return class & 3
}

// sumUDP writes the checksum of UDP over IPv6 (RFC 8200, section 8.1).
func (t *Tunnel) sumUDP(f *ports.Frame) {
	b := f.Head()
	udp := b[ethernetLen+ipv6Len:]
	sum := sumOf(f, b[ethernetLen+8:ethernetLen+ipv6Len], udp)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
}

// sumOf returns the checksum over the UDP datagram that begins with udp at the end of the head of f.
func sumOf(f *ports.Frame, addrs, udp []byte) uint16 {
	n := int(binary.BigEndian.Uint16(udp[4:]))
	var s checksum.Sum
	s.AddPseudo(addrs, protoUDP, uint32(n))
	addRest(&s, udp, f, n)
	return s.Checksum()
}

// addRest adds n bytes of f to a sum, which begin with rest, the end of its head.
func addRest(s *checksum.Sum, rest []byte, f *ports.Frame, n int) {
	rest = rest[:min(len(rest), n)]
	s.Add(rest)
	n -= len(rest)
	for _, seg := range f.Body() {
		seg = seg[:min(len(seg), n)]
		s.Add(seg)
		n -= len(seg)
	}
}
