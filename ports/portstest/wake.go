package portstest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// descriptor checks that a descriptor is readable while there is something to receive, and not else:
// a worker that waits for it would sleep beside frames, or never sleep.
func descriptor(t *testing.T, r *Rig) {
	i := r.Backend.Info()
	var fds []int
	for q := range i.RxQueues {
		p, ok := r.Backend.Rx(q).(ports.Pollable)
		if !ok {
			moot("the receive queues are no ports.Pollable")
		}
		fds = append(fds, p.Descriptor())
		for _, other := range fds[:q] {
			if other == fds[q] {
				t.Errorf("receive queues share the descriptor %d", other)
			}
		}
	}
	in := r.all()
	in.batch = ports.NewBatch(1)
	n := min(r.Depth, 5)
	for round := range 3 {
		s := series(0, round*n, n, 0)
		r.put(t, s...)
		for _, s := range s {
			var got []Packet
			for len(got) == 0 {
				if !readable(patience, fds...) {
					t.Fatalf("the descriptor is not readable, but %v has not been received", s)
				}
				var err error
				if got, err = in.poll(); err != nil {
					t.Fatalf("Recv: %v", err)
				}
			}
			if err := differ(got[0].Bytes, s.wire()); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the descriptor stays readable though nothing is there to receive", func() bool {
			if !readable(time.Nanosecond, fds...) {
				return true
			}
			if _, err := in.poll(); err != nil {
				t.Fatalf("Recv: %v", err)
			}
			return false
		})
	}
}

// noWakeUpIsLost sleeps as often as it can: a wake-up that gets lost leaves it asleep for good.
func noWakeUpIsLost(t *testing.T, r *Rig) {
	for _, c := range []struct{ frames, window int }{{2000, 1}, {2000, 2}, {4000, r.Depth}} {
		way := newWindow(min(c.window, r.Depth))
		crew := newCrew()
		crew.add("putter", func() error {
			for i := range c.frames {
				if !way.acquire(crew) {
					return errors.New("stuck")
				}
				s := spec{seq: i, flow: i % 64, udp: true}
				if err := r.Peer.Put(Packet{Bytes: s.wire(), Queue: s.flow}); err != nil {
					return err
				}
			}
			return nil
		})
		crew.add("receiver", func() error {
			in := r.all()
			for n := 0; n < c.frames; {
				got, err := in.poll()
				if err != nil {
					return err
				}
				way.release(len(got))
				n += len(got)
				if len(got) == 0 && n < c.frames && !in.wake.wait(patience) {
					got, _ := in.poll()
					return fmt.Errorf("nothing woke it for %v after frame %d; then %d frames were there", patience, n, len(got))
				}
			}
			return nil
		})
		crew.work(t)
	}
}
