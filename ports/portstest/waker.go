package portstest

import (
	"fmt"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// patience is how long something that must happen may take, on a busy machine too.
var patience = 10 * time.Second

// silence is how long nothing must come for a cable to count as empty.
const silence = 20 * time.Millisecond

// waker waits for several receive queues at once, as a worker of a switch does.
type waker struct {
	notifiers []ports.Notifier
	bell      chan struct{}
	fds       []int
}

func newWaker(queues ...ports.RxQueue) *waker {
	w := &waker{bell: make(chan struct{}, 1)}
	for _, q := range queues {
		switch q := q.(type) {
		case ports.Notifier:
			q.SetBell(w.ring)
			w.notifiers = append(w.notifiers, q)
		case ports.Pollable:
			w.fds = append(w.fds, q.Descriptor())
		default:
			panic(fmt.Sprintf("%T implements neither ports.Notifier nor ports.Pollable", q))
		}
	}
	if w.fds != nil && w.notifiers != nil {
		panic("some queues of the backend are Notifiers and some Pollable")
	}
	return w
}

func (w *waker) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

// wait reports whether a queue became worth receiving from within d. The queues must be empty: it
// does not look.
func (w *waker) wait(d time.Duration) bool {
	if d <= 0 {
		return false
	}
	if w.fds != nil {
		return readable(d, w.fds...)
	}
	for _, q := range w.notifiers {
		if q.Arm() {
			return true
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.bell:
		return true
	case <-timer.C:
		return false
	}
}
