package guard

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

var (
	request = cat([]byte{1}, make([]byte, 239))
	reply   = cat([]byte{2}, make([]byte, 239))
	big     = make([]byte, 1200)
)

func dhcpv6(t byte) []byte { return []byte{t, 1, 2, 3, 0, 1, 0, 0} }

type row struct {
	name  string
	frame []byte
	want  Reason
}

func run(t *testing.T, c Config, rows []row) {
	t.Helper()
	p := compile(t, c)
	for _, r := range rows {
		require.Equal(t, r.want, check(t, p, r.frame), r.name)
	}
}

func TestDHCPv4(t *testing.T) {
	run(t, Config{DHCP: true}, []row{
		{"offer", udp4(67, 68, reply), DHCPServer},
		{"offer from another port", udp4(4000, 68, reply), DHCPServer},
		{"to the client port with the op of a request", udp4(67, 68, request), DHCPServer},
		{"empty to the client port", udp4(67, 68, nil), DHCPServer},
		{"to a relay agent", udp4(67, 67, reply), DHCPServer},
		{"to a relay agent from another port", udp4(4000, 67, reply), DHCPServer},
		{"to a relay agent with a port of its own", udp4(67, 4000, reply), DHCPServer},
		{"to a relay agent, empty", udp4(67, 67, nil), DHCPServer},
		{"to a relay agent, unknown op", udp4(67, 67, make([]byte, 240)), DHCPServer},
		{"discover", udp4(68, 67, request), Pass},
		{"relayed request", udp4(67, 67, request), Pass},
		{"TCP from the server port", eth4(v4{proto: 6}.packet(cat(be(67, 68, 0, 0, 0, 0, 0x5010, 0, 0, 0)))), Pass},
		{"IPv4 options", eth4(v4{proto: 17, options: []byte{1, 1, 1, 0}}.packet(udp(67, 68, reply))), DHCPServer},
		{"all IPv4 options", eth4(v4{proto: 17, options: make([]byte, 40)}.packet(udp(67, 68, reply))), DHCPServer},
		{"priority tag", eth([]int{0x8100, 0, 0x0800}, v4{proto: 17}.packet(udp(67, 68, reply))), DHCPServer},
		{"four tags", eth([]int{0x8100, 0, 0x88a8, 0, 0x8100, 0, 0x8100, 5, 0x0800}, v4{proto: 17}.packet(udp(67, 68, reply))), DHCPServer},
		{"five tags", eth([]int{0x8100, 0, 0x8100, 0, 0x8100, 0, 0x8100, 0, 0x8100, 0, 0x0800}, v4{proto: 17}.packet(udp(67, 68, reply))), Malformed},
		{"UDP length zero", eth4(v4{proto: 17}.packet(cat(be(67, 68, 0, 0), reply))), Malformed},
		{"UDP length beyond the packet", eth4(v4{proto: 17}.packet(cat(be(67, 68, 900, 0), reply))), Malformed},
		{"UDP length of the header", eth4(v4{proto: 17}.packet(cat(be(67, 67, 8, 0), reply))), DHCPServer},
		{"bytes behind the packet", cat(udp4(67, 68, reply), make([]byte, 100)), DHCPServer},
		{"op behind the packet", cat(udp4(67, 67, nil), request), DHCPServer},
		{"IP header length of 16", cat(eth4([]byte{0x44}), v4{proto: 17}.packet(udp(67, 68, reply))[1:]), Malformed},
		{"IP version 6 in IPv4", cat(eth4([]byte{0x65}), v4{proto: 17}.packet(udp(67, 68, reply))[1:]), Malformed},
		{"IP length beyond the frame", udp4(67, 68, reply)[:100], Malformed},
	})
	run(t, Config{Router: true}, []row{{"only the router guard", udp4(67, 68, reply), Pass}})
}

func TestDHCPv4Fragments(t *testing.T) {
	part := func(offset int, more bool, payload []byte) []byte {
		return eth4(v4{proto: 17, offset: offset, more: more}.packet(payload))
	}
	run(t, Config{DHCP: true}, []row{
		{"first", part(0, true, udp(67, 68, reply[:64])), DHCPServer},
		{"first, only the header", part(0, true, udp(67, 68, nil)), DHCPServer},
		{"first, half the header", part(0, true, udp(67, 68, nil)[:4]), Malformed},
		{"first to a relay agent without op", part(0, true, udp(1000, 67, nil)), DHCPServer},
		{"first of a request to a relay agent", part(0, true, udp(68, 67, request[:64])), Pass},
		{"first of another datagram", part(0, true, udp(1000, 2000, big[:800])), Pass},
		{"first with a length that is cut", part(0, true, udp(1000, 67, request[:7])), BadFragment},
		{"later", part(808, false, big[:100]), Pass},
		{"later over the op", part(8, false, big[:100]), BadFragment},
		{"later behind the op", part(16, true, big[:96]), Pass},
		{"later of TCP over the ports", eth4(v4{proto: 6, offset: 8}.packet(big[:96])), Malformed},
		{"later of ICMP", eth4(v4{proto: 1, offset: 8}.packet(big[:96])), Pass},
		{"beyond the longest datagram", part(65528, false, big[:96]), Malformed},
	})
}

func TestDHCPv6(t *testing.T) {
	rows := []row{
		{"from another port", udp6(4000, 546, dhcpv6(2)), DHCPServer},
		{"to a client with the type of a client", udp6(546, 546, dhcpv6(1)), DHCPServer},
		{"to a relay agent, empty", udp6(547, 547, nil), DHCPServer},
		{"to a relay agent with a port of its own", udp6(547, 4000, dhcpv6(13)), DHCPServer},
		{"UDP length zero", eth6(v6{next: 17}.packet(be(547, 546, 0, 0), dhcpv6(2))), Malformed},
		{"hop-by-hop", eth6(v6{next: 0}.packet(option(17, 1), udp(547, 546, dhcpv6(2)))), DHCPServer},
		{"destination options", eth6(v6{next: 60}.packet(option(17, 3), udp(547, 546, dhcpv6(2)))), DHCPServer},
		{"routing header", eth6(v6{next: 43}.packet(option(17, 1), udp(547, 546, dhcpv6(2)))), DHCPServer},
		{"eight headers", eth6(v6{next: 0}.packet(option(60, 1), option(60, 1), option(60, 1), option(60, 1), option(60, 1),
			option(60, 1), option(17, 1), udp(547, 546, dhcpv6(2)))), DHCPServer},
		{"nine headers", eth6(v6{next: 0}.packet(option(60, 1), option(60, 1), option(60, 1), option(60, 1), option(60, 1),
			option(60, 1), option(60, 1), option(60, 1), option(17, 1), udp(547, 546, dhcpv6(2)))), Malformed},
		{"authentication header", eth6(v6{next: 51}.packet([]byte{17, 4}, make([]byte, 22), udp(547, 546, dhcpv6(2)))), DHCPServer},
		{"headers that fill the head", eth6(v6{next: 0}.packet(option(17, 24), udp(547, 547, dhcpv6(13)), big)), DHCPServer},
		{"header beyond the head", eth6(v6{next: 0}.packet(option(17, 25), udp(547, 546, dhcpv6(2)), big)), Malformed},
		{"header cut off", eth6(v6{next: 0}.packet(option(17, 9)[:64])), Malformed},
		{"jumbo payload length", cat(be(0), eth6(nil), be(0x6000, 0, 0), []byte{0, 255}, guestLL, allNodes, option(17, 1), udp(547, 546, dhcpv6(2)))[2:], Malformed},
		{"Shim6", eth6(v6{next: 140}.packet(option(17, 1), udp(547, 546, dhcpv6(2)))), Malformed},
		{"unassigned next header", eth6(v6{next: 200}.packet(option(17, 1), udp(547, 546, dhcpv6(2)))), Malformed},
		{"experimental next header", eth6(v6{next: 253}.packet(option(17, 1), udp(547, 546, dhcpv6(2)))), Malformed},
		{"tag and chain", eth([]int{0x88a8, 5, 0x8100, 6, 0x86dd}, v6{next: 0}.packet(option(17, 1), udp(547, 546, dhcpv6(2)))), DHCPServer},
		{"no next header", eth6(v6{next: 59}.packet(udp(547, 546, dhcpv6(2)))), Pass},
		{"ESP", eth6(v6{next: 50}.packet(be(0, 1, 0, 1), big)), Pass},
	}
	server := map[byte]bool{2: true, 7: true, 10: true, 13: true, 15: true, 16: true, 17: true, 19: true, 21: true, 37: true}
	for m := range byte(255) {
		want := Pass
		if server[m] {
			want = DHCPServer
		}
		rows = append(rows,
			row{"to a server or relay agent", udp6(546, 547, dhcpv6(m)), want},
			row{"between relay agents", udp6(547, 547, dhcpv6(m)), want},
			row{"to a client", udp6(547, 546, dhcpv6(m)), DHCPServer})
	}
	run(t, Config{DHCP: true}, rows)
}

func TestDHCPv6Fragments(t *testing.T) {
	message := udp(547, 546, big[:64])
	sctp := cat(be(5, 546, 0, 0, 0, 0), big[:68])
	run(t, Config{DHCP: true}, []row{
		{"first", eth6(v6{next: 44}.packet(frag6(17, 0, true), message)), DHCPServer},
		{"atomic", eth6(v6{next: 44}.packet(frag6(17, 0, false), message)), DHCPServer},
		{"first behind options", eth6(v6{next: 0}.packet(option(44, 1), frag6(17, 0, true), message)), DHCPServer},
		{"options behind the fragment header", eth6(v6{next: 44}.packet(frag6(60, 0, true), option(17, 1), udp(1, 2, big[:64]))), BadFragment},
		{"options behind the header of an atomic one", eth6(v6{next: 44}.packet(frag6(60, 0, false), option(6, 1), tcp())), BadFragment},
		{"two fragment headers", eth6(v6{next: 44}.packet(frag6(44, 0, false), frag6(17, 0, false), udp(1, 2, big[:64]))), Malformed},
		{"chain goes on in the next fragment", eth6(v6{next: 44}.packet(frag6(60, 0, true), option(17, 2)[:8])), Malformed},
		{"transport in the next fragment", eth6(v6{next: 44}.packet(frag6(60, 0, true), option(17, 1))), Malformed},
		{"half the ports", eth6(v6{next: 44}.packet(frag6(59, 0, false), []byte{0, 0, 2})), BadFragment},
		{"later over the front", eth6(v6{next: 44}.packet(frag6(17, 8, true), big[:64])), BadFragment},
		{"later over the front as another protocol", eth6(v6{next: 44}.packet(frag6(6, 8, true), big[:64])), Malformed},
		{"later over the front as no protocol", eth6(v6{next: 44}.packet(frag6(59, 8, true), big[:64])), BadFragment},
		{"later", eth6(v6{next: 44}.packet(frag6(17, 1208, true), big[:64])), Pass},
		{"last", eth6(v6{next: 44}.packet(frag6(17, 1208, false), big[:63])), Pass},
		{"uneven first", eth6(v6{next: 44}.packet(frag6(17, 0, true), udp(1, 2, big[:63]))), BadFragment},
		{"other datagram", eth6(v6{next: 44}.packet(frag6(17, 0, true), udp(1, 2, big))), Pass},
		{"harmless as what it claims, not as UDP", eth6(v6{next: 44}.packet(frag6(132, 0, true), sctp)), DHCPServer},
		{"no fragment, and harmless as what it claims", eth6(v6{next: 132}.packet(sctp)), Pass},
		{"relayed request", eth6(v6{next: 44}.packet(frag6(17, 0, true), udp(547, 547, cat(dhcpv6(12), big[:48])))), Pass},
		{"relayed reply", eth6(v6{next: 44}.packet(frag6(17, 0, true), udp(547, 547, cat(dhcpv6(13), big[:48])))), DHCPServer},
		{"type in the next fragment", eth6(v6{next: 44}.packet(frag6(17, 0, true), udp(547, 547, nil))), DHCPServer},
		{"TCP, atomic", eth6(v6{next: 44}.packet(frag6(6, 0, false), tcp())), Pass},
	})
}

func TestDHCPOffloads(t *testing.T) {
	p := compile(t, Config{DHCP: true})
	verdict := func(b []byte, o ports.Offload) Reason {
		f := frameOf(b, len(b))
		f.Offload = o
		return p.Check(f, parse(f))
	}
	relayed := udp4(67, 67, request)
	require.Equal(t, Pass, verdict(relayed, ports.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}))
	require.Equal(t, Pass, verdict(relayed, ports.Offload{NeedsChecksum: true, ChecksumStart: 42, ChecksumOffset: 6}))
	require.Equal(t, DHCPServer, verdict(relayed, ports.Offload{NeedsChecksum: true, ChecksumStart: 42, ChecksumOffset: 0}), "the op is written later")
	require.Equal(t, DHCPServer, verdict(relayed, ports.Offload{
		NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6, Segment: ports.SegmentUDP, SegmentSize: 100,
	}), "every segment has an op")
	require.Equal(t, Pass, verdict(udp4(1000, 443, big), ports.Offload{
		NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6, Segment: ports.SegmentUDP, SegmentSize: 100,
	}))
	require.Equal(t, BadFragment, verdict(eth6(v6{next: 44}.packet(frag6(47, 0, false), big[:64])), ports.Offload{
		NeedsChecksum: true, ChecksumStart: 62, ChecksumOffset: 2,
	}), "the port is written later")
}

func TestRouter(t *testing.T) {
	ra := advertisement(lla(1, guestMAC))
	rows := []row{
		{"hop-by-hop", eth6(v6{next: 0}.packet(option(58, 1), ra)), RouterMessage},
		{"destination options twice", eth6(v6{next: 60}.packet(option(60, 1), option(58, 2), ra)), RouterMessage},
		{"atomic", eth6(v6{next: 44}.packet(frag6(58, 0, false), ra)), RouterMessage},
		{"first", eth6(v6{next: 44}.packet(frag6(58, 0, true), ra)), RouterMessage},
		{"options behind the fragment header", eth6(v6{next: 44}.packet(frag6(60, 0, true), option(58, 1), ra)), BadFragment},
		{"options fill the first fragment", eth6(v6{next: 44}.packet(frag6(60, 0, true), option(58, 1))), Malformed},
		{"options split", eth6(v6{next: 44}.packet(frag6(60, 0, true), option(58, 3)[:16])), Malformed},
		{"chain beyond the head", eth6(v6{next: 60}.packet(option(58, 26), ra)), Malformed},
		{"cut off", eth6(v6{next: 58}.packet(ra[:4])), Malformed},
		{"solicitation in a fragment", eth6(v6{next: 44}.packet(frag6(58, 0, false), solicit(other6))), BadFragment},
		{"payload length zero, hop-by-hop", eth6(cat(be(0x6000, 0, 0), []byte{0, 255}, guestLL, allNodes, option(58, 1), ra)), Malformed},
		{"tagged", eth([]int{0x8100, 7, 0x86dd}, v6{next: 58}.packet(ra)), RouterMessage},
		{"in IPv4", eth4(v4{proto: 58}.packet(ra)), Pass},
		{"big ping, first", eth6(v6{next: 44}.packet(frag6(58, 0, true), icmp(128, big[:1196]))), Pass},
		{"big ping, last", eth6(v6{next: 44}.packet(frag6(58, 1200, false), big[:33])), Pass},
		{"IPv4 first", eth4(v4{proto: 1, more: true}.packet(icmp(5, make([]byte, 20)))), RouterMessage},
		{"IPv4 options", eth4(v4{proto: 1, options: []byte{0x94, 4, 0, 0}}.packet(icmp(9, make([]byte, 12)))), RouterMessage},
		{"IPv4 four bytes", eth4(v4{proto: 1}.packet([]byte{5, 0, 0, 0})), Malformed},
	}
	for m := range byte(255) {
		want4, want6 := Pass, Pass
		if m == 5 || m == 9 {
			want4 = RouterMessage
		}
		if m == 134 || m == 137 {
			want6 = RouterMessage
		}
		rows = append(rows,
			row{"ICMPv4", eth4(v4{proto: 1}.packet(icmp(m, make([]byte, 40)))), want4},
			row{"ICMPv6", eth6(v6{next: 58}.packet(icmp(m, make([]byte, 40)))), want6})
	}
	run(t, Config{Router: true}, rows)
	run(t, Config{DHCP: true}, []row{{"only the DHCP guard", eth6(v6{next: 58}.packet(ra)), Pass}})
}

// Each way around the guards of switches that VU#855201 lists.
func TestEncapsulations(t *testing.T) {
	ra := v6{next: 58}.packet(advertisement())
	var rows []row
	for _, length := range []int{0, len(ra) + 8, 1500, 1501, 0x5ff} {
		for _, tags := range [][]int{nil, {0x8100, 0}, {0x88a8, 0}, {0x8100, 0, 0x88a8, 0}} {
			rows = append(rows,
				row{"SNAP", eth(append(tags, length), llcSNAP(0, 0x86dd, ra)), RouterMessage},
				row{"802.1H", eth(append(tags, length), llcSNAP(0xf8, 0x86dd, ra)), Encapsulated},
				row{"SNAP with tag", eth(append(tags, length), llcSNAP(0, 0x8100, cat(be(0, 0x86dd), ra))), Encapsulated},
				row{"SNAP with service tag", eth(append(tags, length), llcSNAP(0, 0x88a8, cat(be(0, 0x86dd), ra))), Encapsulated},
				row{"SNAP with tag and SNAP", eth(append(tags, length), llcSNAP(0, 0x8100, cat(be(0, 500), llcSNAP(0, 0x86dd, ra)))), Encapsulated},
				row{"SNAP in SNAP", eth(append(tags, length), llcSNAP(0, 500, llcSNAP(0, 0x86dd, ra))), Encapsulated},
				row{"SNAP with group bit", eth(append(tags, length), cat([]byte{0xab}, llcSNAP(0, 0x86dd, ra)[1:])), Encapsulated},
				row{"SNAP with another control", eth(append(tags, length), cat([]byte{0xaa, 0xaa, 0x13}, llcSNAP(0, 0x86dd, ra)[3:])), Encapsulated},
				row{"SNAP with extended EtherType", eth(append(tags, length), llcSNAP(0, 0x88b7, cat([]byte{0, 0, 0}, be(0x86dd), ra))), Encapsulated},
				row{"IP LSAP", eth(append(tags, length), cat([]byte{6, 6, 3}, v4{proto: 17}.packet(udp(67, 68, reply)))), Encapsulated},
			)
		}
	}
	rows = append(rows,
		row{"extended EtherType", eth([]int{0x88b7}, cat([]byte{0, 0, 0}, be(0x86dd), ra)), Encapsulated},
		row{"extended EtherType, 802.1H", eth([]int{0x88b7}, cat([]byte{0, 0, 0xf8}, be(0x86dd), ra)), Encapsulated},
		row{"extended EtherType of a vendor", eth([]int{0x88b7}, cat([]byte{0, 0x10, 0x18}, be(1), big)), Pass},
		row{"jumbo LLC", eth([]int{0x8870}, llcSNAP(0, 0x86dd, ra)), Encapsulated},
		row{"IS-IS in jumbo LLC", eth([]int{0x8870}, cat([]byte{0xfe, 0xfe, 3}, big)), Pass},
		row{"spanning tree", eth([]int{38}, cat([]byte{0x42, 0x42, 3}, big[:35])), Pass},
		row{"CDP", eth([]int{100}, cat([]byte{0xaa, 0xaa, 3, 0, 0, 0xc}, be(0x2000), big[:92])), Pass},
		row{"LLDP", eth([]int{0x88cc}, big[:50]), Pass},
		row{"802.3 without a header", eth([]int{0}, nil), Pass},
		row{"SNAP cut off", eth([]int{4}, []byte{0xaa, 0xaa, 3, 0}), Pass},
		row{"cut off in a tag", eth([]int{0x8100}, []byte{0}), Malformed},
		row{"no frame", []byte{1, 2, 3}, Malformed},
	)
	run(t, Config{Router: true, DHCP: true}, rows)
}

func serialize(t *testing.T, ls ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...))
	return b.Bytes()
}

// The messages as real implementations encode them.
func TestGopacketMessages(t *testing.T) {
	ether := func(et layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: guestMAC[:], DstMAC: ports.Broadcast[:], EthernetType: et}
	}
	ip4 := func(proto layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: guest4, DstIP: all4}
	}
	ip6 := func(proto layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: proto, SrcIP: guestLL, DstIP: allNodes}
	}
	dhcp := func(op layers.DHCPOp, m layers.DHCPMsgType) *layers.DHCPv4 {
		return &layers.DHCPv4{Operation: op, HardwareType: layers.LinkTypeEthernet, Xid: 9, ClientHWAddr: otherMAC[:],
			Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(m)})}}
	}
	v4frame := func(src, dst layers.UDPPort, l gopacket.SerializableLayer) []byte {
		i, u := ip4(layers.IPProtocolUDP), &layers.UDP{SrcPort: src, DstPort: dst}
		require.NoError(t, u.SetNetworkLayerForChecksum(i))
		return serialize(t, ether(layers.EthernetTypeIPv4), i, u, l)
	}
	v6frame := func(src, dst layers.UDPPort, l gopacket.SerializableLayer) []byte {
		i, u := ip6(layers.IPProtocolUDP), &layers.UDP{SrcPort: src, DstPort: dst}
		require.NoError(t, u.SetNetworkLayerForChecksum(i))
		return serialize(t, ether(layers.EthernetTypeIPv6), i, u, l)
	}
	icmp6 := func(m uint8, l gopacket.SerializableLayer) []byte {
		i, c := ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(m, 0)}
		require.NoError(t, c.SetNetworkLayerForChecksum(i))
		return serialize(t, ether(layers.EthernetTypeIPv6), i, c, l)
	}
	run(t, allOn, []row{
		{"offer", v4frame(67, 68, dhcp(layers.DHCPOpReply, layers.DHCPMsgTypeOffer)), DHCPServer},
		{"nak", v4frame(67, 68, dhcp(layers.DHCPOpReply, layers.DHCPMsgTypeNak)), DHCPServer},
		{"renewal", v4frame(68, 67, dhcp(layers.DHCPOpRequest, layers.DHCPMsgTypeRequest)), Pass},
		{"advertise", v6frame(547, 546, &layers.DHCPv6{MsgType: layers.DHCPv6MsgTypeAdverstise}), DHCPServer},
		{"relayed reply", v6frame(547, 547, &layers.DHCPv6{MsgType: layers.DHCPv6MsgTypeRelayReply, LinkAddr: other6, PeerAddr: other6}), DHCPServer},
		{"solicit", v6frame(546, 547, &layers.DHCPv6{MsgType: layers.DHCPv6MsgTypeSolicit}), Pass},
		{"router advertisement", icmp6(134, &layers.ICMPv6RouterAdvertisement{HopLimit: 64, RouterLifetime: 1800}), RouterMessage},
		{"redirect", icmp6(137, &layers.ICMPv6Redirect{TargetAddress: other6, DestinationAddress: other6}), RouterMessage},
		{"neighbor advertisement", icmp6(136, &layers.ICMPv6NeighborAdvertisement{TargetAddress: guest6,
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: guestMAC[:]}}}), Pass},
		{"IPv4 redirect", serialize(t, ether(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(5, 1)}, gopacket.Payload(big[:28])), RouterMessage},
	})
}
