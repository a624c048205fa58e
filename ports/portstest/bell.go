package portstest

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// counter is a bell that counts.
type counter struct {
	rings atomic.Int64
	rung  chan struct{}
}

func newCounter() *counter { return &counter{rung: make(chan struct{}, 1)} }

func (c *counter) ring() {
	c.rings.Add(1)
	select {
	case c.rung <- struct{}{}:
	default:
	}
}

func (c *counter) await(t *testing.T, what string) {
	t.Helper()
	select {
	case <-c.rung:
	case <-time.After(patience):
		t.Fatalf("the bell was not rung %s", what)
	}
}

func bell(t *testing.T, r *Rig) {
	if _, ok := r.Backend.Rx(0).(ports.Notifier); !ok {
		moot("the receive queues are no ports.Notifier")
	}
	r.put(t, spec{})
	q := r.Backend.Rx(r.all().collect(t, 1)[0].Queue) // where flow 0 arrives
	n := q.(ports.Notifier)
	seq := 0
	put := func() {
		r.put(t, spec{seq: seq, flow: 0})
		seq++
	}
	b := ports.NewBatch(64)
	got := 0
	recv := func() { // until every frame put has been received
		t.Helper()
		eventually(t, "a frame does not arrive", func() bool {
			b.Reset()
			if err := q.Recv(b); err != nil {
				t.Fatalf("Recv: %v", err)
			}
			for _, f := range b.Frames() {
				if ours(f.Head()) {
					got++
				}
			}
			b.Reset()
			q.Release()
			return got == seq
		})
	}
	arm := func() { // on an empty queue
		t.Helper()
		eventually(t, "Arm never returns false on an empty queue", func() bool {
			if !n.Arm() {
				return true
			}
			recv()
			return false
		})
	}

	c := newCounter()
	n.SetBell(c.ring)
	for round := range int64(3) {
		arm()
		put()
		c.await(t, "after Arm and a frame")
		recv()
		put() // not armed: no ring
		recv()
		if rings := c.rings.Load(); rings != round+1 {
			t.Fatalf("%d rings after %d calls of Arm; each asks for one", rings, round+1)
		}
	}

	put()
	eventually(t, "Arm returns false though a frame is there", n.Arm)
	recv()
	arm()
	arm() // asks for one ring all the same
	was := c.rings.Load()
	put()
	c.await(t, "after two calls of Arm and a frame")
	recv()
	put()
	recv()
	if rings := c.rings.Load() - was; rings != 1 {
		t.Errorf("%d rings after two calls of Arm, want 1", rings)
	}

	// What matters is the bell that is set when the event comes, not when Arm was called.
	arm()
	other := newCounter()
	n.SetBell(other.ring)
	was = c.rings.Load()
	put()
	other.await(t, "that replaced another")
	recv()
	arm()
	n.SetBell(nil)
	put()
	recv()
	if c.rings.Load() != was || other.rings.Load() != 1 {
		t.Error("a bell was rung that is not set any more")
	}
}

// bellOfTx checks the bell for room, which a transmit queue may have.
func bellOfTx(t *testing.T, r *Rig) {
	tx := r.Backend.Tx(0)
	n, ok := tx.(ports.Notifier)
	if !ok {
		moot("the transmit queues are no ports.Notifier, nor need they be")
	}
	if !n.Arm() {
		t.Error("Arm asks to wait for room on an empty cable")
	}
	r.need(t, Backpressure)
	c := newCounter()
	n.SetBell(c.ring)
	sent, taken := 0, 0
	for range 3 {
		eventually(t, "Arm never returns false on a full cable", func() bool {
			for range tooMany {
				k, err := tx.Send(frames(series(0, sent, 1, 0)))
				if err != nil {
					t.Fatalf("Send: %v", err)
				}
				if sent += k; k == 0 {
					break
				}
			}
			return !n.Arm()
		})
		for rung := false; !rung && taken < sent; {
			r.expect(t, spec{seq: taken})
			taken++
			select {
			case <-c.rung:
				rung = true
			default:
				runtime.Gosched()
			}
			if !rung && taken == sent {
				rung = true
				c.await(t, "though the cable was emptied")
			}
		}
		eventually(t, "no room after the bell", func() bool {
			k, err := tx.Send(frames(series(0, sent, 1, 0)))
			sent += k
			return k == 1 && err == nil
		})
	}
	r.expect(t, series(0, taken, sent-taken, 0)...)
}
