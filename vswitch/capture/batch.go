package capture

import (
	"math/bits"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// maxReasons bounds the reasons that are told apart; those of the switch and of well-behaved extensions are
// some dozens.
const maxReasons = 4096

// pending is a batch between Capture and Fate.
type pending struct {
	batch *extension.Batch
	pick  uint64 // the frames that have a block, as bits
	lost  uint64 // the frames for which there was no room
	at    int    // of the record in the ring
	size  int    // of the record; 0 when there is none
}

// Capture implements extension.Capture: it copies the frames that the filter accepts, as far as is known by
// now, into a record, which waits for Fate. Filters may edit the frames in between.
func (c *Capture) Capture(b *extension.Batch) {
	if p, ok := b.State().(*port); ok && c.wants(b) {
		c.record(b, p)
	}
}

func (c *Capture) wants(b *extension.Batch) bool {
	return c.match.directions[b.Direction()&1] && !c.stopped.Load()
}

func (c *Capture) record(b *extension.Batch, p *port) {
	e := pending{batch: b, pick: c.match.frames(b)}
	e.size = sizeOf(b, e.pick, c.snapLen)
	var r record
	var stamp uint64

	c.mu.Lock()
	if e.size > 0 {
		at, room := c.ring.room(e.size)
		if e.size > room {
			e.pick, e.size, e.lost = fit(b, e.pick, c.snapLen, room)
		}
		if e.size > 0 {
			e.at = at
			r = c.ring.reserve(at, e.size)
			r.init(e.size)
			stamp = uint64(c.now())
		}
	}
	c.pending = append(c.pending, e)
	c.mu.Unlock()

	if r != nil {
		r.fill(b, e.pick, c.snapLen, p.id, stamp)
	}
}

// Fate implements extension.Fates: it adds to the record of the batch why frames were dropped and hands it
// to the writer.
func (c *Capture) Fate(b *extension.Batch) {
	p, ok := b.State().(*port)
	if !ok || !c.wants(b) {
		return
	}
	c.mu.Lock()
	e, ok := c.take(b)
	if !ok { // all of them were dropped before Capture would have seen them
		c.mu.Unlock()
		c.record(b, p)
		c.mu.Lock()
		e, _ = c.take(b)
	}
	p.received += uint64(b.Len())
	c.settle(b, p, &e)
	wake := c.ring.used() >= c.wakeAt
	if wake {
		c.wakeAt = never
	}
	c.mu.Unlock()
	if wake {
		c.rouse()
	}
}

// take removes the entry of a batch. There are few: for each worker one, and one more for what it sends
// meanwhile.
func (c *Capture) take(b *extension.Batch) (e pending, ok bool) {
	for i := len(c.pending) - 1; i >= 0; i-- {
		if c.pending[i].batch == b {
			e = c.pending[i]
			last := len(c.pending) - 1
			c.pending[i] = c.pending[last]
			c.pending = c.pending[:last]
			return e, true
		}
	}
	return pending{}, false
}

// settle completes the record of a batch now that it is known what became of the frames. c.mu is held.
func (c *Capture) settle(b *extension.Batch, p *port, e *pending) {
	for m := e.lost; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		if c.match.fate(!b.Alive(i), b.Reason(i)) {
			p.lost++
			p.accepted++
		}
	}
	if e.size == 0 {
		return
	}
	r := record(c.ring.buf[e.at : e.at+e.size])
	kept, state := bits.OnesCount64(e.pick), uint8(0)
	switch passed := allAlive(b); {
	case !passed:
		kept, state = c.judge(b, r, e.pick)
	case c.match.fates:
		kept = 0
	}
	p.accepted += uint64(kept)
	if kept == 0 {
		if c.ring.unreserve(e.at, e.size) {
			return
		}
		state = marked
	}
	r.settle(kept, state)
}

func allAlive(b *extension.Batch) bool {
	for i := range b.Len() {
		if !b.Alive(i) {
			return false
		}
	}
	return true
}

// judge notes what became of the frames of a record, and returns how many of them the filter accepts and the
// state of the record.
func (c *Capture) judge(b *extension.Batch, r record, pick uint64) (kept int, state uint8) {
	var lastReason string
	var lastNumber uint16
	for m := pick; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		dropped, reason := !b.Alive(i), b.Reason(i)
		number := uint16(alive)
		switch {
		case !c.match.fate(dropped, reason):
			number = unkept
		case dropped:
			if lastNumber == 0 || reason != lastReason {
				lastReason, lastNumber = reason, c.number(reason)
			}
			number = lastNumber
		}
		if number != unkept {
			kept++
		}
		if number != alive {
			r.setReason(number)
			state = marked
		}
		_, r = r.next()
	}
	return kept, state
}

// number returns the number of a reason. c.mu is held.
func (c *Capture) number(reason string) uint16 {
	if n, ok := c.reasons[reason]; ok {
		return n
	}
	n := uint16(len(c.comments))
	if n > maxReasons {
		return maxReasons
	}
	text := "dropped: " + reason
	if n == maxReasons {
		text = "dropped: for another reason"
	}
	c.comments = append(c.comments, appendOption(nil, optComment, clip(text)))
	c.reasons[reason] = n
	return n
}
