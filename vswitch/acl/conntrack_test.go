package acl

import (
	"net/netip"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestConnectionIsTwoCacheLines(t *testing.T) {
	require.EqualValues(t, 128, unsafe.Sizeof(conn{}))
	require.EqualValues(t, 64, unsafe.Offsetof(conn{}.state))
	require.EqualValues(t, 64, unsafe.Sizeof(cached{}))
	require.EqualValues(t, 64, unsafe.Sizeof(chunk{}))
}

func TestDatagrams(t *testing.T) {
	for _, f := range []frame{
		udpOut(),
		{d: Out, src: addr("fd00::5"), dst: addr("2001:db8::1"), proto: UDP, sport: 4000, dport: 53},
		{d: Out, src: addr("10.0.0.5"), dst: addr("192.0.2.1"), proto: SCTP, sport: 4000, dport: 53},
		{d: Out, src: addr("10.0.0.5"), dst: addr("192.0.2.1"), proto: 47, payload: make([]byte, 8)},
	} {
		x := newScene(t, outOnly())
		x.send(f.reply(), DeniedByRule)
		x.send(f, New)
		x.send(f.reply(), Established)
		other := f.reply()
		other.vlan = 3
		x.send(other, DeniedByRule)
		other = f.reply()
		other.src = other.src.Next()
		x.send(other, DeniedByRule)
		if hasPorts(f.proto) {
			other = f.reply()
			other.dport++
			x.send(other, DeniedByRule)
		}
		x.now += 4 * time.Minute
		x.send(f, Established)
		x.now += 4 * time.Minute
		x.send(f.reply(), Established)
		x.now += 11 * time.Minute
		x.send(f.reply(), DeniedByRule)
		require.Zero(t, x.s.Stats().Connections)
	}
}

func TestIdleTimeoutOfTheRule(t *testing.T) {
	c := outOnly()
	c.Extended[0].IdleTimeout = 255 * second
	x := newScene(t, c)
	x.play(handshake...)
	x.now += 255 * second
	x.play(step{In, "A", 1, 1, 1, Established})
	x.now += 255*second + tick
	x.play(step{In, "A", 1, 1, 1, DeniedByRule})
}

func TestFullTableForgetsTheOldestUnanswered(t *testing.T) {
	c := outOnly()
	c.Connections = 3
	x := newScene(t, c)
	flow := func(i int) frame {
		f := udpOut()
		f.sport = uint16(i)
		return f
	}
	x.send(flow(1), New)
	x.send(flow(2), New)
	x.send(flow(1).reply(), Established)
	x.send(flow(3), New)
	x.send(flow(4), New) // in place of 2
	x.send(flow(2).reply(), DeniedByRule)
	x.send(flow(3).reply(), Established)
	x.send(flow(4).reply(), Established)
	require.Equal(t, Stats{Connections: 3, Created: 4, Evicted: 1}, x.s.Stats())
	x.send(flow(5), TableFull)
	require.Equal(t, Stats{Connections: 3, Created: 4, Evicted: 1, Refused: 1}, x.s.Stats())
	x.now += 301 * second
	x.send(flow(5), New)
	c.Connections = 1
	x.p = compile(t, c)
	x.send(flow(6), New)
	x.send(flow(5).reply(), DeniedByRule)
	x.send(flow(6).reply(), Established)
	x.send(flow(5), TableFull)
}

// What somebody does to one vNIC is nothing to another.
func TestFloodHurtsOneVNICOnly(t *testing.T) {
	c := Config{Connections: 500, Extended: []ExtendedRule{
		{Weight: 2, Direction: Both, Action: Allow, Stateful: true, Protocol: TCP}, {Direction: Both, Action: Deny}}}
	victim, other := newScene(t, c), newScene(t, c)
	other.p = victim.p
	other.play(handshake...)
	victim.play(handshake...)
	f := frame{d: In, dst: addr("10.0.0.5"), proto: TCP, sport: 1, dport: 80, flags: tcpSYN, window: 1}
	var q []packet
	for i := range 30_000 {
		f.src = netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)})
		q = append(q, f.packet())
		if len(q) == batch {
			judgeAll(victim.s, victim.p, In, victim.now, q...)
			q = q[:0]
		}
	}
	require.Equal(t, 500, victim.s.Stats().Connections)
	require.Zero(t, victim.s.Stats().Refused)
	checkTable(t, &victim.s.table)
	victim.play(step{In, "A", 1, 1, 9, Established}) // what was open stays open
	other.play(step{In, "A", 1, 1, 9, Established})
	require.Equal(t, 1, other.s.Stats().Connections)
}

func TestTableGrowsAndShrinks(t *testing.T) {
	s, p := NewState(), compile(t, outOnly())
	require.Empty(t, s.table.blocks)
	f := udpOut()
	now := 100 * second
	for i := range 20_000 {
		f.sport, f.dport = uint16(i), uint16(i>>8)
		require.Equal(t, New, judgeAll(s, p, Out, now, f.packet()).Reason)
		if i%997 == 0 {
			checkTable(t, &s.table)
		}
	}
	require.Equal(t, 20_000, s.Stats().Connections)
	perConn := float64(len(s.table.blocks)*blockConns*128+len(s.table.heads)*blockHeads*4) / 20_000
	require.Less(t, perConn, 160.0)
	now += 301 * second
	for i := 0; s.Stats().Connections > 0; i++ {
		s.Sweep(now)
		checkTable(t, &s.table)
		require.Less(t, i, 20)
	}
	require.Empty(t, s.table.blocks)
	require.EqualValues(t, 20_000, s.Stats().Expired)
}

// Check forgets what has expired while other packets pass, without being asked.
func TestSweepRunsWithTraffic(t *testing.T) {
	x := newScene(t, outOnly())
	f := udpOut()
	for i := range 200 {
		f.sport = uint16(i)
		x.send(f, New)
	}
	x.now += 299 * second
	x.send(f, Established)
	x.now += 2 * second
	for range 300 {
		x.send(f, Established)
	}
	require.Equal(t, 1, x.s.Stats().Connections)
}

func TestNewRules(t *testing.T) {
	narrow := Config{Extended: []ExtendedRule{
		{Name: "dns", Weight: 10, Direction: Out, Action: Allow, Stateful: true, Protocol: UDP},
		{Weight: 1, Direction: Both, Action: Deny},
	}}
	x := newScene(t, outOnly())
	open := func() {
		x.send(udpOut(), New)
		x.play(handshake...)
	}
	open()
	x.p = compile(t, narrow)
	require.EqualValues(t, 0, x.send(udpOut().reply(), Established).Rule)
	x.play(step{In, "A", 1, 1, 9, DeniedByRule}, step{Out, "A", 1, 1, 9, DeniedByRule})
	require.Equal(t, 1, x.s.Stats().Connections)

	x = newScene(t, outOnly())
	open()
	narrow.KeepEstablished = true
	x.p = compile(t, narrow)
	require.EqualValues(t, noRule, x.send(udpOut().reply(), Established).Rule)
	x.play(step{In, "A", 1, 1, 9, Established})
	other := handshake[0].frame()
	other.sport++
	x.send(other, DeniedByRule)

	x = newScene(t, outOnly())
	open()
	x.p = compile(t, Config{Extended: []ExtendedRule{{Direction: In, Action: Deny}}})
	x.send(udpOut().reply(), DeniedByRule)
	require.Zero(t, x.s.Stats().Connections)
	require.Empty(t, x.s.table.blocks)

	x = newScene(t, outOnly())
	open()
	c := outOnly()
	c.Basic = []BasicRule{{Direction: In, Action: Deny, Side: Remote, Prefix: prefix("192.0.2.0/24")}}
	x.p = compile(t, c)
	x.send(udpOut().reply(), DeniedByAddress)
	x.p = compile(t, outOnly())
	x.send(udpOut().reply(), Established)
}

func TestMeters(t *testing.T) {
	meter := func(d Direction, p string) BasicRule {
		return BasicRule{Direction: d, Action: Meter, Side: Remote, Prefix: prefix(p)}
	}
	c := outOnly()
	c.Basic = []BasicRule{
		{Direction: Both, Action: Meter, Side: Local, Any: AnyIP},
		{Direction: Both, Action: Deny, Side: Remote, Prefix: prefix("203.0.113.0/24")},
		meter(Out, "192.0.2.0/24"),
		meter(Both, "203.0.113.0/24"),
	}
	x := newScene(t, c)
	x.send(udpOut(), New)
	x.send(udpOut(), Established)
	x.send(udpOut().reply(), Established)
	denied := udpOut()
	denied.dst = addr("203.0.113.9")
	x.send(denied, DeniedByAddress)
	n := uint64(14 + 20 + 8)
	want := []MeterReading{
		{Rule: 0, In: Count{1, n}},
		{Rule: 2, Out: Count{2, 2 * n}},
		{Rule: 3},
	}
	require.Equal(t, want, x.s.Meters(x.p))

	// Other rules: what was counted stays, where the meter does.
	old := x.p
	c.Basic = []BasicRule{meter(Out, "198.51.100.0/24"), meter(Out, "192.0.2.0/24")}
	x.p = compile(t, c)
	x.send(udpOut(), Established)
	require.Equal(t, []MeterReading{{Rule: 0}, {Rule: 1, Out: Count{3, 3 * n}}}, x.s.Meters(x.p))
	require.EqualValues(t, 3, x.s.Meters(old)[1].Out.Frames)
}

// Rules are replaced while packets pass in both directions, some by workers that still have the old ones.
func TestReplaceUnderTraffic(t *testing.T) {
	s := NewState()
	policies := []*Policy{compile(t, outOnly()), compile(t, *stateful(100)), compile(t, Config{}), compile(t, outOnly())}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := newSource(uint64(w))
			d := []Direction{Out, In}[w%2]
			for i := range 300 {
				var q []packet
				for range 16 {
					f := r.frame()
					f.d = d
					q = append(q, f.packet())
				}
				p := policies[(i/10+w/2)%len(policies)]
				j := s.Begin(p, d, time.Duration(i)*second)
				for k := range q {
					assert.NotZero(t, j.Check(q[k].head, q[k].header, q[k].size, 0).Reason)
				}
				j.End()
				switch i % 50 {
				case 10:
					s.Sweep(time.Duration(i) * second)
				case 20:
					s.Meters(p)
				case 30:
					peek(s, p, d, time.Duration(i)*second, q[0])
				}
			}
		})
	}
	wg.Wait()
	checkTable(t, &s.table)
}

// A guest cannot know which flows share a bucket.
func TestHashIsKeyed(t *testing.T) {
	f := udpOut()
	q := subject{packet: f.packet()}
	a, b := NewState(), NewState()
	same := 0
	for i := range 64 {
		q.header.SrcPort = uint16(i)
		q.classify(Out, &a.key, false)
		h := q.flow.hash
		q.classify(Out, &b.key, false)
		if h == q.flow.hash {
			same++
		}
	}
	require.Less(t, same, 3)
}

func TestHashSpreads(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := NewState()
		var n [256]int
		f := udpOut()
		if v6 {
			f.src, f.dst = addr("fd00::5"), addr("2001:db8::1")
		}
		for i := range 1 << 14 {
			f.sport, f.dport = uint16(i&127), uint16(i>>7)
			q := subject{packet: f.packet()}
			q.classify(Out, &s.key, false)
			n[q.flow.hash&255]++
		}
		for _, k := range n {
			require.InDelta(t, 64, k, 45)
		}
	}
}

func TestNothingAllocatedPerPacket(t *testing.T) {
	c := stateful(1000)
	c.Connections = 500
	c.Basic = []BasicRule{{Direction: Both, Action: Meter, Side: Remote, Any: AnyIP}, {Direction: Both, Action: Allow, Side: Remote, MAC: peerMAC}}
	p, s := compile(t, *c), NewState()
	list := openFlows(t, s, p, 64)
	check := func(name string, d Direction, q []packet) {
		for range 50 {
			judgeAll(s, p, d, second, q...)
		}
		require.Zero(t, testing.AllocsPerRun(100, func() { judgeAll(s, p, d, second, q...) }), name)
	}
	check("established", Out, list)
	var fresh, fragments, stateless, errors []packet
	for i := range 2048 {
		f := tcpFlow(i + 1000)
		f.payload = nil
		fresh = append(fresh, f.packet())
		g := part(4+i%2*2, Out, 0, 80, true)
		g.id = uint32(i)
		fragments = append(fragments, g.packet())
		h := f.reply()
		stateless = append(stateless, h.packet())
		e := about(f, unreachable4, "192.0.2.9", 28)
		errors = append(errors, e.packet())
	}
	check("new and evicted", Out, fresh)
	check("fragments", Out, fragments)
	check("denied", In, stateless)
	check("ICMP errors", In, errors)
	require.Zero(t, testing.AllocsPerRun(100, func() { peek(s, p, Out, second, fresh[0]) }))
}

func TestConnections(t *testing.T) {
	x := newScene(t, outOnly())
	require.Empty(t, x.s.Connections(x.now, 10))
	x.send(udpOut(), New)
	x.now += 3 * second
	x.play(handshake...)
	x.send(echo(Out, echoRequest6, 9), New)
	require.Equal(t, []Connection{
		{Opener: Out, Protocol: UDP, Local: netip.MustParseAddrPort("10.0.0.5:4000"), Remote: netip.MustParseAddrPort("192.0.2.1:53"),
			State: "unanswered", Idle: 3 * second},
		{Opener: Out, Protocol: TCP, Local: netip.MustParseAddrPort("10.0.0.5:40000"), Remote: netip.MustParseAddrPort("192.0.2.1:443"),
			State: "established"},
		{Opener: Out, Protocol: ICMPv6, Local: netip.MustParseAddrPort("[fd00::5]:9"), Remote: netip.MustParseAddrPort("[2001:db8::1]:0"),
			State: "unanswered"},
	}, x.s.Connections(x.now, 10))
	require.Len(t, x.s.Connections(x.now, 2), 2)
	require.Len(t, x.s.Connections(x.now+10*time.Minute, 10), 1)
	x.p = compile(t, Config{KeepEstablished: true})
	x.send(udpOut(), Established)
	for _, c := range x.s.Connections(x.now, 10) {
		require.EqualValues(t, noRule, c.Rule)
	}
}

func TestJudges(t *testing.T) {
	for _, c := range []struct {
		cfg     Config
		out, in bool
	}{
		{Config{}, false, false},
		{Config{KeepEstablished: true}, true, true},
		{Config{Extended: []ExtendedRule{{Direction: Out, Action: Deny}}}, true, false},
		{Config{Extended: []ExtendedRule{{Direction: Out, Action: Allow, Stateful: true}}}, true, true},
		{Config{Basic: []BasicRule{{Direction: In, Action: Meter, Side: Remote, Any: AnyIP}}}, false, true},
		{Config{Basic: []BasicRule{{Direction: In, Action: Deny, Side: Remote, Any: AnyMAC}}}, false, true},
		{Config{Basic: []BasicRule{{Direction: Both, Action: Allow, Side: Remote, Prefix: prefix("::/0")}}}, true, true},
	} {
		p := compile(t, c.cfg)
		require.Equal(t, []bool{c.out, c.in}, []bool{p.Judges(Out), p.Judges(In)}, c.cfg)
	}
}
