package qos_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/qos"
)

const ping = 98 + 24

// pings sends a ping of a class every 3.7 ms for some seconds and returns the 99th percentile of the times
// that they were queued.
func (l *link) pings(class, flow int) time.Duration {
	var delays []time.Duration
	l.sent = func(it *item) {
		if it.size == ping {
			delays = append(delays, l.now-it.at)
		}
	}
	const count = 400
	for range count {
		require.True(l.t, l.send(class, flow, ping), "a ping was dropped")
		l.run(3700 * time.Microsecond)
	}
	require.Len(l.t, delays, count)
	slices.Sort(delays)
	return delays[count*99/100]
}

func TestPingUnderSaturation(t *testing.T) {
	const bar = 2 * time.Millisecond
	for _, c := range []struct {
		name    string
		ping    qos.ClassConfig
		others  []qos.ClassConfig
		flow    int // of the ping; others are 0 to 3
		sizes   []int
		ownBulk bool
	}{
		{name: "by another vNIC", ping: weight(10), others: []qos.ClassConfig{weight(90)}, sizes: []int{1538}},
		{name: "by another vNIC with segmentation", ping: weight(1), others: []qos.ClassConfig{weight(100)}, sizes: []int{66000}},
		{name: "without minimum", others: []qos.ClassConfig{weight(100)}, sizes: []int{66000}},
		{name: "without minimum beside others such", others: []qos.ClassConfig{weight(100), {}, {}, {}}, sizes: []int{1538}},
		{name: "by a hundred vNICs", others: slices.Repeat([]qos.ClassConfig{weight(1)}, 100), sizes: []int{1538}},
		{name: "by its own bulk", ping: weight(50), others: []qos.ClassConfig{weight(50)}, flow: 9, sizes: []int{1538}, ownBulk: true},
		{name: "by its own bulk alone", flow: 9, sizes: []int{1538}, ownBulk: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLink(t, &qos.Config{LinkRate: gigabit}, c.ping)
			for i, o := range c.others {
				l.add(o)
				l.saturate(i+1, c.sizes...)
			}
			if c.ownBulk {
				former := l.feed
				i := 0
				l.feed = func() { // more than the queue takes
					if former != nil {
						former()
					}
					for l.send(0, i%4, 1538) {
						i++
					}
				}
			}
			p99 := l.pings(0, c.flow)
			t.Logf("p99 %v", p99)
			require.Less(t, p99, bar)
		})
	}
}

func TestDelayIsMeasured(t *testing.T) {
	l := newLink(t, &qos.Config{LinkRate: 8e6}, qos.ClassConfig{MaxRate: 80e3})
	for range 3 {
		l.send(0, 0, 1000)
	}
	l.run(time.Second)
	st := l.classes[0].Stats()
	require.Equal(t, uint64(3), st.Sent)
	require.Equal(t, uint64(3000), st.SentBytes)
	require.InDelta(t, 195*time.Millisecond, st.DelayLast, float64(time.Millisecond), "the burst is 5 ms")
	require.Equal(t, st.DelayLast, st.DelayMax)
	require.InDelta(t, (0+95+195)*time.Millisecond/3, st.DelayAverage(), float64(time.Millisecond))
	require.Zero(t, qos.Stats{}.DelayAverage())
}
