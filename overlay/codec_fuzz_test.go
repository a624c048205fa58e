package overlay

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func FuzzDecap(f *testing.F) {
	for _, e := range []Encapsulation{NVGRE, VXLAN, Geneve} {
		for _, tun := range []*Tunnel{tunnel(f, TunnelConfig{Encapsulation: e}), tunnel6(f, TunnelConfig{Encapsulation: e})} {
			fr := inner6.frame(f)
			require.NoError(f, tun.Encap(fr, 5001))
			f.Add(wire(fr), uint16(0))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		if len(b) > 4000 {
			return
		}
		fr := frameOf(b)
		fr.Offload = ports.Offload{NeedsChecksum: cut&1 != 0, ChecksumStart: cut, HeaderLen: cut}
		n := fr.WireLen()
		var e Encapsulated
		if new(Decoder).Decap(fr, &e) != 0 {
			require.Equal(t, n, fr.WireLen())
			return
		}
		require.True(t, e.VSID.IsValid())
		require.GreaterOrEqual(t, fr.Len(), 14)
		inner := wire(fr)
		// What was taken away can be put back.
		fr.Offload = ports.Offload{}
		tun, err := NewTunnel(&TunnelConfig{Encapsulation: e.Encapsulation, Src: addr("192.0.2.1"), Dst: addr("192.0.2.2")})
		require.NoError(t, err)
		require.NoError(t, tun.Encap(fr, e.VSID))
		if d := new(Decoder).Decap(fr, &e); d != 0 {
			t.Fatal(d)
		}
		require.Equal(t, inner, wire(fr))
	})
}

func FuzzEncap(f *testing.F) {
	f.Add(inner4.bytes(f), byte(0))
	f.Add(inner6.bytes(f), byte(5))
	f.Fuzz(func(t *testing.T, b []byte, how byte) {
		if len(b) > 4000 {
			return
		}
		fr := frameOf(b)
		fr.Offload = ports.Offload{NeedsChecksum: how&8 != 0, Segment: ports.Segment(how >> 4 & 3), SegmentSize: 500, ChecksumStart: 34, ChecksumOffset: 6}
		tun := tunnel6(t, TunnelConfig{Encapsulation: Encapsulation(how % 3)})
		var s Splitter
		out, err := s.Append(nil, fr, tun, 5001, 0, 1500)
		if err != nil {
			require.Empty(t, out)
			return
		}
		for _, g := range out {
			var e Encapsulated
			if d := new(Decoder).Decap(g, &e); d != 0 && d != DropInnerTag {
				t.Fatal(d)
			}
		}
	})
}
