package header

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func hashOf(f built) uint32 {
	var h Header
	h.Parse(f.bytes, len(f.bytes))
	return h.Hash(f.bytes)
}

// turned returns the frame with source and destination exchanged.
func turned(f built) built {
	b := append([]byte(nil), f.bytes...)
	swap := func(at, n int) {
		for i := range n {
			b[at+i], b[at+n+i] = b[at+n+i], b[at+i]
		}
	}
	swap(0, 6)
	switch l3 := int(f.want.L3); {
	case f.want.Flags.Has(IPv4):
		swap(l3+12, 4)
	case f.want.Flags.Has(IPv6):
		swap(l3+8, 16)
	}
	if f.want.Flags.Has(Ports) {
		swap(int(f.want.L4), 2)
	}
	return built{b, f.want}
}

func TestHashIsTheSameBothWays(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		f := randomFrame(r)
		require.Equal(t, hashOf(f), hashOf(turned(f)))
	}
	f := build(etherType(EtherTypeARP), arp())
	require.Equal(t, hashOf(f), hashOf(turned(f)))
}

func TestFragmentsOfADatagramStayTogether(t *testing.T) {
	v4, v6 := etherType(EtherTypeIPv4), etherType(EtherTypeIPv6)
	first := hashOf(build(v4, ip4(UDP, 0), frag4(0, true), udp(), payload(8)))
	require.Equal(t, first, hashOf(build(v4, ip4(UDP, 0), frag4(16, true), payload(40))))
	require.Equal(t, first, hashOf(build(v4, ip4(UDP, 0), frag4(56, false), payload(1))))

	first = hashOf(build(v6, ip6(44), frag6(60, 0, true), ext(UDP, 1), udp()))
	require.Equal(t, first, hashOf(build(v6, ip6(44), frag6(60, 16, false), payload(9))))
}

func TestHashSpreads(t *testing.T) {
	v4 := build(etherType(EtherTypeIPv4), ip4(TCP, 0), tcp(0))
	v6 := build(etherType(EtherTypeIPv6), ip6(TCP), tcp(0))
	arp := build(etherType(EtherTypeARP), arp())
	for name, c := range map[string]struct {
		f  built
		at int // of two bytes that count up
	}{
		"IPv4 source":      {v4, 28},
		"IPv4 destination": {v4, 32},
		"source port":      {v4, 34},
		"destination port": {v4, 36},
		"IPv6 source":      {v6, 36},
		"IPv6 prefix":      {v6, 24},
		"IPv6 port":        {v6, 54},
		"MAC":              {arp, 10},
	} {
		t.Run(name, func(t *testing.T) {
			const queues, flows = 16, 16384
			var high, low [queues]int
			for i := range flows {
				c.f.bytes[c.at], c.f.bytes[c.at+1] = byte(i>>8), byte(i)
				h := hashOf(c.f)
				low[h%queues]++
				high[h>>28]++
			}
			for q := range queues {
				require.InDelta(t, flows/queues, low[q], 200)
				require.InDelta(t, flows/queues, high[q], 200)
			}
		})
	}
}

func TestHashOfTheUnparsable(t *testing.T) {
	var h Header
	h.Parse(nil, 0)
	require.Zero(t, h.Hash(nil))

	f := build(etherType(EtherTypeIPv4), ip4(TCP, 0), payload(4))
	was := hashOf(f)
	f.bytes[33]++ // an address, of a frame that cannot be parsed
	require.Equal(t, was, hashOf(f))
	f.bytes[11]++
	require.NotEqual(t, was, hashOf(f))
}
