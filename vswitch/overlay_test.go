package vswitch_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
)

func TestTenantsWithTheSameAddressesReachTheirOwn(t *testing.T) {
	for _, vid := range []uint16{0, 9} {
		inBubble(t, func(t *testing.T) {
			c := newCloudOn(t, ports.PipeConfig{}, vid)
			var vms [2][3]*member
			var all []*member
			for i, rdid := range []overlay.RDID{red, blue} {
				v := overlay.VSID(5001 + 1000*i)
				c.subnet(rdid, v, "10.0.0.0/24")
				c.subnet(rdid, v+1, "10.0.1.0/24")
				color := []string{"red", "blue"}[i]
				vms[i] = [3]*member{
					c.vm(0, color+"1", v, "10.0.0.11"),
					c.vm(1, color+"2", v, "10.0.0.12"),
					c.vm(1, color+"3", v+1, "10.0.1.13"),
				}
				all = append(all, vms[i][:]...)
			}
			c.meet(all...)
			for i, vm := range vms {
				vm[0].says(vm[1], "to the next")
				vm[1].says(vm[0], "back")
				vm[0].says(vm[2], "routed")
				vm[1].says(vm[2], "routed on one host")
				vm[2].says(vm[0], "routed back")
				require.ElementsMatch(t, []string{"back", "routed back"}, vm[0].hears())
				require.Equal(t, []string{"to the next"}, vm[1].hears())
				require.ElementsMatch(t, []string{"routed", "routed on one host"}, vm[2].hears())
				for _, other := range vms[1-i] {
					require.Empty(t, other.hears())
				}
			}
			for _, n := range c.nodes {
				require.Empty(t, n.sw().Addresses(), "the forwarding database is not used")
				require.Zero(t, n.sw().Stats().Flooded)
			}
		})
	}
}

func TestBroadcastOfATenantReachesItsSubnetOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCloud(t)
		c.subnet(red, 5001, "10.0.0.0/24")
		c.subnet(blue, 6001, "10.0.0.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(0, "b", 5001, "10.0.0.12")
		x, y := c.vm(1, "x", 5001, "10.0.0.13"), c.vm(1, "y", 5001, "10.0.0.14")
		other := c.vm(1, "other", 6001, "10.0.0.15")
		c.meet(a, b, x, y)
		a.sendRaw(packet(ports.Broadcast, a.mac, a.ca, addr("255.255.255.255"), "all"))
		for _, v := range []*member{b, x, y} {
			require.Equal(t, []string{"all"}, v.hears())
		}
		require.Empty(t, a.hears())
		require.Empty(t, other.hears())
		a.sendRaw(frame(ports.MAC{1, 0x80, 0xc2, 0, 0, 0}, a.mac, "a bridge"))
		require.Empty(t, b.hears())
		require.EqualValues(t, 1, a.drops()[vswitch.DropReserved])
	})
}

// The router of a subnet answers ARP and echo requests by itself.
func TestTheRouterOfATenantAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		a := c.vm(0, "a", 5001, "10.0.0.11")
		n.settle()
		n.wire.received()
		request := arp(a.station, 1, a.mac, a.ca, addr("10.0.0.1"))
		a.sendRaw(request)
		got := a.received()
		require.Len(t, got, 1)
		require.Equal(t, routerMAC(5001), ports.MAC(got[0].Head()[22:]))
		require.Empty(t, n.wire.received())
		require.Empty(t, a.drops())

		// ICMP errors come back too, and the frame that caused them is counted.
		a.sendRaw(packet(routerMAC(5001), a.mac, a.ca, addr("172.16.0.1"), "nowhere"))
		require.Len(t, a.received(), 1)
		require.Equal(t, drops{vswitch.DropNoRoute: 1}, a.drops())
	})
}

// Nothing gets from a VLAN into a virtual subnet or back, by whatever frame.
func TestVLANsAndVirtualSubnetsAreApart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCloudOn(t, ports.PipeConfig{}, 9)
		c.subnet(red, 5001, "10.0.0.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(1, "b", 5001, "10.0.0.12")
		n := c.nodes[0]
		plain := n.guest("plain", vswitch.VNICConfig{Switch: "lab"})
		tagged9 := n.guest("tagged9", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(9), AllowSpoofing: true})
		trunk := n.guest("trunk", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Trunk(0, vlan.AllIDs(), &vlan.TrunkOptions{Untagged: true}), AllowSpoofing: true})
		c.meet(a, b)
		outside := []*station{plain, tagged9, trunk}
		n.settle()
		for _, s := range outside {
			s.received()
		}

		for _, s := range outside {
			s.send(a.mac, "unicast")
			s.send(ports.Broadcast, "broadcast")
			s.sendRaw(packet(a.mac, s.mac, addr("10.0.0.12"), a.ca, "to its address"))
			n.settle()
		}
		for _, s := range []*station{tagged9, trunk} { // forged
			s.sendAs(b.mac, a.mac, "as a member")
			s.sendAs(a.mac, ports.Broadcast, "as itself")
			s.sendRaw(n.tunnel(t, paOf(2), 5001, packet(a.mac, b.mac, b.ca, a.ca, "encapsulated")))
			s.sendRaw(tagged(n.tunnel(t, paOf(2), 5001, packet(a.mac, b.mac, b.ca, a.ca, "encapsulated")), tpidQ, 9))
			n.settle()
		}
		require.Empty(t, a.hears())
		require.Empty(t, b.hears())
		for _, s := range outside {
			s.received()
		}

		a.sendRaw(packet(plain.mac, a.mac, a.ca, addr("10.0.0.99"), "unicast"))
		a.send(tagged9.mac, "unicast")
		a.send(ports.Broadcast, "broadcast")
		a.sendRaw(tagged(packet(plain.mac, a.mac, a.ca, addr("10.0.0.99"), "unicast"), tpidQ, 9))
		a.sendRaw(packet(ports.Broadcast, plain.mac, a.ca, addr("10.0.0.99"), "as somebody else"))
		for _, s := range outside {
			require.Empty(t, s.received(), s.end.Info().Name)
		}
		require.NotEmpty(t, b.hears(), "the broadcast")
		got := a.drops()
		require.EqualValues(t, 2, got[vswitch.DropNoRecord])
		require.EqualValues(t, 1, got[vswitch.DropTagged])
		require.EqualValues(t, 1, got[vswitch.DropSpoofedSource])
		require.Zero(t, got[vswitch.DropNotMember], "floods do not even try")

		require.ErrorIs(t, n.sw().AddAddress(a.mac, 0, "a"), vswitch.ErrInvalid)
		for _, e := range n.sw().Addresses() {
			require.NotEqual(t, "a", e.Port)
		}
	})
}

// What comes from the wire is the overlay's only if it is for a provider address in its VLAN.
func TestTheWireBelongsToBoth(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		a := c.vm(0, "a", 5001, "10.0.0.11")
		peer := stranger(1)
		c.record(5001, peer, addr("10.0.0.12"), 1)
		plain := n.guest("plain", vswitch.VNICConfig{Switch: "lab"})
		inner := packet(a.mac, peer, addr("10.0.0.12"), a.ca, "inner")

		n.wire.sendRaw(n.tunnel(t, paOf(2), 5001, inner))
		require.Equal(t, []string{"inner"}, a.hears())
		require.Empty(t, plain.received())

		n.wire.sendRaw(tagged(n.tunnel(t, paOf(2), 5001, inner), tpidQ, 7))
		require.Empty(t, a.hears(), "the provider address is in no VLAN")
		n.wire.sendRaw(n.tunnel(t, paOf(3), 5001, inner))
		require.Empty(t, a.hears(), "a host without a part in the subnet")
		n.wire.sendRaw(n.tunnel(t, paOf(2), 5002, inner))
		require.Empty(t, a.hears(), "no such subnet")
		n.wire.sendRaw(n.tunnel(t, paOf(2), 5001, packet(a.mac, stranger(2), addr("10.0.0.12"), a.ca, "inner")))
		require.Empty(t, a.hears(), "forged")
		got := n.wire.drops()
		require.EqualValues(t, 1, got[vswitch.DropTunnelSource])
		require.EqualValues(t, 1, got[vswitch.DropUnknownVSID])
		require.EqualValues(t, 1, got[vswitch.DropCustomerSource])
		require.Empty(t, plain.received())

		// The rest is the VLANs'.
		n.wire.send(plain.mac, "unicast")
		n.wire.send(ports.Broadcast, "broadcast")
		n.wire.send(stranger(77), "unknown")
		require.Equal(t, []string{"unicast", "broadcast", "unknown"}, plain.got())
		require.EqualValues(t, 1, n.wire.drops()[vswitch.DropNoDestination], "the one in VLAN 7")
		n.wire.send(n.mac, "to the provider address, and no tunnel")
		require.Empty(t, plain.got())
		require.EqualValues(t, 2, n.wire.drops()[vswitch.DropNoDestination])

		require.Len(t, n.wire.received(), 1, "the host that believes in a subnet 5002 here is told that it is wrong")

		// Who asks for the provider address is answered, and nobody else hears it.
		n.wire.sendRaw(arp(n.wire, 1, n.wire.mac, paOf(2), n.pa))
		require.Empty(t, plain.got())
		answer := n.wire.received()
		require.Len(t, answer, 1)
		require.Equal(t, n.mac, ports.MAC(answer[0].Head()[22:]))
		n.wire.sendRaw(arp(n.wire, 1, n.wire.mac, paOf(2), addr("192.0.2.77")))
		require.Len(t, plain.received(), 1, "a question for somebody else")
		require.Empty(t, a.hears())
	})
}

func TestTheProviderNetworkIsInItsVLAN(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 9)
		c.subnet(red, 5001, "10.0.0.0/24")
		a := c.vm(0, "a", 5001, "10.0.0.11")
		c.record(5001, stranger(1), addr("10.0.0.12"), 1)
		a.sendRaw(packet(stranger(1), a.mac, a.ca, addr("10.0.0.12"), "first"))
		asked := n.wire.received()
		require.Len(t, asked, 1)
		require.Equal(t, ports.Tag{TPID: tpidQ, TCI: 9}, asked[0].VLAN)
		require.Equal(t, drops{vswitch.DropUnresolved: 1}, a.drops())

		reply := arp(n.wire, 2, n.wire.mac, paOf(2), n.pa)
		copy(reply, n.mac[:])
		n.wire.sendRaw(tagged(reply, tpidQ, 9))
		n.settle()
		a.sendRaw(packet(stranger(1), a.mac, a.ca, addr("10.0.0.12"), "second"))
		got := n.wire.received()
		require.Len(t, got, 1)
		require.Equal(t, ports.Tag{TPID: tpidQ, TCI: 9}, got[0].VLAN)
		var e overlay.Encapsulated
		require.Zero(t, new(overlay.Decoder).Decap(got[0], &e))
		require.Equal(t, overlay.VSID(5001), e.VSID)
		require.Equal(t, "second", spoken(got[0]))
		require.EqualValues(t, 2, n.wire.stats().TxFrames)
	})
}

// Ports that somebody else has in the engine, whatever they are called, are nobody here.
func TestForeignPortsOfTheEngineGetNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(0, "b", 5001, "10.0.0.12")
		plain := n.guest("plain", vswitch.VNICConfig{Switch: "lab"})
		const foreign = 9
		for i := range foreign {
			_, err := n.engine.AddPort(overlay.PortConfig{ID: i - 3, VSID: 5001, MAC: stranger(i)})
			require.NoError(t, err)
			c.record(5001, stranger(i), netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + i)}), 0)
		}
		for i := range foreign {
			a.sendRaw(packet(stranger(i), a.mac, a.ca, netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + i)}), "hello"))
		}
		for _, s := range []*station{a.station, b.station, plain, n.wire} {
			require.Empty(t, s.received())
		}
		require.Equal(t, drops{vswitch.DropNotHere: foreign}, a.drops())
	})
}
