package team

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// rxQueue is a receive queue of the team: the receive queues of members that have been assigned to it.
type rxQueue struct {
	team *Team

	// mu keeps the sources in place while they are used. Nobody waits for it but who adds or
	// removes members.
	mu      sync.Mutex
	sources []*source
	first   int // who is asked first, each in turn
	dropped uint64

	// Frames are received into batches of its own, from which those that count are lent on. A
	// batch is used for no more frames than the caller has room for.
	spare [classes][]*ports.Batch
	lent  []*ports.Batch

	released sync.Cond

	bell bell
	fds  *fdSet // nil when the queue has a bell
}

// source is a receive queue of a member.
type source struct {
	m  *member
	rx ports.RxQueue

	lent bool
	dead bool

	settled uint64 // number of the snapshot since which nothing old can be in it
	met     uint64 // number of the last snapshot that it was served under
	metAt   time.Duration
}

// classes is the number of sizes of batches: 1, 2, 4 … burstSize.
const classes = 7

// Recv implements ports.RxQueue.
func (q *rxQueue) Recv(b *ports.Batch) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.team.snap.Load()
	if s.closed {
		return ports.ErrClosed
	}
	if q.fds != nil {
		q.fds.hush()
	}
	n := len(q.sources)
	if q.first++; q.first >= n {
		q.first = 0
	}
	for i := range n {
		at := q.first + i
		if at >= n {
			at -= n
		}
		if src := q.sources[at]; !src.dead {
			q.receive(s, src, b)
		}
	}
	return nil
}

// Discarded implements ports.Discarder: frames that do not count, and what the members' queues discard.
func (q *rxQueue) Discarded() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.dropped
	for _, src := range q.sources {
		if d, ok := src.rx.(ports.Discarder); ok {
			n += d.Discarded()
		}
	}
	return n
}

// maxRounds is how often in a row a queue is asked whose frames do not count, so that it does not keep the
// others waiting.
const maxRounds = 4

// receive takes what a member's queue has.
func (q *rxQueue) receive(s *snapshot, src *source, b *ports.Batch) {
	for round := 0; round < maxRounds && b.Room() > 0; round++ {
		own := q.batch(b.Room())
		had, room := own.Len(), own.Room()
		err := src.rx.Recv(own)
		got := own.Frames()[had:]
		if len(got) > 0 {
			src.lent = q.lend(s, src, got, b) || src.lent
			if !src.lent { // whoever gets no frame does not release any
				if had == 0 {
					own.Reset()
				}
				src.rx.Release()
			}
		}
		if err != nil {
			src.dead = true
			q.ignore(src)
			q.team.recvFailed(src.m)
			return
		}
		if had == 0 && len(got) == 0 && src.settled != s.number {
			src.settle(s, q.team.clock(), true)
		}
		if len(got) < room {
			break
		}
	}
	q.again(src)
}

// settle notes whether anything can be in the queue that is older than the snapshot.
func (src *source) settle(s *snapshot, now time.Duration, empty bool) {
	if src.met != s.number {
		src.met, src.metAt = s.number, now
	}
	if empty && now-s.changed >= skew || now-src.metAt >= maxSettle {
		src.settled = s.number
	}
}

// batch returns one with room for a frame at least, and for no more than the caller has.
func (q *rxQueue) batch(room int) *ports.Batch {
	if n := len(q.lent); n > 0 {
		if last := q.lent[n-1]; last.Room() > 0 && last.Room() <= room {
			return last
		}
	}
	class := min(bits.Len(uint(room)), classes) - 1
	var b *ports.Batch
	if n := len(q.spare[class]); n > 0 {
		b = q.spare[class][n-1]
		q.spare[class] = q.spare[class][:n-1]
	} else {
		b = ports.NewBatch(1 << class)
	}
	q.lent = append(q.lent, b)
	return b
}

// Release implements ports.RxQueue.
func (q *rxQueue) Release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.release()
}

func (q *rxQueue) release() {
	for i, b := range q.lent {
		b.Reset()
		class := bits.Len(uint(b.Room())) - 1
		q.spare[class] = append(q.spare[class], b)
		q.lent[i] = nil
	}
	q.lent = q.lent[:0]
	closed := q.team.snap.Load().closed
	for _, src := range q.sources {
		if src.lent {
			src.lent = false
			if !closed {
				src.rx.Release()
			}
		}
	}
	q.released.Broadcast()
}

// lend passes on the frames that count, and reports whether there are any.
func (q *rxQueue) lend(s *snapshot, src *source, frames []*ports.Frame, b *ports.Batch) bool {
	now := q.team.clock()
	if src.settled != s.number {
		src.settle(s, now, false)
	}
	tick := tickOf(now)
	m := src.m
	var bytes uint64
	taken := 0
	for _, f := range frames {
		if reason := q.judge(s, src, f, tick); reason != reasons {
			if reason != slow {
				m.count.drop(reason, 1)
			}
			continue
		}
		bytes += uint64(f.Len())
		taken++
		b.Lend(f)
	}
	q.dropped += uint64(len(frames) - taken)
	if taken > 0 {
		m.count.rxFrames.Add(uint64(taken))
		m.count.rxBytes.Add(bytes)
	}
	return taken > 0
}

// slow is the verdict on a frame that the team itself has taken.
const slow = reasons + 1

// judge says why a frame is to be dropped, or reasons when it is to be passed on.
func (q *rxQueue) judge(s *snapshot, src *source, f *ports.Frame, tick uint32) Reason {
	head := f.Head()
	if len(head) < etherLen {
		return Runt
	}
	w := binary.BigEndian.Uint64(head)
	dst := w >> 16
	from := w<<32&(1<<48-1) | uint64(binary.BigEndian.Uint32(head[8:]))
	if dst == slowGroup && isSlow(f, head) {
		return q.team.takeSlow(src.m, f, tick)
	}
	slot := src.m.slot
	if s.taken>>slot&1 == 0 {
		if s.mode == SwitchIndependent {
			return ElsewhereToo
		}
		return Unaggregated
	}
	if s.mode != SwitchIndependent {
		return reasons
	}
	vid, _ := vlanOf(f, head)
	if q.team.vnics.reflected(from<<16|uint64(vid), tick) || s.own.has(from) {
		return Reflected
	}
	if d := q.team.direct; d != nil {
		if d.copied(s, src.m, dst, from<<16|uint64(vid), tick) {
			return ElsewhereToo
		}
	} else if s.pin(dst) != slot {
		return ElsewhereToo
	}
	if src.settled != s.number {
		if was := s.pinWas(dst); was != slot && was != nobody &&
			(isGroup(dst) || !q.team.vnics.within(dst<<16|uint64(vid), tick, knownTicks)) {
			return Unsettled
		}
	}
	return reasons
}
