package qos

import "time"

const (
	// burstParts is the part of a second for which a class may send at once if not said otherwise.
	burstParts = 200

	// linkParts is the part of a second by which Dequeue may come late without loss of bandwidth.
	linkParts = 500
)

// Scheduler queues items of type T, which stand for frames, and says which is sent next. It never calls a
// clock and holds no lock: it is used by one goroutine at a time. Memory for a queued item, 24 bytes and
// the item, is made when it is first needed and used again; a class that never queued anything has none.
//
// Times are those since any fixed moment, not negative, the same for all calls. They may go back a
// little, and then no time has passed.
type Scheduler[T any] struct {
	top     fair[T]   // classes with a minimum, and those of spare as one
	spare   fair[T]   // classes without
	group   *Class[T] // spare in top; has no frames of its own
	waiting heap[T]   // classes that wait for their maximum, by the time until which
	link    Bucket    // of the uplink
	paced   bool      // link counts
	shares  shares
	pool    pool[T]
	drop    func(T)
	rest    *Class[T]
	queued  int
}

// New makes a scheduler that has the default class only. Its error is a *ConfigError.
//
// drop, if not nil, is called with items that are dropped after Enqueue has taken them. It must not use
// the scheduler.
func New[T any](cfg *Config, drop func(T)) (*Scheduler[T], error) {
	if cfg == nil {
		cfg = &Config{}
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Scheduler[T]{drop: drop, shares: shares{mode: cfg.Mode, whole: maxWeight}}
	s.group = &Class[T]{of: s, turn: turn{charge: 1}}
	s.setLink(cfg.LinkRate, 0)
	rest := cfg.Default
	if rest.Name == "" {
		rest.Name = "default"
	}
	var err error
	s.rest, err = s.Add(rest)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Default returns the class of frames that are of no other.
func (s *Scheduler[T]) Default() *Class[T] { return s.rest }

// Len returns the number of items queued.
func (s *Scheduler[T]) Len() int { return s.queued }

// SetLink changes the rate of the uplink, as Config.LinkRate. When it becomes less than the sum of
// absolute minimums, classes get parts of it in proportion to them. Its error is a *ConfigError.
func (s *Scheduler[T]) SetLink(rate uint64, now time.Duration) error {
	c := Config{Mode: s.shares.mode, LinkRate: rate}
	if err := c.validate(); err != nil {
		return err
	}
	s.setLink(rate, now)
	return nil
}

func (s *Scheduler[T]) setLink(rate uint64, now time.Duration) {
	burst := burstFor(rate, linkParts)
	if s.paced {
		s.link.Set(rate, burst, now)
	} else {
		s.link = NewBucket(rate, burst)
		s.link.last, s.link.level = now, 1 // what has not been used before it was known is nobody's
	}
	s.paced = rate != 0
	if s.shares.mode == Absolute {
		s.shares.whole = rate
	}
	s.repriceSpare()
}

// repriceSpare accounts for a change of what is not reserved.
func (s *Scheduler[T]) repriceSpare() {
	charge := s.shares.spare()
	if len(s.spare.ready) == 0 {
		s.top.reprice(s.group, charge)
		return
	}
	s.top.ready.remove(s.group)
	s.top.reprice(s.group, charge)
	s.top.enter(s.group)
}

// Enqueue queues an item for a class, nil meaning the default one, and reports whether it did; if not, the
// queue of the class is full and the item is counted as dropped. When another flow of the class has much
// more queued, Enqueue takes the item and drops older ones of that flow.
//
// Items of a class with the same flow are sent in the order in which they were queued; flow is a hash of
// what identifies it. size is what is counted, in bytes: see WireBytes. A size out of 1–1,048,576 is taken
// as the nearest of these.
//
// A caller that copies what it queues, and wants to do so only if there is room, queues a pointer to what
// it fills afterwards, before it calls Dequeue.
func (s *Scheduler[T]) Enqueue(c *Class[T], flow uint32, size int, item T, now time.Duration) bool {
	if c == nil || c.removed {
		c = s.rest
	}
	size = min(max(size, 1), maxSize)
	if c.flows == nil {
		c.flows = newFlows[T]()
	}
	f := c.flows.of(flow)
	if (c.frames >= c.maxFrames || c.bytes+size > c.maxBytes) && c.frames > 0 && !s.makeRoom(c, f, size) {
		c.stats.drop(size)
		return false
	}
	n := s.pool.get()
	n.at, n.size, n.item = now, size, item
	c.flows.push(f, n)
	c.frames++
	c.bytes += size
	s.queued++
	if c.place == idle {
		s.enlist(c, now)
	}
	return true
}

// makeRoom drops the oldest frames of the flow that has the most queued until there is room for a frame of
// flow f, if afterwards f does not have more than that flow: so flows that have as much as each other do
// not push each other out.
func (s *Scheduler[T]) makeRoom(c *Class[T], f *flow[T], size int) bool {
	v := c.flows.victim(f, f.bytes+2*size)
	if v == nil {
		return false
	}
	// When the bounds have become narrower, as much goes as comes, and no more.
	for need := min(c.bytes+size-c.maxBytes, size); ; {
		n := v.take()
		need -= n.size
		c.frames--
		c.bytes -= n.size
		s.queued--
		c.stats.drop(n.size)
		item := s.release(n)
		if s.drop != nil {
			s.drop(item)
		}
		if need <= 0 {
			return true
		}
	}
}

// release gives a frame back to the pool and returns its item.
func (s *Scheduler[T]) release(n *frame[T]) T {
	var none T
	item := n.item
	n.item = none
	s.pool.put(n)
	return item
}

// enlist makes a class that has frames, and is in no heap, ready or waiting.
func (s *Scheduler[T]) enlist(c *Class[T], now time.Duration) {
	if c.limited {
		c.bucket.refill(now)
		if c.bucket.level <= 0 {
			s.throttle(c)
			return
		}
	}
	c.place = ready
	s.fairOf(c).enter(c)
	if c.spare && len(s.spare.ready) == 1 {
		s.top.enter(s.group)
	}
}

// unlist takes a class out of the heap in which it is.
func (s *Scheduler[T]) unlist(c *Class[T]) {
	switch c.place {
	case ready:
		s.fairOf(c).ready.remove(c)
		if c.spare && len(s.spare.ready) == 0 {
			s.top.ready.remove(s.group)
		}
	case waiting:
		s.waiting.remove(c)
	}
	c.place = idle
}

// fairOf returns where a class competes.
func (s *Scheduler[T]) fairOf(c *Class[T]) *fair[T] {
	if c.spare {
		return &s.spare
	}
	return &s.top
}

// throttle makes a class wait until its bucket, which has been refilled, holds something.
func (s *Scheduler[T]) throttle(c *Class[T]) {
	c.place = waiting
	c.stats.Throttled++
	s.waiting.push(uint64(c.bucket.last+c.bucket.reach(1)), c)
}

// wake makes classes ready whose time to wait is over.
func (s *Scheduler[T]) wake(now time.Duration) {
	for len(s.waiting) > 0 && !before(uint64(now), s.waiting[0].key) {
		s.enlist(s.waiting.pop(), now)
	}
}

// Dequeue removes the items that are to be sent now, at most len(dst), puts them into dst in their order
// and returns how many they are. The caller sends all of them before those of another call.
func (s *Scheduler[T]) Dequeue(dst []T, now time.Duration) int {
	s.wake(now)
	if s.paced {
		s.link.refill(now)
	}
	sent := 0
	for sent < len(dst) && len(s.top.ready) > 0 && (!s.paced || s.link.level > 0) {
		c := s.top.ready[0].class
		if c == s.group {
			c = s.spare.ready[0].class
		}
		n := c.flows.pop()
		size := n.size
		c.frames--
		c.bytes -= size
		c.stats.send(size, max(now-n.at, 0))
		dst[sent] = s.release(n)
		sent++

		if s.paced {
			s.link.spend(size)
		}
		stays := c.frames > 0
		if c.limited {
			if now > c.bucket.last {
				c.bucket.refill(now)
			}
			c.bucket.spend(size)
			stays = stays && c.bucket.level > 0
		}
		if c.spare {
			s.spare.sent(c, size, stays)
			s.top.sent(s.group, size, len(s.spare.ready) > 0)
		} else {
			s.top.sent(c, size, stays)
		}
		if stays {
			continue
		}
		if c.place = idle; c.frames > 0 {
			s.throttle(c)
		}
	}
	s.queued -= sent
	return sent
}

// Pass accounts for an item of a class, nil meaning the default one, that the caller sends at once without
// queueing it, and reports whether it may: while nothing is queued, the link has room, and the class is below
// its maximum.
func (s *Scheduler[T]) Pass(c *Class[T], size int, now time.Duration) bool {
	if s.queued > 0 {
		return false
	}
	if c == nil || c.removed {
		c = s.rest
	}
	if s.paced {
		s.link.refill(now)
	}
	if c.limited {
		c.bucket.refill(now)
	}
	if s.paced && s.link.level <= 0 || c.limited && c.bucket.level <= 0 {
		return false
	}
	size = min(max(size, 1), maxSize)
	if s.paced {
		s.link.spend(size)
	}
	if c.limited {
		c.bucket.spend(size)
	}
	c.stats.send(size, 0)
	return true
}

// Repay takes back what Pass has accounted for, of an item that was not sent after all.
func (s *Scheduler[T]) Repay(c *Class[T], size int) {
	if c == nil || c.removed {
		c = s.rest
	}
	size = min(max(size, 1), maxSize)
	if s.paced {
		s.link.level += bytes(size)
	}
	if c.limited {
		c.bucket.level += bytes(size)
	}
	c.stats.Sent--
	c.stats.SentBytes -= uint64(size)
}

// Next returns how long after now Dequeue will have something: 0 when it does now. ok is unset when
// nothing is queued. The caller that comes back up to 2 ms later than that loses no bandwidth of the link,
// and none of a maximum as long as its burst lasts.
func (s *Scheduler[T]) Next(now time.Duration) (wait time.Duration, ok bool) {
	if s.queued == 0 {
		return 0, false
	}
	if len(s.top.ready) == 0 {
		wait = max(time.Duration(s.waiting[0].key)-now, 0)
	}
	if s.paced {
		s.link.refill(now)
		wait = max(wait, s.link.reach(1))
	}
	return wait, true
}
