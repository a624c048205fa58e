package team

import (
	"math/bits"
	"time"
)

// lane is what a transmit queue of the team knows of a bucket of flows.
type lane struct {
	last  uint32 // flowlet tick of its last frame
	bytes uint32 // sent, older ones counting less
	at    uint8  // the member that it is at
	want  uint8  // where it goes in the next gap
	told  uint8  // where the snapshot has it
}

const flowletShift = 13 // a flowlet tick is 8 µs

// adopt makes lanes follow a snapshot that the queue has not seen before. Those whose member is in use no
// more move at once.
func (q *txQueue) adopt(s *snapshot) {
	for slot, m := range s.slots {
		if m != nil && (q.seen == nil || q.seen.slots[slot] != m) {
			q.load[slot], q.total[slot] = 0, m.count.txBytes.Load()
		}
	}
	q.seen = s
	for b := range q.lanes {
		l := &q.lanes[b]
		if home := s.at[b]; home != l.told || !s.uses(l.want) {
			l.told, l.want = home, home
		}
		if !s.uses(l.at) {
			l.at = l.want
		}
	}
}

// steer returns the member for a frame of so many bytes of the flow with this hash. A flow leaves a member
// that is well only after a pause.
func (q *txQueue) steer(hash uint32, n int, now time.Duration) uint8 {
	l := &q.lanes[hash&(buckets-1)]
	tick := uint32(now >> flowletShift)
	if l.at != l.want && tick-l.last >= q.gap {
		l.at = l.want
	}
	l.last = tick
	l.bytes += uint32(n)
	return l.at
}

const (
	balanceEvery = 20 * time.Millisecond
	maxMoves     = 32 // in one go
	tolerance    = 32 // a difference of less than this part of a member's load is none
)

// balance is load-based rebalancing: lanes of the member with the most load, for its weight, shall go to
// the one with the least, largest first, as long as that makes the difference smaller.
func (q *txQueue) balance(s *snapshot, now time.Duration) {
	if now < q.balanceAt {
		return
	}
	q.balanceAt = now + balanceEvery
	for left := s.active; left != 0; left &= left - 1 {
		slot := bits.TrailingZeros32(left)
		total := s.slots[slot].count.txBytes.Load()
		q.load[slot] = q.load[slot]/2 + float64(total-q.total[slot])/s.weight[slot]
		q.total[slot] = total
	}
	moved := 0
	for range maxMoves {
		hi, lo := nobody, nobody
		for left := s.active; left != 0; left &= left - 1 {
			slot := bits.TrailingZeros32(left)
			if hi == nobody || q.load[slot] > q.load[hi] {
				hi = slot
			}
			if lo == nobody || q.load[slot] < q.load[lo] {
				lo = slot
			}
		}
		if hi == lo || q.load[hi]-q.load[lo] < q.load[hi]/tolerance {
			break
		}
		wHi, wLo := s.weight[hi], s.weight[lo]
		// What leaves the one and comes to the other must not turn the difference round.
		room := (q.load[hi] - q.load[lo]) / (1/wHi + 1/wLo)
		var best *lane
		for b := range q.lanes {
			l := &q.lanes[b]
			if int(l.want) == hi && l.bytes > 0 && float64(l.bytes) <= room && (best == nil || l.bytes > best.bytes) {
				best = l
			}
		}
		if best == nil {
			break
		}
		best.want = uint8(lo)
		q.load[hi] -= float64(best.bytes) / wHi
		q.load[lo] += float64(best.bytes) / wLo
		moved++
	}
	for b := range q.lanes {
		q.lanes[b].bytes /= 2
	}
	if moved > 0 {
		q.team.moved.Add(uint64(moved))
	}
}
