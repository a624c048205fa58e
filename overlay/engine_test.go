package overlay

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// tenants is two hosts with red and blue, who have the same addresses: VM 1 and 2 of red in 5001 and VM 3
// in 5002, VM 11 to 13 of blue likewise. VM 1 and 11 are on host 0, the others on host 1.
type tenants struct {
	*scene
	p map[int]*Port
}

func newTenants(t testing.TB) *tenants {
	s := &tenants{newScene(t, 2), map[int]*Port{}}
	for i, rdid := range []RDID{red, blue} {
		v := VSID(5001 + 1000*i)
		s.subnet(rdid, v, "10.0.0.0/24", "fd00:0:0:1::/64")
		s.subnet(rdid, v+1, "10.0.1.0/24", "fd00:0:0:2::/64")
		s.p[10*i+1] = s.vm(0, 10*i+1, v, mac(1), "10.0.0.11", "fd00:0:0:1::11")
		s.p[10*i+2] = s.vm(1, 10*i+2, v, mac(2), "10.0.0.12", "fd00:0:0:1::12")
		s.p[10*i+3] = s.vm(1, 10*i+3, v+1, mac(3), "10.0.1.13", "fd00:0:0:2::13")
	}
	return s
}

// udp is a datagram of VM 1 of either tenant.
func udp(dst ports.MAC, to string) packet {
	p := packet{src: mac(1), dst: dst, from: addr("10.0.0.11"), to: addr(to), sport: 5, dport: 6, payload: 30}
	if !p.to.Is4() {
		p.from = addr("fd00:0:0:1::11")
	}
	return p
}

func TestSameSubnetOnAnotherHost(t *testing.T) {
	s := newTenants(t)
	for _, to := range []string{"10.0.0.12", "fd00:0:0:1::12"} {
		p := udp(mac(2), to)
		require.Equal(t, []delivery{{1, 2, p.bytes(t)}}, s.send(0, s.p[1], p.frame(t)))
		require.Equal(t, []delivery{{1, 12, p.bytes(t)}}, s.send(0, s.p[11], p.frame(t)))
	}
}

func TestRoutedToAnotherSubnet(t *testing.T) {
	s := newTenants(t)
	for _, to := range []string{"10.0.1.13", "fd00:0:0:2::13"} {
		p := udp(routerOfVSID(5001), to)
		want := p
		want.src, want.dst, want.ttl = routerOfVSID(5002), mac(3), 63
		require.Equal(t, []delivery{{1, 3, want.bytes(t)}}, s.send(0, s.p[1], p.frame(t)))

		// One hop: what crossed is in the receiver's subnet already.
		f := s.wire[len(s.wire)-1]
		var e Encapsulated
		require.Zero(t, new(Decoder).Decap(f, &e))
		require.Equal(t, VSID(5002), e.VSID)
	}
	// And on the same host.
	p := packet{src: mac(2), dst: routerOfVSID(5001), from: addr("10.0.0.12"), to: addr("10.0.1.13"), payload: 9}
	want := p
	want.src, want.dst, want.ttl = routerOfVSID(5002), mac(3), 63
	require.Equal(t, []delivery{{1, 3, want.bytes(t)}}, s.send(1, s.p[2], p.frame(t)))
}

func TestARPIsAnsweredFromRecords(t *testing.T) {
	s := newTenants(t)
	ask := func(spa, tpa string) []delivery {
		return s.send(0, s.p[1], arpFrame(ports.Broadcast, mac(1), arp(1, mac(1), spa, ports.MAC{}, tpa)).frame(t))
	}
	answer := func(m ports.MAC, spa, tpa string) []delivery {
		return []delivery{{0, 1, arpFrame(mac(1), m, arp(2, m, tpa, mac(1), spa)).bytes(t)}}
	}
	require.Equal(t, answer(routerOfVSID(5001), "10.0.0.11", "10.0.0.1"), ask("10.0.0.11", "10.0.0.1"), "router")
	require.Equal(t, answer(mac(2), "10.0.0.11", "10.0.0.12"), ask("10.0.0.11", "10.0.0.12"), "VM on another host")
	require.Equal(t, answer(mac(2), "0.0.0.0", "10.0.0.12"), ask("0.0.0.0", "10.0.0.12"), "probe for an address that is taken")
	require.Empty(t, ask("0.0.0.0", "10.0.0.11"), "probe for its own address")
	require.Empty(t, ask("10.0.0.11", "10.0.0.11"), "announcement")
	require.Empty(t, ask("10.0.0.11", "10.0.1.13"), "address of another subnet")
	require.Empty(t, ask("10.0.0.11", "10.0.0.99"), "address of nobody")
	require.Empty(t, ask("10.0.0.12", "10.0.0.1"), "forged sender")
	f := arpFrame(ports.Broadcast, mac(1), arp(1, mac(7), "10.0.0.11", ports.MAC{}, "10.0.0.1"))
	require.Empty(t, s.send(0, s.p[1], f.frame(t)), "forged hardware address")
	f = arpFrame(routerOfVSID(5001), mac(1), arp(1, mac(1), "10.0.0.11", ports.MAC{}, "10.0.0.1"))
	require.Len(t, s.send(0, s.p[1], f.frame(t)), 1, "unicast refresh")
	require.Empty(t, s.wire, "nothing crossed")
}

func solicit(src ports.MAC, from, target string) packet {
	a := addr(target).As16()
	m := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, a[:]...)
	m = append(m, 1, 1)
	m = append(m, src[:]...)
	return packet{src: src, dst: ports.MAC{0x33, 0x33, 0xff, a[13], a[14], a[15]}, from: addr(from),
		to: addr("ff02::1"), ttl: 255, proto: layers.IPProtocolICMPv6, icmp: m}
}

func TestNDIsAnsweredFromRecords(t *testing.T) {
	s := newTenants(t)
	for _, c := range []struct {
		name, from, target string
		mac                ports.MAC
		flags              byte
	}{
		{"router", "fd00:0:0:1::11", "fd00:0:0:1::1", routerOfVSID(5001), 0xe0},
		{"VM", "fd00:0:0:1::11", "fd00:0:0:1::12", mac(2), 0x60},
		{"taken", "::", "fd00:0:0:1::12", mac(2), 0x20},
		{"its own", "::", "fd00:0:0:1::11", ports.MAC{}, 0},
		{"nobody", "fd00:0:0:1::11", "fd00:0:0:1::99", ports.MAC{}, 0},
		{"another subnet", "fd00:0:0:1::11", "fd00:0:0:2::13", ports.MAC{}, 0},
	} {
		got := s.send(0, s.p[1], solicit(mac(1), c.from, c.target).frame(t))
		if c.flags == 0 {
			require.Empty(t, got, c.name)
			continue
		}
		require.Len(t, got, 1, c.name)
		pkt := gopacket.NewPacket(got[0].data, layers.LayerTypeEthernet, gopacket.Default)
		require.Nil(t, pkt.ErrorLayer())
		na := pkt.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		require.Equal(t, c.flags, na.Flags, c.name)
		require.Equal(t, c.target, addr(na.TargetAddress.String()).String())
		require.Equal(t, c.mac[:], na.Options[0].Data)
		ip := pkt.NetworkLayer().(*layers.IPv6)
		require.Equal(t, uint8(255), ip.HopLimit)
		to := c.from
		if to == "::" {
			to = "ff02::1"
		}
		require.Equal(t, to, addr(ip.DstIP.String()).String())
		checkICMP6(t, got[0].data)
	}
}

func checkICMP6(t *testing.T, b []byte) {
	n := len(b) - 54
	pseudo := append(append([]byte(nil), b[22:54]...), 0, 0, byte(n>>8), byte(n), 0, 0, 0, 58)
	require.Zero(t, slowSum(append(pseudo, b[54:]...)))
}

func TestRouterAnswersEcho(t *testing.T) {
	s := newTenants(t)
	for _, to := range []string{"10.0.0.1", "10.0.1.1"} {
		p := packet{src: mac(1), dst: routerOfVSID(5001), from: addr("10.0.0.11"), to: addr(to), ttl: 7, proto: layers.IPProtocolICMPv4, icmp: []byte{8, 0, 0, 0, 1, 2, 3, 4}, payload: 1000}
		want := p
		want.src, want.dst, want.from, want.to, want.ttl = p.dst, p.src, p.to, p.from, 64
		want.icmp = []byte{0, 0, 0, 0, 1, 2, 3, 4}
		require.Equal(t, []delivery{{0, 1, want.bytes(t)}}, s.send(0, s.p[1], p.frame(t)))
	}
	p := packet{src: mac(1), dst: routerOfVSID(5001), from: addr("fd00:0:0:1::11"), to: addr("fd00:0:0:1::1"), proto: layers.IPProtocolICMPv6, icmp: []byte{128, 0, 0, 0, 1, 2, 3, 4}, payload: 1000}
	want := p
	want.src, want.dst, want.from, want.to = p.dst, p.src, p.to, p.from
	want.icmp = []byte{129, 0, 0, 0, 1, 2, 3, 4}
	require.Equal(t, []delivery{{0, 1, want.bytes(t)}}, s.send(0, s.p[1], p.frame(t)))
}

func TestRouterErrors(t *testing.T) {
	s := newTenants(t)
	big := func(to string, df bool) packet {
		p := udp(mac(2), to)
		p.payload, p.df = 1459-28, df
		return p
	}
	bigRouted := big("10.0.1.13", true)
	bigRouted.dst = routerOfVSID(5001)
	for _, c := range []struct {
		name      string
		p         packet
		typ, code byte
		mtu       uint16
	}{
		{"TTL", packet{ttl: 1, to: addr("10.0.1.13")}, 11, 0, 0},
		{"hop limit", packet{ttl: 1, to: addr("fd00:0:0:2::13")}, 3, 0, 0},
		{"no route", packet{to: addr("172.16.0.1")}, 3, 0, 0},
		{"no route 6", packet{to: addr("fd99::1")}, 1, 0, 0},
		{"no host", packet{to: addr("10.0.1.99")}, 3, 1, 0},
		{"no host 6", packet{to: addr("fd00:0:0:2::99")}, 1, 3, 0},
		{"fragmentation needed", big("10.0.0.12", true), 3, 4, 1458},
		{"fragmentation needed behind the router", bigRouted, 3, 4, 1458},
		{"packet too big", func() packet { p := big("fd00:0:0:1::12", false); p.payload = 1459 - 48; return p }(), 2, 0, 1458},
	} {
		p := c.p
		if p.payload == 0 {
			q := udp(routerOfVSID(5001), p.to.String())
			q.ttl = p.ttl
			p = q
		}
		got := s.send(0, s.p[1], p.frame(t))
		require.Len(t, got, 1, c.name)
		b := got[0].data
		require.Equal(t, mac(1), ports.MAC(b), c.name)
		require.Equal(t, routerOfVSID(5001), ports.MAC(b[6:]), c.name)
		sent := p.bytes(t)[14:]
		if p.to.Is4() {
			require.Zero(t, slowSum(b[14:34]), c.name)
			require.Equal(t, []byte{10, 0, 0, 1, 10, 0, 0, 11}, b[26:34], c.name)
			icmp := b[34:]
			require.Zero(t, slowSum(icmp))
			require.Equal(t, []byte{c.typ, c.code}, icmp[:2], c.name)
			require.Equal(t, c.mtu, binary.BigEndian.Uint16(icmp[6:]))
			require.Equal(t, sent[:len(icmp)-8], icmp[8:], "%s: as it was sent", c.name)
		} else {
			checkICMP6(t, b)
			icmp := b[54:]
			require.Equal(t, []byte{c.typ, c.code}, icmp[:2], c.name)
			require.Equal(t, uint32(c.mtu), binary.BigEndian.Uint32(icmp[4:]))
			require.Equal(t, sent[:len(icmp)-8], icmp[8:], c.name)
		}
	}
	n := 0
	for range 200 {
		p := udp(routerOfVSID(5001), "172.16.0.1")
		n += len(s.send(0, s.p[1], p.frame(t)))
	}
	require.Less(t, n, 60, "errors are limited")
}

func TestFragmentedWhereThatIsAllowed(t *testing.T) {
	s := newTenants(t)
	p := udp(mac(2), "10.0.0.12")
	p.payload = 4000
	for _, f := range []*ports.Frame{p.frame(t), p.asking(t, 0)} {
		got := s.send(0, s.p[1], f)
		require.Len(t, got, 3)
		var payload []byte
		for i, d := range got {
			ip := d.data[14:]
			require.LessOrEqual(t, len(ip), 1458)
			require.Zero(t, slowSum(ip[:20]))
			w := binary.BigEndian.Uint16(ip[6:])
			require.Equal(t, len(payload), int(w&0x1fff)*8)
			require.Equal(t, i < 2, w&0x2000 != 0)
			payload = append(payload, ip[20:]...)
		}
		require.Equal(t, p.bytes(t)[34:], payload)
	}
}

func TestLargeSegmentsAreCutWhereTheyLeave(t *testing.T) {
	s := newTenants(t)
	p := udp(mac(2), "10.0.0.12")
	p.proto, p.payload, p.df = layers.IPProtocolTCP, 50000, true
	got := s.send(0, s.p[1], p.asking(t, 1460))
	require.Len(t, got, 36) // 1,418 bytes each, though the guest asked for more
	n := 0
	for _, d := range got {
		require.LessOrEqual(t, len(d.data)-14, 1458)
		n += len(d.data) - 54
	}
	require.Equal(t, 50000, n)

	// A datagram must not be cut into shorter ones.
	p.proto, p.df = layers.IPProtocolUDP, false
	require.Equal(t, 1, s.drops(DropTooBig, func() { s.send(0, s.p[1], p.asking(t, 1460)) }))

	// On the same host nothing is cut.
	s.vm(0, 4, 5001, mac(4), "10.0.0.14")
	q := udp(mac(4), "10.0.0.14")
	q.proto, q.payload = layers.IPProtocolTCP, 50000
	f := q.asking(t, 1460)
	require.Equal(t, []delivery{{0, 4, wire(f)}}, s.send(0, s.p[1], f))
}

func TestBroadcastOncePerHost(t *testing.T) {
	s := newScene(t, 4)
	s.subnet(red, 5001, "10.0.0.0/24")
	s.subnet(blue, 6001, "10.0.0.0/24")
	p := s.vm(0, 1, 5001, mac(1), "10.0.0.11")
	s.vm(0, 2, 5001, mac(2), "10.0.0.12")
	s.vm(1, 3, 5001, mac(3), "10.0.0.13")
	s.vm(1, 4, 5001, mac(4), "10.0.0.14")
	s.vm(2, 5, 6001, mac(5), "10.0.0.15")
	s.vm(3, 6, 5001, mac(6), "10.0.0.16")
	for _, dst := range []ports.MAC{ports.Broadcast, {1, 0, 0x5e, 1, 1, 1}} {
		f := packet{src: mac(1), dst: dst, from: addr("10.0.0.11"), to: addr("255.255.255.255"), payload: 600}
		s.send(0, p, f.frame(t)) // the next hops are resolved
		s.wire = nil
		got := s.send(0, p, f.frame(t))
		var who []int
		for _, d := range got {
			require.Equal(t, f.bytes(t), d.data)
			who = append(who, d.port)
		}
		slices.Sort(who)
		require.Equal(t, []int{2, 3, 4, 6}, who)
		require.Len(t, s.wire, 2)
	}
}

func TestGateway(t *testing.T) {
	s := newTenants(t)
	gw := s.vm(1, 9, 5002, mac(9), "10.0.1.254")
	s.apply(Change{Route: &CustomerRoute{RDID: red, VSID: 5002, Destination: prefix("0.0.0.0/0"), NextHop: addr("10.0.1.254")}})

	p := udp(routerOfVSID(5001), "8.8.8.8")
	want := p
	want.src, want.dst, want.ttl = routerOfVSID(5002), mac(9), 63
	require.Equal(t, []delivery{{1, 9, want.bytes(t)}}, s.send(0, s.p[1], p.frame(t)))
	require.Empty(t, slices.DeleteFunc(s.send(0, s.p[11], p.frame(t)), func(d delivery) bool { return d.port == 11 }), "blue has no gateway")

	back := packet{src: mac(9), dst: routerOfVSID(5002), from: addr("8.8.8.8"), to: addr("10.0.0.11"), payload: 5}
	want = back
	want.src, want.dst, want.ttl = routerOfVSID(5001), mac(1), 63
	require.Equal(t, []delivery{{0, 1, want.bytes(t)}}, s.send(1, gw, back.frame(t)))

	forged := back
	forged.from = addr("10.0.0.12")
	require.Equal(t, 1, s.drops(DropSource, func() { s.send(1, gw, forged.frame(t)) }), "an address of a subnet is not from outside")
	other := packet{src: mac(3), dst: routerOfVSID(5002), from: addr("8.8.8.8"), to: addr("10.0.0.11"), payload: 5}
	require.Equal(t, 1, s.drops(DropSource, func() { s.send(1, s.p[3], other.frame(t)) }), "only gateways forward")
}

func TestWildcardTakesWhatNobodyHas(t *testing.T) {
	s := newTenants(t)
	s.apply(Change{Record: &LookupRecord{VSID: 5002, CA: addr("0.0.0.0"), MAC: mac(8), PA: s.hosts[1].pa, Type: GatewayWildcard}})
	gw := s.port(1, 8, 5002, mac(8))
	p := udp(routerOfVSID(5001), "10.0.1.77")
	got := s.send(0, s.p[1], p.frame(t))
	require.Len(t, got, 1)
	require.Equal(t, 8, got[0].port)
	r, ok := s.hosts[0].e.Lookup(5002, addr("10.0.1.77"))
	require.True(t, ok)
	require.Equal(t, GatewayWildcard, r.Type)
	back := packet{src: mac(8), dst: routerOfVSID(5002), from: addr("10.0.1.77"), to: addr("10.0.0.11"), payload: 5}
	require.Len(t, s.send(1, gw, back.frame(t)), 1)
}

func TestMoveOfAVM(t *testing.T) {
	s := newTenants(t)
	p := udp(mac(2), "10.0.0.12")
	require.Equal(t, 1, s.send(0, s.p[1], p.frame(t))[0].host)
	s.port(0, 22, 5001, mac(2))
	s.apply(
		Change{Record: &LookupRecord{VSID: 5001, CA: addr("10.0.0.12"), MAC: mac(2), PA: s.hosts[0].pa}},
		Change{Record: &LookupRecord{VSID: 5001, CA: addr("fd00:0:0:1::12"), MAC: mac(2), PA: s.hosts[0].pa}})
	require.Equal(t, []delivery{{0, 22, p.bytes(t)}}, s.send(0, s.p[1], p.frame(t)))
	s.p[2].Close()
	s.p[2].Close()

	// A host that has not heard of it sends to the old place, where nobody takes it.
	require.NoError(t, s.hosts[1].e.Apply([]Change{{Record: &LookupRecord{VSID: 5002, CA: addr("10.0.1.20"), MAC: mac(20), PA: s.hosts[1].pa}}}))
	require.NoError(t, s.hosts[0].e.Apply([]Change{
		{Record: &LookupRecord{VSID: 5001, CA: addr("10.0.0.12"), MAC: mac(2), PA: s.hosts[1].pa}},
		{Record: &LookupRecord{VSID: 5001, CA: addr("fd00:0:0:1::12"), MAC: mac(2), PA: s.hosts[1].pa}}}))
	require.Equal(t, 1, s.drops(DropNotHere, func() { require.Empty(t, s.send(0, s.p[1], p.frame(t))) }))
}

func TestUnknownMAC(t *testing.T) {
	s := newTenants(t)
	to := packet{src: mac(1), dst: mac(77), from: addr("10.0.0.11"), to: addr("10.0.0.77"), payload: 9}
	from := packet{src: mac(78), dst: mac(2), from: addr("10.0.0.78"), to: addr("10.0.0.12"), payload: 9}
	require.Equal(t, 1, s.drops(DropNoRecord, func() { s.send(0, s.p[1], to.frame(t)) }))
	require.Equal(t, 1, s.drops(DropSource, func() { s.send(0, s.p[1], from.frame(t)) }))
	s.apply(Change{Subnet: &Subnet{VSID: 5001, RDID: red, Unknown: FloodUnknown}})
	require.Equal(t, []delivery{{1, 2, to.bytes(t)}}, s.send(0, s.p[1], to.frame(t)))
	require.Equal(t, []delivery{{1, 2, from.bytes(t)}}, s.send(0, s.p[1], from.frame(t)))
	from.from = addr("10.0.0.12")
	require.Equal(t, 1, s.drops(DropSource, func() { s.send(0, s.p[1], from.frame(t)) }), "not with an address that has an owner")
}

func TestLearning(t *testing.T) {
	s := newScene(t, 2)
	s.subnet(red, 5001, "10.0.0.0/24")
	s.apply(Change{Subnet: &Subnet{VSID: 5001, RDID: red, Learning: true}})
	for i, m := range []ports.MAC{mac(1), mac(2)} {
		s.apply(Change{Record: &LookupRecord{VSID: 5001, MAC: m, PA: s.hosts[i].pa, Type: L2Only}})
	}
	a, b := s.port(0, 1, 5001, mac(1)), s.port(1, 2, 5001, mac(2))
	s.vm(1, 3, 5001, mac(3), "10.0.0.13")

	hello := arpFrame(ports.Broadcast, mac(1), arp(1, mac(1), "10.0.0.50", ports.MAC{}, "10.0.0.50"))
	require.Len(t, s.send(0, a, hello.frame(t)), 2)
	for _, h := range s.hosts {
		r, ok := h.e.Lookup(5001, addr("10.0.0.50"))
		require.True(t, ok)
		require.Equal(t, LookupRecord{5001, addr("10.0.0.50"), mac(1), s.hosts[0].pa, Dynamic, NVGRE}, r)
		require.Len(t, slices.Collect(h.e.Learned()), 1)
	}
	ask := arpFrame(ports.Broadcast, mac(2), arp(1, mac(2), "10.0.0.60", ports.MAC{}, "10.0.0.50"))
	require.Equal(t, []delivery{{1, 2, arpFrame(mac(2), mac(1), arp(2, mac(1), "10.0.0.50", mac(2), "10.0.0.60")).bytes(t)}},
		s.send(1, b, ask.frame(t)), "answered from what was learned")

	// The address moves, as that of a cluster does; that of a static record does not.
	s.now += 2e9
	move := arpFrame(ports.Broadcast, mac(2), arp(1, mac(2), "10.0.0.50", ports.MAC{}, "10.0.0.50"))
	s.send(1, b, move.frame(t))
	r, _ := s.hosts[0].e.Lookup(5001, addr("10.0.0.50"))
	require.Equal(t, mac(2), r.MAC)
	steal := arpFrame(ports.Broadcast, mac(2), arp(1, mac(2), "10.0.0.13", ports.MAC{}, "10.0.0.13"))
	require.Equal(t, 1, s.drops(DropSource, func() { s.send(1, b, steal.frame(t)) }))
	router := arpFrame(ports.Broadcast, mac(2), arp(1, mac(2), "10.0.0.1", ports.MAC{}, "10.0.0.1"))
	require.Equal(t, 1, s.drops(DropSource, func() { s.send(1, b, router.frame(t)) }))

	// A guest can make no host remember more than its share.
	n := 0
	for i := range 200 {
		p := packet{src: mac(2), dst: mac(1), from: addr("10.0.0.13"), to: addr("10.0.0.50"), payload: 5}
		p.from = netip.AddrFrom4([4]byte{10, 0, 0, byte(50 + i)})
		n += len(s.send(1, b, p.frame(t)))
	}
	require.Equal(t, maxLearned, n)

	s.now += defaultLearnedAge + 2e9
	for _, h := range s.hosts {
		h.e.Expire(s.now)
		require.Empty(t, slices.Collect(h.e.Learned()))
		require.Empty(t, h.e.w.learned)
	}
}

func TestProviderAddressAnswers(t *testing.T) {
	s := newScene(t, 2)
	h := s.hosts[1]
	probe := func(p packet) []Output { return h.w.Inbound(s.now, []*ports.Frame{p.frame(t)}) }
	out := probe(arpFrame(ports.Broadcast, mac(0xf0), arp(1, mac(0xf0), "192.0.2.9", ports.MAC{}, "192.0.2.2")))
	require.Zero(t, out[0].Drop)
	require.Equal(t, arpFrame(mac(0xf0), h.mac, arp(2, h.mac, "192.0.2.2", mac(0xf0), "192.0.2.9")).bytes(t), wire(out[0].Frame))

	ping := packet{src: mac(0xf0), dst: h.mac, from: addr("192.0.2.9"), to: addr("192.0.2.2"), proto: layers.IPProtocolICMPv4, icmp: []byte{8, 0, 0, 0, 0, 1, 0, 1}, payload: 56}
	out = probe(ping)
	require.Zero(t, out[0].Drop)
	require.Equal(t, byte(0), wire(out[0].Frame)[34])
	require.Zero(t, slowSum(wire(out[0].Frame)[34:]))

	ping.to = addr("192.0.2.3")
	require.Equal(t, DropNotTunnel, probe(ping)[0].Drop)
}

func TestIPv6ProviderNetwork(t *testing.T) {
	s := newScene(t, 0)
	s.addHost(prefix("2001:db8::1/64"))
	s.addHost(prefix("2001:db8::2/64"))
	s.subnet(red, 5001, "10.0.0.0/24")
	p := s.vm(0, 1, 5001, mac(1), "10.0.0.11")
	s.vm(1, 2, 5001, mac(2), "10.0.0.12")
	f := udp(mac(2), "10.0.0.12")
	require.Equal(t, []delivery{{1, 2, f.bytes(t)}}, s.send(0, p, f.frame(t)))
	for _, e := range []Encapsulation{VXLAN, Geneve} {
		s.apply(Change{Record: &LookupRecord{VSID: 5001, CA: addr("10.0.0.12"), MAC: mac(2), PA: s.hosts[1].pa, Rule: e}})
		require.Equal(t, []delivery{{1, 2, f.bytes(t)}}, s.send(0, p, f.frame(t)))
		require.Len(t, s.wire[len(s.wire)-1].Head(), len(f.bytes(t))+e.Overhead(s.hosts[0].pa))
	}
}

func TestProviderRoute(t *testing.T) {
	s := newScene(t, 1)
	h := s.hosts[0]
	c := h.e.Config()
	c.Routes = []ProviderRoute{
		{Destination: prefix("198.51.100.0/24"), NextHop: addr("192.0.2.254")},
		{Destination: prefix("198.51.0.0/16"), NextHop: addr("192.0.2.253")}}
	require.NoError(t, h.e.SetConfig(&c))
	s.subnet(red, 5001, "10.0.0.0/24")
	p := s.vm(0, 1, 5001, mac(1), "10.0.0.11")
	s.apply(Change{Record: &LookupRecord{VSID: 5001, CA: addr("10.0.0.12"), MAC: mac(2), PA: addr("198.51.100.7")}})
	out := h.w.Outbound(s.now, p, []*ports.Frame{udp(mac(2), "10.0.0.12").frame(t)})
	require.Len(t, out, 2)
	require.Equal(t, arpFrame(ports.Broadcast, h.mac, arp(1, h.mac, "192.0.2.1", ports.MAC{}, "192.0.2.254")).bytes(t), wire(out[0].Frame))
	require.Equal(t, DropUnresolved, out[1].Drop)
	h.w.Inbound(s.now, []*ports.Frame{arpFrame(h.mac, mac(0xfe), arp(2, mac(0xfe), "192.0.2.254", h.mac, "192.0.2.1")).frame(t)})
	out = h.w.Outbound(s.now, p, []*ports.Frame{udp(mac(2), "10.0.0.12").frame(t)})
	require.Len(t, out, 1)
	require.Equal(t, mac(0xfe), ports.MAC(out[0].Frame.Head()))

	// Without a way there is none.
	s.apply(Change{Record: &LookupRecord{VSID: 5001, CA: addr("10.0.0.12"), MAC: mac(2), PA: addr("203.0.113.1")}})
	out = h.w.Outbound(s.now, p, []*ports.Frame{udp(mac(2), "10.0.0.12").frame(t)})
	require.Equal(t, DropNoProvider, out[0].Drop)
}

func TestForgedFramesFromTheProviderNetwork(t *testing.T) {
	s := newTenants(t)
	s.send(0, s.p[1], udp(mac(2), "10.0.0.12").frame(t))
	legit := udp(mac(2), "10.0.0.12")
	routed := legit
	routed.src, routed.dst, routed.to, routed.ttl = routerOfVSID(5002), mac(3), addr("10.0.1.13"), 63
	for _, c := range []struct {
		name string
		p    packet
		vsid VSID
		src  string
		want Drop
	}{
		{"as it is sent", legit, 5001, "192.0.2.1", 0},
		{"as it is routed", routed, 5002, "192.0.2.1", 0},
		{"unknown provider address", legit, 5001, "192.0.2.99", DropUnknownProvider},
		{"provider address of the receiver", legit, 5001, "192.0.2.2", DropUnknownProvider},
		{"routed from an unknown provider address", routed, 5002, "192.0.2.99", DropUnknownProvider},
		{"VSID of nobody", legit, 7777, "192.0.2.1", DropUnknownVSID},
		{"VSID of another subnet", legit, 5002, "192.0.2.1", DropUnknownProvider},
		{"MAC of a VM on another host", func() packet { p := legit; p.src = mac(2); return p }(), 5001, "192.0.2.1", DropSource},
		{"address of a VM on another host", func() packet { p := legit; p.from = addr("10.0.0.12"); return p }(), 5001, "192.0.2.1", DropSource},
		{"address of nobody", func() packet { p := legit; p.from = addr("10.0.0.200"); return p }(), 5001, "192.0.2.1", DropSource},
		{"address of the router", func() packet { p := legit; p.from = addr("10.0.0.1"); return p }(), 5001, "192.0.2.1", DropSource},
		{"routed with the address of a VM on another host", func() packet { p := routed; p.from = addr("10.0.0.12"); return p }(), 5002, "192.0.2.1", DropUnknownProvider},
		{"routed from outside without a gateway", func() packet { p := routed; p.from = addr("8.8.8.8"); return p }(), 5002, "192.0.2.1", DropUnknownProvider},
		{"broadcast of a router", func() packet { p := routed; p.dst = ports.Broadcast; return p }(), 5002, "192.0.2.1", DropUnknownProvider},
		{"for a VM that is not here", func() packet { p := legit; p.dst = mac(1); return p }(), 5001, "192.0.2.1", DropNotHere},
	} {
		f := c.p.frame(t)
		tun, err := NewTunnel(&TunnelConfig{Src: addr(c.src), Dst: s.hosts[1].pa, SrcMAC: s.hosts[0].mac, DstMAC: s.hosts[1].mac})
		require.NoError(t, err)
		require.NoError(t, tun.Encap(f, c.vsid))
		out := s.hosts[1].w.Inbound(s.now, []*ports.Frame{f})
		require.Equal(t, c.want, out[0].Drop, "%s: %s", c.name, out[0].Drop)
		if c.want == DropUnknownVSID { // its sender is told
			require.Len(t, out, 2, c.name)
			require.True(t, out[1].Drop == 0 && out[1].Port == nil)
			out = out[:1]
		}
		require.Len(t, out, 1, c.name)
	}
}

func TestClosedPort(t *testing.T) {
	s := newScene(t, 1)
	s.subnet(red, 5001, "10.0.0.0/24")
	s.apply(Change{Subnet: &Subnet{VSID: 5001, RDID: red, Unknown: FloodUnknown}})
	p := s.port(0, 1, 5001, mac(1))
	p.Close()
	f := udp(ports.Broadcast, "255.255.255.255")
	require.Equal(t, 1, s.drops(DropNoMember, func() { s.send(0, p, f.frame(t)) }))
}
