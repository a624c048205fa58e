package overlay

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPingOfAProviderAddress(t *testing.T) {
	s := newScene(t, 2)
	s.addHost(netip.MustParsePrefix("fd00:f::3/64"))
	s.addHost(netip.MustParsePrefix("fd00:f::4/64"))
	for _, pair := range [][2]int{{0, 1}, {2, 3}} {
		from, to := s.hosts[pair[0]], s.hosts[pair[1]]
		src, drop := from.e.SourceTo(to.pa)
		require.Zero(t, drop)
		require.Equal(t, from.pa, src)
		p := NewPing(src, to.pa)
		stop := from.e.AwaitPA(p)
		require.Equal(t, 1, s.drops(DropUnresolved, func() { s.settle(pair[0], from.w.PingPA(s.now, p)) }))
		other := NewPing(src, to.pa)
		s.settle(pair[0], from.w.PingPA(s.now, other))
		select {
		case <-p.Answered():
			require.Fail(t, "the answer to another ping")
		default:
		}
		require.Equal(t, 1, s.drops(DropAnswered, func() { s.settle(pair[0], from.w.PingPA(s.now, p)) }))
		<-p.Answered()
		stop()
		require.Equal(t, 1, s.drops(DropNotTunnel, func() { s.settle(pair[0], from.w.PingPA(s.now, p)) }), "nobody waits any more")
		require.Nil(t, from.e.pings.Load())
	}
	for to, is := range map[string]Drop{
		"192.0.2.1": DropSelf, "198.51.100.1": DropNoProvider, "fd00:f::3": DropNoProvider, "224.0.0.1": DropMalformed,
	} {
		_, drop := s.hosts[0].e.SourceTo(addr(to))
		require.Equal(t, is, drop, to)
		out := s.hosts[0].w.PingPA(s.now, NewPing(addr("192.0.2.1"), addr(to)))
		require.Len(t, out, 1)
		require.Equal(t, is, out[0].Drop)
	}
}

func TestWhatAnswersAPing(t *testing.T) {
	for _, pair := range [][2]string{{"10.0.0.11", "10.0.0.12"}, {"fd00::1", "fd00::2"}} {
		p := NewPing(addr(pair[0]), addr(pair[1]))
		request := p.Request(mac(2), mac(1))
		require.False(t, p.Is(request))
		answer := copyOf(request)
		w := new(Worker)
		w.h.Parse(answer.Head(), answer.Len())
		require.True(t, makeEchoReply(answer, &w.h))
		require.True(t, p.Is(answer))
		require.False(t, NewPing(addr(pair[0]), addr(pair[1])).Is(answer))
		for n := range answer.Len() {
			require.False(t, p.Is(frameOf(answer.Head()[:n])), "%d bytes", n)
		}
		for at := answer.Len() - 8; at < answer.Len(); at++ {
			answer.Head()[at] ^= 1
			require.False(t, p.Is(answer))
			answer.Head()[at] ^= 1
		}
	}
}
