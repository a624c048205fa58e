package segment

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// packet is what a test sends: the layers in front of the payload, and the payload.
type packet struct {
	layers  []gopacket.SerializableLayer
	payload []byte
}

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

func ethernet(t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{DstMAC: macA, SrcMAC: macB, EthernetType: t}
}

func ip4(p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{
		Version: 4, IHL: 5, Id: 65530, TTL: 64, TOS: 2, Flags: layers.IPv4DontFragment, Protocol: p,
		SrcIP: net.IP{10, 1, 2, 3}, DstIP: net.IP{10, 200, 0, 255},
	}
}

func ip6(p layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{
		Version: 6, TrafficClass: 2, FlowLabel: 0x12345, HopLimit: 64, NextHeader: p,
		SrcIP: net.ParseIP("fd00::ffff:1"), DstIP: net.ParseIP("fd00:1:2::9"),
	}
}

func tcp(options int) *layers.TCP {
	t := &layers.TCP{
		SrcPort: 443, DstPort: 50000, Seq: 0xffffff00, Ack: 77, Window: 500,
		ACK: true, PSH: true, FIN: true, CWR: true,
	}
	for range options {
		t.Options = append(t.Options, layers.TCPOption{OptionType: layers.TCPOptionKindNop})
	}
	return t
}

func udp() *layers.UDP { return &layers.UDP{SrcPort: 443, DstPort: 50001} }

func tcp4(n int) packet {
	return packet{[]gopacket.SerializableLayer{ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), tcp(12)}, payload(n)}
}

func tcp6(n int) packet {
	return packet{[]gopacket.SerializableLayer{ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolTCP), tcp(0)}, payload(n)}
}

func udp4(n int) packet {
	return packet{[]gopacket.SerializableLayer{ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp()}, payload(n)}
}

func udp6(n int) packet {
	return packet{[]gopacket.SerializableLayer{ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolUDP), udp()}, payload(n)}
}

// tagged puts a VLAN tag among the bytes.
func (p packet) tagged() packet {
	eth := *p.layers[0].(*layers.Ethernet)
	tag := &layers.Dot1Q{VLANIdentifier: 7, Type: eth.EthernetType}
	eth.EthernetType = layers.EthernetTypeDot1Q
	return packet{append([]gopacket.SerializableLayer{&eth, tag}, p.layers[1:]...), p.payload}
}

func payload(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// bytes serializes the packet, its checksums right.
func (p packet) bytes(t testing.TB) []byte {
	return serialize(t, append(p.layers, gopacket.Payload(p.payload)))
}

func serialize(t testing.TB, ls []gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range ls {
		switch l := l.(type) {
		case *layers.IPv4:
			network = l
		case *layers.IPv6:
			network = l
		case *layers.TCP:
			require.NoError(t, l.SetNetworkLayerForChecksum(network))
		case *layers.UDP:
			require.NoError(t, l.SetNetworkLayerForChecksum(network))
		}
	}
	b := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls[1:]...))
	eth := ls[0].(*layers.Ethernet) // written here, since gopacket pads short frames
	front := append(append([]byte(nil), eth.DstMAC...), eth.SrcMAC...)
	return append(binary.BigEndian.AppendUint16(front, uint16(eth.EthernetType)), b.Bytes()...)
}

// place returns where the transport header begins and where in it the checksum is.
func (p packet) place(t testing.TB) (l4, offset int) {
	t.Helper()
	for _, l := range p.layers {
		switch l := l.(type) {
		case *layers.Ethernet:
			l4 += 14
		case *layers.Dot1Q:
			l4 += 4
		case *layers.IPv4:
			l4 += 20 + len(l.Options)
		case *layers.IPv6:
			l4 += 40
		case *layers.TCP:
			return l4, 16
		case *layers.UDP:
			return l4, 6
		}
	}
	require.Fail(t, "no transport header")
	return 0, 0
}

// asking returns the packet as a guest hands it over that leaves the checksum and, if size is not 0, the
// segmentation to others.
func (p packet) asking(t testing.TB, size int) ([]byte, ports.Offload) {
	t.Helper()
	b := p.bytes(t)
	l4, offset := p.place(t)
	o := ports.Offload{NeedsChecksum: true, ChecksumStart: uint16(l4), ChecksumOffset: uint16(offset)}
	binary.BigEndian.PutUint16(b[l4+offset:], pseudoSum(p, len(b)-l4))
	if size == 0 {
		return b, o
	}
	o.SegmentSize, o.HeaderLen = uint16(size), uint16(len(b)-len(p.payload))
	o.Segment = ports.SegmentUDP
	if offset == 16 {
		o.Segment, o.ECN = ports.SegmentTCP4, true
		if p.version6() {
			o.Segment = ports.SegmentTCP6
		}
	}
	return b, o
}

func (p packet) version6() bool {
	for _, l := range p.layers {
		if _, ok := l.(*layers.IPv6); ok {
			return true
		}
	}
	return false
}

// pseudoSum is the sum of the pseudo header by its definition.
func pseudoSum(p packet, n int) uint16 {
	var b []byte
	for _, l := range p.layers {
		switch l := l.(type) {
		case *layers.IPv4:
			b = append(append(b, l.SrcIP.To4()...), l.DstIP.To4()...)
		case *layers.IPv6:
			b = append(append(b, l.SrcIP...), l.DstIP...)
		case *layers.TCP:
			b = append(b, 0, 6)
		case *layers.UDP:
			b = append(b, 0, 17)
		}
	}
	return slowSum(binary.BigEndian.AppendUint16(b, uint16(n)))
}

// slowSum is the sum of RFC 1071 by its definition.
func slowSum(b []byte) uint16 {
	s := 0
	for i, v := range b {
		s += int(v) << (8 * (1 - i&1))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// frame lays bytes out as a backend might: a head of at least HeadLen bytes, the body in pieces.
func frame(r *rand.Rand, b []byte, o ports.Offload) *ports.Frame {
	n := len(b)
	if n > ports.HeadLen && r.IntN(3) > 0 {
		n = ports.HeadLen + r.IntN(n-ports.HeadLen)*r.IntN(2)
	}
	buf := make([]byte, ports.Headroom+n)
	copy(buf[ports.Headroom:], b[:n])
	f := new(ports.Frame)
	f.SetHead(buf, ports.Headroom, n)
	for rest := b[n:]; len(rest) > 0; {
		k := min(len(rest), 1+r.IntN(3000))
		f.AppendBody(rest[:k:k])
		rest = rest[k:]
	}
	f.Offload = o
	return f
}

// flat returns the bytes of a frame without a tag beside it.
func flat(f *ports.Frame) []byte {
	b := append([]byte(nil), f.Head()...)
	for _, s := range f.Body() {
		b = append(b, s...)
	}
	return b
}

func (p packet) String() string {
	s := ""
	for _, l := range p.layers {
		s += fmt.Sprint(l.LayerType(), " ")
	}
	return fmt.Sprint(s, len(p.payload))
}
