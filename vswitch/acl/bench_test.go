package acl

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/stretchr/testify/require"
)

const batch = 64

// near returns a prefix in 10.0.0.0/8.
func (r source) near(bits int) []netip.Prefix {
	a := netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
	return []netip.Prefix{netip.PrefixFrom(a, bits).Masked()}
}

// groupRules are rules as security groups have them, one below the other in weight, and behind them a
// denial of all that comes in and permission of all that goes out.
func groupRules(r source, n int) (rules []ExtendedRule) {
	port := func() []PortRange {
		return []PortRange{{First: pick[uint16](r, 22, 53, 80, 123, 443, 3306, 5432, 6379, 8080, 9090, 9200, 27017)}}
	}
	for i := range n - 2 {
		x := ExtendedRule{Weight: uint16(60000 - i), Direction: Both, Action: Allow, Protocol: TCP}
		switch r.IntN(10) {
		case 0, 1, 2, 3, 4:
			x.Remote, x.LocalPorts = r.near(24+r.IntN(9)), port()
		case 5, 6:
			x.Remote, x.RemotePorts, x.Protocol = r.near(16+r.IntN(9)), port(), UDP
		case 7:
			x.Remote, x.Protocol, x.Action = r.near(32), 0, Deny
		case 8:
			first := uint16(r.IntN(60000))
			x.LocalPorts = []PortRange{{first, first + 1 + uint16(r.IntN(1000))}}
			x.Local, x.Remote = r.near(28), r.near(20)
		case 9:
			x.Local, x.Remote = r.near(32), r.near(24)
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
		if i%2 == 0 {
			x.Local, x.Remote = prefixes("10.0.0.0/9"), append(r.near(32), prefix("10.0.0.0/9"))
			x.LocalPorts = []PortRange{{uint16(i), uint16(65535 - i)}}
		} else {
			x.Local, x.Remote = prefixes("10.128.0.0/9"), append(r.near(32), prefix("10.128.0.0/9"))
			x.RemotePorts = []PortRange{{uint16(i), uint16(65535 - i)}}
		}
		rules = append(rules, x)
	}
	return rules
}

var ruleSets = []struct {
	name string
	make func(source, int) []ExtendedRule
}{{"groups", groupRules}, {"hostile", hostileRules}}

// randomFlows are flows received, three of four to the addresses of some rule.
func randomFlows(r source, rules []ExtendedRule, hostile bool) []flow {
	flows := make([]flow, 4096)
	for i := range flows {
		local, remote := r.near(32)[0].Addr().As4(), r.near(32)[0].Addr().As4()
		if hostile {
			local[1], remote[1] = local[1]|128, remote[1]&^128
		} else if r.IntN(4) > 0 {
			x := &rules[r.IntN(len(rules))]
			if len(x.Remote) > 0 {
				remote = x.Remote[0].Addr().As4()
			}
			if len(x.Local) > 0 {
				local = x.Local[0].Addr().As4()
			}
		}
		port := func() uint16 { return pick(r, 22, 80, 443, uint16(r.Uint32())) }
		flows[i].addr[0] = uint64(be32(local[:]))<<32 | uint64(be32(remote[:]))
		flows[i].tail = tailOf(port(), port(), 0, pick(r, TCP, UDP))
	}
	return flows
}

// BenchmarkClassify finds the rule of a packet, nothing else.
func BenchmarkClassify(b *testing.B) {
	for _, set := range ruleSets {
		for _, n := range []int{10, 100, 1000, 10000} {
			r := newSource(1)
			rules := set.make(r, n)
			flows := randomFlows(r, rules, set.name == "hostile")
			p := compile(b, Config{Extended: rules}).programs[In.index()][v4]
			b.Run(fmt.Sprintf("%s/rules=%d", set.name, n), func(b *testing.B) {
				sum := int32(0)
				for i := 0; b.Loop(); i++ {
					sum += p.match(&flows[i%len(flows)], false)
				}
				flows[0].hash = uint32(sum) // so that it is needed
			})
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, set := range ruleSets {
		for _, n := range []int{10, 1000, 10000} {
			c := Config{Extended: set.make(newSource(1), n)}
			b.Run(fmt.Sprintf("%s/rules=%d", set.name, n), func(b *testing.B) {
				var before, behind runtime.MemStats
				var p *Policy
				for b.Loop() {
					runtime.GC()
					runtime.ReadMemStats(&before)
					p = compile(b, c)
				}
				runtime.GC()
				runtime.ReadMemStats(&behind)
				b.ReportMetric(float64(behind.HeapAlloc-before.HeapAlloc)/1e6, "MB")
				runtime.KeepAlive(p)
			})
		}
	}
}

// stateful is a policy of n rules and two, of which those that allow make connections.
func stateful(n int) *Config {
	c := &Config{Connections: 1 << 22, Extended: groupRules(newSource(1), n+2)}
	for i := range c.Extended {
		c.Extended[i].Stateful = c.Extended[i].Action == Allow
	}
	return c
}

// tcpFlow returns the first segment of one of many connections that the VM opens.
func tcpFlow(i int) frame {
	return frame{
		d: Out, src: addr("10.0.0.5"), dst: netip.AddrFrom4([4]byte{10, 1 + byte(i>>16), byte(i >> 8), byte(i)}), proto: TCP,
		sport: uint16(1024 + i%199), dport: 443, flags: tcpSYN, seq: 1000, window: 64000,
	}
}

// openFlows opens n connections and returns a segment of each.
func openFlows(t testing.TB, s *State, p *Policy, n int) (list []packet) {
	check := func(f frame) { require.True(t, judgeAll(s, p, f.d, second, f.packet()).Allowed()) }
	for i := range n {
		f := tcpFlow(i)
		check(f)
		r := f.reply()
		r.flags, r.seq, r.ack = tcpSYN|tcpACK, 5000, 1001
		check(r)
		f.flags, f.seq, f.ack = tcpACK, 1001, 5001
		check(f)
		f.payload = make([]byte, 100)
		list = append(list, f.packet())
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// run parses frames and judges them, in batches as the switch does; with a nil State it only parses them.
func run(b *testing.B, s *State, p *Policy, list []packet) {
	heads := make([][]byte, len(list))
	memory := make([]byte, 128*len(list)) // as dense as in a ring
	for i := range list {
		heads[i] = memory[128*i:][:copy(memory[128*i:], list[i].head[:min(len(list[i].head), 128)])]
	}
	var headers [batch]header.Header
	var packets [batch]packet
	i := 0
	for b.Loop() {
		for k := range batch {
			if i++; i == len(heads) {
				i = 0
			}
			q := &packets[k]
			headers[k].Parse(heads[i], list[i].size)
			q.head, q.header, q.size, q.isolation = heads[i], &headers[k], list[i].size, 0
		}
		if s != nil {
			judgeAll(s, p, Out, second, packets[:]...)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/frame")
}

// lazy makes what a benchmark needs once, and only when it runs.
func lazy[T any](f func() T) func() T {
	var v *T
	return func() T {
		if v == nil {
			made := f()
			v = &made
		}
		return *v
	}
}

type scenery struct {
	s    *State
	p    *Policy
	list []packet
}

func BenchmarkEstablished(b *testing.B) {
	for _, c := range []struct{ rules, flows int }{
		{-1, 64}, {0, 64}, {10, 64}, {1000, 64}, {10000, 64}, {-1, 4096}, {10, 4096}, {10000, 4096}, {-1, 1 << 18}, {10, 1 << 18},
	} {
		with := lazy(func() (x scenery) {
			x.s, x.p = NewState(), compile(b, *stateful(max(c.rules, 0)))
			x.list = openFlows(b, x.s, x.p, c.flows)
			if c.rules < 0 {
				x.s = nil
			}
			return x
		})
		name := fmt.Sprintf("rules=%d/flows=%d", c.rules, c.flows)
		if c.rules < 0 {
			name = fmt.Sprintf("parse only/flows=%d", c.flows)
		}
		b.Run(name, func(b *testing.B) { run(b, with().s, with().p, with().list) })
	}
}

// BenchmarkNew opens connections, each in place of an older one.
func BenchmarkNew(b *testing.B) {
	for _, rules := range []int{0, 10, 1000, 10000} {
		with := lazy(func() (x scenery) {
			c := stateful(rules)
			c.Connections = 1000
			x.s, x.p = NewState(), compile(b, *c)
			for i := range 4096 {
				f := tcpFlow(i)
				x.list = append(x.list, f.packet())
			}
			rand.Shuffle(len(x.list), func(i, j int) { x.list[i], x.list[j] = x.list[j], x.list[i] })
			return x
		})
		b.Run(fmt.Sprintf("rules=%d", rules), func(b *testing.B) { run(b, with().s, with().p, with().list) })
	}
}

// BenchmarkStateless judges the packets of flows for which there are no connections.
func BenchmarkStateless(b *testing.B) {
	for _, rules := range []int{0, 10, 1000, 10000} {
		for _, flows := range []int{64, 1024} {
			with := lazy(func() (x scenery) {
				c := stateful(rules)
				for i := range c.Extended {
					c.Extended[i].Stateful = false
				}
				x.s, x.p = NewState(), compile(b, *c)
				for i := range flows {
					f := tcpFlow(i)
					f.flags = tcpACK
					x.list = append(x.list, f.packet())
				}
				return x
			})
			b.Run(fmt.Sprintf("rules=%d/flows=%d", rules, flows), func(b *testing.B) { run(b, with().s, with().p, with().list) })
		}
	}
}

// BenchmarkMillions holds 3,000,000 connections in 64 states.
func BenchmarkMillions(b *testing.B) {
	p := compile(b, Config{Extended: []ExtendedRule{{Direction: Both, Action: Allow, Stateful: true}}})
	var before, behind runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		states := make([]*State, 64)
		f := frame{d: In, src: addr("10.0.0.0"), dst: addr("10.0.0.5"), proto: UDP, sport: 1, dport: 2}
		packets := make([]packet, batch)
		for i := range states {
			states[i] = NewState()
			for j := range packets {
				packets[j] = f.packet()
			}
			for n := 0; n < 3_000_000/64; n += batch {
				for j := range packets {
					packets[j].header.SrcPort, packets[j].header.DstPort = uint16(n>>8), uint16(n+j)
				}
				judgeAll(states[i], p, In, second, packets...)
			}
		}
		start := time.Now()
		runtime.GC()
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "ms-GC")
		runtime.ReadMemStats(&behind)
		b.ReportMetric(float64(behind.HeapAlloc-before.HeapAlloc)/3_000_000, "B/connection")
		runtime.KeepAlive(states)
	}
}
