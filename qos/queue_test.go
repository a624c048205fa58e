package qos_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/qos"
)

func TestQueueIsBounded(t *testing.T) {
	for name, cfg := range map[string]qos.ClassConfig{
		"frames": {QueueFrames: 10},
		"bytes":  {QueueBytes: 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, &qos.Config{LinkRate: gigabit}, cfg)
			for i := range 20 {
				require.Equal(t, i < 10, l.send(0, 1, 1000), "frame %d", i)
			}
			require.Equal(t, qos.Stats{Queued: 10, QueuedBytes: 10_000, Dropped: 10, DroppedBytes: 10_000}, l.classes[0].Stats())
			require.Equal(t, 10, l.s.Len())
		})
	}
}

func TestDefaultBounds(t *testing.T) {
	l := newLink(t, nil, qos.ClassConfig{})
	for l.send(0, 1, 84) {
	}
	require.Equal(t, 1024, l.classes[0].Stats().Queued)
	l = newLink(t, nil, qos.ClassConfig{})
	for l.send(0, 1, 1<<16) {
	}
	require.Equal(t, 1<<20, l.classes[0].Stats().QueuedBytes)
}

func TestEmptyQueueTakesAFrameOfAnySize(t *testing.T) {
	l := newLink(t, nil, qos.ClassConfig{QueueBytes: 1000})
	require.True(t, l.send(0, 1, 66000))
	require.False(t, l.send(0, 1, 1))
}

func TestSizeOutOfRange(t *testing.T) {
	l := newLink(t, nil, qos.ClassConfig{QueueBytes: 1 << 30})
	for _, size := range []int{-5, 0, 1 << 40} {
		require.True(t, l.send(0, 1, size))
	}
	require.Equal(t, 1+1+1<<20, l.classes[0].Stats().QueuedBytes)
}

func TestFullQueueDropsFromTheFlowThatHasTheMost(t *testing.T) {
	var dropped []*item
	l := newLink(t, nil)
	l.s = newScheduler(t, nil, func(it *item) { dropped = append(dropped, it) })
	l.add(qos.ClassConfig{QueueFrames: 100, QueueBytes: 100_000})
	for range 99 {
		require.True(t, l.send(0, 1, 1000))
	}
	require.True(t, l.send(0, 2, 500))
	require.False(t, l.send(0, 1, 1000), "the flow that has the most")
	require.True(t, l.send(0, 3, 100), "a small flow")
	require.Len(t, dropped, 1)
	require.Equal(t, [2]int{1, 1}, [2]int{dropped[0].flow, dropped[0].seq}, "the oldest frame")

	require.True(t, l.send(0, 4, 20_000), "more than one frame gives way")
	st := l.classes[0].Stats()
	require.LessOrEqual(t, st.QueuedBytes, 100_000)
	require.Equal(t, len(dropped), int(st.Dropped)-1)
	require.Equal(t, l.s.Len(), st.Queued)

	for range 1000 { // flows that are equal do not push each other out
		l.send(0, 1, 1000)
		l.send(0, 5, 1000)
	}
	before := len(dropped)
	for range 100 {
		require.False(t, l.send(0, 1, 1000))
		require.False(t, l.send(0, 5, 1000))
	}
	require.Len(t, dropped, before)
}

func TestFlowsOfAClassAreServedFairly(t *testing.T) {
	l := newLink(t, &qos.Config{LinkRate: 100e6}, qos.ClassConfig{QueueBytes: 1 << 24, QueueFrames: 1 << 16})
	sent := map[int]int{}
	l.sent = func(it *item) { sent[it.flow] += it.size }
	for i := range 20_000 {
		l.send(0, 1, 100)
		if i%16 == 0 {
			l.send(0, 2, 1538)
		}
		if i%100 == 0 {
			l.send(0, 3, 30_000)
		}
	}
	l.run(100 * time.Millisecond)
	for flow := 1; flow <= 3; flow++ {
		require.InDelta(t, sent[1], sent[flow], 32_000, "flow %d", flow)
	}
}

func TestNothingQueued(t *testing.T) {
	l := newLink(t, &qos.Config{LinkRate: gigabit}, weight(10))
	_, ok := l.s.Next(0)
	require.False(t, ok)
	require.Zero(t, l.s.Dequeue(l.dst[:], 0))
	l.send(0, 1, 100)
	require.Zero(t, l.s.Dequeue(nil, 0))
	require.Equal(t, 1, l.s.Dequeue(l.dst[:], 0))
	_, ok = l.s.Next(0)
	require.False(t, ok)
}

func TestNextIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	l := newLink(t, &qos.Config{LinkRate: 10e6}, qos.ClassConfig{MaxRate: 3e6}, qos.ClassConfig{MaxRate: 1e6}, weight(5))
	for i := range 3000 {
		l.send(r.IntN(3), i, 84+r.IntN(1400))
		if i%3 > 0 {
			continue
		}
		for l.s.Dequeue(l.dst[:], l.now) > 0 {
			wait, ok := l.s.Next(l.now)
			if !ok || wait == 0 {
				continue
			}
			require.Zero(t, l.s.Dequeue(l.dst[:], l.now+wait-1), "too early")
			require.Positive(t, l.s.Dequeue(l.dst[:], l.now+wait), "on time")
			l.now += wait
		}
		l.now += time.Duration(r.IntN(int(3 * time.Millisecond)))
	}
}

func TestDefaultClass(t *testing.T) {
	s := newScheduler(t, &qos.Config{Default: qos.ClassConfig{Name: "rest", MinWeight: 7}}, nil)
	require.Equal(t, qos.ClassConfig{Name: "rest", MinWeight: 7}, s.Default().Config())
	require.True(t, s.Enqueue(nil, 0, 100, &item{}, 0))
	require.Equal(t, 1, s.Default().Stats().Queued)
	s.Default().Remove()
	require.True(t, s.Enqueue(nil, 0, 100, &item{}, 0), "it cannot be removed")
	require.Equal(t, 2, s.Default().Stats().Queued)
	require.Equal(t, "default", newScheduler(t, nil, nil).Default().Config().Name)
}

func TestRemove(t *testing.T) {
	l := newLink(t, &qos.Config{Mode: qos.Absolute, LinkRate: gigabit}, qos.ClassConfig{MinRate: 900e6, MaxRate: 900e6}, qos.ClassConfig{})
	for range 500 {
		l.send(0, 1, 1538)
	}
	l.classes[0].Remove()
	l.classes[0].Remove()
	require.NoError(t, l.classes[0].Set(qos.ClassConfig{}, 0))
	_, err := l.s.Add(qos.ClassConfig{MinRate: 1000e6})
	require.NoError(t, err, "its minimum is free")

	require.True(t, l.send(0, 1, 1538))
	require.Equal(t, 1, l.s.Default().Stats().Queued, "what comes later is of the default class")
	l.run(20 * time.Millisecond)
	require.Equal(t, uint64(500), l.classes[0].Stats().Sent)
	require.Zero(t, l.s.Len())
}

// Whatever changes, what has been queued is sent or reported as dropped, and flows keep their order.
func TestNothingIsLostByChanges(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		mode := qos.Mode(seed % 2)
		dropped, sent, queued := 0, 0, 0
		l := newLink(t, nil)
		l.s = newScheduler(t, &qos.Config{Mode: mode, LinkRate: gigabit}, func(*item) { dropped++ })
		config := func() (c qos.ClassConfig) {
			if mode == qos.Weight {
				c.MinWeight = r.IntN(3) * r.IntN(51)
			} else if r.IntN(3) > 0 {
				c.MinRate = 1e6 + uint64(r.IntN(100e6))
			}
			if r.IntN(2) == 0 {
				c.MaxRate = 100e6 + uint64(r.IntN(gigabit))
			}
			c.QueueBytes, c.QueueFrames = r.IntN(200_000), r.IntN(200)
			return c
		}
		for range 5 {
			l.add(config())
		}
		last, gone := map[[2]int]int{}, map[int]bool{}
		l.sent = func(it *item) {
			sent++
			k := [2]int{it.class, it.flow}
			require.Greater(t, it.seq, last[k])
			last[k] = it.seq
		}
		for range 1000 {
			c := r.IntN(len(l.classes))
			for range r.IntN(40) {
				if !gone[c] && l.send(c, r.IntN(6), 84+r.IntN(3000)) {
					queued++
				}
			}
			switch r.IntN(20) {
			case 0, 1:
				_ = l.classes[c].Set(config(), l.now)
			case 2:
				_ = l.s.SetLink(uint64(1e6+r.IntN(gigabit)), l.now)
			case 3:
				l.classes[c].Remove()
				gone[c] = true
				l.add(qos.ClassConfig{})
			}
			l.run(time.Duration(r.IntN(300)) * time.Microsecond)
		}
		require.NoError(t, l.s.SetLink(gigabit, l.now))
		l.run(time.Minute)
		require.Equal(t, queued, sent+dropped)
		require.Zero(t, l.s.Len())
		require.Positive(t, dropped)
	}
}

func TestNoAllocationPerFrame(t *testing.T) {
	s := newScheduler(t, &qos.Config{LinkRate: 10e9}, nil)
	var classes []*class
	for i := range 5 {
		c, err := s.Add(qos.ClassConfig{Name: fmt.Sprint(i), MinWeight: i * 10, MaxRate: uint64(i) * 1e9, QueueFrames: 50})
		require.NoError(t, err)
		classes = append(classes, c)
	}
	var dst [32]*item
	var now time.Duration
	it := &item{}
	i := 0
	round := func() {
		for range 40 {
			s.Enqueue(classes[i%5], uint32(i%7), 1538, it, now)
			i++
		}
		s.Dequeue(dst[:], now)
		_, _ = s.Next(now)
		now += 20 * time.Microsecond
	}
	for range 100 {
		round()
	}
	require.Zero(t, testing.AllocsPerRun(100, round))
}

func FuzzScheduler(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Add([]byte("\x01aAbBcCdDeEfFgGhHiIjJkKlLmMnNoOpPqQrRsStTuUvVwWxXyYzZ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		next := func() int {
			if len(b) == 0 {
				return 0
			}
			v := b[0]
			b = b[1:]
			return int(v)
		}
		queued, dropped, sent := 0, 0, 0
		l := newLink(t, nil)
		l.s = newScheduler(t, &qos.Config{Mode: qos.Mode(next() & 1), LinkRate: uint64(1+next()) << (10 + next()%26)}, func(*item) { dropped++ })
		config := func() qos.ClassConfig {
			return qos.ClassConfig{
				MinWeight: next() - 1, MinRate: uint64(next()) << (next() % 40), MaxRate: uint64(next()) << (next() % 48),
				Burst: next() << (next() % 24), QueueBytes: next() << 8, QueueFrames: next(),
			}
		}
		last, gone := map[[2]int]int{}, map[int]bool{}
		for len(b) > 0 {
			switch op := next(); op % 8 {
			case 0:
				if c, err := l.s.Add(config()); err == nil {
					l.classes = append(l.classes, c)
				}
			case 1, 2, 3:
				if len(l.classes) > 0 {
					if c := next() % len(l.classes); !gone[c] && l.send(c, next(), next()<<(next()%14)) {
						queued++
					}
				}
			case 4:
				if len(l.classes) > 0 {
					_ = l.classes[next()%len(l.classes)].Set(config(), l.now)
				}
			case 5:
				if len(l.classes) > 0 && op > 128 {
					c := next() % len(l.classes)
					l.classes[c].Remove()
					gone[c] = true
				}
				_ = l.s.SetLink(uint64(next())<<(next()%40), l.now)
			default:
				n := l.s.Dequeue(l.dst[:next()%33], l.now)
				sent += n
				for _, it := range l.dst[:n] {
					k := [2]int{it.class, it.flow}
					require.Greater(t, it.seq, last[k])
					last[k] = it.seq
				}
				wait, ok := l.s.Next(l.now)
				require.Equal(t, l.s.Len() > 0, ok)
				require.GreaterOrEqual(t, wait, time.Duration(0))
				l.now += min(wait, time.Hour) * time.Duration(op&1)
			}
			require.Equal(t, queued, sent+dropped+l.s.Len())
		}
		for l.s.Len() > 0 { // all of it leaves at the times that Next says
			wait, _ := l.s.Next(l.now)
			l.now += wait
			n := l.s.Dequeue(l.dst[:], l.now)
			require.Positive(t, n)
		}
	})
}
