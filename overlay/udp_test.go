package overlay

import (
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func TestEveryEncapsulationComesBack(t *testing.T) {
	for _, p := range []packet{inner4, inner6, {src: mac(1), dst: mac(2), etherType: 0x88b5, l3: []byte("hello")}} {
		p.payload = 1000
		for _, e := range []Encapsulation{NVGRE, VXLAN, Geneve} {
			for _, tun := range []*Tunnel{tunnel(t, TunnelConfig{Encapsulation: e}), tunnel6(t, TunnelConfig{Encapsulation: e})} {
				f := p.frame(t)
				require.NoError(t, tun.Encap(f, 0xabcdef))
				require.Equal(t, len(p.bytes(t))+tun.Overhead(), f.Len())
				var out Encapsulated
				require.Zero(t, new(Decoder).Decap(f, &out), "%s", e)
				require.Equal(t, e, out.Encapsulation)
				require.Equal(t, VSID(0xabcdef), out.VSID)
				require.Equal(t, p.bytes(t), wire(f))
			}
		}
	}
}

func TestDecodesWithGopacket(t *testing.T) {
	for _, e := range []Encapsulation{NVGRE, VXLAN, Geneve} {
		for _, tun := range []*Tunnel{tunnel(t, TunnelConfig{Encapsulation: e}), tunnel6(t, TunnelConfig{Encapsulation: e})} {
			f := inner4.frame(t)
			require.NoError(t, tun.Encap(f, 5001))
			p := gopacket.NewPacket(wire(f), layers.LayerTypeEthernet, gopacket.Default)
			require.Nil(t, p.ErrorLayer(), "%s", p)
			switch e {
			case NVGRE:
				require.Equal(t, uint32(5001), p.Layer(layers.LayerTypeGRE).(*layers.GRE).Key>>8)
			case VXLAN:
				require.Equal(t, uint32(5001), p.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN).VNI)
			case Geneve:
				require.Equal(t, uint32(5001), p.Layer(layers.LayerTypeGeneve).(*layers.Geneve).VNI)
			}
			all := p.Layers()
			require.Equal(t, layers.LayerTypeUDP, all[len(all)-2].LayerType())
			require.Len(t, all[len(all)-1].LayerContents(), inner4.payload)
		}
	}
}

func TestUDPDecapsulation(t *testing.T) {
	const udp, tun = 34, 42
	for _, c := range []struct {
		name   string
		e      Encapsulation
		change func(b []byte) []byte
		want   Drop
	}{
		{"reserved bits of VXLAN are ignored", VXLAN, func(b []byte) []byte { b[tun] |= 0xf7; b[tun+7] = 1; return b }, 0},
		{"no I bit", VXLAN, func(b []byte) []byte { b[tun] = 0; return b }, DropTunnelHeader},
		{"reserved VNI", VXLAN, func(b []byte) []byte { b[tun+4], b[tun+5] = 0, 0; return b }, DropReservedVSID},
		{"another port", VXLAN, func(b []byte) []byte { b[udp+3]++; return b }, DropNotTunnel},
		{"UDP length", VXLAN, func(b []byte) []byte { b[udp+4] = 0xff; return b }, DropOuter},
		{"short UDP", VXLAN, func(b []byte) []byte { b[udp+4], b[udp+5] = 0, 15; return b }, DropOuter},
		{"wrong UDP checksum", VXLAN, func(b []byte) []byte { b[udp+6] = 9; return b }, DropOuterChecksum},
		{"right UDP checksum", VXLAN, func(b []byte) []byte {
			pseudo := append([]byte(nil), b[26:34]...)
			pseudo = append(pseudo, 0, 17, b[udp+4], b[udp+5])
			binary.BigEndian.PutUint16(b[udp+6:], slowSum(append(pseudo, b[udp:]...)))
			return b
		}, 0},
		{"Geneve version", Geneve, func(b []byte) []byte { b[tun] = 0x40; return b }, DropTunnelHeader},
		{"Geneve protocol", Geneve, func(b []byte) []byte { b[tun+2] = 8; return b }, DropTunnelHeader},
		{"control message", Geneve, func(b []byte) []byte { b[tun+1] = 0x80; return b }, DropOption},
		{"critical bit", Geneve, func(b []byte) []byte { b[tun+1] = 0x40; return b }, DropOption},
		{"reserved bits of Geneve", Geneve, func(b []byte) []byte { b[tun+1] = 0x3f; b[tun+7] = 5; return b }, 0},
		{"an option", Geneve, option(0x01, 1), 0},
		{"a critical option without the bit", Geneve, option(0x81, 1), DropOption},
		{"an option that is too long", Geneve, option(0x01, 2), DropTunnelHeader},
		{"options that are cut off", Geneve, func(b []byte) []byte { b[tun] = 0x3f; return b }, DropOuter},
	} {
		f := inner4.frame(t)
		require.NoError(t, tunnel(t, TunnelConfig{Encapsulation: c.e}).Encap(f, 5001))
		f = frameOf(c.change(wire(f)))
		var e Encapsulated
		require.Equal(t, c.want, new(Decoder).Decap(f, &e), c.name)
		if c.want == 0 {
			require.Equal(t, inner4.bytes(t), wire(f), c.name)
		}
	}
}

// option inserts an 8-byte option whose length field says words.
func option(typ, words byte) func(b []byte) []byte {
	return func(b []byte) []byte {
		const tun = 42
		b[tun] = 2
		b = append(append(append([]byte(nil), b[:tun+8]...), 0x01, 0x02, typ, words, 1, 2, 3, 4), b[tun+8:]...)
		binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
		binary.BigEndian.PutUint16(b[38:], uint16(len(b)-34))
		return resum(b)
	}
}

func TestUDPChecksumOverIPv6(t *testing.T) {
	f := inner4.frame(t)
	require.NoError(t, tunnel6(t, TunnelConfig{Encapsulation: VXLAN}).Encap(f, 5001))
	b := wire(f)
	pseudo := append(append([]byte(nil), b[22:54]...), 0, 17, b[58], b[59])
	require.Zero(t, slowSum(append(pseudo, b[54:]...)), "RFC 8200, section 8.1")
	b[60] ^= 1
	require.Equal(t, DropOuterChecksum, new(Decoder).Decap(frameOf(b), new(Encapsulated)))

	f = inner4.frame(t)
	require.NoError(t, tunnel6(t, TunnelConfig{Encapsulation: VXLAN, ZeroUDPChecksum: true}).Encap(f, 5001))
	b = wire(f)
	require.Zero(t, binary.BigEndian.Uint16(b[60:]), "RFC 6935, section 5")
	require.Equal(t, DropOuterChecksum, new(Decoder).Decap(frameOf(b), new(Encapsulated)), "RFC 6936, section 5")
	require.Zero(t, (&Decoder{ZeroUDPChecksum: true}).Decap(frameOf(b), new(Encapsulated)))
}

func TestIPv6DestinationOptionsAreSkipped(t *testing.T) {
	f := inner4.frame(t)
	require.NoError(t, tunnel6(t, TunnelConfig{}).Encap(f, 5001))
	b := wire(f)
	limit := []byte{47, 0, 4, 1, 4, 1, 0, 0} // RFC 2473, section 4.1.1
	b[20] = 60
	b = append(append(append([]byte(nil), b[:54]...), limit...), b[54:]...)
	binary.BigEndian.PutUint16(b[18:], uint16(len(b)-54))
	f = frameOf(b)
	require.Zero(t, new(Decoder).Decap(f, new(Encapsulated)))
	require.Equal(t, inner4.bytes(t), wire(f))
}

// The tables of RFC 6040, sections 4.1 and 4.2, with not-ECT 0, ECT(1) 1, ECT(0) 2, CE 3.
func TestECN(t *testing.T) {
	const drop = 9
	want := [4][4]uint8{ // inner, outer
		0: {0, 0, 0, drop},
		1: {1, 1, 1, 3},
		2: {2, 1, 2, 3},
		3: {3, 3, 3, 3},
	}
	for _, p := range []packet{inner4, inner6} {
		for inner := range uint8(4) {
			p.class = 0xb8 | inner
			f := p.frame(t)
			require.NoError(t, tunnel(t, TunnelConfig{DSCP: 10}).Encap(f, 5001))
			sent := wire(f)
			require.Equal(t, 10<<2|inner, sent[15])
			for outer := range uint8(4) {
				b := append([]byte(nil), sent...)
				b[15] = b[15]&^3 | outer
				f := frameOf(resum(b))
				d := new(Decoder).Decap(f, new(Encapsulated))
				if want[inner][outer] == drop {
					require.Equal(t, DropECN, d)
					continue
				}
				require.Zero(t, d)
				q := p
				q.class = 0xb8 | want[inner][outer]
				require.Equal(t, q.bytes(t), wire(f), "inner %d outer %d", inner, outer)
			}
		}
	}
	for _, p := range []packet{inner4, inner6} {
		p.class = 0xba
		f := p.frame(t)
		require.NoError(t, tunnel6(t, TunnelConfig{CopyDSCP: true}).Encap(f, 5001))
		require.Equal(t, []byte{0x6b, 0xa0}, wire(f)[14:16])
	}
}

func TestSegmentationRequestComesBack(t *testing.T) {
	p := inner4
	p.proto, p.payload = layers.IPProtocolTCP, 5000
	f := p.asking(t, 1000)
	before, bytes := f.Offload, wire(f)
	require.NoError(t, tunnel(t, TunnelConfig{}).Encap(f, 5001))
	require.Equal(t, before.ChecksumStart+42, f.Offload.ChecksumStart)
	require.Zero(t, new(Decoder).Decap(f, new(Encapsulated)))
	require.Equal(t, before, f.Offload)
	require.Equal(t, bytes, wire(f))

	require.ErrorIs(t, tunnel6(t, TunnelConfig{Encapsulation: VXLAN}).Encap(f, 5001), ErrUnfinished)
	p.payload = 65535 - 40
	require.ErrorIs(t, tunnel(t, TunnelConfig{}).Encap(p.asking(t, 1000), 5001), ErrTooLong)
}

func TestSplitter(t *testing.T) {
	var s Splitter
	for _, e := range []Encapsulation{NVGRE, VXLAN, Geneve} {
		for _, tun := range []*Tunnel{tunnel(t, TunnelConfig{Encapsulation: e}), tunnel6(t, TunnelConfig{Encapsulation: e})} {
			for _, p := range []packet{inner4, inner6} {
				for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP} {
					for _, accept := range []ports.Offloads{0, ports.OffloadChecksum, ports.OffloadAll} {
						p.proto, p.payload = proto, 60000
						size := 1460
						if proto == layers.IPProtocolUDP {
							size = 1300
						}
						frames, err := s.Append(nil, p.asking(t, uint16(size)), tun, 5001, accept, 1500)
						require.NoError(t, err)
						checkSegments(t, frames, p, accept)
						s.Reset()
					}
				}
			}
		}
	}
}

func checkSegments(t *testing.T, frames []*ports.Frame, p packet, accept ports.Offloads) {
	var payload []byte
	for _, f := range frames {
		require.True(t, f.Fits(1500))
		require.Zero(t, f.Offload.Needs()&^accept)
		require.Zero(t, new(Decoder).Decap(f, new(Encapsulated)))
		pkt := gopacket.NewPacket(wire(f), layers.LayerTypeEthernet, gopacket.Default)
		require.Nil(t, pkt.ErrorLayer())
		all := pkt.Layers()
		payload = append(payload, all[len(all)-1].LayerContents()...)
		if f.Offload.NeedsChecksum {
			continue
		}
		l4 := pkt.TransportLayer()
		var pseudo []byte
		src, dst := pkt.NetworkLayer().NetworkFlow().Endpoints()
		pseudo = append(append(pseudo, src.Raw()...), dst.Raw()...)
		seg := append(append([]byte(nil), l4.LayerContents()...), l4.LayerPayload()...)
		pseudo = append(pseudo, 0, byte(p.proto))
		pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(seg)))
		require.Zero(t, slowSum(append(pseudo, seg...)))
	}
	b := p.bytes(t)
	require.Equal(t, b[len(b)-p.payload:], payload)
}

func TestManyLargeFramesInABatch(t *testing.T) {
	var s Splitter
	p := inner4
	p.proto, p.payload = layers.IPProtocolTCP, 60000
	tun := tunnel(t, TunnelConfig{})
	var out []*ports.Frame
	for range 64 {
		var err error
		out, err = s.Append(out, p.asking(t, 1400), tun, 5001, 0, 1500)
		require.NoError(t, err)
	}
	require.Len(t, out, 64*43)
	seen := map[*ports.Frame]bool{}
	for _, f := range out {
		require.False(t, seen[f])
		seen[f] = true
	}
}

func TestNewTunnelRefuses(t *testing.T) {
	_, err := NewTunnel(&TunnelConfig{Src: addr("192.0.2.1"), Dst: addr("2001:db8::1")})
	require.EqualError(t, err, "tunnel 192.0.2.1 → 2001:db8::1: Dst 2001:db8::1 is of another IP version than Src")
	for _, c := range []TunnelConfig{
		{},
		{Src: addr("192.0.2.1")},
		{Src: addr("0.0.0.0"), Dst: addr("192.0.2.1")},
		{Src: addr("192.0.2.1"), Dst: addr("224.0.0.1")},
		{Src: addr("192.0.2.1"), Dst: addr("192.0.2.2"), DSCP: 64},
		{Src: addr("192.0.2.1"), Dst: addr("192.0.2.2"), Encapsulation: 3},
	} {
		_, err := NewTunnel(&c)
		require.ErrorAs(t, err, new(*ConfigError))
	}
}

// A kernel in memory leaves the outer checksum to its device. It goes away with the outer header.
func TestUnfinishedOuterChecksum(t *testing.T) {
	for _, e := range []Encapsulation{VXLAN, Geneve} {
		f := inner4.frame(t)
		require.NoError(t, tunnel(t, TunnelConfig{Encapsulation: e}).Encap(f, 5001))
		b := wire(f)
		b[40], b[41] = 0x12, 0x34 // the sum of the pseudo header, say
		f = frameOf(b)
		var d Decoder
		var x Encapsulated
		require.Equal(t, DropOuterChecksum, d.Decap(f, &x), "%s", e)
		f.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}
		require.Zero(t, d.Decap(f, &x), "%s", e)
		require.Equal(t, inner4.bytes(t), wire(f), "%s", e)
		require.True(t, f.Offload.IsZero(), "%s", e)
	}
}
