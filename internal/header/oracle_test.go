package header

import (
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"
)

// requireAgrees compares a result with what gopacket finds in the same frame, where both find no fault.
func requireAgrees(t *testing.T, h *Header, frame []byte) {
	t.Helper()
	if h.Reason != OK {
		return
	}
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	if p.ErrorLayer() != nil || p.Metadata().Truncated {
		return
	}
	at := 0
	var seen Flags
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.Dot1Q:
			seen |= Tagged
			require.NotZero(t, h.Flags&Tagged)
		case *layers.SNAP:
			if h.Flags&SNAP == 0 {
				return // gopacket takes any control field and organization
			}
		case *layers.ARP:
			if h.Flags&ARP != 0 {
				require.Equal(t, int(h.L3), at)
			}
		case *layers.IPv4:
			if seen&(IPv4|IPv6) != 0 {
				return // a tunnel, which the parser does not enter
			}
			seen |= IPv4
			require.True(t, h.Flags.Has(IPv4))
			require.Equal(t, int(h.L3), at)
			require.Equal(t, uint8(l.Protocol), h.Proto)
			require.Equal(t, l.FragOffset != 0 || l.Flags&layers.IPv4MoreFragments != 0, h.Flags.Has(Fragment))
			require.Equal(t, l.FragOffset == 0 && l.Flags&layers.IPv4MoreFragments != 0, h.Flags.Has(FirstFragment))
			src, dst := h.Addrs(frame)
			require.Equal(t, l.SrcIP.String(), src.String())
			require.Equal(t, l.DstIP.String(), dst.String())
		case *layers.IPv6:
			if seen&(IPv4|IPv6) != 0 {
				return
			}
			seen |= IPv6
			require.True(t, h.Flags.Has(IPv6))
			require.Equal(t, int(h.L3), at)
			require.Equal(t, []byte(l.SrcIP), h.AddrBytes(frame)[:16])
			require.Equal(t, []byte(l.DstIP), h.AddrBytes(frame)[16:])
		case *layers.IPv6HopByHop, *layers.IPv6Routing, *layers.IPv6Destination, *layers.IPv6Fragment, *layers.IPSecAH:
			if seen&IPv4 != 0 {
				return // gopacket takes these protocols behind IPv4 too
			}
		case *layers.TCP:
			if !h.Flags.Has(Fragment) { // gopacket goes on behind an IPv6 fragment header
				require.Equal(t, uint8(TCP), h.Proto)
				require.Equal(t, int(h.L4), at)
				require.Equal(t, int(h.Payload), at+int(l.DataOffset)*4)
				require.Equal(t, uint16(l.SrcPort), h.SrcPort)
				require.Equal(t, uint16(l.DstPort), h.DstPort)
			}
			return
		case *layers.UDP:
			if !h.Flags.Has(Fragment) {
				require.Equal(t, uint8(UDP), h.Proto)
				require.Equal(t, int(h.L4), at)
				require.Equal(t, uint16(l.SrcPort), h.SrcPort)
				require.Equal(t, uint16(l.DstPort), h.DstPort)
			}
			return
		case *layers.SCTP:
			if !h.Flags.Has(Fragment) {
				require.Equal(t, uint8(SCTP), h.Proto)
				require.Equal(t, int(h.L4), at)
				require.Equal(t, uint16(l.SrcPort), h.SrcPort)
			}
			return
		case *layers.ICMPv4, *layers.ICMPv6:
			if !h.Flags.Has(Fragment) {
				require.Equal(t, int(h.L4), at)
			}
			return
		}
		at += len(l.LayerContents())
	}
}

func FuzzParse(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 40 {
		f.Add(randomFrame(r).bytes, 0)
	}
	f.Add(build(snap(EtherTypeIPv4), ip4(TCP, 0), tcp(0)).bytes, 0)
	f.Add(build(etherType(EtherTypeARP), arp()).bytes, 0)
	f.Fuzz(func(t *testing.T, frame []byte, longer int) {
		var h, again Header
		h.Parse(frame, len(frame))
		requireInside(t, &h, frame)
		requireAgrees(t, &h, frame)

		again = Header{Flags: 0xffff, L4: 9999, Payload: 9999}
		again.parse(frame, len(frame))
		require.Equal(t, again, h, "fast and long way")
		again.Parse(frame[:min(len(frame), Limit)], len(frame))
		require.Equal(t, again, h, "the least head")

		h.Parse(frame, longer) // a frame that is longer than its head, or a caller who is mistaken
		requireInside(t, &h, frame)
	})
}
