package vswitch_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// ip4 and ip6 are the addresses of a guest: 10.0.0.1 and fd00::1 for vm0, and so on.
func (s *station) ip4() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, s.number()}) }
func (s *station) ip6() netip.Addr { return netip.AddrFrom16([16]byte{0xfd, 15: s.number()}) }

func (s *station) number() byte {
	n := 0
	fmt.Sscanf(s.end.Info().Name, "vm%d", &n)
	return byte(n + 1)
}

// packetOf returns the bytes of layers, with lengths and checksums filled in.
func packetOf(parts ...gopacket.SerializableLayer) []byte {
	var network gopacket.NetworkLayer
	for _, p := range parts {
		if n, ok := p.(gopacket.NetworkLayer); ok {
			network = n
		}
		if s, ok := p.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok && network != nil {
			if err := s.SetNetworkLayerForChecksum(network); err != nil {
				panic(err)
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	o := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, o, parts...); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func ethernet(from, to *station, t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: from.mac[:], DstMAC: to.mac[:], EthernetType: t}
}

func ipv4(from, to *station, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: from.ip4().AsSlice(), DstIP: to.ip4().AsSlice()}
}

func ipv6(from, to *station, next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: next, SrcIP: from.ip6().AsSlice(), DstIP: to.ip6().AsSlice()}
}

func over4(from, to *station, proto layers.IPProtocol, parts ...gopacket.SerializableLayer) []byte {
	head := []gopacket.SerializableLayer{ethernet(from, to, layers.EthernetTypeIPv4), ipv4(from, to, proto)}
	return packetOf(append(head, parts...)...)
}

func over6(from, to *station, next layers.IPProtocol, parts ...gopacket.SerializableLayer) []byte {
	head := []gopacket.SerializableLayer{ethernet(from, to, layers.EthernetTypeIPv6), ipv6(from, to, next)}
	return packetOf(append(head, parts...)...)
}

func datagram(from, to *station, sport, dport uint16) []byte {
	return over4(from, to, layers.IPProtocolUDP,
		&layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}, gopacket.Payload("datagram"))
}

// tcpSegment has the flags S, A, F and R.
func tcpSegment(from, to *station, sport, dport uint16, flags string, seq, ack uint32) []byte {
	s := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: seq, Ack: ack, Window: 1000}
	for _, f := range flags {
		switch f {
		case 'S':
			s.SYN = true
		case 'A':
			s.ACK = true
		case 'F':
			s.FIN = true
		case 'R':
			s.RST = true
		}
	}
	return over4(from, to, layers.IPProtocolTCP, s)
}

func echo(from, to *station, kind uint8, id uint16) []byte {
	return over4(from, to, layers.IPProtocolICMPv4,
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: id, Seq: 1}, gopacket.Payload("ping"))
}

// unreachable is an ICMP error of the station about a frame.
func unreachable(from, to *station, about []byte) []byte {
	return over4(from, to, layers.IPProtocolICMPv4,
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 1)}, gopacket.Payload(about[14:14+28]))
}

// passes sends a frame, which must arrive as it is.
func (s *station) passes(to *station, wire []byte, story ...any) {
	s.lab.t.Helper()
	s.sendRaw(wire)
	got := to.received()
	require.Len(s.lab.t, got, 1, story...)
	arrived := make([]byte, got[0].WireLen())
	got[0].CopyTo(arrived)
	require.Equal(s.lab.t, wire, arrived, story...)
}

// dropped sends a frame, which must not arrive and counts once, under one reason at one port.
func (s *station) dropped(to *station, wire []byte, at *station, why vswitch.DropReason, story ...any) {
	s.lab.t.Helper()
	all := []*station{s, to}
	want := map[*station]drops{s: s.drops(), to: to.drops()}
	want[at][why]++
	s.sendRaw(wire)
	require.Empty(s.lab.t, to.received(), story...)
	for _, o := range all {
		require.Equal(s.lab.t, want[o], o.drops(), story...)
	}
}

func policyOf(t testing.TB, c acl.Config) *acl.Policy {
	p, err := acl.Compile(&c)
	require.NoError(t, err)
	return p
}

func (s *station) obeys(c acl.Config) {
	s.lab.t.Helper()
	p := policyOf(s.lab.t, c)
	s.reconfigure(func(v *vswitch.VNICConfig) { v.ACL = p })
}

// clientOnly lets a VM open connections and answers come in, nothing else.
func clientOnly(connections int) acl.Config {
	return acl.Config{Connections: connections, Extended: []acl.ExtendedRule{
		{Weight: 10, Direction: acl.Out, Action: acl.Allow, Stateful: true},
		{Weight: 1, Direction: acl.Both, Action: acl.Deny},
	}}
}

func TestBasicRulesHoldInBothDirections(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 3)
		vm[0].obeys(acl.Config{Basic: []acl.BasicRule{
			{Direction: acl.Both, Action: acl.Deny, Side: acl.Remote, Prefix: netip.MustParsePrefix("10.0.0.0/24")},
			{Direction: acl.Both, Action: acl.Allow, Side: acl.Remote, Prefix: netip.PrefixFrom(vm[1].ip4(), 32)},
		}})
		vm[0].passes(vm[1], datagram(vm[0], vm[1], 1, 2))
		vm[1].passes(vm[0], datagram(vm[1], vm[0], 1, 2))
		vm[0].dropped(vm[2], datagram(vm[0], vm[2], 1, 2), vm[0], vswitch.DropACLOut)
		vm[2].dropped(vm[0], datagram(vm[2], vm[0], 1, 2), vm[0], vswitch.DropACLIn)
		vm[2].passes(vm[1], datagram(vm[2], vm[1], 1, 2))

		vm[0].obeys(acl.Config{Basic: []acl.BasicRule{{Direction: acl.In, Action: acl.Deny, Side: acl.Remote, MAC: vm[1].mac}}})
		vm[1].dropped(vm[0], frame(vm[0].mac, vm[1].mac, "not IP"), vm[0], vswitch.DropACLIn)
		vm[0].passes(vm[1], frame(vm[1].mac, vm[0].mac, "not IP"))
		vm[2].passes(vm[0], datagram(vm[2], vm[0], 1, 2))
	})
}

func TestExtendedRulesHoldInBothDirections(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 2)
		web := []acl.PortRange{{First: 80, Last: 89}}
		vm[0].obeys(acl.Config{Extended: []acl.ExtendedRule{
			{Weight: 9, Direction: acl.In, Action: acl.Allow, Protocol: acl.UDP, LocalPorts: web},
			{Weight: 8, Direction: acl.Out, Action: acl.Allow, Protocol: acl.UDP, LocalPorts: web},
			{Weight: 1, Direction: acl.Both, Action: acl.Deny},
		}})
		for _, port := range []uint16{80, 85, 89} {
			vm[1].passes(vm[0], datagram(vm[1], vm[0], 5000, port))
			vm[0].passes(vm[1], datagram(vm[0], vm[1], port, 5000))
		}
		for _, port := range []uint16{79, 90} {
			vm[1].dropped(vm[0], datagram(vm[1], vm[0], 5000, port), vm[0], vswitch.DropACLIn)
			vm[0].dropped(vm[1], datagram(vm[0], vm[1], port, 5000), vm[0], vswitch.DropACLOut)
		}
		vm[1].dropped(vm[0], tcpSegment(vm[1], vm[0], 5000, 80, "S", 1, 0), vm[0], vswitch.DropACLIn)
		vm[1].dropped(vm[0], over6(vm[1], vm[0], layers.IPProtocolUDP, &layers.UDP{SrcPort: 1, DstPort: 7}), vm[0], vswitch.DropACLIn)
		vm[0].passes(vm[1], frame(vm[1].mac, vm[0].mac, "not IP"))
	})
}

func TestAStatefulRuleLetsAnswersIn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 2)
		in, out := vm[0], vm[1]
		in.obeys(clientOnly(0))

		out.dropped(in, tcpSegment(out, in, 80, 4000, "A", 7, 7), in, vswitch.DropACLIn, "forged ACK")
		out.dropped(in, tcpSegment(out, in, 80, 4000, "S", 7, 0), in, vswitch.DropACLIn, "SYN from outside")
		in.dropped(out, tcpSegment(in, out, 4000, 80, "A", 7, 7), in, vswitch.DropACLOut, "ACK without SYN")
		in.passes(out, tcpSegment(in, out, 4000, 80, "S", 100, 0))
		out.passes(in, tcpSegment(out, in, 80, 4000, "SA", 500, 101))
		in.passes(out, tcpSegment(in, out, 4000, 80, "A", 101, 501))
		out.passes(in, tcpSegment(out, in, 80, 4000, "A", 501, 101))
		out.dropped(in, tcpSegment(out, in, 81, 4000, "A", 501, 101), in, vswitch.DropACLIn, "other port")

		asked := datagram(in, out, 4000, 53)
		out.dropped(in, datagram(out, in, 53, 4000), in, vswitch.DropACLIn)
		in.passes(out, asked)
		out.passes(in, datagram(out, in, 53, 4000))
		out.passes(in, unreachable(out, in, asked), "related error")
		out.dropped(in, unreachable(out, in, datagram(in, out, 4000, 54)), in, vswitch.DropACLIn, "unrelated error")

		out.dropped(in, echo(out, in, 0, 9), in, vswitch.DropACLIn)
		in.passes(out, echo(in, out, 8, 9))
		out.passes(in, echo(out, in, 0, 9))
		out.dropped(in, echo(out, in, 0, 10), in, vswitch.DropACLIn)
		require.Equal(t, 3, in.vnic.Connections().Connections)

		time.Sleep(6 * time.Minute)
		out.dropped(in, datagram(out, in, 53, 4000), in, vswitch.DropACLIn, "idle for too long")
		out.passes(in, tcpSegment(out, in, 80, 4000, "A", 501, 101), "TCP lives longer")
		require.Equal(t, 1, in.vnic.Connections().Connections)
	})
}

func TestMetersCountTheBytesThatPass(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 2)
		rules := acl.Config{Basic: []acl.BasicRule{
			{Direction: acl.In, Action: acl.Deny, Side: acl.Remote, MAC: stranger(1)},
			{Direction: acl.Both, Action: acl.Meter, Side: acl.Remote, Any: acl.AnyIP},
		}}
		require.Empty(t, vm[0].vnic.Meters())
		vm[0].obeys(rules)
		require.Equal(t, []acl.MeterReading{{Rule: 1}}, vm[0].vnic.Meters())
		d := datagram(vm[0], vm[1], 1, 2)
		for range 3 {
			vm[0].passes(vm[1], d)
		}
		vm[1].passes(vm[0], datagram(vm[1], vm[0], 1, 2))
		vm[1].passes(vm[0], frame(vm[0].mac, vm[1].mac, "not IP"))
		n := uint64(len(d))
		read := []acl.MeterReading{{Rule: 1, Out: acl.Count{Frames: 3, Bytes: 3 * n}, In: acl.Count{Frames: 1, Bytes: n}}}
		require.Equal(t, read, vm[0].vnic.Meters())
		vm[0].obeys(rules)
		require.Equal(t, read, vm[0].vnic.Meters(), "another policy with the same meter")
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "" })
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "lab" })
		require.Equal(t, read, vm[0].vnic.Meters(), "after another connect")
	})
}

func TestEachFrameIsJudgedByTheOldPolicyOrTheNew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 3)
		var p [2]*acl.Policy // each denies what the other lets pass
		for i, denied := range vm[1:] {
			p[i] = policyOf(t, acl.Config{Basic: []acl.BasicRule{
				{Direction: acl.Out, Action: acl.Deny, Side: acl.Remote, Prefix: netip.PrefixFrom(denied.ip4(), 32)},
			}})
		}
		for i := range 400 {
			vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.ACL = p[i%2] })
			for range 4 {
				vm[0].sendRaw(datagram(vm[0], vm[1], 1, 2), datagram(vm[0], vm[2], 1, 2))
			}
			if i%2 == 1 { // before the queues are full
				continue
			}
			time.Sleep(time.Microsecond)
			drain(vm[1:]...)
		}
		arrived := vm[1].stats().TxFrames + vm[2].stats().TxFrames
		require.Equal(t, drops{vswitch.DropACLOut: 3200 - arrived}, vm[0].drops())
		require.Empty(t, vm[1].drops())
		require.Empty(t, vm[2].drops())
		require.NotZero(t, vm[1].stats().TxFrames)
		require.NotZero(t, vm[2].stats().TxFrames)
	})
}

func TestNoFrameSlipsThroughAsAPolicyIsReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 3)
		forbidden := acl.ExtendedRule{Weight: 1, Direction: acl.Both, Action: acl.Deny, Protocol: acl.UDP}
		p := []*acl.Policy{
			policyOf(t, acl.Config{Extended: []acl.ExtendedRule{forbidden}}),
			policyOf(t, acl.Config{Extended: []acl.ExtendedRule{forbidden, {Weight: 2, Direction: acl.Both, Action: acl.Deny, Protocol: acl.TCP}}}),
		}
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.ACL = p[0] })
		legal := l.flow(vm[0], vm[2])
		for i := range 300 {
			vm[1].sendRaw(datagram(vm[1], vm[0], 1, 2), datagram(vm[1], vm[0], 1, 3))
			vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.ACL = p[i%2] })
			if i%16 == 0 {
				legal.goOn(10)
			}
		}
		legal.stop()
		require.Empty(t, vm[0].received())
		require.Equal(t, drops{vswitch.DropACLIn: 600}, vm[0].drops())
	})
}

func TestAGuestThatExhaustsItsConnectionsHurtsNobodyElse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 3)
		policy := policyOf(t, clientOnly(16)) // shared
		for _, s := range vm[:2] {
			s.reconfigure(func(c *vswitch.VNICConfig) { c.ACL = policy })
		}
		greedy, modest, world := vm[0], vm[1], vm[2]
		for port := range uint16(16) {
			greedy.passes(world, datagram(greedy, world, 1000+port, 53))
			world.passes(greedy, datagram(world, greedy, 53, 1000+port))
		}
		greedy.dropped(world, datagram(greedy, world, 2000, 53), greedy, vswitch.DropACLOut)
		require.Equal(t, 16, greedy.vnic.Connections().Connections)
		require.EqualValues(t, 1, greedy.vnic.Connections().Refused)

		modest.passes(world, datagram(modest, world, 1000, 53))
		world.passes(modest, datagram(world, modest, 53, 1000))
		world.passes(greedy, datagram(world, greedy, 53, 1000), "the connections that it has go on")
		time.Sleep(6 * time.Minute)
		greedy.passes(world, datagram(greedy, world, 2000, 53))
	})
}

func TestFloodedFramesAreJudgedAtEachReceiver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 4)
		vm[1].obeys(acl.Config{Extended: []acl.ExtendedRule{{Weight: 1, Direction: acl.In, Action: acl.Deny}}})
		b := datagram(vm[0], &station{end: vm[2].end, mac: ports.Broadcast}, 1, 2)
		for range 3 {
			vm[0].sendRaw(b, b)
			vm[0].sendRaw(datagram(vm[0], vm[1], 1, 2), b, datagram(vm[0], vm[2], 1, 2)) // mixed with unicast
		}
		require.Empty(t, vm[1].received())
		require.Len(t, vm[2].received(), 12)
		require.Len(t, vm[3].received(), 9)
		require.Equal(t, drops{vswitch.DropACLIn: 12}, vm[1].drops())
		require.Empty(t, vm[0].drops())

		vm[0].obeys(acl.Config{Extended: []acl.ExtendedRule{{Weight: 1, Direction: acl.Out, Action: acl.Deny}}})
		vm[0].sendRaw(b)
		require.Empty(t, vm[2].received())
		require.Equal(t, drops{vswitch.DropACLOut: 1}, vm[0].drops(), "once, not once a receiver")
	})
}

func TestARuleKnowsTheVLANOfAFrame(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		l.newSwitch("lab", vswitch.SwitchConfig{})
		trunk := l.guest("vm0", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Trunk(0, vlan.MustParseSet("7,8"), nil)})
		seven := l.guest("vm1", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(7)})
		eight := l.guest("vm2", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(8)})
		trunk.obeys(acl.Config{Extended: []acl.ExtendedRule{
			{Weight: 2, Direction: acl.Both, Action: acl.Allow, Isolation: 7},
			{Weight: 1, Direction: acl.Both, Action: acl.Deny},
		}})
		trunk.sendRaw(tagged(datagram(trunk, seven, 1, 2), tpidQ, 7), tagged(datagram(trunk, eight, 1, 2), tpidQ, 8))
		require.Len(t, seven.received(), 1)
		require.Empty(t, eight.received())
		require.Equal(t, drops{vswitch.DropACLOut: 1}, trunk.drops())

		seven.sendRaw(datagram(seven, trunk, 1, 2))
		require.Len(t, trunk.received(), 1)
		eight.dropped(trunk, datagram(eight, trunk, 1, 2), trunk, vswitch.DropACLIn)
	})
}

// An isolated guest cannot use up the connections of another, to which its frames do not go.
func TestAnACLJudgesOnlyWhatItsVLANDelivers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		l.newSwitch("lab", vswitch.SwitchConfig{})
		a := l.guest("vm0", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Isolated(100, 101)})
		b := l.guest("vm1", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Isolated(100, 101)})
		b.obeys(acl.Config{Extended: []acl.ExtendedRule{{Weight: 1, Direction: acl.In, Action: acl.Allow, Stateful: true}}})
		a.dropped(b, datagram(a, b, 1, 2), b, vswitch.DropNotMember)
		require.Zero(t, b.vnic.Connections().Created)
		b.obeys(acl.Config{Extended: []acl.ExtendedRule{{Weight: 1, Direction: acl.In, Action: acl.Deny}}})
		a.dropped(b, datagram(a, b, 1, 2), b, vswitch.DropNotMember)
	})
}

func TestLargeSegmentsAreJudgedAsOne(t *testing.T) {
	for _, k := range largeFrames {
		t.Run(k.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := newLab(t)
				l.newSwitch("lab", vswitch.SwitchConfig{})
				able := ports.PipeConfig{Offloads: ports.OffloadAll, Depth: 1024}
				from := l.guestOn(able, "vm0", vswitch.VNICConfig{Switch: "lab", DHCPGuard: true, RouterGuard: true})
				to := l.guestOn(able, "vm1", vswitch.VNICConfig{Switch: "lab"})
				cut := l.guestOn(ports.PipeConfig{Depth: 1024}, "vm2", vswitch.VNICConfig{Switch: "lab"})
				udp := k.kind == ports.SegmentUDP
				allow := acl.Config{Basic: []acl.BasicRule{{Direction: acl.Both, Action: acl.Meter, Side: acl.Remote, Any: acl.AnyIP}},
					Extended: []acl.ExtendedRule{
						{Weight: 2, Direction: acl.Both, Action: acl.Allow, Stateful: udp},
						{Weight: 1, Direction: acl.Both, Action: acl.Deny},
					}}
				for _, s := range []*station{from, to, cut} {
					s.obeys(allow)
				}
				const payload, size = 44 * 1440, 1440
				from.sendFrames(k.frame(to.mac, from.mac, payload, size), k.frame(cut.mac, from.mac, payload, size))
				require.Len(t, to.received(), 1)
				require.Len(t, cut.received(), 44)
				n := uint64(k.head + payload)
				require.Equal(t, acl.Count{Frames: 2, Bytes: 2 * n}, from.vnic.Meters()[0].Out)
				require.Equal(t, acl.Count{Frames: 1, Bytes: n}, to.vnic.Meters()[0].In)
				require.Equal(t, acl.Count{Frames: 1, Bytes: n}, cut.vnic.Meters()[0].In, "before it is cut")

				to.obeys(acl.Config{Extended: []acl.ExtendedRule{{Weight: 1, Direction: acl.In, Action: acl.Deny}}})
				from.sendFrames(k.frame(to.mac, from.mac, payload, size))
				require.Empty(t, to.received())
				require.Equal(t, drops{vswitch.DropACLIn: 1}, to.drops())
			})
		})
	}
}

func TestFragmentsShareTheVerdictOnTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 2)
		in, out := vm[0], vm[1]
		in.obeys(clientOnly(0))
		part := func(id, offset uint16, more bool) []byte {
			ip := ipv4(out, in, layers.IPProtocolUDP)
			ip.Id, ip.FragOffset = id, offset/8
			if more {
				ip.Flags = layers.IPv4MoreFragments
			}
			head := ethernet(out, in, layers.EthernetTypeIPv4)
			if offset > 0 {
				return packetOf(head, ip, make8(4))
			}
			return packetOf(head, ip, &layers.UDP{SrcPort: 53, DstPort: 4000}, make8(3))
		}
		out.dropped(in, part(1, 32, false), in, vswitch.DropACLIn, "no first one")
		out.dropped(in, part(2, 0, true), in, vswitch.DropACLIn, "no connection")
		out.dropped(in, part(2, 32, false), in, vswitch.DropACLIn)
		in.passes(out, datagram(in, out, 4000, 53))
		out.passes(in, part(3, 0, true))
		out.passes(in, part(3, 32, false))
		out.dropped(in, part(3, 8, true), in, vswitch.DropACLIn, "an overlap")
	})
}

func TestWhoeverFloodsAGuestDoesNotShutOthersOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 3)
		server, hostile, client := vm[0], vm[1], vm[2]
		server.obeys(acl.Config{Connections: 16, Extended: []acl.ExtendedRule{
			{Weight: 2, Direction: acl.In, Action: acl.Allow, Stateful: true},
			{Weight: 1, Direction: acl.Both, Action: acl.Deny},
		}})
		for port := range uint16(200) {
			hostile.passes(server, tcpSegment(hostile, server, 1000+port, 80, "S", 1, 0))
		}
		client.passes(server, tcpSegment(client, server, 5000, 80, "S", 1, 0))
		server.passes(client, tcpSegment(server, client, 80, 5000, "SA", 9, 2))
		client.passes(server, tcpSegment(client, server, 5000, 80, "A", 2, 10))
		for port := range uint16(200) {
			hostile.passes(server, tcpSegment(hostile, server, 2000+port, 80, "S", 1, 0))
		}
		server.passes(client, tcpSegment(server, client, 80, 5000, "A", 10, 2), "the established one stays")
		require.Equal(t, 16, server.vnic.Connections().Connections)
		require.NotZero(t, server.vnic.Connections().Evicted)
	})
}

func TestConnectionsAreJudgedAgainByANewPolicy(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprintf("keep=%t", keep), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				_, vm := privateLab(t, 2)
				vm[0].obeys(clientOnly(0))
				vm[0].passes(vm[1], datagram(vm[0], vm[1], 4000, 53))
				vm[0].obeys(clientOnly(7)) // it allows the same
				vm[1].passes(vm[0], datagram(vm[1], vm[0], 53, 4000))
				vm[0].obeys(acl.Config{KeepEstablished: keep, Extended: []acl.ExtendedRule{{Weight: 1, Direction: acl.Both, Action: acl.Deny}}})
				if keep {
					vm[1].passes(vm[0], datagram(vm[1], vm[0], 53, 4000))
				} else {
					vm[1].dropped(vm[0], datagram(vm[1], vm[0], 53, 4000), vm[0], vswitch.DropACLIn)
				}
				vm[0].dropped(vm[1], datagram(vm[0], vm[1], 4001, 53), vm[0], vswitch.DropACLOut)
				vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.ACL = nil })
				vm[0].passes(vm[1], datagram(vm[0], vm[1], 4001, 53))
			})
		})
	}
}

func TestNeighborsAreFoundUnderADenyAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 2)
		vm[0].obeys(clientOnly(0))
		vm[0].passes(vm[1], arp(vm[0], 1, vm[0].mac, vm[0].ip4(), vm[1].ip4()))
		vm[1].passes(vm[0], arp(vm[1], 2, vm[1].mac, vm[1].ip4(), vm[0].ip4()))
		for _, kind := range []uint8{135, 136} {
			vm[1].passes(vm[0], over6(vm[1], vm[0], layers.IPProtocolICMPv6, icmp6(kind)))
		}
		vm[1].dropped(vm[0], over6(vm[1], vm[0], layers.IPProtocolICMPv6, icmp6(128)), vm[0], vswitch.DropACLIn)
	})
}

func TestConnectionsEndThoughNobodyAsks(t *testing.T) {
	for name, change := range map[string]func(c *vswitch.VNICConfig){
		"no traffic":   func(*vswitch.VNICConfig) {},
		"no ACL":       func(c *vswitch.VNICConfig) { c.ACL = nil },
		"disconnected": func(c *vswitch.VNICConfig) { c.Switch = "" },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				_, vm := privateLab(t, 2)
				vm[0].obeys(clientOnly(0))
				vm[0].passes(vm[1], datagram(vm[0], vm[1], 4000, 53))
				vm[0].reconfigure(change)
				require.Equal(t, 1, vm[0].vnic.Connections().Connections)
				time.Sleep(6 * time.Minute)
				require.Zero(t, vm[0].vnic.Connections().Connections)
			})
		})
	}
}
