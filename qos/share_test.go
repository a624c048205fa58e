package qos_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/qos"
)

const gigabit = 1_000_000_000

func weight(n int) qos.ClassConfig { return qos.ClassConfig{MinWeight: n} }

func TestWeightsOnASaturatedLink(t *testing.T) {
	for name, sizes := range map[string][3][]int{
		"equal frames":       {{1538}, {1538}, {1538}},
		"mixed frames":       {{84, 1538}, {1538, 84, 600}, {1538}},
		"segments and small": {{66000}, {84}, {1538, 66000}},
		"small and segments": {{84}, {66000}, {84}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, &qos.Config{LinkRate: gigabit}, weight(20), weight(50), weight(30))
			for c := range sizes {
				l.saturate(c, sizes[c]...)
			}
			l.run(10 * time.Millisecond)
			l.seconds(1, func(bits []float64) {
				require.InEpsilon(t, gigabit, sum(bits), 0.005)
				for c, share := range []float64{0.2, 0.5, 0.3} {
					require.InEpsilon(t, share, bits[c]/sum(bits), 0.02)
				}
			})
		})
	}
}

func TestShareOfAnIdleClassGoesToTheOthersByWeight(t *testing.T) {
	l := newLink(t, &qos.Config{LinkRate: gigabit}, weight(20), weight(50), weight(30))
	l.saturate(0, 1538)
	l.saturate(2, 1538)
	l.run(10 * time.Millisecond)
	l.seconds(2, func(bits []float64) {
		require.InEpsilon(t, 0.4, bits[0]/sum(bits), 0.02)
		require.InEpsilon(t, 0.6, bits[2]/sum(bits), 0.02)
		require.Greater(t, sum(bits), 0.99*gigabit)
	})
	l.saturate(1, 1538) // it is back
	l.run(time.Millisecond)
	l.seconds(1, func(bits []float64) {
		require.InEpsilon(t, 0.5, bits[1]/sum(bits), 0.02)
	})
}

func TestOneClassUsesTheWholeLink(t *testing.T) {
	for _, cfg := range []qos.ClassConfig{{}, weight(1), weight(100)} {
		l := newLink(t, &qos.Config{LinkRate: gigabit}, cfg, weight(50))
		l.tick = 500 * time.Microsecond
		l.saturate(0, 1538)
		l.feed = func() {
			for l.classes[0].Stats().Queued < 600 {
				l.send(0, 0, 1538)
			}
		}
		l.run(time.Second)
		require.InEpsilon(t, gigabit, l.bytes[0]*8, 0.01)
	}
}

func TestWithoutPacingTheCallerIsTheLink(t *testing.T) {
	l := newLink(t, nil, weight(20), weight(50), weight(30))
	for range 1000 {
		for c := range l.classes {
			l.send(c, 0, 1000)
		}
	}
	for range 20 {
		wait, ok := l.s.Next(0)
		require.True(t, ok)
		require.Zero(t, wait)
		n := l.s.Dequeue(l.dst[:], 0)
		require.Equal(t, len(l.dst), n)
		for _, it := range l.dst {
			l.bytes[it.class]++
		}
	}
	require.InDelta(t, 128, l.bytes[0], 2)
	require.InDelta(t, 320, l.bytes[1], 2)
	require.InDelta(t, 192, l.bytes[2], 2)
}

func TestAbsoluteMinimums(t *testing.T) {
	min := func(mbit uint64) qos.ClassConfig { return qos.ClassConfig{MinRate: mbit * 1_000_000} }
	for _, c := range []struct {
		name    string
		classes []qos.ClassConfig
		want    []float64 // Mbit/s
	}{
		{"all reserved", []qos.ClassConfig{min(200), min(500), min(300)}, []float64{200, 500, 300}},
		{"the rest by minimum", []qos.ClassConfig{min(100), min(300)}, []float64{250, 750}},
		{"what is not reserved is for classes without", []qos.ClassConfig{min(100), {}, {}}, []float64{100, 450, 450}},
		{"they have a hundredth at least", []qos.ClassConfig{min(400), min(600), {}}, []float64{400 / 1.01, 600 / 1.01, 10 / 1.01}},
		{"small and large", []qos.ClassConfig{min(1), min(999)}, []float64{1, 999}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLink(t, &qos.Config{Mode: qos.Absolute, LinkRate: gigabit}, c.classes...)
			for i := range c.classes {
				l.saturate(i, 1538)
			}
			l.run(100 * time.Millisecond)
			l.seconds(1, func(bits []float64) {
				for i := range c.want {
					require.InEpsilon(t, c.want[i]*1e6, bits[i], 0.02, "class %d", i)
				}
			})
		})
	}
}

func TestClassesWithoutMinimumShareTheRest(t *testing.T) {
	for _, c := range []struct {
		weights []int
		want    []float64
	}{
		{[]int{20, 50, 0}, []float64{20, 50, 30}},
		{[]int{10, 0, 0, 0}, []float64{10, 30, 30, 30}},
		{[]int{50, 50, 0}, []float64{50 / 1.01, 50 / 1.01, 1 / 1.01}},
		{[]int{50, 50, 0, 0}, []float64{50 / 1.01, 50 / 1.01, .5 / 1.01, .5 / 1.01}},
		{[]int{100, 100, 0}, []float64{100 / 2.02, 100 / 2.02, 2 / 2.02}},
		{[]int{0, 0}, []float64{50, 50}},
	} {
		t.Run(fmt.Sprint(c.weights), func(t *testing.T) {
			l := newLink(t, &qos.Config{LinkRate: gigabit})
			for i, w := range c.weights {
				l.add(weight(w))
				l.saturate(i, 1538)
			}
			l.run(100 * time.Millisecond)
			l.seconds(1, func(bits []float64) {
				for i, want := range c.want {
					require.InEpsilon(t, want/100, bits[i]/sum(bits), 0.02, "class %d", i)
				}
			})
		})
	}
}

func TestLinkSlowerThanTheMinimums(t *testing.T) {
	l := newLink(t, &qos.Config{Mode: qos.Absolute, LinkRate: gigabit},
		qos.ClassConfig{Name: "a", MinRate: 200e6}, qos.ClassConfig{Name: "b", MinRate: 600e6})
	l.saturate(0, 1538)
	l.saturate(1, 1538)
	require.NoError(t, l.s.SetLink(100e6, l.now))
	l.run(100 * time.Millisecond)
	l.seconds(1, func(bits []float64) {
		require.InEpsilon(t, 25e6, bits[0], 0.02)
		require.InEpsilon(t, 75e6, bits[1], 0.02)
	})
	require.NoError(t, l.classes[1].Set(qos.ClassConfig{Name: "b", MinRate: 500e6}, l.now), "less than before")
	require.EqualError(t, l.classes[1].Set(qos.ClassConfig{Name: "b", MinRate: 550e6}, l.now),
		`qos: class "b": MinRate 550000000: with the 200000000 bit/s of other classes is above LinkRate 100000000`)
}

func TestManyClasses(t *testing.T) {
	l := newLink(t, &qos.Config{Mode: qos.Absolute, LinkRate: 10 * gigabit})
	for i := range 200 {
		l.add(qos.ClassConfig{MinRate: uint64(25+5*(i%10)) * 1e6})
		l.saturate(i, 1538)
	}
	l.tick = 20 * time.Microsecond
	l.run(time.Second / 5)
	total := 0.0
	for _, b := range l.bytes {
		total += float64(b)
	}
	require.InEpsilon(t, 10*gigabit/8/5, total, 0.01)
	for i, b := range l.bytes {
		require.InDelta(t, float64(25+5*(i%10))/9500, float64(b)/total, 3*1538/total)
	}
}
