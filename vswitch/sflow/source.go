package sflow

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// source is a data source: a connected port. It chooses packets by their number, the first of which is 1.
type source struct {
	port   atomic.Pointer[extension.Port]
	rate   uint32
	skip   skip
	passed atomic.Uint64 // packets
	next   atomic.Uint64 // number of the next packet to choose; changes under mu only
	drops  atomic.Uint32 // chosen packets that are not sent

	mu  sync.Mutex
	due []uint64 // chosen packets below next, of batches of workers that have not come for them yet

	// Under the locks of the agent: sending, and for the time its mu.
	pool           uint64 // last sent
	flowSamples    uint32 // sent
	counterSamples uint32 // sent
	countersDue    time.Time
}

// newSource returns a data source of which one packet of rate is sampled, and the counters at times that
// are interval apart and other ones for each source.
func newSource(p *extension.Port, rate int, interval time.Duration) *source {
	s := &source{rate: uint32(rate), skip: skipOf(rate), countersDue: time.Now().Add(rand.N(interval))}
	s.port.Store(p)
	s.next.Store(s.skip.draw())
	return s
}

func (s *source) index() uint32 { return uint32(s.port.Load().Index + 1) }

// pass counts n packets. It returns the number of the last packet before them, and in chosen the set of
// those to sample.
func (s *source) pass(n int) (before, chosen uint64) {
	// A chosen packet between next, as read here, and total is ours or an earlier batch's. One below next
	// is not ours: somebody has passed it already.
	next := s.next.Load()
	total := s.passed.Add(uint64(n))
	before = total - uint64(n)
	if total >= next {
		chosen = s.choose(before, total)
	}
	return before, chosen
}

// choose returns which of the packets after before up to total are chosen.
func (s *source) choose(before, total uint64) (chosen uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.next.Load()
	for next <= total {
		s.due = append(s.due, next)
		next += s.skip.draw()
	}
	s.next.Store(next)
	s.due = slices.DeleteFunc(s.due, func(n uint64) bool {
		ours := n > before && n <= total
		if ours {
			chosen |= 1 << (n - before - 1)
		}
		return ours
	})
	return chosen
}

// skip is the distribution of the distance from one chosen packet to the next, when each is chosen with the
// same probability: the geometric one. It is the reciprocal of the rate of the exponential distribution
// that it is the integer part of.
type skip float64

func skipOf(rate int) skip {
	return skip(-1 / math.Log1p(-1/float64(rate))) // 0 for rate 1
}

// draw returns a distance, at least 1.
func (s skip) draw() uint64 { return 1 + uint64(rand.ExpFloat64()*float64(s)) }
