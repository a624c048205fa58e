package sflow

import "sync"

// queueSamples is how many samples wait for the goroutine of the agent at most.
const queueSamples = 512

// sample is a chosen packet.
type sample struct {
	source        *source
	pool          uint64 // its number
	drops         uint32 // of the source until then
	input, output uint32
	frameLen      uint32 // of the packet on the wire, with its FCS
	tagged        bool
	tci           uint16 // of the tag
	headerLen     int
	header        [maxHeaderLen]byte
}

// queue carries samples from the workers of the switch to the goroutine of the agent.
type queue struct {
	wake chan struct{} // has an element when the queue fills up

	mu      sync.Mutex
	samples []sample
	budget  int // samples that may be queued until it is renewed
	dropped uint64
}

// push queues a sample that fill describes. It returns false when there is no room.
func (q *queue) push(fill func(s *sample)) bool {
	q.mu.Lock()
	n := len(q.samples)
	ok := n < cap(q.samples) && q.budget > 0
	if ok {
		q.budget--
		q.samples = q.samples[:n+1]
		fill(&q.samples[n])
	} else {
		q.dropped++
	}
	q.mu.Unlock()
	if n == queueSamples/8 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return ok
}

// swap returns the queued samples and takes the memory of empty for those to come.
func (q *queue) swap(empty []sample) []sample {
	q.mu.Lock()
	defer q.mu.Unlock()
	samples := q.samples
	q.samples = empty[:0]
	return samples
}

// renew lets n more samples be queued.
func (q *queue) renew(n int) {
	q.mu.Lock()
	q.budget = n
	q.mu.Unlock()
}
