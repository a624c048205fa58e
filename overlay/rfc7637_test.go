package overlay

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// What RFC 7637 asks of a sender.
func TestRFC7637Encapsulation(t *testing.T) {
	encap := func(t *testing.T, p packet, c TunnelConfig) []byte {
		f := p.frame(t)
		require.NoError(t, tunnel(t, c).Encap(f, 0x123456))
		return wire(f)
	}
	plain := encap(t, inner4, TunnelConfig{})
	gre := plain[34:]
	for _, c := range []struct {
		section, rule string
		holds         bool
	}{
		{"3.2", "the outer frame goes from NVE to next hop", ports.MAC(plain) == mac(0xa2) && ports.MAC(plain[6:]) == mac(0xa1)},
		{"3.2", "outer protocol is 0x2F", plain[23] == 0x2f},
		{"3.2", "the outer IP header has the provider addresses", [4]byte(plain[26:]) == [4]byte{192, 0, 2, 1} && [4]byte(plain[30:]) == [4]byte{192, 0, 2, 2}},
		{"3.2", "the IPv4 header checksum is right", slowSum(plain[14:34]) == 0},
		{"3.2", "C and S bits are zero, K is one, version 0", binary.BigEndian.Uint16(gre) == 0x2000},
		{"3.2", "protocol type is 0x6558", binary.BigEndian.Uint16(gre[2:]) == 0x6558},
		{"3.2", "VSID is the upper 24 bits of the key", binary.BigEndian.Uint32(gre[4:])>>8 == 0x123456},
		{"3.2", "the inner frame follows, without FCS", string(gre[8:]) == string(inner4.bytes(t))},
		{"4.4", "a sender does not fragment, and nobody on the way may", binary.BigEndian.Uint16(plain[20:]) == 0x4000},
	} {
		require.True(t, c.holds, "section %s: %s", c.section, c.rule)
	}
	t.Run("3.2 over IPv6", func(t *testing.T) {
		f := inner4.frame(t)
		require.NoError(t, tunnel6(t, TunnelConfig{TTL: 9}).Encap(f, 5001))
		b := wire(f)
		require.Equal(t, []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(b) - 54), 0x2f, 9}, b[12:22])
		require.Equal(t, inner4.bytes(t), b[62:])
	})
	t.Run("3.2 the provider network may have a VLAN", func(t *testing.T) {
		b := encap(t, inner4, TunnelConfig{VLAN: ports.Tag{TPID: 0x8100, TCI: 77}})
		require.Equal(t, []byte{0x81, 0, 0, 77, 8, 0}, b[12:18])
	})
	t.Run("3.3 the inner tag is removed", func(t *testing.T) {
		p := inner4
		p.tags = []uint16{5}
		require.Equal(t, plain, encap(t, p, TunnelConfig{}))
		f := inner4.frame(t)
		f.VLAN = ports.Tag{TPID: 0x8100, TCI: 5}
		require.NoError(t, tunnel(t, TunnelConfig{}).Encap(f, 0x123456))
		require.Equal(t, plain, wire(f))
		p.tags = []uint16{5, 6}
		require.ErrorIs(t, tunnel(t, TunnelConfig{}).Encap(p.frame(t), 5001), ErrTagged)
	})
	t.Run("3.4 reserved VSIDs are not sent", func(t *testing.T) {
		for id, want := range map[VSID]error{0: ErrVSID, 0xfff: ErrVSID, 0x1000: nil, 0xfffffe: nil, 0xffffff: ErrVSID, 0x1000000: ErrVSID} {
			require.Equal(t, want, tunnel(t, TunnelConfig{}).Encap(inner4.frame(t), id), "%#x", id)
		}
	})
	t.Run("4.1 FlowID is stable per flow and spread over flows", func(t *testing.T) {
		for _, e := range []Encapsulation{NVGRE, VXLAN, Geneve} {
			seen := map[uint16]int{}
			for port := range uint16(4096) {
				p := inner4
				p.sport = port
				id := flowOf(t, e, p)
				p.payload, p.class = 99, 0x28
				require.Equal(t, id, flowOf(t, e, p))
				seen[id]++
			}
			if e == NVGRE {
				require.Len(t, seen, 256)
				for id, n := range seen {
					require.Less(t, n, 40, "FlowID %d", id) // 16 on average
				}
			} else {
				require.Greater(t, len(seen), 3200) // of 16,384
				for port := range seen {
					require.GreaterOrEqual(t, port, uint16(49152))
				}
			}
		}
	})
}

func flowOf(t *testing.T, e Encapsulation, p packet) uint16 {
	f := p.frame(t)
	require.NoError(t, tunnel(t, TunnelConfig{Encapsulation: e}).Encap(f, 5001))
	b := wire(f)
	if e == NVGRE {
		return uint16(b[41])
	}
	return binary.BigEndian.Uint16(b[34:])
}

// What RFC 7637 asks of a receiver.
func TestRFC7637Decapsulation(t *testing.T) {
	good := inner4.frame(t)
	require.NoError(t, tunnel(t, TunnelConfig{}).Encap(good, 5001))
	tagged := inner4
	tagged.tags = []uint16{1}
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		want   Drop
	}{
		{"3.2 as sent", func(b []byte) []byte { return b }, 0},
		{"3.2 with padding behind", func(b []byte) []byte { return append(b, 0, 0) }, 0},
		{"3.2 reserved bits are ignored", func(b []byte) []byte { b[34] |= 3; b[35] = 0xf8; return b }, 0},
		{"3.2 C bit", func(b []byte) []byte { b[34] |= 0x80; return b }, DropTunnelHeader},
		{"3.2 routing bit", func(b []byte) []byte { b[34] |= 0x40; return b }, DropTunnelHeader},
		{"3.2 no K bit", func(b []byte) []byte { b[34] = 0; return b }, DropTunnelHeader},
		{"3.2 S bit", func(b []byte) []byte { b[34] |= 0x10; return b }, DropTunnelHeader},
		{"3.2 version 1", func(b []byte) []byte { b[35] = 1; return b }, DropTunnelHeader},
		{"3.2 IP in GRE", func(b []byte) []byte { b[36], b[37] = 8, 0; return b }, DropTunnelHeader},
		{"3.3 inner tag", func(b []byte) []byte { b[54], b[55] = 0x81, 0; return b }, DropInnerTag},
		{"3.3 inner service tag", func(b []byte) []byte { b[54], b[55] = 0x88, 0xa8; return b }, DropInnerTag},
		{"3.4 VSID 0", func(b []byte) []byte { b[38], b[39], b[40] = 0, 0, 0; return b }, DropReservedVSID},
		{"3.4 VSID 0xFFF", func(b []byte) []byte { b[38], b[39], b[40] = 0, 0xf, 0xff; return b }, DropReservedVSID},
		{"3.4 VSID 0xFFFFFF", func(b []byte) []byte { b[38], b[39], b[40] = 255, 255, 255; return b }, DropReservedVSID},
		{"4.4 a first fragment", func(b []byte) []byte { b[20] = 0x20; return resum(b) }, DropFragment},
		{"4.4 a later fragment", func(b []byte) []byte { b[20], b[21] = 0, 9; return resum(b) }, DropFragment},
		{"outer header checksum", func(b []byte) []byte { b[24] ^= 1; return b }, DropOuterChecksum},
		{"outer total length", func(b []byte) []byte { b[16] = 0xff; return b }, DropOuter},
		{"outer header length", func(b []byte) []byte { b[14] = 0x44; return b }, DropOuter},
		{"inner frame cut off", func(b []byte) []byte { binary.BigEndian.PutUint16(b[16:], 20+8+13); return resum(b)[:14+41] }, DropInner},
		{"GRE cut off", func(b []byte) []byte { binary.BigEndian.PutUint16(b[16:], 20+7); return resum(b)[:14+27] }, DropOuter},
		{"another protocol", func(b []byte) []byte { b[23] = 6; return b }, DropNotTunnel},
		{"ARP", func(b []byte) []byte { b[13] = 6; return b }, DropNotTunnel},
	} {
		f := frameOf(c.change(wire(good)))
		before := wire(f)
		var d Decoder
		var e Encapsulated
		require.Equal(t, c.want, d.Decap(f, &e), c.name)
		if c.want != 0 {
			require.Equal(t, before, wire(f), c.name)
			continue
		}
		require.Equal(t, inner4.bytes(t), wire(f)[:len(inner4.bytes(t))], c.name)
		require.Equal(t, Encapsulated{NVGRE, 5001, e.FlowID, addr("192.0.2.1"), addr("192.0.2.2"), mac(0xa2), ports.Tag{}}, e, c.name)
	}
}

// resum makes the IPv4 header checksum right.
func resum(b []byte) []byte {
	b[24], b[25] = 0, 0
	binary.BigEndian.PutUint16(b[24:], slowSum(b[14:34]))
	return b
}

// RFC 7637, section 4.4: what does not fit is never fragmented outside. The sender is told the MTU, or its
// IPv4 packet is fragmented inside where it allows that.
func TestRFC7637MTU(t *testing.T) {
	for _, c := range []struct {
		name string
		pas  []string
		mtu  int
	}{{"IPv4", v4PAs, 1500 - 42}, {"IPv6", v6PAs, 1500 - 62}} {
		s := newMoved(t, NVGRE, c.pas...)
		s.apply(Change{Route: &CustomerRoute{RDID: red, VSID: 5001, Destination: prefix("fd00::/64")}},
			s.record(0, 5001, mac(1), "fd00::11"), s.record(1, 5001, mac(2), "fd00::12"))
		for _, inner := range []struct {
			name     string
			from, to string
			headers  int
			df       bool
			told     []byte // type and code of ICMP; none when it is fragmented
		}{
			{"IPv4", "10.0.0.11", "10.0.0.12", 28, false, nil},
			{"IPv4 with DF", "10.0.0.11", "10.0.0.12", 28, true, []byte{3, 4}},
			{"IPv6", "fd00::11", "fd00::12", 48, false, []byte{2, 0}},
		} {
			name := inner.name + " over " + c.name
			p := packet{src: mac(1), dst: mac(2), from: addr(inner.from), to: addr(inner.to), df: inner.df, payload: c.mtu - inner.headers}
			s.wire = nil
			require.Equal(t, []delivery{{1, 2, p.bytes(t)}}, s.send(0, s.p, p.frame(t)), "%s: as long as it may be", name)
			require.Len(t, s.wire, 1)
			require.Equal(t, 14+1500, s.wire[0].Len(), name)

			p.payload++
			s.wire = nil
			got := s.send(0, s.p, p.frame(t))
			for _, f := range s.wire {
				require.True(t, f.Fits(1500), name)
				if f.Head()[12] == 8 {
					require.Equal(t, uint16(0x4000), binary.BigEndian.Uint16(f.Head()[20:]), "%s: a fragment outside", name)
				}
			}
			if inner.told == nil {
				require.Len(t, got, 2, name)
				for _, d := range got {
					require.Equal(t, 1, d.host)
				}
				continue
			}
			require.Empty(t, s.wire, name)
			require.Len(t, got, 1, name)
			icmp := got[0].data[14+inner.headers-8:]
			require.Equal(t, 0, got[0].host, name)
			require.Equal(t, inner.told, icmp[:2], name)
			require.Equal(t, c.mtu, int(binary.BigEndian.Uint16(icmp[6:])), name)
		}
	}
}

// The same of a receiver: an outer fragment of IPv6.
func TestRFC7637Fragment6(t *testing.T) {
	f := inner4.frame(t)
	require.NoError(t, tunnel6(t, TunnelConfig{}).Encap(f, 5001))
	whole := wire(f)
	for offset, want := range map[uint16]Drop{0: 0, 1: DropFragment, 8 << 3: DropFragment} { // 0: a whole datagram (RFC 6946)
		b := append(whole[:54:54], 47, 0, byte(offset>>8), byte(offset), 0, 0, 0, 1)
		b = append(b, whole[54:]...)
		b[20] = 44
		binary.BigEndian.PutUint16(b[18:], uint16(len(b)-54))
		var d Decoder
		var e Encapsulated
		require.Equal(t, want, d.Decap(frameOf(b), &e), "offset word %#x", offset)
	}
}
