package overlay

import (
	"sync/atomic"
	"time"
)

// limiter bounds the ICMP errors (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 (f)) and the questions
// for customer addresses that somebody can cause: 100 a second, 50 at once.
type limiter struct{ full atomic.Int64 }

const (
	errorEach  = int64(time.Second / 100)
	errorBurst = 50 * errorEach
)

// take reports whether there may be one more now.
func (l *limiter) take(now time.Duration) bool {
	for {
		old := l.full.Load()
		next := nextFull(old, now)
		if next-int64(now) > errorBurst {
			return false
		}
		if l.full.CompareAndSwap(old, next) {
			return true
		}
	}
}

func nextFull(old int64, now time.Duration) int64 { return max(old, int64(now)) + errorEach }

// next returns when the limiter would be empty again if somebody took one now.
func (l *limiter) next(now time.Duration) int64 { return nextFull(l.full.Load(), now) }
