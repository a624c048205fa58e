package guard

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// What ordinary guests send, with an offload request where they have one.
var legit = map[string]*ports.Frame{
	"TCP":                     frameOf(eth4(v4{proto: 6}.packet(tcp())), 256),
	"TCP over IPv6":           frameOf(eth6(v6{src: guest6, dst: other6, next: 6}.packet(tcp())), 256),
	"TCP from link-local":     frameOf(eth6(v6{dst: otherLL, next: 6}.packet(tcp())), 256),
	"TCP with options":        frameOf(eth4(v4{proto: 6, options: make([]byte, 8)}.packet(tcp())), 256),
	"TCP segmentation":        offload(eth4(v4{proto: 6}.packet(cat(tcp(), big, big))), ports.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, Segment: ports.SegmentTCP4, SegmentSize: 1448}),
	"TCP, tagged":             frameOf(eth([]int{0x8100, 5, 0x0800}, v4{proto: 6}.packet(tcp())), 256),
	"DNS":                     frameOf(udp4(40000, 53, request[:40]), 256),
	"QUIC segmentation":       offload(udp4(34400, 443, big), ports.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6, Segment: ports.SegmentUDP, SegmentSize: 300}),
	"VXLAN with inner TCP":    offload(udp4(50000, 4789, cat(make([]byte, 8), eth4(v4{proto: 6}.packet(tcp())))), ports.Offload{NeedsChecksum: true, ChecksumStart: 84, ChecksumOffset: 16}),
	"DHCP discover":           frameOf(eth4(v4{src: zero4, dst: all4, proto: 17}.packet(udp(68, 67, request))), 256),
	"DHCP renewal":            offload(udp4(68, 67, request), ports.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}),
	"DHCPv6 solicit":          offload(udp6(546, 547, dhcpv6(1)), ports.Offload{NeedsChecksum: true, ChecksumStart: 54, ChecksumOffset: 6}),
	"DHCPv6 information":      frameOf(udp6(546, 547, dhcpv6(11)), 256),
	"DHCPv6 registration":     frameOf(eth6(v6{src: guest6, next: 17}.packet(udp(546, 547, dhcpv6(36)))), 256),
	"ARP probe":               frameOf(arp(1, guestMAC, zero4, guest4), 256),
	"ARP announcement":        frameOf(arp(1, guestMAC, guest4, guest4), 256),
	"ARP request":             frameOf(cat(arp(1, guestMAC, guest4, other4), make([]byte, 18)), 256),
	"ARP reply":               frameOf(arp(2, guestMAC, guest4, other4), 256),
	"QEMU announcement":       frameOf(cat(eth([]int{0x8035}, rarpPacket(3, guestMAC, guestMAC, zero4)), make([]byte, 18)), 256),
	"ping":                    frameOf(eth4(v4{proto: 1}.packet(icmp(8, make([]byte, 60)))), 256),
	"port unreachable":        frameOf(eth4(v4{proto: 1}.packet(icmp(3, make([]byte, 32)))), 256),
	"traceroute reply":        frameOf(eth4(v4{proto: 1}.packet(icmp(11, make([]byte, 32)))), 256),
	"router solicitation":     frameOf(eth6(v6{src: zero6, dst: ip("ff02::2"), next: 58}.packet(icmp(133, make([]byte, 4)))), 256),
	"router solicitation 2":   frameOf(eth6(v6{dst: ip("ff02::2"), next: 58}.packet(icmp(133, make([]byte, 4), lla(1, guestMAC)))), 256),
	"DAD":                     frameOf(eth6(v6{src: zero6, dst: solicitGuest, next: 58}.packet(solicit(guest6, cat([]byte{14, 1}, make([]byte, 6))))), 256),
	"DAD of link-local":       frameOf(eth6(v6{src: zero6, dst: solicitGuest, next: 58}.packet(solicit(guestLL))), 256),
	"neighbor solicitation":   frameOf(eth6(v6{src: guest6, dst: solicitOther, next: 58}.packet(solicit(other6, lla(1, guestMAC)))), 256),
	"neighbor advertisement":  frameOf(eth6(v6{src: guest6, dst: other6, next: 58}.packet(advertise(guest6, lla(2, guestMAC)))), 256),
	"advertisement, plain":    frameOf(eth6(v6{src: guest6, dst: other6, next: 58}.packet(advertise(guest6))), 256),
	"MLD report":              frameOf(eth6(v6{dst: ip("ff02::16"), next: 0}.packet([]byte{58, 0, 5, 2, 0, 0, 1, 0}, icmp(143, make([]byte, 24)))), 256),
	"MLD report without one":  frameOf(eth6(v6{src: zero6, dst: ip("ff02::16"), next: 0}.packet([]byte{58, 0, 5, 2, 0, 0, 1, 0}, icmp(143, make([]byte, 24)))), 256),
	"IGMP report":             frameOf(eth4(v4{dst: []byte{224, 0, 0, 22}, proto: 2, options: []byte{0x94, 4, 0, 0}}.packet([]byte{0x22, 0, 0, 0, 0, 0, 0, 0})), 256),
	"IGMP report without one": frameOf(eth4(v4{src: zero4, dst: []byte{224, 0, 0, 22}, proto: 2}.packet([]byte{0x22, 0, 0, 0, 0, 0, 0, 0})), 256),
	"mDNS":                    frameOf(eth6(v6{dst: ip("ff02::fb"), next: 17}.packet(udp(5353, 5353, request[:40]))), 256),
	"ESP":                     frameOf(eth6(v6{src: guest6, dst: other6, next: 50}.packet(big)), 256),
	"GRE":                     frameOf(eth4(v4{proto: 47}.packet(big)), 256),
	"SCTP":                    frameOf(eth4(v4{proto: 132}.packet(big)), 256),
	"segment routing":         frameOf(eth6(v6{src: guest6, dst: other6, next: 43}.packet(option(6, 5), tcp())), 256),
	"LLDP":                    frameOf(eth([]int{0x88cc}, big[:60]), 256),
	"spanning tree":           frameOf(eth([]int{38}, cat([]byte{0x42, 0x42, 3}, big[:43])), 256),
}

func TestOrdinaryTrafficPasses(t *testing.T) {
	all, limit := compile(t, allOn), newLimit(t, LimitConfig{Max: 3})
	for name, f := range legit {
		require.Equal(t, Pass, all.Check(f, parse(f)), name)
		require.True(t, limit.Admit(f, parse(f), 0), name)
	}
	require.Len(t, limit.Append(nil, 0), 3)
}

// Datagrams pass however a host or a router on the way cuts them, in any order.
func TestOrdinaryFragmentsPass(t *testing.T) {
	p := compile(t, allOn)
	r := rand.New(rand.NewPCG(12, 13))
	pass := func(b []byte) { require.Equal(t, Pass, check(t, p, b)) }
	for range 300 {
		n := 1500 + r.IntN(8000)
		body := bytes.Repeat([]byte{byte(r.Uint32())}, n)
		mtu := 552 + r.IntN(950) // RFC 791 lets a link have 68; the least in use is 576
		for _, d := range []struct {
			proto byte
			bytes []byte
		}{{17, udp(34400+r.IntN(100), 53, body)}, {1, icmp(8, body)}, {50, cat(be(1, 1, 1, 1), body)}, {17, udp(68, 67, cat([]byte{1}, body))}} {
			for at := 0; at < len(d.bytes); at += mtu &^ 7 {
				end := min(at+mtu&^7, len(d.bytes))
				pass(eth4(v4{proto: d.proto, offset: at, more: end < len(d.bytes)}.packet(d.bytes[at:end])))
			}
		}
		for _, d := range []struct {
			proto byte
			bytes []byte
		}{{17, udp(34400+r.IntN(100), 53, body)}, {58, icmp(128, body)}, {17, udp(547, 547, cat(dhcpv6(12), body))}} {
			for at := 0; at < len(d.bytes); at += 1232 {
				end := min(at+1232, len(d.bytes))
				pass(eth6(v6{next: 44}.packet(frag6(d.proto, at, end < len(d.bytes)), d.bytes[at:end])))
				pass(eth6(v6{next: 0}.packet(option(44, 1), frag6(d.proto, at, end < len(d.bytes)), d.bytes[at:end])))
			}
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	all, limit, storm := compile(t, allOn), newLimit(t, LimitConfig{Max: 100}), NewStorm(1000, 0)
	forbidden := []*ports.Frame{
		frameOf(udp4(67, 68, reply), 256), frameOf(eth6(v6{next: 0}.packet(option(44, 1), frag6(58, 0, true), advertisement())), 256),
		frameOf(arp(2, otherMAC, other4, guest4), 256), frameOf(eth6(v6{next: 58}.packet(advertise(other6))), 256),
		frameOf(eth([]int{0}, llcSNAP(0xf8, 0x86dd, big)), 256),
	}
	for _, f := range legit {
		forbidden = append(forbidden, f)
	}
	now := int64(0)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for _, f := range forbidden {
			h := parsed(f)
			all.Check(f, &h)
			limit.Admit(f, &h, 1)
			now++
			limit.use4(uint32(now), 1)
			storm.Take(64, 1)
		}
	}))
}
