package team

import (
	"errors"
	"sync/atomic"

	"github.com/hvswitch/hvswitch/ports"
)

// A receive queue of a team of queues in memory has a bell, which is rung by the bells of all of them.
// When one of the first members has a queue with a descriptor, the team's queues have one too, that of a
// set of descriptors; for what is in memory there is another descriptor in it.

// bellQueue is a receive queue that implements ports.Notifier.
type bellQueue struct{ *rxQueue }

// fdQueue is one that implements ports.Pollable.
type fdQueue struct{ *rxQueue }

var (
	_ ports.Notifier = bellQueue{}
	_ ports.Pollable = fdQueue{}

	_ ports.Discarder = fdQueue{}
)

// bell is rung once each time it has been armed.
type bell struct {
	armed atomic.Bool
	fn    atomic.Pointer[func()]
}

func (b *bell) ring() {
	if b.armed.Load() && b.armed.CompareAndSwap(true, false) {
		if fn := b.fn.Load(); fn != nil {
			(*fn)()
		}
	}
}

// SetBell implements ports.Notifier.
func (q bellQueue) SetBell(ring func()) {
	if ring == nil {
		q.bell.fn.Store(nil)
		return
	}
	q.bell.fn.Store(&ring)
}

// Arm implements ports.Notifier.
func (q bellQueue) Arm() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bell.armed.Store(true)
	ready := q.team.snap.Load().closed
	for _, src := range q.sources {
		if ready {
			break
		}
		// Those armed in vain ring too, and are not heard.
		ready = !src.dead && src.rx.(ports.Notifier).Arm()
	}
	if ready {
		q.bell.armed.Store(false)
	}
	return ready
}

// Descriptor implements ports.Pollable.
func (q fdQueue) Descriptor() int { return q.fds.descriptor() }

// kindOf says whether a backend's queues have bells.
func kindOf(b ports.Backend) (bells bool, err error) {
	bells = true
	for i := range b.Info().RxQueues {
		switch b.Rx(i).(type) {
		case ports.Notifier:
		case ports.Pollable:
			bells = false
		default:
			return false, errors.New("has a receive queue that is neither a ports.Notifier nor ports.Pollable")
		}
	}
	return bells, nil
}

// add assigns a member's queue to the team's.
func (q *rxQueue) add(src *source) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n, ok := src.rx.(ports.Notifier); ok {
		if q.fds == nil {
			n.SetBell(q.bell.ring)
			q.sources = append(q.sources, src)
			q.bell.armed.Store(true) // whoever sleeps has not armed this one
			q.bell.ring()
			return nil
		}
		n.SetBell(q.fds.wake)
		q.fds.wake()
	} else {
		if q.fds == nil {
			return errors.New("has a descriptor, while the queues of the team have bells")
		}
		if err := q.fds.add(src.rx.(ports.Pollable).Descriptor()); err != nil {
			return err
		}
	}
	q.sources = append(q.sources, src)
	return nil
}

// ignore waits no more for a source.
func (q *rxQueue) ignore(src *source) {
	if n, ok := src.rx.(ports.Notifier); ok {
		n.SetBell(nil)
	} else {
		q.fds.remove(src.rx.(ports.Pollable).Descriptor())
	}
}

// again sees to it that the descriptor of the queue is readable when a source in memory has something.
func (q *rxQueue) again(src *source) {
	if q.fds == nil {
		return
	}
	if n, ok := src.rx.(ports.Notifier); ok && n.Arm() {
		q.fds.wake()
	}
}
