package header

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWellFormed(t *testing.T) {
	v4, v6 := etherType(EtherTypeIPv4), etherType(EtherTypeIPv6)
	for name, f := range map[string]built{
		"TCP over IPv4":                   build(v4, ip4(TCP, 0), tcp(0), payload(100)),
		"TCP without payload":             build(v4, ip4(TCP, 0), tcp(0)),
		"TCP with options":                build(v4, ip4(TCP, 0), tcp(40), payload(3)),
		"IPv4 options":                    build(v4, ip4(TCP, 40), tcp(40), payload(3)),
		"UDP over IPv4":                   build(v4, ip4(UDP, 0), udp(), payload(30)),
		"UDP without payload":             build(v4, ip4(UDP, 0), udp()),
		"inner tag":                       build(tag(0x8100), v4, ip4(UDP, 0), udp(), payload(30)),
		"four tags":                       build(tag(0x88a8), tag(0x88a8), tag(0x8100), tag(0x8100), v6, ip6(UDP), udp()),
		"SNAP":                            build(snap(EtherTypeIPv4), ip4(TCP, 0), tcp(0)),
		"tagged SNAP":                     build(tag(0x8100), snap(EtherTypeIPv6), ip6(TCP), tcp(12)),
		"ARP":                             build(etherType(EtherTypeARP), arp()),
		"ARP, padded":                     build(etherType(EtherTypeARP), arp(), payload(18)),
		"LLDP":                            build(etherType(0x88cc), payload(46)),
		"spanning tree, 802.2":            build(etherType(38), payload(46)),
		"ICMP":                            build(v4, ip4(ICMP, 0), opaque(8), payload(20)),
		"GRE":                             build(v4, ip4(47, 0), opaque(4)),
		"no transport bytes":              build(v4, ip4(47, 0)),
		"SCTP":                            build(v4, ip4(SCTP, 4), sctp(), payload(4)),
		"first fragment":                  build(v4, ip4(UDP, 0), frag4(0, true), udp(), payload(8)),
		"later fragment":                  build(v4, ip4(TCP, 0), frag4(24, true), payload(80)),
		"last fragment":                   build(v4, ip4(UDP, 0), frag4(65528, false), payload(7)),
		"TCP over IPv6":                   build(v6, ip6(TCP), tcp(12), payload(10)),
		"ICMPv6":                          build(v6, ip6(ICMPv6), opaque(8)),
		"no next header":                  build(v6, ip6(59)),
		"ESP":                             build(v6, ip6(50), opaque(20)),
		"all extensions":                  build(v6, ip6(0), ext(60, 1), ext(43, 2), ext(44, 1), frag6(51, 0, false), ah(60), ext(TCP, 3), tcp(0)),
		"first IPv6 fragment":             build(v6, ip6(44), frag6(60, 0, true), ext(UDP, 1), udp(), payload(8)),
		"later IPv6 fragment":             build(v6, ip6(44), frag6(60, 1480, false), payload(8)),
		"whole datagram in one fragment":  build(v6, ip6(44), frag6(TCP, 0, false), tcp(0)),
		"headers in 256 of many bytes":    build(v6, ip6(60), ext(60, 12), ext(TCP, 10), tcp(0), payload(2000)),
		"type of service other than zero": edit(build(v4, ip4(TCP, 0), tcp(0)), func(b []byte) { b[15] = 0xb8 }),
		"do not fragment":                 edit(build(v4, ip4(TCP, 0), tcp(0)), func(b []byte) { b[20] = 0x40 }),
	} {
		t.Run(name, func(t *testing.T) {
			var h Header
			h.Parse(f.bytes, len(f.bytes))
			require.Equal(t, f.want, h)
			requireInside(t, &h, f.bytes)

			h.Parse(f.bytes[:min(len(f.bytes), Limit)], len(f.bytes))
			require.Equal(t, f.want, h, "with the least head")
			h.Parse(append(bytes.Clone(f.bytes), make([]byte, 18)...), len(f.bytes)+18)
			require.Equal(t, f.want, h, "with padding")
		})
	}
}

// edit changes bytes of a frame without changing what the parser must say.
func edit(f built, change func(b []byte)) built {
	change(f.bytes)
	return f
}

func TestMalformed(t *testing.T) {
	v4, v6 := etherType(EtherTypeIPv4), etherType(EtherTypeIPv6)
	set := func(f built, at int, v ...byte) []byte {
		copy(f.bytes[at:], v)
		return f.bytes
	}
	cut := func(f built, n int) []byte { return f.bytes[:len(f.bytes)-n] }
	tcp4 := func() built { return build(v4, ip4(TCP, 0), tcp(0), payload(4)) }
	tcp6 := func() built { return build(v6, ip6(TCP), tcp(0), payload(4)) }
	udp4 := func() built { return build(v4, ip4(UDP, 0), udp(), payload(40)) }
	deep := []part{v6, ip6(60)}
	for range maxExtensions {
		deep = append(deep, ext(60, 1))
	}
	for name, c := range map[string]struct {
		frame []byte
		want  Reason
		flags Flags
	}{
		"nothing":                         {nil, ShortEthernet, 0},
		"13 bytes":                        {make([]byte, 13), ShortEthernet, 0},
		"tag with nothing behind":         {cut(build(tag(0x8100)), 0), ShortEthernet, Tagged},
		"half a tag":                      {cut(build(tag(0x8100)), 2), ShortEthernet, Tagged},
		"five tags":                       {build(tag(0x8100), tag(0x8100), tag(0x8100), tag(0x8100), tag(0x8100), v4, ip4(TCP, 0), tcp(0)).bytes, TooManyTags, Tagged},
		"ARP cut off":                     {cut(build(etherType(EtherTypeARP), arp()), 1), ShortARP, 0},
		"ARP for InfiniBand":              {set(build(etherType(EtherTypeARP), arp()), 14, 0, 32), BadARP, 0},
		"ARP with long addresses":         {set(build(etherType(EtherTypeARP), arp()), 18, 20, 16), BadARP, 0},
		"no IPv4 header":                  {build(v4).bytes, ShortIP, 0},
		"IPv4 header cut off":             {cut(build(v4, ip4(TCP, 0)), 1), ShortIP, 0},
		"IPv4 in IPv6":                    {set(tcp6(), 14, 0x45), BadIPVersion, 0},
		"IPv6 in IPv4":                    {set(tcp4(), 14, 0x65), BadIPVersion, 0},
		"IPv4 header length 16":           {set(tcp4(), 14, 0x44), BadIPLength, IPv4},
		"IPv4 total length 0":             {set(tcp4(), 16, 0, 0), BadIPLength, IPv4},
		"IPv4 total length below header":  {set(tcp4(), 16, 0, 19), BadIPLength, IPv4},
		"IPv4 total length beyond frame":  {set(tcp4(), 17, 20+20+5), BadIPLength, IPv4},
		"IPv4 options beyond total":       {set(build(v4, ip4(ICMP, 0), opaque(8)), 14, 0x4f), BadIPLength, IPv4},
		"TCP cut off by the frame":        {set(build(v4, ip4(TCP, 0), payload(19)), 0, 2), ShortTransport, IPv4},
		"TCP cut off by total length":     {set(tcp4(), 17, 39), ShortTransport, IPv4},
		"TCP data offset 16":              {set(tcp4(), 46, 0x40), BadTransport, IPv4},
		"TCP options beyond the packet":   {set(tcp4(), 46, 0x70), BadTransport, IPv4},
		"UDP length 7":                    {set(udp4(), 38, 0, 7), BadTransport, IPv4},
		"UDP length beyond the packet":    {set(udp4(), 38, 0, 49), BadTransport, IPv4},
		"UDP cut off":                     {build(v4, ip4(UDP, 0), payload(7)).bytes, ShortTransport, IPv4},
		"SCTP cut off":                    {build(v4, ip4(SCTP, 0), payload(11)).bytes, ShortTransport, IPv4},
		"ICMP cut off":                    {build(v4, ip4(ICMP, 0), payload(7)).bytes, ShortTransport, IPv4},
		"first fragment without ports":    {build(v4, ip4(TCP, 0), frag4(0, true), payload(16)).bytes, ShortTransport, IPv4 | Fragment | FirstFragment},
		"fragment over the TCP flags":     {build(v4, ip4(TCP, 0), frag4(8, false), payload(80)).bytes, BadFragment, IPv4 | Fragment},
		"fragment behind the longest":     {build(v4, ip4(UDP, 0), frag4(65528, false), payload(8)).bytes, BadFragment, IPv4 | Fragment},
		"IPv6 header cut off":             {cut(build(v6, ip6(59)), 1), ShortIP, 0},
		"IPv6 payload beyond frame":       {cut(tcp6(), 1), BadIPLength, IPv6},
		"IPv6 payload length 0":           {set(tcp6(), 18, 0, 0), ShortTransport, IPv6},
		"extension cut off":               {build(v6, ip6(60), payload(7)).bytes, BadExtension, IPv6},
		"extension longer than packet":    {set(build(v6, ip6(60), ext(TCP, 1), tcp(0)), 55, 9), BadExtension, IPv6},
		"two fragment headers":            {build(v6, ip6(44), frag6(44, 0, false), frag6(UDP, 0, true), udp()).bytes, BadExtension, IPv6},
		"chain too deep":                  {build(append(deep, payload(8))...).bytes, BadExtension, IPv6},
		"first IPv6 fragment, no ports":   {build(v6, ip6(44), frag6(60, 0, true), ext(UDP, 2)).bytes, ShortTransport, IPv6 | Fragment | FirstFragment},
		"IPv6 fragment over TCP flags":    {build(v6, ip6(44), frag6(TCP, 16, false), payload(80)).bytes, BadFragment, IPv6 | Fragment},
		"extension of 2,048 bytes":        {build(v6, ip6(60), ext(TCP, 255), tcp(0)).bytes, BeyondHead, IPv6},
		"IPv4 hidden in SNAP is IPv4 too": {build(snap(EtherTypeIPv4), ip4(TCP, 0), payload(8)).bytes, ShortTransport, IPv4 | SNAP},
	} {
		t.Run(name, func(t *testing.T) {
			var h Header
			h.Parse(c.frame, len(c.frame))
			require.Equal(t, c.want, h.Reason, "%v", h.Reason)
			require.Equal(t, c.flags, h.Flags)
			require.Zero(t, h.L4)
			require.Zero(t, h.Payload)
			requireInside(t, &h, c.frame)
		})
	}
}

func TestHeadersBeyondTheHead(t *testing.T) {
	for pad, want := range map[int]Reason{0: OK, 1: BeyondHead} {
		// 14 + 40 + 8·22 + 20 = 250 bytes of headers, and 8 more.
		f := build(etherType(EtherTypeIPv6), ip6(60), ext(60, 12), ext(TCP, 10+pad), tcp(0), payload(500))
		var h Header
		h.Parse(f.bytes[:Limit], len(f.bytes))
		require.Equal(t, want, h.Reason)
		var whole Header
		whole.Parse(f.bytes, len(f.bytes))
		require.Equal(t, h, whole, "a longer head changes nothing")
	}
}

func TestFastAndLongWayAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		f := build(etherType(EtherTypeIPv4), ip4([]uint8{TCP, UDP}[r.IntN(2)], 0), payload(20+r.IntN(60)))
		for range r.IntN(6) {
			f.bytes[12+r.IntN(36)] = byte(r.Uint32())
		}
		if r.IntN(2) == 0 {
			f.bytes[46] = byte(5+r.IntN(11)) << 4
			f.bytes[38], f.bytes[39] = 0, byte(r.IntN(80))
		}
		n := max(0, len(f.bytes)+r.IntN(4)*(r.IntN(9)-4))
		var fast, long Header
		fast.Parse(f.bytes, n)
		long.parse(f.bytes, n)
		require.Equal(t, long, fast)
	}
}

func TestRandomWellFormed(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		f := randomFrame(r)
		var h Header
		h.Parse(f.bytes, len(f.bytes))
		if h.Reason == BeyondHead {
			continue
		}
		require.Equal(t, f.want, h, "%x", f.bytes)
		requireAgrees(t, &h, f.bytes)
	}
}

func TestAddrs(t *testing.T) {
	var h Header
	f := build(tag(0x8100), etherType(EtherTypeIPv4), ip4(TCP, 0), tcp(0))
	h.Parse(f.bytes, len(f.bytes))
	src, dst := h.Addrs(f.bytes)
	require.Equal(t, netip.MustParseAddr("10.0.0.1"), src)
	require.Equal(t, netip.MustParseAddr("10.0.0.2"), dst)

	f = build(etherType(EtherTypeIPv6), ip6(TCP), tcp(0))
	h.Parse(f.bytes, len(f.bytes))
	src, dst = h.Addrs(f.bytes)
	require.Equal(t, netip.MustParseAddr("fd00::1"), src)
	require.Equal(t, netip.MustParseAddr("fd00::2"), dst)

	h.Parse(make([]byte, 60), 60)
	src, dst = h.Addrs(make([]byte, 60))
	require.False(t, src.IsValid() || dst.IsValid())
	require.Nil(t, h.AddrBytes(nil))
}

func TestEveryReasonHasWords(t *testing.T) {
	for r := OK; r <= BeyondHead; r++ {
		require.NotEmpty(t, r.String())
	}
	require.Equal(t, "reason 200", Reason(200).String())
}

func TestParsingAllocatesNothing(t *testing.T) {
	frames := [][]byte{
		build(etherType(EtherTypeIPv4), ip4(TCP, 0), tcp(0)).bytes,
		build(tag(0x8100), etherType(EtherTypeIPv6), ip6(60), ext(UDP, 1), udp()).bytes,
		make([]byte, 3),
	}
	var h Header
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, f := range frames {
			h.Parse(f, len(f))
			_ = h.Hash(f)
		}
	}))
}

// requireInside checks what holds of every result.
func requireInside(t *testing.T, h *Header, head []byte) {
	t.Helper()
	n := min(len(head), Limit)
	require.LessOrEqual(t, int(h.L3), n)
	require.LessOrEqual(t, int(h.Payload), n)
	least := map[uint8]int{TCP: 20, UDP: 8, SCTP: 12, ICMP: 8, ICMPv6: 8}[h.Proto]
	if h.L4 != 0 {
		require.Equal(t, OK, h.Reason)
		require.Greater(t, h.L4, h.L3)
		require.LessOrEqual(t, int(h.L4)+max(least, 1), n)
		require.NotZero(t, h.Flags&(IPv4|IPv6))
	}
	if h.Payload != 0 {
		require.GreaterOrEqual(t, int(h.Payload), int(h.L4)+least)
		require.NotZero(t, h.L4)
	}
	if h.Flags&Ports != 0 {
		require.NotZero(t, h.L4)
	}
	if h.Flags&FirstFragment != 0 {
		require.NotZero(t, h.Flags&Fragment)
	}
	if h.Flags&ARP != 0 {
		require.LessOrEqual(t, int(h.L3)+28, n)
	}
	if a := h.AddrBytes(head); h.Flags&(IPv4|IPv6) != 0 {
		require.NotEmpty(t, a)
	}
	_ = h.Hash(head)
}
