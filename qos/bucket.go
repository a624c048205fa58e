package qos

import (
	"math"
	"math/bits"
	"time"
)

// MaxBurst is the largest burst of a Bucket or class, in bytes: 1 GiB.
const MaxBurst = 1 << 30

// perByte is a byte in the unit in which a Bucket counts: the billionth of a bit, so that a rate in bit/s
// times a time in nanoseconds is exact.
const perByte = 8 * int64(time.Second)

// Bucket is a token bucket: in any time t it grants no more than burst + rate × t, exactly; where it is asked
// for more than the burst at once, that takes the place of the burst. It is a plain value; it must not be
// used by two goroutines at once. The zero Bucket grants nothing.
//
// Times are those since any fixed moment, not negative. They may go back a little, and then no time has
// passed.
type Bucket struct {
	rate  uint64 // bit/s
	full  int64  // billionths of a bit, as level
	level int64  // negative: owed
	last  time.Duration
}

// NewBucket returns a full bucket that is filled with rate bit/s and holds burst bytes. A burst out of
// 0–MaxBurst is taken as the nearest of these.
func NewBucket(rate uint64, burst int) Bucket {
	full := int64(min(max(burst, 0), MaxBurst)) * perByte
	return Bucket{rate: rate, full: full, level: full}
}

// Set changes rate and burst, which are those of NewBucket. What the bucket holds or is owed remains, but
// no more than the new burst.
func (b *Bucket) Set(rate uint64, burst int, now time.Duration) {
	b.refill(now)
	n := NewBucket(rate, burst)
	b.rate, b.full, b.level = n.rate, n.full, min(b.level, n.full)
}

// Take takes n bytes, at most MaxBurst, and reports whether they were there; if not, it takes none. More
// than the burst are granted when the bucket is full, and what is missing is owed: nothing more is granted
// until it has been filled in.
func (b *Bucket) Take(n int, now time.Duration) bool {
	b.refill(now)
	if n > 0 && (b.full == 0 || b.level < b.enough(n)) {
		return false
	}
	b.spend(n)
	return true
}

// Spend takes n bytes, at most MaxBurst, whether they are there or not: what is missing is owed.
func (b *Bucket) Spend(n int, now time.Duration) {
	b.refill(now)
	b.spend(n)
}

// Level returns how many bytes the bucket holds, rounded up; negative, or 0, is owed.
func (b *Bucket) Level(now time.Duration) int {
	b.refill(now)
	if b.level > 0 {
		return int((b.level-1)/perByte) + 1
	}
	return int(b.level / perByte)
}

// Until returns how long after now Take will grant n bytes, rounded up to a nanosecond: 0 when it does
// now, the longest Duration when it never will.
func (b *Bucket) Until(n int, now time.Duration) time.Duration {
	b.refill(now)
	switch {
	case n <= 0:
		return 0
	case b.full == 0:
		return math.MaxInt64
	}
	return b.reach(b.enough(n))
}

func (b *Bucket) enough(n int) int64 { return min(bytes(n), b.full) }

func bytes(n int) int64 { return int64(min(max(n, 0), MaxBurst)) * perByte }

// spend takes n bytes, owed as far as they are not there.
func (b *Bucket) spend(n int) { b.level -= bytes(n) }

func (b *Bucket) refill(now time.Duration) {
	if now <= b.last {
		return
	}
	hi, gain := bits.Mul64(uint64(now)-uint64(b.last), b.rate)
	b.last = now
	if hi != 0 || gain >= uint64(b.full)-uint64(b.level) {
		b.level = b.full
	} else {
		b.level += int64(gain)
	}
}

// reach returns how long the bucket, which has been refilled, takes to hold level.
func (b *Bucket) reach(level int64) time.Duration {
	if b.level >= level {
		return 0
	}
	if b.rate == 0 {
		return math.MaxInt64
	}
	missing := uint64(level) - uint64(b.level)
	wait := missing / b.rate
	if missing%b.rate != 0 {
		wait++
	}
	return time.Duration(min(wait, math.MaxInt64))
}
