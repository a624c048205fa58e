package guard

import (
	"math/bits"
	"sync"
	"time"
)

// Storm limits the frames that a vNIC may have flooded: broadcast, multicast and unknown unicast, all
// together. It is a token bucket, exact to the frame: in any time t it grants no more than burst + rate × t
// frames. May be used by several goroutines at once. A nil *Storm grants everything.
type Storm struct {
	rate uint64 // frames a second
	full uint64 // in billionths of a frame, as level

	mu    sync.Mutex
	level uint64
	last  time.Duration
}

const billion = uint64(time.Second)

// NewStorm returns a full bucket for rate frames a second. It holds burst frames; 0 means the rate of one
// second, which is what a limit that counts by the second, as Hyper-V's does, lets pass at once. A rate of
// 0 is no limit, and NewStorm returns nil.
func NewStorm(rate, burst uint32) *Storm {
	if rate == 0 {
		return nil
	}
	if burst == 0 {
		burst = rate
	}
	full := uint64(burst) * billion
	return &Storm{rate: uint64(rate), full: full, level: full}
}

// Take asks for n frames and returns how many are granted: the first of a batch. The caller drops the
// others. now is the time since any fixed moment; it may go back a little, as when workers read their
// clocks apart, and then no time has passed.
func (s *Storm) Take(n int, now time.Duration) int {
	if s == nil || n <= 0 {
		return max(n, 0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refill(now)
	granted := min(uint64(n), s.level/billion)
	s.level -= granted * billion
	return int(granted)
}

// Peek reports whether Take would grant a frame.
func (s *Storm) Peek(now time.Duration) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refill(now)
	return s.level >= billion
}

func (s *Storm) refill(now time.Duration) {
	if now > s.last {
		hi, gain := bits.Mul64(uint64(now-s.last), s.rate)
		s.last = now
		if s.level += gain; hi != 0 || s.level < gain || s.level > s.full {
			s.level = s.full
		}
	}
}
