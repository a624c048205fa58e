package overlay

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func mac(n byte) ports.MAC { return ports.MAC{2, 0, 0, 0, 0, n} }

// packet is a frame of the tests: what it says.
type packet struct {
	src, dst   ports.MAC
	from, to   netip.Addr // IP, unless l3 is set
	ttl        uint8      // default 64
	class      uint8      // traffic class
	df         bool
	proto      layers.IPProtocol // default UDP
	sport      uint16
	dport      uint16
	icmp       []byte // the message, its checksum zero
	payload    int    // bytes
	tags       []uint16
	etherType  uint16 // with l3
	l3         []byte // what follows the EtherType
	fragOffset uint16
}

func (p packet) bytes(t testing.TB) []byte {
	t.Helper()
	eth := append(append([]byte(nil), p.dst[:]...), p.src[:]...)
	for _, vid := range p.tags {
		eth = binary.BigEndian.AppendUint16(eth, 0x8100)
		eth = binary.BigEndian.AppendUint16(eth, vid)
	}
	if p.l3 != nil {
		return append(binary.BigEndian.AppendUint16(eth, p.etherType), p.l3...)
	}
	ttl := p.ttl
	if ttl == 0 {
		ttl = 64
	}
	if p.proto == 0 {
		p.proto = layers.IPProtocolUDP
	}
	var ls []gopacket.SerializableLayer
	var network gopacket.NetworkLayer
	if p.from.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: ttl, TOS: p.class, Protocol: p.proto, SrcIP: p.from.AsSlice(), DstIP: p.to.AsSlice(), FragOffset: p.fragOffset}
		if p.df {
			ip.Flags = layers.IPv4DontFragment
		}
		network = ip
		ls = append(ls, ip)
		eth = binary.BigEndian.AppendUint16(eth, 0x0800)
	} else {
		ip := &layers.IPv6{Version: 6, HopLimit: ttl, TrafficClass: p.class, NextHeader: p.proto, SrcIP: p.from.AsSlice(), DstIP: p.to.AsSlice()}
		network = ip
		ls = append(ls, ip)
		eth = binary.BigEndian.AppendUint16(eth, 0x86dd)
	}
	payload := make([]byte, p.payload)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	switch p.proto {
	case layers.IPProtocolUDP:
		u := &layers.UDP{SrcPort: layers.UDPPort(p.sport), DstPort: layers.UDPPort(p.dport)}
		require.NoError(t, u.SetNetworkLayerForChecksum(network))
		ls = append(ls, u)
	case layers.IPProtocolTCP:
		u := &layers.TCP{SrcPort: layers.TCPPort(p.sport), DstPort: layers.TCPPort(p.dport), ACK: true, Seq: 1000, Window: 512}
		require.NoError(t, u.SetNetworkLayerForChecksum(network))
		ls = append(ls, u)
	case layers.IPProtocolICMPv4:
		m := append([]byte(nil), p.icmp...)
		binary.BigEndian.PutUint16(m[2:], slowSum(append(m, payload...)))
		payload = append(m, payload...)
	case layers.IPProtocolICMPv6:
		m := append([]byte(nil), p.icmp...)
		pseudo := append(append([]byte(nil), p.from.AsSlice()...), p.to.AsSlice()...)
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(m)+len(payload)))
		pseudo = append(pseudo, 0, 0, 0, 58)
		binary.BigEndian.PutUint16(m[2:], slowSum(append(append(pseudo, m...), payload...)))
		payload = append(m, payload...)
	}
	ls = append(ls, gopacket.Payload(payload))
	b := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...))
	return append(eth, b.Bytes()...)
}

// slowSum is the checksum of RFC 1071 by its definition.
func slowSum(b []byte) uint16 {
	s := 0
	for i, v := range b {
		s += int(v) << (8 * (1 - i&1))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

func (p packet) frame(t testing.TB) *ports.Frame { return frameOf(p.bytes(t)) }

// frameOf lays bytes out as a backend does: what is longer than a head lies in a body.
func frameOf(b []byte) *ports.Frame {
	n := min(len(b), ports.HeadLen)
	buf := make([]byte, ports.Headroom+ports.HeadLen)
	copy(buf[ports.Headroom:], b[:n])
	f := new(ports.Frame)
	f.SetHead(buf, ports.Headroom, n)
	if n < len(b) {
		f.AppendBody(append([]byte(nil), b[n:]...))
	}
	return f
}

// wire returns the bytes of a frame as they look on a wire.
func wire(f *ports.Frame) []byte {
	b := make([]byte, f.WireLen())
	f.CopyTo(b)
	return b
}

// asking makes the frame of a packet one that leaves its checksum and, if size is not 0, its segmentation
// to others.
func (p packet) asking(t testing.TB, size uint16) *ports.Frame {
	b := p.bytes(t)
	l4 := 14 + 20
	if !p.from.Is4() {
		l4 = 14 + 40
	}
	o := ports.Offload{NeedsChecksum: true, ChecksumStart: uint16(l4), ChecksumOffset: 6, SegmentSize: size}
	if p.proto == layers.IPProtocolTCP {
		o.ChecksumOffset = 16
	}
	if size != 0 {
		o.Segment = ports.SegmentUDP
		if p.proto == layers.IPProtocolTCP {
			o.Segment = ports.SegmentTCP4
			if !p.from.Is4() {
				o.Segment = ports.SegmentTCP6
			}
		}
	}
	proto := byte(17)
	if p.proto == layers.IPProtocolTCP {
		proto = 6
	}
	pseudo := append(append([]byte(nil), p.from.AsSlice()...), p.to.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(b)-l4))
	pseudo = append(pseudo, 0, 0, 0, proto)
	binary.BigEndian.PutUint16(b[l4+int(o.ChecksumOffset):], ^slowSum(pseudo))
	f := frameOf(b)
	f.Offload = o
	return f
}

func tunnel(t testing.TB, c TunnelConfig) *Tunnel {
	t.Helper()
	if !c.Src.IsValid() {
		c.Src, c.Dst = addr("192.0.2.1"), addr("192.0.2.2")
	}
	c.SrcMAC, c.DstMAC = mac(0xa1), mac(0xa2)
	tun, err := NewTunnel(&c)
	require.NoError(t, err)
	return tun
}

func tunnel6(t testing.TB, c TunnelConfig) *Tunnel {
	t.Helper()
	c.Src, c.Dst = addr("2001:db8::1"), addr("2001:db8::2")
	return tunnel(t, c)
}

var inner4 = packet{src: mac(1), dst: mac(2), from: addr("10.0.0.1"), to: addr("10.0.0.2"), sport: 1000, dport: 2000, payload: 22}
var inner6 = packet{src: mac(1), dst: mac(2), from: addr("fd00::1"), to: addr("fd00::2"), sport: 1000, dport: 2000, payload: 22}
