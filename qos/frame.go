package qos

import "time"

// frame is an item in a queue.
type frame[T any] struct {
	next *frame[T]
	at   time.Duration // when it was queued
	size int
	item T
}

// chunk is how many frames are made at once.
const chunk = 64

// pool keeps frames that are not in use, the one used last first, because it is in the cache.
type pool[T any] struct{ first *frame[T] }

func (p *pool[T]) get() *frame[T] {
	if p.first == nil {
		made := make([]frame[T], chunk)
		for i := range made {
			p.put(&made[i])
		}
	}
	n := p.first
	p.first = n.next
	n.next = nil
	return n
}

// put takes back a frame whose item is the zero value.
func (p *pool[T]) put(n *frame[T]) {
	n.next = p.first
	p.first = n
}
