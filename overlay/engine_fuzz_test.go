package overlay

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// Whatever a guest or the provider network sends, nothing breaks, every frame has an output, and what
// goes out can be encapsulated frames of the guest's own subnets only.
func FuzzEngine(f *testing.F) {
	s := newTenants(f)
	s.apply(Change{Subnet: &Subnet{VSID: 5001, RDID: red, Learning: true, Unknown: FloodUnknown}})
	s.send(0, s.p[1], udp(mac(2), "10.0.0.12").frame(f))
	for _, p := range []packet{udp(mac(2), "10.0.0.12"), udp(routerOfVSID(5001), "fd00:0:0:2::13"), udp(ports.Broadcast, "255.255.255.255"),
		arpFrame(ports.Broadcast, mac(1), arp(1, mac(1), "10.0.0.11", ports.MAC{}, "10.0.0.1")), solicit(mac(1), "::", "fd00:0:0:1::12")} {
		f.Add(p.bytes(f), byte(0), uint16(0))
		f.Add(p.bytes(f), byte(0x51), uint16(34))
		fr := p.frame(f)
		tun, err := NewTunnel(&TunnelConfig{Src: s.hosts[1].pa, Dst: s.hosts[0].pa, DstMAC: s.hosts[0].mac})
		require.NoError(f, err)
		require.NoError(f, tun.Encap(fr, 5001))
		f.Add(wire(fr), byte(1), uint16(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, how byte, at uint16) {
		if len(b) > 5000 {
			return
		}
		s.now += 1e8
		fr := frameOf(b)
		fr.Offload = ports.Offload{NeedsChecksum: how&0x10 != 0, Segment: ports.Segment(how >> 5 & 3), SegmentSize: at % 2000,
			ChecksumStart: 34, ChecksumOffset: 6 + uint16(how>>1&1)*10, HeaderLen: at}
		h := s.hosts[0]
		var out []Output
		if how&1 == 0 {
			out = h.w.Outbound(s.now, s.p[1], []*ports.Frame{fr})
		} else {
			out = h.w.Inbound(s.now, []*ports.Frame{fr})
		}
		require.NotEmpty(t, out)
		for _, o := range out {
			require.Zero(t, o.Source)
			require.Less(t, o.Drop, drops)
			if o.Port != nil {
				require.Less(t, o.Port.ID, 10, "a port of red")
			}
			if o.Drop != 0 || o.Port != nil || how&1 != 0 {
				continue
			}
			require.True(t, o.Frame.Fits(1500))
			var e Encapsulated
			g := frameOf(wire(o.Frame))
			g.Offload = o.Frame.Offload
			switch d := new(Decoder).Decap(g, &e); d {
			case 0:
				require.Contains(t, []VSID{5001, 5002}, e.VSID)
			case DropNotTunnel: // a question for a next hop
			default:
				t.Fatal(d)
			}
		}
	})
}
