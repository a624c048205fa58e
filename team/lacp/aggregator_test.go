package lacp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func TestGroupForms(t *testing.T) {
	for name, c := range map[string]struct {
		a, b  Config
		forms bool
	}{
		"active and active":         {Config{}, Config{}, true},
		"active and passive":        {Config{}, Config{Passive: true}, true},
		"passive and active":        {Config{Passive: true}, Config{}, true},
		"passive and passive":       {Config{Passive: true}, Config{Passive: true}, false},
		"short and long":            {Config{Short: true}, Config{}, true},
		"short and short":           {Config{Short: true}, Config{Short: true}, true},
		"short active and passive":  {Config{Short: true}, Config{Short: true, Passive: true}, true},
		"long active, passive long": {Config{}, Config{Passive: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			a, b := l.system(1, 4, c.a), l.system(2, 4, c.b)
			l.join(a, b)
			if !c.forms {
				l.run(10 * time.Minute)
				require.Zero(t, distributing(a)+distributing(b))
				require.Empty(t, l.sent)
				return
			}
			took := l.until(10*time.Second, func() bool { return distributing(a) == 4 && distributing(b) == 4 })
			require.Less(t, took, 4*time.Second)
			system, _, ok := a.Partner()
			require.True(t, ok)
			require.Equal(t, b.system, system)
			l.always = func() { require.Equal(t, 8, distributing(a)+distributing(b)) }
			l.run(time.Hour)
		})
	}
}

// Nothing is sent on a link that the other end does not collect from, and nobody collects out of sync.
func TestNoEndSendsBeforeTheOtherCollects(t *testing.T) {
	l := newLab(t)
	a, b := l.system(1, 2, Config{Short: true}), l.system(2, 2, Config{})
	l.always = func() {
		for p, q := range l.cables {
			if p.Distributing() {
				require.True(t, q.Collecting() || q.Status().Receive != ReceiveCurrent)
			}
		}
	}
	l.join(a, b)
	l.run(time.Minute)
	require.Equal(t, 2, distributing(a))
	l.pull(a.Ports()[0])
	l.run(time.Minute)
	require.Equal(t, 1, distributing(b))
	l.plug(a.Ports()[0], b.Ports()[0])
	l.run(time.Minute)
	require.Equal(t, 2, distributing(b))
}

func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name  string
		short bool
		least time.Duration
		most  time.Duration
		every time.Duration
	}{
		{"short", true, 2 * time.Second, 3 * time.Second, time.Second},
		{"long", false, 60 * time.Second, 90 * time.Second, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			a, b := l.system(1, 1, Config{Short: c.short}), l.system(2, 1, Config{})
			l.join(a, b)
			l.run(10 * time.Minute)
			p, q := a.Ports()[0], b.Ports()[0]
			l.sent[q] = nil
			l.run(10 * time.Minute)
			for i, at := range l.sent[q][1:] {
				require.Equal(t, c.every, at-l.sent[q][i])
			}
			l.mute[q] = true
			took := l.until(2*time.Minute, func() bool { return !p.Distributing() })
			require.GreaterOrEqual(t, took, c.least)
			require.LessOrEqual(t, took, c.most+time.Millisecond)
			require.Equal(t, ReceiveExpired, p.Status().Receive)
			require.True(t, p.Status().Actor.State.Has(Expired))

			// The partner is asked to hurry, and hears that it is out of sync.
			l.run(shortTimeout - time.Millisecond)
			require.False(t, q.Distributing())
			l.until(time.Second, func() bool { return p.Status().Receive == ReceiveDefaulted })
			require.Equal(t, Unselected, p.Status().Selection)
			l.mute[q] = false
			l.until(5*time.Second, func() bool { return p.Distributing() && q.Distributing() })
		})
	}
}

func TestAtMostThreeLACPDUsInASecond(t *testing.T) {
	l := newLab(t)
	a := l.system(1, 1, Config{})
	p := a.Ports()[0]
	p.SetLink(0, true, gigabit)
	pdu := PDU{Actor: PortInfo{System: SystemID{MAC: ports.MAC{2, 9}}, State: Activity | Aggregation}}
	for i := range 10000 {
		l.now = time.Duration(i) * 5 * time.Millisecond
		pdu.Actor.Port.Number++ // each a reason to answer
		p.Receive(l.now, pdu.Append(nil))
		l.exchange()
	}
	at := l.sent[p]
	require.Greater(t, len(at), 100)
	for i := range at[maxSent:] {
		require.GreaterOrEqual(t, at[i+maxSent]-at[i], fastPeriodic)
	}
	require.NotZero(t, p.Status().Counters.Limited)
	require.LessOrEqual(t, p.Status().Counters.Received, uint64(maxReceived*51))
}

func TestSpeedsAreNotMixed(t *testing.T) {
	l := newLab(t)
	a, b := l.system(1, 3, Config{}), l.system(2, 3, Config{})
	l.join(a, b)
	for _, s := range []*Aggregator{a, b} {
		s.Ports()[1].SetLink(l.now, true, 10*gigabit)
	}
	l.run(time.Minute)
	require.Equal(t, 1, distributing(a), "the fast one alone has more bandwidth than two slow ones")
	require.True(t, a.Ports()[1].Distributing())
	l.pull(a.Ports()[1])
	l.run(time.Minute)
	require.Equal(t, 2, distributing(a))
	l.plug(a.Ports()[1], b.Ports()[1])
	for _, s := range []*Aggregator{a, b} {
		s.Ports()[1].SetLink(l.now, true, 10*gigabit)
	}
	l.run(time.Minute)
	require.Equal(t, 2, distributing(a), "a group in use stays")

	for _, s := range []*Aggregator{a, b} {
		s.Ports()[1].SetLink(l.now, true, gigabit)
	}
	l.run(time.Minute)
	require.Equal(t, 3, distributing(a))
}

func TestKeys(t *testing.T) {
	a := newLab(t).system(1, 1, Config{})
	seen := map[uint16]uint64{}
	for _, mbit := range []uint64{0, 10, 100, 1000, 2500, 5000, 10000, 20000, 25000, 40000, 50000, 56000, 100000, 200000, 400000, 800000} {
		k := a.Ports()[0].keyOf(mbit * 1e6)
		require.NotZero(t, k)
		require.NotContains(t, seen, k, "%d Mbit/s has the key of %d", mbit, seen[k])
		seen[k] = mbit
	}
	p, err := a.AddPort(7, &PortConfig{Key: 99})
	require.NoError(t, err)
	require.EqualValues(t, 99, p.keyOf(gigabit))
}

func TestPortsBeyondTheLimitStandBy(t *testing.T) {
	for name, c := range map[string]struct {
		priority uint16 // of the other system
		want     int    // the port that is used
	}{"the own priorities decide": {0xffff, 3}, "the partner's priorities decide": {1, 2}} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			a := l.system(1, 0, Config{MaxPorts: 1})
			b := l.system(2, 0, Config{System: SystemID{Priority: c.priority}})
			for i := range 3 {
				_, err := a.AddPort(i+1, &PortConfig{Priority: uint16(30 - i)})
				require.NoError(t, err)
				_, err = b.AddPort(i+1, &PortConfig{Priority: uint16(10 + i%2*-5)})
				require.NoError(t, err)
			}
			l.join(a, b)
			used := func() (n []int) {
				for _, p := range a.Ports() {
					if p.Distributing() {
						n = append(n, p.Number())
					}
				}
				return n
			}
			l.run(time.Minute)
			require.Equal(t, []int{c.want}, used())
			require.Equal(t, 1, distributing(b))
			first := a.Ports()[c.want-1]
			q := l.cables[first]
			l.pull(first)
			took := l.until(time.Second, func() bool { return len(used()) == 1 })
			require.Less(t, took, 10*time.Millisecond, "the one that stands by has waited already")
			l.plug(first, q)
			l.run(time.Minute)
			require.Equal(t, []int{c.want}, used(), "it comes back")
		})
	}
}

func TestPartnerRestarts(t *testing.T) {
	l := newLab(t)
	a, b := l.system(1, 2, Config{}), l.system(2, 2, Config{Short: true})
	l.join(a, b)
	l.run(time.Minute)
	require.Equal(t, 2, distributing(a))

	l.systems = l.systems[:1]
	c := l.system(2, 2, Config{Short: true}) // the same one, its memory lost
	for i, p := range c.Ports() {
		l.cables[a.Ports()[i]], l.cables[p] = p, a.Ports()[i]
		p.SetLink(l.now, true, gigabit)
	}
	l.exchange()
	require.Zero(t, distributing(a), "it says that it does not know us")
	l.until(10*time.Second, func() bool { return distributing(a) == 2 && distributing(c) == 2 })
}

func TestPortMovesToAnotherSwitch(t *testing.T) {
	l := newLab(t)
	a, b, c := l.system(1, 3, Config{}), l.system(2, 3, Config{}), l.system(3, 3, Config{})
	l.join(a, b)
	l.run(time.Minute)
	p := a.Ports()[2]
	l.pull(p)
	l.plug(p, c.Ports()[0])
	l.run(time.Minute)
	require.Equal(t, 2, distributing(a))
	require.False(t, p.Distributing())
	require.Zero(t, distributing(c))
	require.Equal(t, Unselected, p.Status().Selection)
	require.True(t, p.Status().ActorChurn, "nobody wants it")
	require.False(t, a.Ports()[0].Status().ActorChurn)

	// The group stays where it is until nothing of it is left.
	l.pull(a.Ports()[0])
	l.pull(a.Ports()[1])
	l.run(time.Minute)
	require.True(t, p.Distributing())
	require.Equal(t, 1, distributing(c))
	require.False(t, p.Status().ActorChurn)
}

func TestPartnerPortMoves(t *testing.T) {
	l := newLab(t)
	a, b := l.system(1, 2, Config{}), l.system(2, 1, Config{})
	p, other, q := a.Ports()[0], a.Ports()[1], b.Ports()[0]
	l.plug(p, q)
	l.run(time.Minute)
	l.pull(p)
	require.Equal(t, b.system, p.Status().Partner.System)
	l.plug(other, q)
	l.run(time.Minute)
	require.True(t, other.Distributing())
	require.Equal(t, SystemID{}, p.Status().Partner.System, "it forgets its partner, which is elsewhere")
}

func TestLoopsAreSeen(t *testing.T) {
	t.Run("a port with itself", func(t *testing.T) {
		l := newLab(t)
		a := l.system(1, 1, Config{})
		p := a.Ports()[0]
		p.SetLink(0, true, gigabit)
		l.cables[p] = p
		l.always = func() { require.Equal(t, MuxDetached, p.Status().Mux) }
		l.run(10 * time.Minute)
		require.True(t, p.Status().Looped)
		require.NotZero(t, p.Status().Counters.Looped)
	})
	t.Run("two ports", func(t *testing.T) {
		l := newLab(t)
		a := l.system(1, 2, Config{Short: true})
		l.plug(a.Ports()[0], a.Ports()[1])
		l.always = func() { require.Zero(t, distributing(a)) }
		l.run(10 * time.Minute)
		require.True(t, a.Ports()[0].Status().Looped)
		require.True(t, a.Ports()[1].Status().Looped)
	})
	t.Run("that ends", func(t *testing.T) {
		l := newLab(t)
		a, b := l.system(1, 2, Config{}), l.system(2, 2, Config{})
		l.join(a, b)
		l.run(time.Minute)
		p := a.Ports()[0]
		q := l.cables[p]
		l.cables[p] = p // without a change of the link
		l.until(time.Minute, func() bool { return p.Status().Looped })
		require.False(t, p.Distributing())
		require.True(t, a.Ports()[1].Distributing())
		l.cables[p] = q
		l.until(2*time.Minute, func() bool { return p.Distributing() && q.Distributing() })
	})
}

// A bridge between the systems that knows nothing of LACP gives each port what all others send.
func TestPortsOnABridgeThatFloodsLACPDUs(t *testing.T) {
	l := newLab(t)
	a, b := l.system(1, 2, Config{Short: true}), l.system(2, 1, Config{Short: true})
	all := append(append([]*Port{}, a.Ports()...), b.Ports()...)
	for _, p := range all {
		p.SetLink(0, true, gigabit)
	}
	l.onSend = func(p *Port, pdu PDU) {
		for _, q := range all {
			if q != p {
				q.Receive(l.now, pdu.Append(nil))
			}
		}
	}
	l.always = func() { require.Zero(t, distributing(a)) }
	l.run(10 * time.Minute)
}

// Of two systems on one link neither is in sync with us for long, and neither makes us talk without end.
func TestTwoPartnersOnOneLink(t *testing.T) {
	l := newLab(t)
	a := l.system(1, 1, Config{})
	p := a.Ports()[0]
	p.SetLink(0, true, gigabit)
	for i := range 6000 {
		l.now = time.Duration(i) * 100 * time.Millisecond
		a.Advance(l.now)
		pdu := PDU{Actor: PortInfo{
			System: SystemID{MAC: ports.MAC{2, 9, byte(i % 2)}},
			State:  Activity | Aggregation | Synchronization | Collecting | Distributing,
		}, Partner: p.Status().Actor}
		p.Receive(l.now, pdu.Append(nil))
		l.exchange()
		require.False(t, p.Collecting())
	}
	require.LessOrEqual(t, len(l.sent[p]), 3*601)
}

func TestChurn(t *testing.T) {
	l := newLab(t)
	a := l.system(1, 1, Config{})
	p := a.Ports()[0]
	p.SetLink(0, true, gigabit)
	l.run(60*time.Second - 1)
	require.False(t, p.Status().ActorChurn || p.Status().PartnerChurn)
	l.run(1)
	require.True(t, p.Status().ActorChurn && p.Status().PartnerChurn)
	b := l.system(2, 1, Config{})
	l.plug(p, b.Ports()[0])
	l.run(10 * time.Second)
	require.False(t, p.Status().ActorChurn || p.Status().PartnerChurn)
}

// A partner that starts over and over again keeps no other port from joining.
func TestOnePortDoesNotHoldUpTheOthers(t *testing.T) {
	l := newLab(t)
	a, b := l.system(1, 3, Config{}), l.system(2, 3, Config{})
	for i := range 2 {
		l.plug(a.Ports()[i], b.Ports()[i])
	}
	for range 9 {
		p := a.Ports()[2]
		l.plug(p, b.Ports()[2])
		l.run(500 * time.Millisecond)
		l.pull(p)
	}
	require.Equal(t, 2, distributing(a))
}

func TestMarkersAreAnswered(t *testing.T) {
	a := newLab(t).system(1, 1, Config{})
	p := a.Ports()[0]
	p.SetLink(0, true, gigabit)
	for range a.Output(0) {
	}
	m := Marker{Port: 7, System: ports.MAC{2, 9}, Transaction: 12345}
	got := 0
	for range 100 {
		p.Receive(0, m.Append(nil))
		for q, b := range a.Output(0) {
			require.Same(t, p, q)
			r, err := ParseMarker(b)
			require.NoError(t, err)
			require.Equal(t, Marker{Response: true, Port: 7, System: ports.MAC{2, 9}, Transaction: 12345}, r)
			got++
		}
	}
	require.Equal(t, maxReceived, got, "and no more than a partner may send")
	for range 2 * maxMarkers {
		p.Receive(2*time.Second, m.Append(nil))
	}
	got = 0
	for range a.Output(2 * time.Second) {
		got++
	}
	require.LessOrEqual(t, got, maxMarkers+maxSent)
	m.Response = true
	p.Receive(4*time.Second, m.Append(nil))
	require.EqualValues(t, 1, p.Status().Counters.Ignored)
}

func TestBadConfig(t *testing.T) {
	for want, cfg := range map[string]*Config{
		"lacp: the configuration has no system address":                  nil,
		"lacp: system 00:00:00:00:00:00 is not the address of a station": {},
		"lacp: MaxPorts -1 is out of 1–65535":                            {System: SystemID{MAC: ports.MAC{2}}, MaxPorts: -1},
	} {
		_, err := New(cfg)
		require.EqualError(t, err, want)
	}
	a := newLab(t).system(1, 1, Config{})
	_, err := a.AddPort(0, nil)
	require.EqualError(t, err, "lacp: port number 0 is out of 1–65535")
	_, err = a.AddPort(1, nil)
	require.EqualError(t, err, "lacp: port number 1 is taken")
}

func TestRemovedPortLeavesTheOthers(t *testing.T) {
	l := newLab(t)
	a, b := l.system(1, 2, Config{}), l.system(2, 2, Config{})
	l.join(a, b)
	l.run(time.Minute)
	p := a.Ports()[0]
	q := l.cables[p]
	a.RemovePort(l.now, p)
	delete(l.cables, q)
	l.run(2 * time.Minute)
	require.False(t, q.Distributing())
	require.Equal(t, 1, distributing(a))
	require.Equal(t, 1, distributing(b))
}

// A partner that is first in rank, but never takes part, keeps the others waiting for a moment only,
// whether it stays the same or is ever another.
func TestNobodyKeepsTheAggregatorForNothing(t *testing.T) {
	for name, every := range map[string]int{"the same": 1 << 30, "ever another": 1, "another now and then": 25} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			a, b := l.system(1, 2, Config{}), l.system(9, 1, Config{Short: true})
			hostile := a.Ports()[0]
			hostile.SetLink(0, true, 10*gigabit)
			l.plug(a.Ports()[1], b.Ports()[0])
			for i := range 600 {
				pdu := PDU{Actor: PortInfo{
					System: SystemID{MAC: ports.MAC{2, 0, 0, 0, 0, 0}},
					Key:    uint16(i / every), State: Activity | Aggregation,
				}, Partner: hostile.Status().Actor}
				hostile.Receive(l.now, pdu.Append(nil))
				l.run(200 * time.Millisecond)
				if distributing(a) == 1 {
					break
				}
			}
			require.True(t, a.Ports()[1].Distributing())
			require.Less(t, l.now, 15*time.Second)
		})
	}
}
