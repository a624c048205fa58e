package portstest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hvswitch/hvswitch/ports"
)

func (r *Rig) needLink(t *testing.T) ports.LinkWatcher {
	t.Helper()
	w, ok := r.Backend.(ports.LinkWatcher)
	if !ok {
		moot("the backend is no ports.LinkWatcher: its link is always up")
	}
	if r.SetLink == nil {
		moot("the rig has no SetLink")
	}
	return w
}

func linkEvents(t *testing.T, r *Rig) {
	if !ports.LinkOf(r.Backend).Up {
		t.Fatal("the link is not up at the start")
	}
	w := r.needLink(t)
	events := make(chan ports.Link, 64)
	w.WatchLink(func(l ports.Link) { events <- l })
	change := func(up bool) {
		t.Helper()
		r.SetLink(up)
		// A change of the link may come in steps; the last one counts.
		eventually(t, "no event says that the link changed", func() bool {
			select {
			case l := <-events:
				return l.Up == up
			default:
				return false
			}
		})
		eventually(t, "Link does not say what the event said", func() bool { return w.Link().Up == up })
	}
	for range 3 {
		change(false)
		change(true)
	}

	// The watcher that was set last is the one that is called.
	later := make(chan ports.Link, 64)
	w.WatchLink(func(l ports.Link) { later <- l })
	r.SetLink(false)
	eventually(t, "the second watcher is not called", func() bool { return len(later) > 0 })
	for len(events) > 0 {
		if l := <-events; !l.Up {
			t.Error("the first watcher is called though another was set")
		}
	}
	w.WatchLink(nil)
	r.SetLink(true)
	eventually(t, "the link does not come up again", func() bool { return w.Link().Up })
}

// linkDown sends while the link is down: nothing hangs, and frames flow when it is up again.
func linkDown(t *testing.T, r *Rig) {
	w := r.needLink(t)
	r.needDepth(t, 2)
	in := r.all()
	before := spec{seq: 1}
	r.send(t, 0, frames([]spec{before})...)
	r.expect(t, before)

	for round := range 3 {
		r.SetLink(false)
		eventually(t, "the link does not go down", func() bool { return !w.Link().Up })
		promptly(t, "Send while the link is down", func() error {
			n, err := r.Backend.Tx(0).Send(frames(series(0, 900, 2, 0)))
			if n < 0 || n > 2 || (err != nil && !errors.Is(err, ports.ErrLinkDown)) || (n == 2 && err != nil) {
				return fmt.Errorf("took %d of 2, error %v; want %v or none", n, err, ports.ErrLinkDown)
			}
			return nil
		})
		if _, err := in.poll(); err != nil {
			t.Fatalf("Recv while the link is down: %v; it is not dead", err)
		}
		r.SetLink(true)
		eventually(t, "the link does not come up again", func() bool { return w.Link().Up })
		r.empty()
		// A device may lose the first frames after its link came up.
		s := spec{seq: 10 + round}
		eventually(t, "no frame is sent after the link came up again", func() bool {
			r.Backend.Tx(0).Send(frames([]spec{s}))
			p, ok := r.Peer.Take(silence)
			return ok && same(p.Bytes, s.wire())
		})
		r.empty()
		eventually(t, "no frame is received after the link came up again", func() bool {
			r.put(t, s)
			in.wake.wait(silence)
			got, err := in.poll()
			if err != nil {
				t.Fatalf("Recv after the link came up again: %v", err)
			}
			return len(got) > 0 && same(got[0].Bytes, s.wire())
		})
		for { // those that came late
			if got, err := in.poll(); err != nil || len(got) == 0 && !in.wake.wait(silence) {
				break
			}
		}
	}
}
