package qos

import (
	"fmt"
	"time"
)

// place says where a class is.
type place uint8

const (
	idle    place = iota // has nothing queued
	ready                // may send
	waiting              // has frames and waits for its maximum
)

// Class is a class of a Scheduler, and used by the goroutine that uses the scheduler.
type Class[T any] struct {
	of *Scheduler[T]

	place   place
	removed bool
	spare   bool // has no minimum
	limited bool // has a maximum
	frames  int  // queued
	bytes   int  // queued

	maxFrames, maxBytes int

	flows *flows[T]
	turn
	bucket Bucket
	stats  Stats
	cfg    ClassConfig
}

// Add adds a class. Its error is a *ConfigError.
func (s *Scheduler[T]) Add(cfg ClassConfig) (*Class[T], error) {
	if err := s.check(&cfg, 0); err != nil {
		return nil, err
	}
	c := &Class[T]{of: s}
	c.configure(cfg, 0)
	return c, nil
}

// check returns an error when a class cannot have the configuration in place of one with minimum old.
func (s *Scheduler[T]) check(cfg *ClassConfig, old uint64) error {
	if err := cfg.validate(s.shares.mode); err != nil {
		return err
	}
	others := s.shares.reserved - old
	// After the link became slower the sum may be too large; what does not add to it passes.
	if m := cfg.MinRate; m > old && m+others > s.shares.whole {
		return cfg.wrong("MinRate", m, fmt.Sprintf("with the %d bit/s of other classes is above LinkRate %d", others, s.shares.whole))
	}
	return nil
}

func (c *Class[T]) configure(cfg ClassConfig, now time.Duration) {
	s := c.of
	s.shares.reserved += cfg.minimum() - c.cfg.minimum()
	s.repriceSpare()
	charge, spare := uint64(spareCharge), cfg.minimum() == 0
	if !spare {
		charge = s.shares.charge(cfg.minimum())
	}
	if c.charge == 0 || spare != c.spare {
		c.spare = spare
		c.turn = turn{charge: charge, start: s.fairOf(c).now}
	} else {
		s.fairOf(c).reprice(c, charge)
	}

	burst := cfg.Burst
	if burst == 0 {
		burst = DefaultBurst(cfg.MaxRate)
	}
	if cfg.MaxRate != 0 && c.limited {
		c.bucket.Set(cfg.MaxRate, burst, now)
	} else if cfg.MaxRate != 0 {
		c.bucket = NewBucket(cfg.MaxRate, burst)
		c.bucket.last = now
	}
	c.limited = cfg.MaxRate != 0
	c.maxBytes = orDefault(cfg.QueueBytes, defaultQueueBytes)
	c.maxFrames = orDefault(cfg.QueueFrames, defaultQueueFrames)
	c.cfg = cfg
}

// Config returns the configuration of the class.
func (c *Class[T]) Config() ClassConfig { return c.cfg }

// Set changes the configuration of the class from now on. What is queued stays queued, also when it is
// more than a new bound, and what the class has sent in excess of its maximum is still owed. Its error is
// a *ConfigError, and then nothing has changed. A class that has been removed does not change.
func (c *Class[T]) Set(cfg ClassConfig, now time.Duration) error {
	if c.removed {
		return nil
	}
	if err := c.of.check(&cfg, c.cfg.minimum()); err != nil {
		return err
	}
	c.of.unlist(c)
	c.configure(cfg, now)
	if c.frames > 0 {
		c.of.enlist(c, now)
	}
	return nil
}

// Move moves the items of a class that are wanted to another, nil meaning the default one, behind what is queued
// there, also if that is more than the bound. Items of a flow stay in their order.
func (c *Class[T]) Move(to *Class[T], wanted func(T) bool, now time.Duration) {
	if to == nil {
		to = c.of.rest
	}
	if c.frames == 0 || c == to {
		return
	}
	if to.flows == nil {
		to.flows = newFlows[T]()
	}
	c.of.unlist(c)
	c.of.unlist(to)
	for i := range c.flows.queue {
		f := &c.flows.queue[i]
		n := f.first
		f.first, f.last, f.bytes = nil, nil, 0
		for n != nil {
			next := n.next
			n.next = nil
			if wanted(n.item) {
				to.flows.push(&to.flows.queue[i], n)
				to.frames++
				to.bytes += n.size
				c.frames--
				c.bytes -= n.size
			} else {
				f.append(n)
			}
			n = next
		}
	}
	c.flows.relist()
	for _, k := range []*Class[T]{c, to} {
		if k.frames > 0 {
			c.of.enlist(k, now)
		}
	}
}

// Remove removes the class. What is queued is sent as if it were still there; frames given to the
// scheduler for it afterwards are of the default class. The default class cannot be removed.
func (c *Class[T]) Remove() {
	if c.removed || c == c.of.rest {
		return
	}
	c.removed = true
	c.of.shares.reserved -= c.cfg.minimum()
	c.of.repriceSpare()
}
