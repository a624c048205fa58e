package qos_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/qos"
)

func TestWhatPassesAndWhatIsQueuedMakeTheLinkRateTogether(t *testing.T) {
	const rate = 8_000_000 // a byte a microsecond
	s, err := qos.New[int](&qos.Config{LinkRate: rate}, nil)
	require.NoError(t, err)
	rnd := rand.New(rand.NewPCG(1, 2))
	sent, passed := 0, 0
	var now time.Duration
	var got []int
	for dst := make([]int, 8); now < time.Second; now += time.Duration(rnd.IntN(2000)) * time.Microsecond {
		for range rnd.IntN(4) {
			if size := 100 + rnd.IntN(1400); s.Pass(nil, size, now) {
				require.Zero(t, s.Len(), "nothing overtakes what is queued")
				sent += size
				passed++
			} else {
				s.Enqueue(nil, 1, size, size, now)
			}
		}
		got = append(got, dst[:s.Dequeue(dst, now)]...)
	}
	for _, size := range got {
		sent += size
	}
	require.NotZero(t, passed)
	require.NotEmpty(t, got)
	require.InDelta(t, 1e6, sent, 5e4)
	require.LessOrEqual(t, sent, int(rate/8*now/time.Second)+rate/8/500+1500)
	st := s.Default().Stats()
	require.EqualValues(t, len(got)+passed, st.Sent)
	require.EqualValues(t, sent, st.SentBytes)
}

func TestPassObeysAMaximumAndRepayTakesItBack(t *testing.T) {
	s, err := qos.New[int](nil, nil)
	require.NoError(t, err)
	c, err := s.Add(qos.ClassConfig{MaxRate: 8_000_000, Burst: 1000})
	require.NoError(t, err)
	require.True(t, s.Pass(c, 1000, 0))
	require.False(t, s.Pass(c, 1, 0))
	require.True(t, s.Pass(nil, 1, 0), "another class has its own")
	s.Repay(c, 1000)
	require.Equal(t, qos.Stats{}, c.Stats())
	require.True(t, s.Pass(c, 500, 0))
	require.True(t, s.Pass(c, 5000, 0), "by one frame it may overdraw")
	require.False(t, s.Pass(c, 1, 4499*time.Microsecond))
	require.True(t, s.Pass(c, 1, 4501*time.Microsecond))
}

// TestMoveKeepsTheOrderOfFlows moves items to and fro while others come and go.
func TestMoveKeepsTheOrderOfFlows(t *testing.T) {
	type item struct{ owner, flow, number int }
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		s, err := qos.New(&qos.Config{LinkRate: 1e9}, func(item) { t.Fatal("nothing is to be dropped") })
		require.NoError(t, err)
		var own [3]*qos.Class[item] // nil while an owner is in the default class
		var sent, next [3][5]int
		var now time.Duration
		queued := 0
		dst := make([]item, 16)
		take := func() int {
			n := s.Dequeue(dst, now)
			for _, it := range dst[:n] {
				require.Equal(t, next[it.owner][it.flow], it.number, "seed %d", seed)
				next[it.owner][it.flow]++
			}
			queued -= n
			return n
		}
		for range 2000 {
			o := rnd.IntN(3)
			switch k := rnd.IntN(20); {
			case k < 12:
				f := rnd.IntN(5)
				require.True(t, s.Enqueue(own[o], uint32(o*5+f), 100+rnd.IntN(1400), item{o, f, sent[o][f]}, now))
				sent[o][f]++
				queued++
			case k < 18:
				now += time.Duration(rnd.IntN(30)) * time.Microsecond
				take()
			case own[o] == nil:
				own[o], err = s.Add(qos.ClassConfig{MinWeight: rnd.IntN(30)})
				require.NoError(t, err)
				s.Default().Move(own[o], func(it item) bool { return it.owner == o }, now)
			default:
				own[o].Move(nil, func(it item) bool { require.Equal(t, o, it.owner); return true }, now)
				require.Zero(t, own[o].Stats().Queued)
				require.Zero(t, own[o].Stats().QueuedBytes)
				own[o].Remove()
				own[o] = nil
			}
			require.Equal(t, queued, s.Len())
			if queued > 500 {
				now += time.Millisecond
				take()
			}
		}
		for ; s.Len() > 0; now += time.Millisecond {
			take()
		}
		require.Equal(t, sent, next)
	}
}

func TestLevelOfABucket(t *testing.T) {
	b := qos.NewBucket(8_000_000, 100)
	require.Equal(t, 100, b.Level(0))
	b.Spend(150, 0)
	require.Equal(t, -50, b.Level(0))
	require.Equal(t, 0, b.Level(50*time.Microsecond))
	require.Equal(t, 1, b.Level(50*time.Microsecond+1), "any part of a byte counts")
	require.Equal(t, 100, b.Level(time.Second))
}
