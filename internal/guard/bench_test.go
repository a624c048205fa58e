package guard

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

var sink int

func BenchmarkCheck(b *testing.B) {
	subnets := Config{Source: true, MAC: guestMAC}
	for i := range 10_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 6), byte(i << 2), 2})
		subnets.Addresses = append(subnets.Addresses, netip.PrefixFrom(a, 32))
	}
	for _, c := range []struct {
		name   string
		config Config
		frame  []byte
	}{
		{"dhcp+router/TCP", Config{DHCP: true, Router: true}, eth4(v4{proto: 6}.packet(tcp()))},
		{"dhcp+router/TCP6", Config{DHCP: true, Router: true}, eth6(v6{src: guest6, next: 6}.packet(tcp()))},
		{"dhcp+router/UDP", Config{DHCP: true, Router: true}, udp4(1000, 2000, big)},
		{"dhcp+router/UDP6", Config{DHCP: true, Router: true}, udp6(1000, 2000, big)},
		{"dhcp+router/fragment", Config{DHCP: true, Router: true}, eth4(v4{proto: 17, offset: 1480}.packet(big))},
		{"dhcp+router/fragment6", Config{DHCP: true, Router: true}, eth6(v6{next: 44}.packet(frag6(17, 1232, true), big))},
		{"all/TCP", allOn, eth4(v4{proto: 6}.packet(tcp()))},
		{"all/TCP6", allOn, eth6(v6{src: guest6, next: 6}.packet(tcp()))},
		{"all/UDP", allOn, udp4(1000, 2000, big)},
		{"all/ARP", allOn, arp(1, guestMAC, guest4, other4)},
		{"all/ND", allOn, eth6(v6{next: 58}.packet(advertise(guest6, lla(2, guestMAC))))},
		{"all/DHCPServer", allOn, udp4(67, 68, reply)},
		{"10000 addresses/TCP", subnets, eth4(v4{proto: 6}.packet(tcp()))},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := compile(b, c.config)
			const n = 64
			var frames [n]*ports.Frame
			var hs [n]header.Header
			for i := range frames {
				frames[i] = frameOf(c.frame, 256)
				hs[i] = parsed(frames[i])
			}
			for i := 0; i < b.N; i += n {
				for j, f := range &frames {
					sink += int(p.Check(f, &hs[j]))
				}
			}
		})
	}
}

func BenchmarkLimit(b *testing.B) {
	l := newLimit(b, LimitConfig{Max: 8})
	for name, src := range map[string][]byte{"IPv4": guest4, "IPv6": guest6} {
		f := frameOf(eth4(v4{src: guest4, proto: 6}.packet(tcp())), 256)
		if len(src) == 16 {
			f = frameOf(eth6(v6{src: guest6, next: 6}.packet(tcp())), 256)
		}
		h := parsed(f)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				l.Admit(f, &h, time.Second)
			}
		})
	}
	b.Run("refused", func(b *testing.B) {
		for i := uint32(1); b.Loop(); i++ {
			l.use4(i, time.Second)
		}
	})
}

func BenchmarkStorm(b *testing.B) {
	s := NewStorm(1000, 0)
	now := time.Duration(0)
	for b.Loop() {
		now += time.Microsecond
		sink += s.Take(64, now)
	}
}
