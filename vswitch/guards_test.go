package vswitch_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
)

// make8 is n times 8 bytes of payload.
func make8(n int) gopacket.Payload { return make([]byte, 8*n) }

func arp(from *station, op uint16, sha ports.MAC, spa, tpa netip.Addr) []byte {
	return packetOf(&layers.Ethernet{SrcMAC: from.mac[:], DstMAC: ports.Broadcast[:], EthernetType: layers.EthernetTypeARP}, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: op, SourceHwAddress: sha[:], SourceProtAddress: spa.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: tpa.AsSlice(),
	})
}

// dhcpOffer is what a DHCPv4 server says.
func dhcpOffer(from, to *station, options ...layers.IPv4Option) []byte {
	ip := ipv4(from, to, layers.IPProtocolUDP)
	ip.Options = options
	return packetOf(ethernet(from, to, layers.EthernetTypeIPv4), ip, &layers.UDP{SrcPort: 67, DstPort: 68},
		&layers.DHCPv4{Operation: layers.DHCPOpReply, HardwareType: layers.LinkTypeEthernet, ClientHWAddr: to.mac[:]})
}

func dhcpv6Advertise() []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{&layers.UDP{SrcPort: 547, DstPort: 546}, &layers.DHCPv6{MsgType: layers.DHCPv6MsgTypeAdverstise}}
}

func icmp6(kind uint8) gopacket.Payload {
	b := make(gopacket.Payload, 40)
	b[0] = kind
	return b
}

// behind is an ICMPv6 message or datagram after extension headers.
func behind(from, to *station, chain []gopacket.Payload, first, last layers.IPProtocol, message gopacket.Payload) []byte {
	var all gopacket.Payload
	for i, x := range chain {
		next := last
		if i+1 < len(chain) {
			next = layers.IPProtocol(chain[i+1][len(chain[i+1])-1])
		}
		x = append(gopacket.Payload{}, x[:len(x)-1]...)
		x[0] = byte(next)
		all = append(all, x...)
	}
	return over6(from, to, first, append(all, message...))
}

// Extension headers; the byte behind each is its own number.
func options(number byte, n int) gopacket.Payload {
	b := make(gopacket.Payload, 8*n)
	b[1], b[2], b[3] = byte(n-1), 1, byte(8*n-4) // PadN
	return append(b, number)
}

func fragment6(offset uint16, more bool) gopacket.Payload {
	b := make(gopacket.Payload, 8)
	if more {
		offset |= 1
	}
	binary.BigEndian.PutUint16(b[2:], offset)
	b[7] = 77
	return append(b, 44)
}

func fragment4(wire []byte, more bool) []byte {
	if more {
		wire[20] |= 0x20
	}
	binary.BigEndian.PutUint16(wire[24:], 0)
	binary.BigEndian.PutUint16(wire[24:], ^onesSum(0, wire[14:14+int(wire[14]&15)*4]))
	return wire
}

func TestServersAndRoutersAreKeptFromGuardedGuests(t *testing.T) {
	const (
		dhcp, router = vswitch.DropDHCPServer, vswitch.DropRouterMessage
		hopByHop     = layers.IPProtocolIPv6HopByHop
		destination  = layers.IPProtocolIPv6Destination
		inFragments  = layers.IPProtocolIPv6Fragment
		six          = layers.IPProtocolICMPv6
	)
	chain := func(p ...gopacket.Payload) []gopacket.Payload { return p }
	icmp4 := func(kind uint8) func(a, b *station) []byte {
		return func(a, b *station) []byte { return echo(a, b, kind, 0) }
	}
	for name, c := range map[string]struct {
		why  vswitch.DropReason
		wire func(a, b *station) []byte
	}{
		"DHCPv4": {dhcp, func(a, b *station) []byte { return dhcpOffer(a, b) }},
		"DHCPv4 with IP options": {dhcp, func(a, b *station) []byte {
			return dhcpOffer(a, b, layers.IPv4Option{OptionType: 1}, layers.IPv4Option{OptionType: 1}, layers.IPv4Option{OptionType: 1}, layers.IPv4Option{OptionType: 1})
		}},
		"DHCPv4, first fragment":     {dhcp, func(a, b *station) []byte { return fragment4(datagram(a, b, 67, 68), true) }},
		"DHCPv4, from any port":      {dhcp, func(a, b *station) []byte { return datagram(a, b, 4711, 68) }},
		"DHCPv6":                     {dhcp, func(a, b *station) []byte { return over6(a, b, layers.IPProtocolUDP, dhcpv6Advertise()...) }},
		"redirect, IPv4":             {router, icmp4(5)},
		"router advertisement, IPv4": {router, icmp4(9)},
		"redirect, IPv4, in parts":   {router, func(a, b *station) []byte { return fragment4(echo(a, b, 5, 0), false) }},
		"router advertisement":       {router, func(a, b *station) []byte { return over6(a, b, six, icmp6(134)) }},
		"redirect":                   {router, func(a, b *station) []byte { return over6(a, b, six, icmp6(137)) }},
		"RA behind hop-by-hop":       {router, func(a, b *station) []byte { return behind(a, b, chain(options(0, 1)), hopByHop, six, icmp6(134)) }},
		"RA behind options": {router, func(a, b *station) []byte {
			return behind(a, b, chain(options(60, 3), options(60, 1)), destination, six, icmp6(134))
		}},
		"RA in an atomic fragment": {router, func(a, b *station) []byte {
			return behind(a, b, chain(fragment6(0, false)), inFragments, six, icmp6(134))
		}},
		"RA in a first fragment": {router, func(a, b *station) []byte {
			return behind(a, b, chain(options(60, 1), fragment6(0, true)), destination, six, icmp6(134))
		}},
		"headers in a later fragment": {vswitch.DropMalformed, func(a, b *station) []byte {
			return behind(a, b, chain(fragment6(0, true), options(60, 4)), inFragments, six, nil)
		}},
		"a chain beyond sight": {vswitch.DropMalformed, func(a, b *station) []byte { return behind(a, b, chain(options(60, 60)), destination, six, icmp6(134)) }},
		"DHCPv6 behind options": {dhcp, func(a, b *station) []byte {
			return behind(a, b, chain(options(60, 2)), destination, layers.IPProtocolUDP, gopacket.Payload{2, 35, 2, 34, 0, 16, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				_, vm := privateLab(t, 3)
				vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.DHCPGuard, c.RouterGuard = true, true })
				vm[0].dropped(vm[2], c.wire(vm[0], vm[2]), vm[0], c.why)
				if c.why != vswitch.DropMalformed {
					priority := tagged(c.wire(vm[0], vm[2]), tpidQ, 5<<13)
					vm[0].dropped(vm[2], priority, vm[0], c.why, "with a priority tag")
				}
				vm[1].passes(vm[2], c.wire(vm[1], vm[2]), "no guard there")
				vm[2].passes(vm[0], c.wire(vm[2], vm[0]), "a guard is about what a guest sends")

				// Of two guards one has it.
				vm[0].reconfigure(func(v *vswitch.VNICConfig) { v.DHCPGuard = c.why != dhcp; v.RouterGuard = c.why == dhcp })
				if c.why == dhcp || c.why == router {
					vm[0].passes(vm[2], c.wire(vm[0], vm[2]), "the other guard")
				}
			})
		})
	}
}

func TestGuardsHoldInVLANs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		l.newSwitch("lab", vswitch.SwitchConfig{})
		trunk := vlan.Trunk(1, vlan.AllIDs(), nil)
		from := l.guest("vm0", vswitch.VNICConfig{Switch: "lab", VLAN: trunk, DHCPGuard: true, RouterGuard: true})
		to := l.guest("vm1", vswitch.VNICConfig{Switch: "lab", VLAN: trunk})
		ra := over6(from, to, layers.IPProtocolICMPv6, icmp6(134))
		offer := dhcpOffer(from, to)
		from.dropped(to, ra, from, vswitch.DropRouterMessage)
		from.dropped(to, tagged(ra, tpidQ, 7), from, vswitch.DropRouterMessage)
		from.dropped(to, tagged(offer, tpidQ, 0x6007), from, vswitch.DropDHCPServer)
		from.dropped(to, tagged(offer, tpidQ, 7, tpidQ, 8), from, vswitch.DropNestedTag)

		qinq := vlan.Trunk(1, vlan.AllIDs(), &vlan.TrunkOptions{QinQ: true})
		for _, s := range []*station{from, to} {
			s.reconfigure(func(c *vswitch.VNICConfig) { c.VLAN = qinq })
		}
		from.dropped(to, tagged(offer, tpidAD, 7, tpidQ, 8), from, vswitch.DropDHCPServer)
		from.dropped(to, tagged(ra, tpidAD, 7, tpidQ, 0, tpidQ, 0), from, vswitch.DropRouterMessage)
	})
}

func TestLegitimateTrafficPassesAllGuards(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 2)
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { strict(t, c, vm[0].ip4(), vm[0].ip6()); c.ACL = nil })
		for _, b := range [][]byte{
			datagram(vm[0], vm[1], 68, 53),
			tcpSegment(vm[0], vm[1], 1, 2, "S", 1, 0),
			echo(vm[0], vm[1], 8, 1),
			arp(vm[0], 1, vm[0].mac, vm[0].ip4(), vm[1].ip4()),
			over6(vm[0], vm[1], layers.IPProtocolICMPv6, icmp6(128)),
			frame(vm[1].mac, vm[0].mac, "not IP"),
		} {
			vm[0].passes(vm[1], b)
		}
		require.Empty(t, vm[0].drops())
	})
}

func TestAGuestUsesItsOwnAddressesOnly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 3)
		liar := &station{lab: l, end: vm[2].end, mac: vm[0].mac} // vm0 with the IP addresses of vm2
		lies4, lies6 := datagram(liar, vm[1], 1, 2), over6(liar, vm[1], layers.IPProtocolUDP, &layers.UDP{SrcPort: 1})
		falseARP := arp(vm[0], 2, vm[0].mac, vm[2].ip4(), vm[1].ip4())
		otherMAC := arp(vm[0], 2, vm[2].mac, vm[0].ip4(), vm[1].ip4())
		advert := func(a netip.Addr) []byte {
			b := make(gopacket.Payload, 24)
			b[0], b[4] = 136, 0x20
			copy(b[8:], a.AsSlice())
			return over6(vm[0], vm[1], layers.IPProtocolICMPv6, append(b, append([]byte{2, 1}, vm[0].mac[:]...)...))
		}
		for _, b := range [][]byte{lies4, lies6, falseARP, otherMAC, advert(vm[2].ip6())} {
			vm[0].passes(vm[1], b, "without guards")
		}
		vm[0].reconfigure(func(c *vswitch.VNICConfig) {
			c.Addresses = []netip.Prefix{netip.PrefixFrom(vm[0].ip4(), 32), netip.PrefixFrom(vm[0].ip6(), 128)}
			c.IPSourceGuard = true
		})
		vm[0].dropped(vm[1], lies4, vm[0], vswitch.DropSourceAddress)
		vm[0].dropped(vm[1], lies6, vm[0], vswitch.DropSourceAddress)
		vm[0].passes(vm[1], datagram(vm[0], vm[1], 1, 2))
		vm[0].passes(vm[1], falseARP, "ARP is another guard's")
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.IPSourceGuard, c.ARPInspection = false, true })
		vm[0].passes(vm[1], lies4)
		vm[0].dropped(vm[1], falseARP, vm[0], vswitch.DropFalseARP)
		vm[0].dropped(vm[1], otherMAC, vm[0], vswitch.DropFalseARP)
		vm[0].dropped(vm[1], advert(vm[2].ip6()), vm[0], vswitch.DropFalseND)
		vm[0].passes(vm[1], advert(vm[0].ip6()))
		vm[0].passes(vm[1], arp(vm[0], 2, vm[0].mac, vm[0].ip4(), vm[1].ip4()))

		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.MAC = stranger(5); c.Addresses = nil })
		vm[0].mac = stranger(5)
		vm[0].passes(vm[1], arp(vm[0], 2, stranger(5), vm[0].ip4(), vm[1].ip4()), "inspection goes by the new MAC")
	})
}

func TestAGuestUsesNoMoreAddressesThanItMay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 2)
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.MaxDynamicAddresses = 2 })
		as := func(n int) []byte {
			ends := []string{"vm0", "vm7", "vm8", "vm9"}
			return datagram(l.alias(vm[0], ends[n]), vm[1], 1, 2)
		}
		vm[0].passes(vm[1], as(0))
		time.Sleep(time.Minute)
		vm[0].passes(vm[1], as(1))
		vm[0].dropped(vm[1], as(2), vm[0], vswitch.DropAddressLimit)
		vm[0].passes(vm[1], as(0))
		time.Sleep(4*time.Minute + 58*time.Second)
		vm[0].dropped(vm[1], as(2), vm[0], vswitch.DropAddressLimit)
		time.Sleep(3 * time.Second) // the first two were used 5:01 ago
		vm[0].passes(vm[1], as(2))
		vm[0].passes(vm[1], as(3))
		vm[0].dropped(vm[1], as(0), vm[0], vswitch.DropAddressLimit)

		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Notes = "another setting" })
		vm[0].dropped(vm[1], as(0), vm[0], vswitch.DropAddressLimit, "what was learned outlives other changes")
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Addresses = []netip.Prefix{netip.PrefixFrom(vm[0].ip4(), 32)} })
		vm[0].passes(vm[1], as(0), "an assigned address does not count")
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.MaxDynamicAddresses = 0 })
		for i := range 4 {
			vm[0].passes(vm[1], as(i))
		}
	})
}

// alias is the station with the IP addresses of another.
func (l *lab) alias(s *station, name string) *station {
	a, _ := l.pipe(ports.PipeConfig{Name: name})
	require.NoError(l.t, a.Close())
	return &station{lab: l, end: a, mac: s.mac}
}

func TestStormsAreLimitedToTheFrame(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 3)
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.StormLimit = 50 })
		send := func(dst ports.MAC, n int) (arrived int) {
			for range n {
				vm[0].send(dst, "x")
			}
			return len(vm[1].received())
		}
		require.Equal(t, 50, send(ports.Broadcast, 60), "the burst")
		require.Equal(t, drops{vswitch.DropStormLimit: 10}, vm[0].drops())
		require.Zero(t, send(ports.Broadcast, 1))
		require.Equal(t, 100, send(vm[1].mac, 100), "to one station")
		for range 10 {
			time.Sleep(100 * time.Millisecond)
			require.Equal(t, 2, send(ports.MAC{1, 0, 0x5e, 0, 0, 9}, 2), "a group")
			require.Equal(t, 2, send(stranger(3), 2), "an unknown station")
			require.Equal(t, 1, send(ports.Broadcast, 2))
		}
		time.Sleep(time.Hour)
		require.Equal(t, 50, send(ports.Broadcast, 60), "no more is saved")
		drain(vm...)

		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Notes = "another setting" })
		require.Zero(t, send(ports.Broadcast, 1), "a change of another setting is no new burst")
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.StormLimit = 0 })
		require.Equal(t, 100, send(ports.Broadcast, 100))
		drain(vm...)
		require.Equal(t, 100, func() int {
			for range 100 {
				vm[2].send(ports.Broadcast, "x")
			}
			return len(vm[1].received())
		}(), "others have no limit")
	})
}

func TestPoliciesChangeUnderTraffic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 3)
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.DHCPGuard = true })
		f := l.flow(vm[1], vm[0])
		for i := range 200 {
			for _, s := range vm[:2] {
				s.reconfigure(func(c *vswitch.VNICConfig) {
					c.Addresses, c.ACL = nil, nil
					if i%2 == 0 {
						strict(t, c, s.ip4())
					}
					c.DHCPGuard, c.RouterGuard, c.ARPInspection = true, i%3 == 0, i%5 == 0
					c.MaxDynamicAddresses, c.StormLimit = i%4, uint32(1000+i%2)
					c.ProtectedNetwork = i%2 == 0
				})
			}
			vm[0].sendRaw(dhcpOffer(vm[0], vm[2]))
			if i%10 == 0 {
				f.goOn(100)
			}
		}
		f.stop()
		for _, got := range vm[2].received() {
			require.Failf(t, "another got it", "%x", got.Head()[:min(24, got.Len())])
		}
		require.Equal(t, drops{vswitch.DropDHCPServer: 200}, vm[0].drops())
		require.Empty(t, vm[1].drops())
	})
}
