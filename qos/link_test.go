package qos_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/qos"
)

// item is what the tests queue.
type item struct {
	class, flow, size int
	seq               int // in its flow
	at                time.Duration
}

type scheduler = qos.Scheduler[*item]
type class = qos.Class[*item]

func newScheduler(t testing.TB, cfg *qos.Config, drop func(*item)) *scheduler {
	t.Helper()
	s, err := qos.New(cfg, drop)
	require.NoError(t, err)
	return s
}

// link is a link in virtual time: an uplink that takes what the scheduler hands out, and sources.
type link struct {
	t       testing.TB
	s       *scheduler
	classes []*class
	now     time.Duration
	tick    time.Duration // the caller comes back this much later than it should, at most
	feed    func()
	sent    func(*item)
	bytes   []uint64 // sent, by class
	seq     map[[2]int]int
	dst     [32]*item
}

func newLink(t testing.TB, cfg *qos.Config, classes ...qos.ClassConfig) *link {
	t.Helper()
	l := &link{t: t, seq: map[[2]int]int{}, tick: time.Microsecond}
	l.s = newScheduler(t, cfg, nil)
	for _, c := range classes {
		l.add(c)
	}
	return l
}

func (l *link) add(cfg qos.ClassConfig) int {
	l.t.Helper()
	c, err := l.s.Add(cfg)
	require.NoError(l.t, err)
	l.classes = append(l.classes, c)
	l.bytes = append(l.bytes, 0)
	return len(l.classes) - 1
}

// send queues a frame and reports whether there was room.
func (l *link) send(class, flow, size int) bool {
	k := [2]int{class, flow}
	l.seq[k]++
	return l.s.Enqueue(l.classes[class], uint32(flow), size, &item{class, flow, size, l.seq[k], l.now}, l.now)
}

// saturate keeps frames of the sizes queued for a class.
func (l *link) saturate(class int, sizes ...int) {
	former, i := l.feed, 0
	l.feed = func() {
		if former != nil {
			former()
		}
		for st := l.classes[class].Stats(); st.Queued < 64 && st.QueuedBytes < 800_000; st = l.classes[class].Stats() {
			l.send(class, i%4, sizes[i%len(sizes)])
			i++
		}
	}
}

// run lets time pass.
func (l *link) run(d time.Duration) {
	for end := l.now + d; ; {
		if l.feed != nil {
			l.feed()
		}
		n := l.s.Dequeue(l.dst[:], l.now)
		for _, it := range l.dst[:n] {
			l.bytes[it.class] += uint64(it.size)
			if l.sent != nil {
				l.sent(it)
			}
		}
		if n == len(l.dst) {
			continue
		}
		wait, ok := l.s.Next(l.now)
		if !ok {
			wait = l.tick
			if l.feed == nil {
				wait = end - l.now
			}
		}
		if l.now+max(wait, l.tick) > end {
			l.now = end
			return
		}
		l.now += max(wait, l.tick)
	}
}

// seconds runs for a number of seconds and calls check with the bits that each class sent in each second
// that begins at a multiple of 50 ms.
func (l *link) seconds(n int, check func(bits []float64)) {
	const parts = 20
	var at [][]uint64
	for i := range n*parts + 1 {
		at = append(at, slices.Clone(l.bytes))
		if i >= parts {
			bits := make([]float64, len(l.bytes))
			for c := range bits {
				bits[c] = float64(at[i][c]-at[i-parts][c]) * 8
			}
			check(bits)
		}
		l.run(time.Second / parts)
	}
}

func sum(list []float64) (total float64) {
	for _, v := range list {
		total += v
	}
	return total
}
