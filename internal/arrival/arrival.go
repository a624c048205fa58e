// Package arrival waits for frames at one receive queue, whichever way the queue tells of them.
package arrival

import (
	"errors"

	"github.com/hvswitch/hvswitch/ports"
)

// Waiter waits for a receive queue, on the goroutine that uses it. It takes the queue's bell.
type Waiter struct {
	bell ports.Notifier
	rung chan struct{}
	fd   *descriptor // nil when the queue has a bell
}

// New returns a waiter for a queue, which must be a ports.Notifier or ports.Pollable.
func New(q ports.RxQueue) (*Waiter, error) {
	switch q := q.(type) {
	case ports.Notifier:
		w := &Waiter{bell: q, rung: make(chan struct{}, 1)}
		q.SetBell(w.ring)
		return w, nil
	case ports.Pollable:
		fd, err := newDescriptor(q.Descriptor())
		if err != nil {
			return nil, err
		}
		return &Waiter{fd: fd}, nil
	}
	return nil, errors.New("receive queue is neither a ports.Notifier nor ports.Pollable")
}

// Wait waits until the queue, which must have been empty, is worth receiving from, or Wake has been called
// since the last Wait. It may return for no reason.
func (w *Waiter) Wait() {
	switch {
	case w.fd != nil:
		w.fd.wait()
	case !w.bell.Arm():
		<-w.rung
	}
}

// Wake ends the Wait under way, or the next one. It is called from any goroutine.
func (w *Waiter) Wake() {
	if w.fd != nil {
		w.fd.wake()
		return
	}
	w.ring()
}

// Close releases what the waiter holds. Nobody may use it then.
func (w *Waiter) Close() {
	if w.fd != nil {
		w.fd.close()
		return
	}
	w.bell.SetBell(nil)
}

func (w *Waiter) ring() {
	select {
	case w.rung <- struct{}{}:
	default:
	}
}
