package capture

import (
	"encoding/binary"
	"math/bits"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// maxReasons bounds the reasons that are told apart; those of the switch and of well-behaved extensions are
// some dozens.
const maxReasons = 4096

// pending is a batch between Capture and Fate.
type pending struct {
	batch *extension.Batch
	at    int    // of its record in the ring
	size  int    // of the record; 0 when there is none
	lost  uint64 // the frames for which there was no room
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
	pick := c.match.frames(b)
	var words [extension.MaxBatch]frameWord
	size := recordHeader
	for m := pick; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		wire := min(b.Frame(i).WireLen(), maxFrameLen)
		n := min(wire, c.snapLen)
		words[i&63] = makeFrameWord(n, wire, i)
		size += frameSize(n)
	}
	e := pending{batch: b}
	var r record

	c.mu.Lock()
	if pick != 0 {
		at, room := c.ring.room(size)
		if size > room {
			pick, size, e.lost = fit(&words, pick, room)
		}
		if pick != 0 {
			e.at, e.size = at, size
			r = c.ring.reserve(at, size)
			r.init(size, p.id, c.now(), uint8(b.Direction()), bits.OnesCount64(pick))
		}
	}
	c.pending = append(c.pending, e)
	c.mu.Unlock()

	if r == nil {
		return
	}
	dst := r[recordHeader:]
	for m := pick; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		w := words[i&63]
		n := w.captured()
		le.PutUint64(dst, uint64(w))
		f := b.Frame(i)
		if head := f.Head(); len(head) == w.original() {
			copy(dst[word:], head[:n])
		} else {
			copyWire(dst[word:word+n], f)
		}
		dst = dst[frameSize(n):]
	}
}

// fit returns the first frames of pick for which there is room, the size of their record, and the others.
func fit(words *[extension.MaxBatch]frameWord, pick uint64, room int) (fits uint64, size int, rest uint64) {
	size = recordHeader
	for m := pick; m != 0; m &= m - 1 {
		n := frameSize(words[bits.TrailingZeros64(m)&63].captured())
		if size+n > room {
			return pick &^ m, size, m
		}
		size += n
	}
	return pick, size, 0
}

// copyWire copies the first len(dst) bytes of a frame as it looks on the wire.
func copyWire(dst []byte, f *ports.Frame) {
	const macs, tag = 12, 4
	h := f.Head()
	n := 0
	if f.WireLen() != f.Len() {
		var t [tag]byte
		binary.BigEndian.PutUint16(t[:], f.VLAN.TPID)
		binary.BigEndian.PutUint16(t[2:], f.VLAN.TCI)
		n = copy(dst, h[:macs])
		n += copy(dst[n:], t[:])
		h = h[macs:]
	}
	n += copy(dst[n:], h)
	for _, s := range f.Body() {
		if n == len(dst) {
			break
		}
		n += copy(dst[n:], s)
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
	kept := r.frames()
	if c.match.fates || !allAlive(b) {
		kept = c.judge(b, r)
	}
	p.accepted += uint64(kept)
	if kept > 0 || !c.ring.unreserve(e.at, e.size) {
		r.settle()
	}
}

func allAlive(b *extension.Batch) bool {
	for i := range b.Len() {
		if !b.Alive(i) {
			return false
		}
	}
	return true
}

// judge notes what became of the frames of a record, and returns how many of them the filter accepts.
func (c *Capture) judge(b *extension.Batch, r record) (kept int) {
	at := r[recordHeader:]
	var lastReason string
	var lastNumber uint16
	for range r.frames() {
		w := frameWord(le.Uint64(at))
		i := w.place()
		dropped, reason := !b.Alive(i), b.Reason(i)
		if !c.match.fate(dropped, reason) {
			w = w.withReason(unkept)
		} else {
			kept++
			if dropped {
				if lastNumber == 0 || reason != lastReason {
					lastReason, lastNumber = reason, c.number(reason)
				}
				w = w.withReason(lastNumber)
			}
		}
		le.PutUint64(at, uint64(w))
		at = at[frameSize(w.captured()):]
	}
	return kept
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
