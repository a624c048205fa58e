package lacp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// lab is two systems or more with cables between their ports, in a time of its own.
type lab struct {
	testing.TB
	now     time.Duration
	systems []*Aggregator
	cables  map[*Port]*Port
	sent    map[*Port][]time.Duration // when LACPDUs were sent
	mute    map[*Port]bool            // what it sends is lost
	onSend  func(p *Port, pdu PDU)
	always  func()
}

func newLab(t testing.TB) *lab {
	return &lab{TB: t, cables: map[*Port]*Port{}, sent: map[*Port][]time.Duration{}, mute: map[*Port]bool{}}
}

// system adds a system with ports 1 … n.
func (l *lab) system(id byte, n int, cfg Config) *Aggregator {
	cfg.System.MAC = ports.MAC{2, 0, 0, 0, 0, id}
	a, err := New(&cfg)
	require.NoError(l, err)
	for i := range n {
		_, err := a.AddPort(i+1, nil)
		require.NoError(l, err)
	}
	l.systems = append(l.systems, a)
	return a
}

const gigabit = 1e9

func (l *lab) plug(p, q *Port) {
	l.cables[p], l.cables[q] = q, p
	p.SetLink(l.now, true, gigabit)
	q.SetLink(l.now, true, gigabit)
}

func (l *lab) pull(p *Port) {
	q := l.cables[p]
	delete(l.cables, p)
	p.SetLink(l.now, false, 0)
	if q != nil {
		delete(l.cables, q)
		q.SetLink(l.now, false, 0)
	}
}

// join plugs port i of one into port i of the other.
func (l *lab) join(a, b *Aggregator) {
	for i, p := range a.Ports() {
		l.plug(p, b.Ports()[i])
	}
}

// exchange carries what is to be sent now.
func (l *lab) exchange() {
	for again, rounds := true, 0; again; rounds++ {
		require.Less(l, rounds, 100, "the systems talk without end")
		again = false
		for _, a := range l.systems {
			for p, b := range a.Output(l.now) {
				again = true
				if pdu, err := ParsePDU(b); err == nil {
					l.sent[p] = append(l.sent[p], l.now)
					if l.onSend != nil {
						l.onSend(p, pdu)
					}
				}
				if q := l.cables[p]; q != nil && !l.mute[p] {
					q.Receive(l.now, b)
				}
			}
		}
		if l.always != nil {
			l.always()
		}
	}
}

// run lets time pass.
func (l *lab) run(d time.Duration) {
	end := l.now + d
	l.exchange()
	for {
		next := Never
		for _, a := range l.systems {
			next = min(next, a.Next())
		}
		if next > end {
			break
		}
		require.Greater(l, next, l.now-1)
		if next == l.now {
			next++ // whoever asks for now has just been served
		}
		l.now = next
		for _, a := range l.systems {
			a.Advance(l.now)
		}
		l.exchange()
	}
	l.now = end
}

// until lets time pass, a millisecond at a time, until it is so, and returns how long that took.
func (l *lab) until(limit time.Duration, so func() bool) time.Duration {
	l.Helper()
	start := l.now
	for !so() {
		require.LessOrEqual(l, l.now-start, limit)
		l.run(time.Millisecond)
	}
	return l.now - start
}

func distributing(a *Aggregator) (n int) {
	for _, p := range a.Ports() {
		if p.Distributing() {
			n++
		}
	}
	return n
}
