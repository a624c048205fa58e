package coalesce

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// packet is a TCP segment, which a test changes before it is made a frame.
type packet struct {
	eth     layers.Ethernet
	ip4     layers.IPv4
	ip6     layers.IPv6
	tcp     layers.TCP
	v6      bool
	tag     ports.Tag
	payload []byte
	state   sum // of the checksum: whole, partial, or unknown for right and not known to be
	edit    func(f *ports.Frame)
}

// stream is a flow from which segments are taken one after the other.
type stream struct {
	port, id uint16
	seq      uint32
	v6       bool
	state    sum
	r        *rand.Rand
}

func newStream(port uint16) *stream {
	return &stream{port: port, id: 65530, seq: 0xffff_f000, state: partial, r: rand.New(rand.NewPCG(uint64(port), 1))}
}

// next returns the next segment, of n bytes of payload.
func (s *stream) next(n int) *packet {
	p := &packet{v6: s.v6, state: s.state, payload: make([]byte, n)}
	for i := range p.payload {
		p.payload[i] = byte(s.r.Uint32())
	}
	p.eth = layers.Ethernet{DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	p.ip4 = layers.IPv4{Version: 4, IHL: 5, Id: s.id, TTL: 64, TOS: 2, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP,
		SrcIP: net.IP{10, 1, 2, 3}, DstIP: net.IP{10, 200, 0, 255}}
	p.ip6 = layers.IPv6{Version: 6, TrafficClass: 2, FlowLabel: 0x12345, HopLimit: 64, NextHeader: layers.IPProtocolTCP,
		SrcIP: net.ParseIP("fd00::ffff:1"), DstIP: net.ParseIP("fd00:1:2::9")}
	if s.v6 {
		p.eth.EthernetType = layers.EthernetTypeIPv6
	}
	p.tcp = layers.TCP{SrcPort: layers.TCPPort(s.port), DstPort: 50000, Seq: s.seq, Ack: 77, Window: 500, ACK: true,
		Options: []layers.TCPOption{{OptionType: 1}, {OptionType: 1}, {OptionType: 8, OptionLength: 10, OptionData: []byte{0, 0, 0, 7, 0, 0, 0, 9}}}}
	s.seq += uint32(n)
	s.id++
	return p
}

// frame returns the segment as a device delivers it: all of it in the head.
func (p *packet) frame(t testing.TB) *ports.Frame {
	t.Helper()
	var ip gopacket.NetworkLayer = &p.ip4
	ls := []gopacket.SerializableLayer{&p.ip4, &p.tcp, gopacket.Payload(p.payload)}
	if p.v6 {
		ip, ls[0] = &p.ip6, &p.ip6
	}
	require.NoError(t, p.tcp.SetNetworkLayerForChecksum(ip))
	out := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(out, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...))
	b := append(append(make([]byte, ports.Headroom), p.eth.DstMAC...), p.eth.SrcMAC...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(p.eth.EthernetType)), out.Bytes()...)
	f := new(ports.Frame)
	f.SetHead(b, ports.Headroom, len(b)-ports.Headroom)
	f.VLAN = p.tag
	switch p.state {
	case whole:
		f.Offload.ChecksumValid = true
	case partial:
		var h header.Header
		h.Parse(f.Head(), f.Len())
		f.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: h.L4, ChecksumOffset: 16}
		pseudo := append([]byte{0, 6}, h.AddrBytes(f.Head())...)
		pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(f.Len()-int(h.L4)))
		binary.BigEndian.PutUint16(f.Head()[h.L4+16:], slowSum(pseudo))
	}
	if p.edit != nil {
		p.edit(f)
	}
	return f
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

// join offers frames and returns those that are to be passed on.
func join(c *Coalescer, frames []*ports.Frame) (out []*ports.Frame) {
	for _, f := range frames {
		if !c.Join(f) {
			out = append(out, f)
		}
	}
	c.Finish()
	return out
}

// wire is what arrives at a device without offloads: bytes and tag.
type wire struct {
	bytes string
	tag   ports.Tag
}

// onWire cuts frames for a device without offloads. What asks for something impossible stays as it is.
func onWire(frames []*ports.Frame) (out []wire) {
	var s segment.Segmenter
	for _, f := range frames {
		pieces, err := s.Split(f, 0)
		if err != nil {
			pieces = []*ports.Frame{f}
		}
		for _, p := range pieces {
			b := append([]byte(nil), p.Head()...)
			for _, seg := range p.Body() {
				b = append(b, seg...)
			}
			out = append(out, wire{string(b), p.VLAN})
		}
	}
	return out
}

// flowOf names the flow of a frame on the wire. Nobody can tell that of a fragment or a malformed frame.
func flowOf(w wire) (name string, known bool) {
	var h header.Header
	b := []byte(w.bytes)
	h.Parse(b[:min(len(b), header.Limit)], len(b))
	if h.Reason != header.OK || h.Flags.Has(header.Fragment) {
		return "", false
	}
	if !h.Flags.Has(header.Ports) || h.Proto != header.TCP {
		return "no TCP", true
	}
	return fmt.Sprint(h.AddrBytes(b), h.SrcPort, h.DstPort), true
}

// requireSame checks that frames have come back in the order of their flows, and in that of frames whose
// flow nobody knows.
func requireSame(t testing.TB, want, got []wire) {
	t.Helper()
	require.Len(t, got, len(want))
	byFlow := func(all []wire) map[string][]wire {
		m := map[string][]wire{}
		for _, w := range all {
			if name, known := flowOf(w); known {
				m[name] = nil
			}
		}
		m[""] = nil
		for _, w := range all {
			name, known := flowOf(w)
			for k := range m {
				if !known || k == name {
					m[k] = append(m[k], w)
				}
			}
		}
		return m
	}
	was, is := byFlow(want), byFlow(got)
	for name, all := range was {
		require.Len(t, is[name], len(all), "flow %q", name)
		for i, w := range all {
			if w != is[name][i] {
				t.Fatalf("flow %q: frame %d has become another:\n%x\n%x", name, i, w.bytes[:min(80, len(w.bytes))], is[name][i].bytes[:min(80, len(is[name][i].bytes))])
			}
		}
	}
}
