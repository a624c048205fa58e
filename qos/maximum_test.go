package qos_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/qos"
)

func TestMaximumOverASecond(t *testing.T) {
	for _, c := range []struct {
		rate uint64
		size int
		tick time.Duration // how late the caller comes
	}{
		{100e3, 84, time.Millisecond},
		{1e6, 1538, time.Millisecond},
		{10e6, 1538, time.Millisecond},
		{100e6, 1538, 100 * time.Microsecond},
		{1e9, 1538, 100 * time.Microsecond},
		{10e9, 1538, 20 * time.Microsecond},
		{10e9, 66000, 100 * time.Microsecond},
		{100e9, 66000, 5 * time.Microsecond},
	} {
		t.Run(fmt.Sprintf("%d bit per s, frames of %d", c.rate, c.size), func(t *testing.T) {
			// Alone on a fast link, and beside another class on a link at its rate.
			l := newLink(t, &qos.Config{LinkRate: 400e9}, qos.ClassConfig{MaxRate: c.rate})
			l.tick = c.tick
			l.saturate(0, c.size)
			first := true
			l.seconds(1, func(bits []float64) {
				require.InDelta(t, c.rate, bits[0], max(float64(c.rate)*0.01, float64(8*c.size)))
				first = false
			})
			require.False(t, first)
		})
	}
}

func TestMaximumOfOneIsForTheOthers(t *testing.T) {
	l := newLink(t, &qos.Config{LinkRate: gigabit}, qos.ClassConfig{MinWeight: 80, MaxRate: 100e6}, weight(10), weight(10))
	for c := range 3 {
		l.saturate(c, 1538)
	}
	l.run(10 * time.Millisecond)
	l.seconds(1, func(bits []float64) {
		require.InEpsilon(t, 100e6, bits[0], 0.01)
		require.InEpsilon(t, 450e6, bits[1], 0.02)
		require.InEpsilon(t, 450e6, bits[2], 0.02)
		require.InEpsilon(t, gigabit, sum(bits), 0.005)
	})
	require.Positive(t, l.classes[0].Stats().Throttled)
	require.Zero(t, l.classes[1].Stats().Throttled)
}

func TestBurst(t *testing.T) {
	const burst = 500_000
	l := newLink(t, &qos.Config{LinkRate: 10 * gigabit}, qos.ClassConfig{MaxRate: 8e6, Burst: burst})
	l.saturate(0, 1000)
	l.run(10 * time.Millisecond)
	require.InDelta(t, burst+10_000, l.bytes[0], 2000, "all of the burst, and 1 MB/s")
	before := l.bytes[0]
	l.run(time.Second)
	require.InDelta(t, 1_000_000, l.bytes[0]-before, 2000)
}

func TestFrameLongerThanTheBurst(t *testing.T) {
	l := newLink(t, &qos.Config{LinkRate: gigabit}, qos.ClassConfig{MaxRate: 100e3, Burst: 1})
	l.saturate(0, 66000)
	l.run(60 * time.Second)
	require.InDelta(t, 100e3/8*60, l.bytes[0], 66000)
}

func TestRatesChangeLive(t *testing.T) {
	l := newLink(t, &qos.Config{LinkRate: gigabit}, qos.ClassConfig{MaxRate: 1e6}, weight(10))
	l.saturate(0, 66000)
	l.run(10 * time.Millisecond)
	wait, ok := l.s.Next(l.now)
	require.True(t, ok)
	require.Greater(t, wait, 100*time.Millisecond, "it owes a long frame")

	require.NoError(t, l.classes[0].Set(qos.ClassConfig{MaxRate: 500e6}, l.now))
	l.run(10 * time.Millisecond)
	l.seconds(1, func(bits []float64) { require.InEpsilon(t, 500e6, bits[0], 0.01) })

	require.NoError(t, l.classes[0].Set(qos.ClassConfig{}, l.now))
	l.run(10 * time.Millisecond)
	l.seconds(1, func(bits []float64) { require.InEpsilon(t, gigabit, bits[0], 0.01) })

	require.NoError(t, l.s.SetLink(100e6, l.now))
	l.run(10 * time.Millisecond)
	l.seconds(1, func(bits []float64) { require.InEpsilon(t, 100e6, bits[0], 0.01) })

	require.NoError(t, l.s.SetLink(0, l.now))
	require.NoError(t, l.classes[0].Set(qos.ClassConfig{MaxRate: 2e9}, l.now))
	l.run(10 * time.Millisecond)
	l.seconds(1, func(bits []float64) { require.InEpsilon(t, 2e9, bits[0], 0.01) })
}
