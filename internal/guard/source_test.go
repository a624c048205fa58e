package guard

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func TestSource4(t *testing.T) {
	from := func(src []byte, proto byte, payload []byte) []byte {
		return eth4(v4{src: src, proto: proto}.packet(payload))
	}
	to := func(dst []byte, proto byte, payload []byte) []byte {
		return eth4(v4{src: zero4, dst: dst, proto: proto}.packet(payload))
	}
	rows := []row{
		{"assigned", from(guest4, 6, tcp()), Pass},
		{"assigned, tagged", eth([]int{0x8100, 5, 0x0800}, v4{proto: 6}.packet(tcp())), Pass},
		{"another", from(other4, 6, tcp()), SourceAddress},
		{"another, tagged", eth([]int{0x8100, 5, 0x0800}, v4{src: other4, proto: 6}.packet(tcp())), SourceAddress},
		{"another in SNAP", eth([]int{0}, llcSNAP(0, 0x0800, v4{src: other4, proto: 6}.packet(tcp()))), SourceAddress},
		{"hidden", eth([]int{0}, llcSNAP(0xf8, 0x0800, v4{src: other4, proto: 6}.packet(tcp()))), Encapsulated},
		{"another with options", eth4(v4{src: other4, proto: 17, options: make([]byte, 8)}.packet(udp(1, 2, nil))), SourceAddress},
		{"another in a later fragment", eth4(v4{src: other4, proto: 17, offset: 800}.packet(big)), SourceAddress},
		{"group", from([]byte{224, 0, 0, 1}, 17, udp(1, 2, nil)), SourceAddress},
		{"broadcast", from(all4, 17, udp(1, 2, nil)), SourceAddress},
		{"loopback", from([]byte{127, 0, 0, 1}, 17, udp(1, 2, nil)), SourceAddress},
		{"link-local", from([]byte{169, 254, 1, 1}, 17, udp(1, 2, nil)), SourceAddress},
		{"none, discover", to(all4, 17, udp(68, 67, request)), Pass},
		{"none, discover to one station", to(other4, 17, udp(68, 67, request)), SourceAddress},
		{"none, other ports", to(all4, 17, udp(68, 69, request)), SourceAddress},
		{"none, TCP", to(all4, 6, tcp()), SourceAddress},
		{"none, fragment of a discover", eth4(v4{src: zero4, dst: all4, proto: 17, more: true}.packet(udp(68, 67, request))), SourceAddress},
		{"none, later fragment", eth4(v4{src: zero4, dst: all4, proto: 17, offset: 800}.packet(request)), SourceAddress},
		{"none, IGMP report", to([]byte{224, 0, 0, 22}, 2, []byte{0x22, 0, 0, 0, 0, 0, 0, 0}), Pass},
		{"none, IGMP query", to([]byte{224, 0, 0, 1}, 2, []byte{0x11, 0, 0, 0, 0, 0, 0, 0}), SourceAddress},
		{"none, IGMP to a station", to(other4, 2, []byte{0x22, 0, 0, 0, 0, 0, 0, 0}), SourceAddress},
		{"none, empty IGMP", to([]byte{224, 0, 0, 22}, 2, nil), SourceAddress},
	}
	run(t, Config{Source: true, MAC: guestMAC, Addresses: assigned}, rows)
	run(t, Config{DHCP: true, Source: true, Router: true, Inspect: true, MAC: guestMAC, Addresses: assigned}, rows)
	run(t, Config{Source: true, MAC: guestMAC, AnyLinkLocal: true}, []row{
		{"link-local", from([]byte{169, 254, 1, 1}, 17, udp(1, 2, nil)), Pass},
		{"reserved link-local", from([]byte{169, 254, 0, 1}, 17, udp(1, 2, nil)), SourceAddress},
		{"nothing assigned", from(guest4, 6, tcp()), SourceAddress},
		{"nothing assigned, discover", to(all4, 17, udp(68, 67, request)), Pass},
	})
}

func TestSource6(t *testing.T) {
	from := func(src []byte, next byte, payload ...[]byte) []byte {
		return eth6(v6{src: src, next: next}.packet(payload...))
	}
	none := func(dst []byte, next byte, payload ...[]byte) []byte {
		return eth6(v6{src: zero6, dst: dst, next: next}.packet(payload...))
	}
	c := Config{Source: true, MAC: guestMAC, Addresses: assigned}
	run(t, c, []row{
		{"assigned", from(guest6, 6, tcp()), Pass},
		{"link-local of the MAC", from(guestLL, 6, tcp()), Pass},
		{"other link-local", from(otherLL, 6, tcp()), SourceAddress},
		{"another", from(other6, 6, tcp()), SourceAddress},
		{"another behind options", from(other6, 0, option(6, 1), tcp()), SourceAddress},
		{"assigned behind options", from(guest6, 0, option(6, 1), tcp()), Pass},
		{"another in a later fragment", from(other6, 44, frag6(6, 1200, false), big), SourceAddress},
		{"group", from(allNodes, 17, udp(1, 2, nil)), SourceAddress},
		{"none, duplicate address detection", none(solicitGuest, 58, solicit(guest6)), Pass},
		{"none, solicitation of all", none(allNodes, 58, solicit(guest6)), SourceAddress},
		{"none, router solicitation", none(ip("ff02::2"), 58, icmp(133, make([]byte, 4))), Pass},
		{"none, listener report", none(ip("ff02::16"), 0, option(58, 1), icmp(143, make([]byte, 24))), Pass},
		{"none, listener report beyond the link", none(ip("ff0e::16"), 0, option(58, 1), icmp(143, make([]byte, 24))), SourceAddress},
		{"none, listener query", none(allNodes, 0, option(58, 1), icmp(130, make([]byte, 24))), SourceAddress},
		{"none, echo", none(allNodes, 58, icmp(128, make([]byte, 4))), SourceAddress},
		{"none, UDP", none(allNodes, 17, udp(546, 547, nil)), SourceAddress},
		{"none, later fragment", none(solicitGuest, 44, frag6(58, 1200, false), big), SourceAddress},
	})
	c.AnyLinkLocal = true
	run(t, c, []row{{"other link-local", from(otherLL, 6, tcp()), Pass}})
	c = Config{Source: true}
	run(t, c, []row{
		{"any MAC, its link-local", from(guestLL, 6, tcp()), Pass},
		{"any MAC, other link-local", from(otherLL, 6, tcp()), SourceAddress},
	})
}

func TestARP(t *testing.T) {
	rows := []row{
		{"request", arp(1, guestMAC, guest4, other4), Pass},
		{"reply", arp(2, guestMAC, guest4, other4), Pass},
		{"announcement", arp(1, guestMAC, guest4, guest4), Pass},
		{"probe", arp(1, guestMAC, zero4, guest4), Pass},
		{"probe for another", arp(1, guestMAC, zero4, other4), FalseARP},
		{"reply from none", arp(2, guestMAC, zero4, guest4), FalseARP},
		{"request from another", arp(1, guestMAC, other4, guest4), FalseARP},
		{"reply from another", arp(2, guestMAC, other4, guest4), FalseARP},
		{"reply from broadcast", arp(2, guestMAC, all4, guest4), FalseARP},
		{"false hardware", arp(2, otherMAC, guest4, other4), FalseARP},
		{"unknown operation", arp(9, guestMAC, guest4, other4), FalseARP},
		{"reverse request in ARP", arp(3, guestMAC, guest4, other4), FalseARP},
		{"hardware of IEEE 802", eth([]int{0x0806}, arpPacket(6, 2, guestMAC, other4, guest4)), FalseARP},
		{"cut off", arp(2, guestMAC, guest4, other4)[:40], FalseARP},
		{"tagged", eth([]int{0x8100, 0, 0x0806}, arpPacket(1, 2, guestMAC, other4, guest4)), FalseARP},
		{"SNAP", eth([]int{36}, llcSNAP(0, 0x0806, arpPacket(1, 2, guestMAC, other4, guest4))), FalseARP},
		{"802.1H", eth([]int{36}, llcSNAP(0xf8, 0x0806, arpPacket(1, 2, guestMAC, other4, guest4))), Encapsulated},
		{"reverse request", eth([]int{0x8035}, rarpPacket(3, guestMAC, guestMAC, zero4)), Pass},
		{"reverse request for another", eth([]int{0x8035}, rarpPacket(3, guestMAC, otherMAC, zero4)), FalseARP},
		{"reverse request of another", eth([]int{0x8035}, rarpPacket(3, otherMAC, guestMAC, zero4)), FalseARP},
		{"reverse request with another address", eth([]int{0x8035}, rarpPacket(3, guestMAC, guestMAC, other4)), FalseARP},
		{"reverse reply", eth([]int{0x8035}, rarpPacket(4, guestMAC, guestMAC, guest4)), FalseARP},
		{"reverse request cut off", eth([]int{0x8035}, rarpPacket(3, guestMAC, guestMAC, zero4)[:27]), FalseARP},
	}
	run(t, Config{Inspect: true, MAC: guestMAC, Addresses: assigned}, rows)
	run(t, allOn, rows)
	run(t, Config{Inspect: true, Addresses: assigned}, []row{
		{"any MAC, that of the frame", arp(2, guestMAC, guest4, other4), Pass},
		{"any MAC, not that of the frame", arp(2, otherMAC, guest4, other4), FalseARP},
	})
	run(t, Config{Inspect: true, MAC: guestMAC}, []row{
		{"any address", arp(2, guestMAC, other4, guest4), Pass},
		{"any address, false hardware", arp(2, otherMAC, guest4, other4), FalseARP},
		{"any address, group", arp(2, guestMAC, []byte{224, 0, 0, 1}, other4), FalseARP},
	})
	run(t, Config{DHCP: true, Router: true, Source: true, MAC: guestMAC}, []row{
		{"not inspected", arp(2, otherMAC, other4, guest4), Pass},
		{"not inspected, cut off", arp(2, otherMAC, other4, guest4)[:40], Pass},
	})
}

func rarpPacket(op int, sha, tha ports.MAC, spa []byte) []byte {
	return cat(be(1, 0x0800, 0x0604, op), sha[:], spa, tha[:], zero4)
}

func TestND(t *testing.T) {
	msg := func(src, dst, m []byte) []byte { return eth6(v6{src: src, dst: dst, next: 58}.packet(m)) }
	nonce := cat([]byte{14, 1}, make([]byte, 6)) // RFC 3971, section 5.3.2
	rows := []row{
		{"solicitation", msg(guestLL, solicitOther, solicit(other6, lla(1, guestMAC))), Pass},
		{"solicitation without hardware", msg(guestLL, solicitOther, solicit(other6)), Pass},
		{"solicitation with nonce", msg(guestLL, solicitOther, solicit(other6, nonce, lla(1, guestMAC))), Pass},
		{"solicitation, false hardware", msg(guestLL, solicitOther, solicit(other6, lla(1, otherMAC))), FalseND},
		{"solicitation, false hardware second", msg(guestLL, solicitOther, solicit(other6, lla(1, guestMAC), lla(1, otherMAC))), FalseND},
		{"solicitation, false target hardware", msg(guestLL, solicitOther, solicit(other6, lla(2, otherMAC))), FalseND},
		{"solicitation from another", msg(otherLL, solicitOther, solicit(other6, lla(1, guestMAC))), FalseND},
		{"solicitation for a group", msg(guestLL, solicitOther, solicit(allNodes, lla(1, guestMAC))), FalseND},
		{"long hardware", msg(guestLL, solicitOther, solicit(other6, []byte{1, 2}, otherMAC[:], make([]byte, 8))), FalseND},
		{"option of no length", msg(guestLL, solicitOther, solicit(other6, []byte{14, 0, 0, 0, 0, 0, 0, 0})), FalseND},
		{"option cut off", msg(guestLL, solicitOther, solicit(other6, []byte{1, 1, 2})), FalseND},
		{"half an option", msg(guestLL, solicitOther, solicit(other6, []byte{1})), FalseND},
		{"options beyond the head", msg(guestLL, solicitOther, solicit(other6, cat([]byte{14, 24}, make([]byte, 190)), lla(1, guestMAC))), FalseND},
		{"hardware behind the packet", cat(msg(guestLL, solicitOther, solicit(other6)), lla(1, otherMAC)), Pass},
		{"duplicate address detection", msg(zero6, solicitGuest, solicit(guest6)), Pass},
		{"duplicate address detection with nonce", msg(zero6, solicitGuest, solicit(guest6, nonce)), Pass},
		{"duplicate address detection of link-local", msg(zero6, solicitGuest, solicit(guestLL)), Pass},
		{"duplicate address detection for another", msg(zero6, solicitOther, solicit(other6)), FalseND},
		{"duplicate address detection with hardware", msg(zero6, solicitGuest, solicit(guest6, lla(1, guestMAC))), FalseND},
		{"advertisement", msg(guestLL, other6, advertise(guest6, lla(2, guestMAC))), Pass},
		{"advertisement of link-local", msg(guestLL, allNodes, advertise(guestLL, lla(2, guestMAC))), Pass},
		{"advertisement of another", msg(guestLL, allNodes, advertise(other6, lla(2, guestMAC))), FalseND},
		{"advertisement, false hardware", msg(guestLL, allNodes, advertise(guest6, lla(2, otherMAC))), FalseND},
		{"advertisement from another", msg(otherLL, allNodes, advertise(guest6, lla(2, guestMAC))), FalseND},
		{"advertisement from none", msg(zero6, allNodes, advertise(guest6, lla(2, guestMAC))), FalseND},
		{"advertisement cut off", msg(guestLL, allNodes, advertise(guest6)[:20]), FalseND},
		{"advertisement behind options", eth6(v6{next: 60}.packet(option(58, 1), advertise(other6))), FalseND},
		{"advertisement in a fragment", eth6(v6{next: 44}.packet(frag6(58, 0, false), advertise(guest6, lla(2, guestMAC)))), BadFragment},
		{"router solicitation", msg(guestLL, allNodes, icmp(133, make([]byte, 4), lla(1, guestMAC))), Pass},
		{"router solicitation from none", msg(zero6, allNodes, icmp(133, make([]byte, 4))), Pass},
		{"router solicitation from none with hardware", msg(zero6, allNodes, icmp(133, make([]byte, 4), lla(1, guestMAC))), FalseND},
		{"router solicitation, false hardware", msg(guestLL, allNodes, icmp(133, make([]byte, 4), lla(1, otherMAC))), FalseND},
		{"in SNAP", eth([]int{0}, llcSNAP(0, 0x86dd, v6{next: 58}.packet(advertise(other6)))), FalseND},
	}
	c := Config{Inspect: true, MAC: guestMAC, Addresses: assigned}
	run(t, c, rows)
	run(t, allOn, rows)
	routes := []row{
		{"router advertisement", msg(guestLL, allNodes, advertisement(lla(1, guestMAC))), Pass},
		{"long router advertisement", msg(guestLL, allNodes, advertisement(lla(1, guestMAC), cat([]byte{24, 60}, make([]byte, 478)))), Pass},
		{"router advertisement, false hardware", msg(guestLL, allNodes, advertisement(lla(1, otherMAC))), FalseND},
		{"router advertisement from another", msg(otherLL, allNodes, advertisement(lla(1, guestMAC))), FalseND},
		{"router advertisement from none", msg(zero6, allNodes, advertisement()), FalseND},
		{"redirect", msg(guestLL, other6, icmp(137, make([]byte, 36), lla(2, otherMAC))), Pass},
		{"redirect from another", msg(otherLL, other6, icmp(137, make([]byte, 36))), FalseND},
	}
	run(t, c, routes)
	run(t, Config{Inspect: true, MAC: guestMAC}, []row{
		{"any address", msg(otherLL, allNodes, advertise(other6, lla(2, guestMAC))), Pass},
		{"any address, false hardware", msg(otherLL, allNodes, advertise(other6, lla(2, otherMAC))), FalseND},
	})
}

func TestCompile(t *testing.T) {
	p, err := Compile(&Config{MAC: guestMAC, Addresses: assigned})
	require.NoError(t, err)
	require.Nil(t, p, "no guard is on")
	for want, c := range map[string]Config{
		"assigned address 10.0.0.5/24: 10.0.0.5/32 is one address, 10.0.0.0/24 is a subnet": {Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")}},
		"assigned address 224.0.0.1/32: no station can have it":                             {Addresses: []netip.Prefix{netip.MustParsePrefix("224.0.0.1/32")}},
		"assigned address ::/128: no station can have it":                                   {Addresses: []netip.Prefix{netip.MustParsePrefix("::/128")}},
		"assigned address invalid Prefix is none":                                           {Addresses: []netip.Prefix{{}}},
		"assigned address ::ffff:10.0.0.1/128 is IPv4 in the form of IPv6: 10.0.0.1":        {Addresses: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.1"), 128)}},
		"MAC 03:00:00:00:00:01 is a group address":                                          {MAC: ports.MAC{3, 0, 0, 0, 0, 1}},
	} {
		c.Source = true
		_, err := Compile(&c)
		require.EqualError(t, err, want)
	}
}

// The set agrees with asking every prefix.
func TestAddrSet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	addr := func(v6 bool) netip.Addr {
		if !v6 {
			return netip.AddrFrom4([4]byte{byte(r.IntN(3) * 120), 0, byte(r.IntN(4)), byte(r.IntN(256))})
		}
		a := [16]byte{byte(r.IntN(2) * 0xff), 7: byte(r.IntN(4)), 8: byte(r.IntN(3)), 15: byte(r.IntN(256))}
		return netip.AddrFrom16(a)
	}
	for range 2000 {
		var prefixes []netip.Prefix
		for range r.IntN(12) {
			a := addr(r.IntN(2) == 0)
			p := netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
			if !p.Addr().IsMulticast() && !(p.IsSingleIP() && p.Addr().IsUnspecified()) {
				prefixes = append(prefixes, p)
			}
		}
		var s addrSet
		require.NoError(t, s.add(prefixes))
		s.normalize()
		for range 50 {
			a := addr(r.IntN(2) == 0)
			want := false
			for _, p := range prefixes {
				want = want || p.Contains(a)
			}
			var got bool
			if b := a.AsSlice(); a.Is4() {
				want = want && !a.IsUnspecified() && b[0] < 224
				got = s.has4(word32(b, 0))
			} else {
				want = want && !a.IsUnspecified() && !a.IsMulticast()
				got = s.has6(addr6Of(a))
			}
			require.Equal(t, want, got, "%v in %v", a, prefixes)
		}
	}
}
