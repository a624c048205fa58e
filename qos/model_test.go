package qos_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/qos"
)

// fluid is generalized processor sharing: the link serves all classes with something queued at the same
// time, each with its part, in steps of time.
type fluid struct {
	mode    qos.Mode
	link    float64 // bytes a second
	classes []fluidClass
}

type fluidClass struct {
	minimum, queued, sent   float64
	limited                 bool
	tokens, maxRate, maxTok float64
	part                    float64
}

func (f *fluid) set(i int, cfg qos.ClassConfig) {
	c := &f.classes[i]
	c.minimum = float64(cfg.MinWeight) + float64(cfg.MinRate)
	burst := float64(cfg.Burst)
	if burst == 0 {
		burst = float64(cfg.MaxRate) / 8 / 200
	}
	if !c.limited {
		c.tokens = burst
	}
	c.limited = cfg.MaxRate != 0
	c.maxRate, c.maxTok = float64(cfg.MaxRate)/8, burst
	c.tokens = min(c.tokens, burst)
}

func (f *fluid) spare() float64 {
	whole, reserved := 100.0, 0.0
	if f.mode == qos.Absolute {
		whole = f.link * 8
	}
	for i := range f.classes {
		reserved += f.classes[i].minimum
	}
	return max(whole-reserved, max(whole, reserved)/100)
}

func (f *fluid) step(dt float64) {
	for i := range f.classes {
		c := &f.classes[i]
		c.tokens = min(c.tokens+c.maxRate*dt, c.maxTok)
	}
	can := func(c *fluidClass) float64 {
		if c.limited {
			return min(c.queued, c.tokens)
		}
		return c.queued
	}
	spare := f.spare()
	for left := f.link * dt; left > 1e-9; {
		spares, all := 0.0, 0.0
		for i := range f.classes {
			if c := &f.classes[i]; c.minimum == 0 && can(c) > 1e-9 {
				spares++
			}
		}
		for i := range f.classes {
			c := &f.classes[i]
			c.part = 0
			if can(c) > 1e-9 {
				if c.part = c.minimum; c.part == 0 {
					c.part = spare / spares
				}
			}
			all += c.part
		}
		if all == 0 {
			return
		}
		// All are served until the first has no more.
		share := left / all
		for i := range f.classes {
			if c := &f.classes[i]; c.part > 0 {
				share = min(share, can(c)/c.part)
			}
		}
		for i := range f.classes {
			c := &f.classes[i]
			served := share * c.part
			c.queued -= served
			c.tokens -= served
			c.sent += served
			left -= served
		}
	}
}

// guarantee is a window of time in which a class has had frames queued throughout.
type guarantee struct {
	open bool
	best float64 // the most that the class was ahead of its part
}

// Random classes, arrivals and changes, against the fluid model and the bounds that are promised.
func TestRandomTrafficAgainstTheFluidModel(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { randomTraffic(t, seed, 100*time.Millisecond) })
	}
}

func randomTraffic(t *testing.T, seed uint64, length time.Duration) {
	const (
		rate  = 200_000_000
		step  = 20 * time.Microsecond
		small = 1538
	)
	r := rand.New(rand.NewPCG(seed, 1))
	mode := qos.Mode(r.IntN(2))
	count := 2 + r.IntN(6)
	longest := make([]int, count)
	config := func(i int) qos.ClassConfig {
		cfg := qos.ClassConfig{Name: fmt.Sprint("vm", i), QueueBytes: 1 << 30, QueueFrames: 1 << 20}
		if r.IntN(4) > 0 {
			if mode == qos.Weight {
				cfg.MinWeight = 1 + r.IntN(100)
			} else {
				cfg.MinRate = 1e6 + uint64(r.IntN(rate/count-1e6))
			}
		}
		if r.IntN(4) == 0 {
			cfg.MaxRate = max(cfg.MinRate, 1e6) + uint64(r.IntN(rate))
			if r.IntN(2) == 0 {
				cfg.Burst = 1 + r.IntN(100_000)
			}
		}
		return cfg
	}

	l := newLink(t, &qos.Config{Mode: mode, LinkRate: rate})
	f := &fluid{mode: mode, link: rate / 8, classes: make([]fluidClass, count)}
	for i := range count {
		cfg := config(i)
		l.add(cfg)
		f.set(i, cfg)
	}
	windows := make([]guarantee, count)
	lowest := make([]float64, count) // the least that a class was ahead of its maximum
	reset := func() {
		for i := range windows {
			windows[i] = guarantee{}
			lowest[i] = math.Inf(1)
		}
	}
	reset()
	lastSeq := map[[2]int]int{}
	var queuedBytes, total, sumLongest int

	excess := func(i int) float64 { return float64(l.bytes[i]) - f.classes[i].maxRate*l.now.Seconds() }
	parts := make([]float64, count) // that are guaranteed
	divide := func() {
		all, spares := f.spare(), 0.0
		for i := range f.classes {
			parts[i] = f.classes[i].minimum
			all += parts[i]
			if parts[i] == 0 {
				spares++
			}
		}
		for i := range parts {
			if parts[i] == 0 {
				parts[i] = f.spare() / spares
			}
			parts[i] /= all
		}
	}
	divide()
	// What a class lags by at most: a frame of its own, and its part of one of each class. Classes
	// without minimum do so among each other, and together among the others.
	bound := func(i int) float64 {
		b := float64(longest[i]) + parts[i]*float64(sumLongest)
		if f.classes[i].minimum == 0 {
			spares, all, most := 0, 0, 0
			for j := range longest {
				if f.classes[j].minimum == 0 {
					spares++
					all += longest[j]
					most = max(most, longest[j])
				}
			}
			b += float64(all+most) / float64(spares)
		}
		return b
	}
	observe := func() {
		for i := range windows {
			if l.classes[i].Stats().Queued == 0 || f.classes[i].limited {
				windows[i] = guarantee{}
				continue
			}
			d := float64(l.bytes[i]) - parts[i]*float64(total)
			if w := &windows[i]; !w.open || d > w.best {
				*w = guarantee{true, d}
			} else {
				if lag := w.best - d; lag > float64(longest[i]) && lag > bound(i)*1.001+1 {
					t.Fatalf("class %d has %.0f bytes less than its minimum, the bound is %.0f", i, lag, bound(i))
				}
			}
		}
	}
	l.sent = func(it *item) {
		total += it.size
		queuedBytes -= it.size
		k := [2]int{it.class, it.flow}
		if lastSeq[k]+1 != it.seq {
			t.Fatalf("flow %v: frame %d after %d", k, it.seq, lastSeq[k])
		}
		lastSeq[k]++
		c := &f.classes[it.class]
		if e := excess(it.class); c.limited {
			if over := e - lowest[it.class] - c.maxTok - float64(longest[it.class]); over > 1 {
				t.Fatalf("class %d has %.0f bytes more than its maximum", it.class, over)
			}
			lowest[it.class] = min(lowest[it.class], e)
		}
		observe()
	}

	busy := make([]bool, count)
	for l.now < length {
		for i := range count {
			if r.IntN(100) == 0 {
				busy[i] = !busy[i]
			}
			arrivals := 0
			if busy[i] && f.classes[i].queued < 200_000 {
				arrivals = r.IntN(3)
			} else if r.IntN(200) == 0 {
				arrivals = 1
			}
			for range arrivals {
				size := 84 + r.IntN(small-84)
				if i == 0 && seed%3 == 0 {
					size *= 20
				}
				if size > longest[i] {
					sumLongest += size - longest[i]
					longest[i] = size
					reset()
				}
				require.True(t, l.send(i, r.IntN(5), size))
				f.classes[i].queued += float64(size)
				queuedBytes += size
			}
		}
		if r.IntN(2000) == 0 {
			i := r.IntN(count)
			cfg := config(i)
			require.NoError(t, l.classes[i].Set(cfg, l.now))
			f.set(i, cfg)
			divide()
			reset()
		}
		for i := range lowest {
			lowest[i] = min(lowest[i], excess(i))
		}
		observe()
		l.run(step)
		f.step(step.Seconds())

		sum, want := 0, 0.0
		for i := range count {
			want += f.classes[i].sent
			sum += l.classes[i].Stats().QueuedBytes
			slack := float64(2*sumLongest) + rate/8*step.Seconds()
			if lag := f.classes[i].sent - float64(l.bytes[i]); lag > slack {
				t.Fatalf("class %d lags %.0f bytes behind the fluid model at %v", i, lag, l.now)
			}
		}
		if lag := want - float64(total); lag > float64(sumLongest)+rate/8*step.Seconds() {
			t.Fatalf("not work-conserving: %.0f bytes behind the fluid model at %v", lag, l.now)
		}
		if sum != queuedBytes {
			t.Fatalf("%d bytes are queued, want %d", sum, queuedBytes)
		}
	}
	require.Positive(t, total)
}
