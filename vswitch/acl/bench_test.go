package acl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/stretchr/testify/require"
)

const batch = 64

// tcpFlow returns the i-th of many flows that the VM opens.
func tcpFlow(i int) frame {
	return frame{
		d: Out, src: addr("10.0.0.5"), dst: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), proto: TCP,
		sport: uint16(1024 + i>>16<<8 + i%199), dport: 443, flags: tcpSYN, window: 64000, payload: make([]byte, 10),
	}
}

func openFlows(b testing.TB, s *State, p *Policy, n int) []Packet {
	one := make([]Packet, 1)
	check := func(f frame, want Reason) {
		one[0] = f.packet()
		s.Check(p, f.d, second, one)
		require.Equal(b, want, one[0].Verdict.Reason, p.Describe(one[0].Verdict))
	}
	var list []Packet
	for i := range n {
		f := tcpFlow(i)
		f.payload = nil
		f.seq = 1000
		check(f, New)
		r := f.reply()
		r.flags, r.seq, r.ack = tcpSYN|tcpACK, 5000, 1001
		check(r, Established)
		f.flags, f.seq, f.ack = tcpACK, 1001, 5001
		check(f, Established)
		f.payload = make([]byte, 100)
		list = append(list, f.packet())
	}
	return list
}

func stateful(n int) *Config {
	c := &Config{Connections: 4 << 20}
	c.Extended = groupRules(newSource(1), n+2)
	for i := range c.Extended {
		c.Extended[i].Stateful = c.Extended[i].Action == Allow
	}
	return c
}

// run judges frames in batches as the switch does: each is parsed, then all are checked.
func run(b *testing.B, s *State, p *Policy, list []Packet) {
	var heads [][]byte
	for _, q := range list {
		heads = append(heads, q.Head)
	}
	var headers [batch]header.Header
	var packets [batch]Packet
	i, k := 0, 0
	var spent time.Duration
	for b.Loop() {
		for k = range batch {
			head := heads[i]
			if i++; i == len(heads) {
				i = 0
			}
			headers[k].Parse(head, len(head))
			q := &packets[k]
			q.Head, q.Header, q.Len, q.Isolation = head, &headers[k], len(head), 0
		}
		if s != nil {
			s.Check(p, Out, second, packets[:])
		}
	}
	_ = spent
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/frame")
}

func BenchmarkEstablished(b *testing.B) {
	b.Run("parse only/flows=64", func(b *testing.B) {
		run(b, nil, nil, openFlows(b, NewState(), must(stateful(0)), 64))
	})
	b.Run("parse only/flows=4096", func(b *testing.B) {
		run(b, nil, nil, openFlows(b, NewState(), must(stateful(0)), 4096))
	})
	for _, rules := range []int{0, 10, 1000, 10000} {
		for _, flows := range []int{64, 4096, 1 << 18} {
			if rules != 10000 && flows > 4096 {
				continue
			}
			var s *State
			var p *Policy
			var list []Packet
			b.Run(fmt.Sprintf("rules=%d/flows=%d", rules, flows), func(b *testing.B) {
				if s == nil {
					s = NewState()
					p, _ = Compile(stateful(rules))
					list = openFlows(b, s, p, flows)
					rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
				}
				run(b, s, p, list)
			})
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for _, rules := range []int{10, 1000, 10000} {
		for _, limit := range []int{1000, 100000} {
			var s *State
			var p *Policy
			var list []Packet
			b.Run(fmt.Sprintf("rules=%d/conns=%d", rules, limit), func(b *testing.B) {
				if s == nil {
					s = NewState()
					c := stateful(rules)
					c.Connections = limit
					p, _ = Compile(c)
					for i := range 1 << 17 {
						f := tcpFlow(i)
						f.payload = nil
						list = append(list, f.packet())
					}
					rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
				}
				run(b, s, p, list)
				require.Zero(b, s.Stats().Refused)
			})
		}
	}
}

func BenchmarkStateless(b *testing.B) {
	for _, rules := range []int{0, 10, 1000, 10000} {
		var s *State
		var p *Policy
		var list []Packet
		b.Run(fmt.Sprintf("rules=%d", rules), func(b *testing.B) {
			if s == nil {
				s = NewState()
				c := &Config{}
				if rules > 0 {
					c = stateful(rules)
					for i := range c.Extended {
						c.Extended[i].Stateful = false
					}
				}
				p, _ = Compile(c)
				for i := range 1024 {
					f := tcpFlow(i)
					list = append(list, f.packet())
				}
			}
			run(b, s, p, list)
		})
	}
}

var _ = time.Now

func must(c *Config) *Policy {
	p, err := Compile(c)
	if err != nil {
		panic(err)
	}
	return p
}

// groupRules are rules as security groups have them, one below the other in weight, and behind them a
// denial of all that comes in and permission of all that goes out.
func groupRules(r source, n int) (rules []ExtendedRule) {
	near := func(bits int) []netip.Prefix {
		a := netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		return []netip.Prefix{netip.PrefixFrom(a, bits).Masked()}
	}
	port := func() []PortRange {
		return []PortRange{{First: pick[uint16](r, 22, 53, 80, 123, 443, 3306, 5432, 6379, 8080, 9090, 9200, 27017)}}
	}
	for i := range n - 2 {
		x := ExtendedRule{Weight: uint16(60000 - i), Direction: Both, Action: Allow, Protocol: TCP}
		switch r.IntN(10) {
		case 0, 1, 2, 3, 4:
			x.Remote, x.LocalPorts = near(24+r.IntN(9)), port()
		case 5, 6:
			x.Remote, x.RemotePorts, x.Protocol = near(16+r.IntN(9)), port(), UDP
		case 7:
			x.Remote, x.Protocol, x.Action = near(32), 0, Deny
		case 8:
			first := uint16(r.IntN(60000))
			x.LocalPorts = []PortRange{{first, first + 1 + uint16(r.IntN(1000))}}
			x.Local, x.Remote = near(28), near(20)
		case 9:
			x.Local, x.Remote = near(32), near(24)
		}
		rules = append(rules, x)
	}
	return append(rules, ExtendedRule{Direction: In, Action: Deny}, ExtendedRule{Direction: Out, Action: Allow})
}

// hostileRules are the worst for bit vectors: to each packet each field says that half of the rules match,
// every other one, and together they do not.
func hostileRules(r source, n int) (rules []ExtendedRule) {
	for i := range n {
		x := ExtendedRule{Weight: uint16(60000 - i), Direction: Both, Action: Allow}
		a := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}), 32)
		if i%2 == 0 {
			x.Local, x.Remote = prefixes("10.0.0.0/9"), []netip.Prefix{prefix("10.0.0.0/9"), a}
			x.LocalPorts = []PortRange{{uint16(i), uint16(65535 - i)}}
		} else {
			x.Local, x.Remote = prefixes("10.128.0.0/9"), []netip.Prefix{prefix("10.128.0.0/9"), a}
			x.RemotePorts = []PortRange{{uint16(i), uint16(65535 - i)}}
		}
		rules = append(rules, x)
	}
	return rules
}
