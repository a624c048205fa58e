package guard

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newLimit(t testing.TB, c LimitConfig) *Limit {
	l, err := NewLimit(&c)
	require.NoError(t, err)
	return l
}

func admit(l *Limit, b []byte, now time.Duration) bool {
	f := frameOf(b, 256)
	return l.Admit(f, parse(f), now)
}

func used(l *Limit, now time.Duration) map[string]bool {
	m := make(map[string]bool)
	for _, a := range l.Append(nil, now) {
		m[a.String()] = true
	}
	return m
}

func TestLimitLearns(t *testing.T) {
	msg := func(src, m []byte) []byte { return eth6(v6{src: src, next: 58}.packet(m)) }
	for _, r := range []struct {
		name  string
		frame []byte
		want  []string
	}{
		{"IPv4 source", udp4(1, 2, nil), []string{"10.0.0.2"}},
		{"IPv4 later fragment", eth4(v4{proto: 17, offset: 800}.packet(big)), []string{"10.0.0.2"}},
		{"IPv4 malformed", eth4(v4{proto: 17}.packet(nil)), []string{"10.0.0.2"}},
		{"IPv4 no address", eth4(v4{src: zero4, proto: 17}.packet(udp(68, 67, nil))), nil},
		{"IPv4 group", eth4(v4{src: []byte{224, 0, 0, 1}, proto: 17}.packet(udp(68, 67, nil))), nil},
		{"IPv6 source", eth6(v6{src: guest6, next: 17}.packet(udp(1, 2, nil))), []string{"fd00::2"}},
		{"IPv6 later fragment", eth6(v6{src: guest6, next: 44}.packet(frag6(6, 1200, false), big)), []string{"fd00::2"}},
		{"IPv6 no address", eth6(v6{src: zero6, next: 58}.packet(icmp(133, make([]byte, 4)))), nil},
		{"ARP request", arp(1, guestMAC, guest4, other4), []string{"10.0.0.2"}},
		{"ARP reply", arp(2, guestMAC, guest4, other4), []string{"10.0.0.2"}},
		{"ARP probe", arp(1, guestMAC, zero4, guest4), []string{"10.0.0.2"}},
		{"solicitation", msg(guestLL, solicit(other6)), []string{"fe80::ff:fe00:2"}},
		{"duplicate address detection", msg(zero6, solicit(guest6)), []string{"fd00::2"}},
		{"advertisement", msg(guestLL, advertise(guest6)), []string{"fe80::ff:fe00:2", "fd00::2"}},
		{"advertisement in SNAP", eth([]int{0}, llcSNAP(0, 0x86dd, v6{next: 58}.packet(advertise(guest6)))), []string{"fe80::ff:fe00:2", "fd00::2"}},
		{"static", eth4(v4{src: []byte{192, 168, 7, 7}, proto: 17}.packet(udp(1, 2, nil))), nil},
		{"no IP", eth([]int{0x88cc}, big), nil},
	} {
		l := newLimit(t, LimitConfig{Max: 3, Static: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}})
		require.True(t, admit(l, r.frame, 0), r.name)
		got := used(l, 0)
		require.Len(t, got, len(r.want), r.name)
		for _, a := range r.want {
			require.True(t, got[a], "%s: %s in %v", r.name, a, got)
		}
	}
}

func TestLimitRefusesWhatItCannotRead(t *testing.T) {
	na := v6{next: 58}.packet(advertise(other6))
	for name, b := range map[string][]byte{
		"chain beyond the head":   eth6(v6{next: 0}.packet(option(58, 30), advertise(other6))),
		"chain too long":          eth6(v6{next: 0}.packet(option(60, 1), option(60, 1), option(60, 1), option(60, 1), option(60, 1), option(60, 1), option(60, 1), option(60, 1), option(58, 1), advertise(other6))),
		"target beyond the head":  eth6(v6{next: 0}.packet(option(58, 23), advertise(other6))),
		"802.1H":                  eth([]int{0}, llcSNAP(0xf8, 0x86dd, na)),
		"five tags":               eth([]int{0x8100, 0, 0x8100, 0, 0x8100, 0, 0x8100, 0, 0x8100, 0, 0x86dd}, na),
		"ARP of another hardware": eth([]int{0x0806}, arpPacket(6, 2, guestMAC, other4, guest4)),
		"tag behind SNAP":         eth([]int{0}, llcSNAP(0, 0x8100, cat(be(0, 0x86dd), na))),
		"jumbo without a length":  eth6(cat(be(0x6000, 0, 0), []byte{0, 255}, guestLL, allNodes, option(58, 1), advertise(other6))),
	} {
		require.False(t, admit(newLimit(t, LimitConfig{Max: 3}), b, 0), name)
	}
}

func TestLimitRefusesMore(t *testing.T) {
	l := newLimit(t, LimitConfig{Max: 2, Idle: 10 * time.Second})
	from := func(n byte) []byte { return eth4(v4{src: []byte{10, 0, 0, n}, proto: 17}.packet(udp(1, 2, nil))) }
	s := time.Second
	require.True(t, admit(l, from(1), 0))
	require.True(t, admit(l, from(2), 5*s))
	require.False(t, admit(l, from(3), 5*s))
	require.True(t, admit(l, from(1), 9*s), "known")
	require.False(t, admit(l, from(3), 15*s), "nothing was idle for longer than ten seconds")
	require.True(t, admit(l, from(3), 16*s), "the second was")
	require.False(t, admit(l, from(2), 16*s))
	require.Equal(t, map[string]bool{"10.0.0.1": true, "10.0.0.3": true}, used(l, 16*s))
	require.Empty(t, used(l, time.Hour))
	require.True(t, admit(l, from(1), time.Hour), "idle, but not displaced")
	require.True(t, admit(l, from(9), time.Hour))
	require.False(t, admit(l, from(3), time.Hour))
}

func TestNewLimit(t *testing.T) {
	for want, c := range map[string]LimitConfig{
		"limit of 0 addresses is out of 1–4096":         {},
		"limit of 4097 addresses is out of 1–4096":      {Max: 4097},
		"idle time 1ms of addresses is out of 1s–1000h": {Max: 1, Idle: time.Millisecond},
		"assigned address invalid Prefix is none":       {Max: 1, Static: []netip.Prefix{{}}},
	} {
		_, err := NewLimit(&c)
		require.EqualError(t, err, want)
	}
}

// A limit against a map.
func TestLimitModel(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 100 {
		c := LimitConfig{Max: 1 + r.IntN(20), Idle: time.Duration(1+r.IntN(30)) * time.Second}
		l := newLimit(t, c)
		model := make(map[uint32]int)
		second := 0
		for range 2000 {
			second += r.IntN(3) / 2
			a := 1 + r.Uint32N(uint32(2*c.Max))
			_, want := model[a]
			if !want && len(model) < c.Max {
				want = true
			}
			got := l.use4(a, time.Duration(second)*time.Second)
			if got && !want { // makes room once a second at most, then for all that were idle
				for k, at := range model {
					if second-at > int(c.Idle/time.Second) {
						delete(model, k)
					}
				}
				want = len(model) < c.Max
			}
			require.Equal(t, want, got)
			if got {
				model[a] = second
			}
		}
	}
}

func TestLimitConcurrently(t *testing.T) {
	l := newLimit(t, LimitConfig{Max: 64, Idle: time.Second})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 7))
			for i := range 50_000 {
				now := time.Duration(i) * time.Millisecond
				l.use(addr6{0xfd00 << 48, r.Uint64N(100)}, now)
				if i%1000 == 0 {
					if n := len(l.Append(nil, now)); n > 64 {
						panic(fmt.Sprint(n, " addresses"))
					}
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for i := range l.slots {
		if l.slots[i].used.Load() != 0 {
			n++
		}
	}
	require.Equal(t, l.count, n)
	require.LessOrEqual(t, n, 64)
}

// A guest that tries addresses without end costs the same for every one.
func TestLimitFlood(t *testing.T) {
	l := newLimit(t, LimitConfig{Max: MaxAddresses})
	var a [16]byte
	refused := 0
	for i := range 200_000 {
		binary.BigEndian.PutUint32(a[12:], uint32(i))
		if !l.use(load6(a[:], 0), time.Second) {
			refused++
		}
	}
	require.Equal(t, 200_000-MaxAddresses, refused)
}

func (l *Limit) use4(a uint32, now time.Duration) bool {
	counted := l.counted4(a)
	return counted == addr6{} || l.use(counted, now)
}
