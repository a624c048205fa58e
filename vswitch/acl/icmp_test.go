package acl

import (
	"testing"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/stretchr/testify/require"
)

func echo(d Direction, typ byte, id uint16) frame {
	f := frame{d: d, src: addr("10.0.0.5"), dst: addr("192.0.2.1"), proto: ICMP, icmp: []byte{typ, 0, 0, 0, byte(id >> 8), byte(id), 0, 1}}
	if typ >= 128 {
		f.src, f.dst, f.proto = addr("fd00::5"), addr("2001:db8::1"), ICMPv6
	}
	if d == In {
		f.src, f.dst = f.dst, f.src
	}
	return f
}

func TestEcho(t *testing.T) {
	for _, v := range []struct{ request, reply byte }{{echoRequest4, echoReply4}, {echoRequest6, echoReply6}} {
		x := newScene(t, outOnly())
		x.send(echo(In, v.reply, 7), DeniedByRule)
		x.send(echo(Out, v.reply, 7), NoConnection)
		x.send(echo(Out, v.request, 7), New)
		x.send(echo(Out, v.request, 7), Established)
		x.send(echo(In, v.reply, 7), Established)
		x.send(echo(In, v.reply, 8), DeniedByRule)
		x.send(echo(In, v.request, 7), DeniedByRule)
		x.now += 61 * second
		x.send(echo(In, v.reply, 7), DeniedByRule)
	}
	x := newScene(t, Config{Extended: []ExtendedRule{
		{Weight: 2, Direction: In, Action: Allow, Stateful: true, Protocol: ICMP}, {Weight: 1, Direction: Both, Action: Deny}}})
	x.send(echo(Out, echoRequest4, 0), DeniedByRule)
	x.send(echo(In, echoRequest4, 0), New)
	x.send(echo(Out, echoReply4, 0), Established)
	x.send(echo(Out, echoRequest4, 0), DeniedByRule)
}

// ICMP that is neither echo nor error passes by a stateful rule without becoming a connection.
func TestOtherICMP(t *testing.T) {
	x := newScene(t, outOnly())
	x.send(echo(Out, 13, 7), ByRule) // timestamp
	x.send(echo(In, 14, 7), DeniedByRule)
	x.send(echo(In, 5, 7), DeniedByRule) // redirect
	require.Zero(t, x.s.Stats().Connections)
}

// about returns an ICMP error of a type about a frame, of which it quotes n bytes.
func about(q frame, typ byte, from string, n int) frame {
	f := frame{d: q.d.reverse(), src: addr(from), dst: q.src, proto: ICMP}
	if q.src.Is6() {
		f.proto = ICMPv6
	}
	ip := q.ip()
	f.icmp = append([]byte{typ, 1, 0, 0, 0, 0, 0, 0}, ip[:min(n, len(ip))]...)
	return f
}

func TestICMPErrors(t *testing.T) {
	syn := handshake[0].frame()
	udp6 := frame{d: Out, src: addr("fd00::5"), dst: addr("2001:db8::1"), proto: UDP, sport: 4000, dport: 53, payload: make([]byte, 64)}
	open := func(t *testing.T) *scene {
		x := newScene(t, outOnly())
		x.send(udpOut(), New)
		x.send(udp6, New)
		x.send(echo(Out, echoRequest4, 7), New)
		x.send(syn, New)
		return x
	}
	other := func(f frame, change func(*frame)) frame { change(&f); return f }
	for _, c := range []struct {
		name string
		f    frame
		want Reason
	}{
		{"unreachable, by the host", about(udpOut(), unreachable4, "192.0.2.1", 28), Related},
		{"time exceeded, by a router", about(udpOut(), exceeded4, "203.0.113.9", 28), Related},
		{"quench", about(udpOut(), quench4, "203.0.113.9", 28), Related},
		{"parameter", about(udpOut(), parameter4, "203.0.113.9", 28), Related},
		{"redirect", about(udpOut(), 5, "203.0.113.9", 28), DeniedByRule},
		{"with more of the packet", about(udp6, unreachable6, "2001:db8::99", 100), Related},
		{"packet too big", about(udp6, 2, "2001:db8::99", 48), Related},
		{"of ICMPv6 without meaning", about(udp6, 100, "2001:db8::99", 48), DeniedByRule},
		{"about echo", about(echo(Out, echoRequest4, 7), exceeded4, "203.0.113.9", 28), Related},
		{"about another echo", about(echo(Out, echoRequest4, 8), exceeded4, "203.0.113.9", 28), DeniedByRule},
		{"about an echo reply", about(echo(Out, echoReply4, 7), exceeded4, "203.0.113.9", 28), DeniedByRule},
		{"about TCP", about(syn, unreachable4, "203.0.113.9", 28), Related},
		{"about a sequence number never sent", about(other(syn, func(f *frame) { f.seq += 9 }), unreachable4, "203.0.113.9", 28), DeniedByRule},
		{"about another port", about(other(udpOut(), func(f *frame) { f.dport++ }), unreachable4, "192.0.2.1", 28), DeniedByRule},
		{"about another protocol", about(other(udpOut(), func(f *frame) { f.proto = SCTP }), unreachable4, "192.0.2.1", 28), DeniedByRule},
		{"to somebody else", other(about(udpOut(), unreachable4, "192.0.2.1", 28), func(f *frame) { f.dst = addr("10.0.0.6") }), DeniedByRule},
		{"about a packet from the other end", about(other(udpOut().reply(), func(f *frame) { f.d = Out }), unreachable4, "192.0.2.1", 28), DeniedByRule},
		{"quote cut off", about(udpOut(), unreachable4, "192.0.2.1", 27), DeniedByRule},
		{"quote of a header cut off", about(udpOut(), unreachable4, "192.0.2.1", 19), DeniedByRule},
		{"no quote", about(udpOut(), unreachable4, "192.0.2.1", 0), DeniedByRule},
		{"v6 quote cut off", about(udp6, unreachable6, "2001:db8::99", 47), DeniedByRule},
		{"v6 quote of a header cut off", about(udp6, unreachable6, "2001:db8::99", 39), DeniedByRule},
		{"about a first fragment", about(other(udpOut(), func(f *frame) { f.fragment, f.more = true, true }), unreachable4, "192.0.2.1", 28), Related},
		{"about a first fragment of v6", about(other(udp6, func(f *frame) { f.fragment, f.more = true, true }), unreachable6, "2001:db8::99", 100), Related},
		{"about a later fragment", about(other(udpOut(), func(f *frame) {
			f.fragment, f.offset, f.payload = true, 80, make([]byte, 8)
		}), unreachable4, "192.0.2.1", 28), DeniedByRule},
		{"about a later fragment of v6", about(other(udp6, func(f *frame) {
			f.fragment, f.offset, f.payload = true, 80, make([]byte, 8)
		}), unreachable6, "2001:db8::99", 100), DeniedByRule},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := open(t)
			n := x.s.Stats()
			x.send(c.f, c.want)
			require.Equal(t, n.Connections, x.s.Stats().Connections)
		})
	}
}

// The VM may say of what it has received that it cannot have it.
func TestICMPErrorsFromTheVM(t *testing.T) {
	x := newScene(t, Config{Extended: []ExtendedRule{
		{Weight: 2, Direction: In, Action: Allow, Stateful: true, Protocol: UDP}, {Weight: 1, Direction: Both, Action: Deny}}})
	in := udpOut().reply()
	x.send(about(in, unreachable4, "10.0.0.5", 28), DeniedByRule)
	x.send(in, New)
	x.send(about(in, unreachable4, "10.0.0.5", 28), Related)
	in.sport++
	x.send(about(in, unreachable4, "10.0.0.5", 28), DeniedByRule)
}

func TestNeighborDiscovery(t *testing.T) {
	message := func(typ, code, hops byte) frame {
		return frame{d: In, src: addr("fe80::1"), dst: addr("ff02::1:ff00:5"), proto: ICMPv6, hops: hops, icmp: append([]byte{typ, code}, make([]byte, 22)...)}
	}
	x := newScene(t, outOnly())
	x.send(message(solicitation, 0, 255), Neighbor)
	x.send(message(advertisement, 0, 255), Neighbor)
	x.send(message(solicitation, 0, 254), DeniedByRule) // from behind a router
	x.send(message(solicitation, 1, 255), DeniedByRule)
	x.send(message(133, 0, 255), DeniedByRule) // router solicitation
	x.send(message(134, 0, 255), DeniedByRule)
	f := message(solicitation, 0, 255)
	f.fragment, f.more = true, true // RFC 6980
	x.send(f, DeniedByRule)

	c := outOnly()
	c.FilterND = true
	x = newScene(t, c)
	x.send(message(solicitation, 0, 255), DeniedByRule)

	x = newScene(t, Config{Basic: []BasicRule{
		{Direction: Both, Action: Deny, Side: Remote, Any: AnyIP}, {Direction: In, Action: Deny, Side: Remote, MAC: vmMAC}}})
	x.send(message(solicitation, 0, 255), Neighbor)
	f = message(solicitation, 0, 255)
	f.srcMAC, f.dstMAC = vmMAC, peerMAC
	x.send(f, DeniedByMAC)
}

func TestQuotedExtensionHeaders(t *testing.T) {
	f := frame{src: addr("fd00::5"), dst: addr("fd00::1"), proto: UDP, sport: 1, dport: 2}
	ip := f.ip()
	ip[6] = destination
	with := append(append([]byte(nil), ip[:40]...), byte(authentication), 0, 1, 4, 0, 0, 0, 0)
	with = append(with, byte(UDP), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	with = append(with, ip[40:]...)
	proto, at, fragment := skipExtensions(with, with[6], 40)
	require.Equal(t, []int{int(UDP), 60, 0}, []int{int(proto), at, fragment})
	for n := range 60 {
		_, at, _ := skipExtensions(with[:n], with[6], 40)
		require.LessOrEqual(t, at, 60)
		require.True(t, at == 0 || at >= 48)
	}
	endless := make([]byte, header.Limit)
	_, at, _ = skipExtensions(endless, hopByHop, 0)
	require.Zero(t, at)
}
