package capture

import (
	"io"
	"math"
	"time"
)

const (
	// outputSize is about how much is written at once.
	outputSize = 64 << 10

	never = math.MaxInt // bytes in the ring, for Capture.wakeAt
)

// writer is what belongs to the goroutine that writes.
type writer struct {
	w         io.Writer
	filter    string
	interval  time.Duration
	out       []byte // to be written
	frames    uint64 // that have been encoded and not written
	described int    // interfaces in the output
}

// rouse wakes the writer.
func (c *Capture) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run writes until the capture is closed or the writing fails.
func (c *Capture) run() {
	defer close(c.done)
	w := &c.writer
	w.out = appendSectionHeader(make([]byte, 0, 2*outputSize))
	err := c.drain()
	for err == nil && c.wait() {
		err = c.drain()
	}
	c.stopped.Store(true)
	if err == nil {
		if err = c.drain(); err == nil {
			c.conclude()
			err = c.flush()
		}
	}
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
}

// wait returns when there is something to write: at once if there is much, else after the flush interval.
// It returns false when the capture is closed.
func (c *Capture) wait() bool {
	c.mu.Lock()
	idle := c.ring.used() == 0 && c.writer.described == len(c.ports)
	if idle {
		c.wakeAt = 1
	}
	c.mu.Unlock()
	if idle {
		select {
		case <-c.wake:
		case <-c.close:
			return false
		}
	}
	t := time.NewTimer(c.writer.interval)
	defer t.Stop()
	for {
		c.mu.Lock()
		much := min(len(c.ring.buf)/4, 256<<10)
		records, _ := ready(c.ring.oldest(), 1)
		full := c.ring.used() >= much && len(records) > 0
		if !full {
			c.wakeAt = much
		}
		c.mu.Unlock()
		if full {
			return true
		}
		select {
		case <-c.wake:
		case <-t.C:
			return true
		case <-c.close:
			return false
		}
	}
}

// drain writes what is in the ring now, as far as it is settled.
func (c *Capture) drain() error {
	c.mu.Lock()
	c.wakeAt = never
	todo := c.ring.used()
	c.mu.Unlock()
	for first := true; first || todo > 0; first = false {
		c.mu.Lock()
		ports := c.ports
		comments := c.comments
		records, plain := ready(c.ring.oldest(), outputSize)
		c.mu.Unlock()

		w := &c.writer
		for _, p := range ports[w.described:] {
			w.out = appendInterface(w.out, &p.port, c.snapLen, w.filter)
		}
		w.described = len(ports)
		if len(records) == 0 {
			break
		}
		if plain || len(w.out) >= outputSize {
			if err := c.flush(); err != nil {
				return err
			}
		}
		w.encode(records, plain, ports, comments)
		if plain {
			if err := c.write(records); err != nil {
				return err
			}
		}
		c.mu.Lock()
		c.ring.release(len(records))
		c.mu.Unlock()
		todo -= len(records)
	}
	return c.flush()
}

// ready returns the first records of r that are settled, about limit bytes of them, and whether none is
// marked.
func ready(r []byte, limit int) (records []byte, plain bool) {
	n := 0
	plain = true
	for n < len(r) && n < limit && record(r[n:]).is(settled) {
		plain = plain && !record(r[n:]).is(marked)
		n += record(r[n:]).size()
	}
	return r[:n], plain
}

// encode makes records what is to be written: in their place when all are plain, else behind what there is.
func (w *writer) encode(records []byte, plain bool, ports []*port, comments [][]byte) {
	for len(records) > 0 {
		r := record(records)
		r, records = r[:r.size()], records[r.size():]
		n := r.frames()
		w.frames += uint64(n)
		ports[r.id()].delivered += uint64(n)
		switch {
		case !r.is(marked):
			r.restore()
			if !plain {
				w.out = append(w.out, r...)
			}
		case n > 0:
			w.packets(r, comments)
		}
	}
}

// packets encodes the frames of a marked record.
func (w *writer) packets(r record, comments [][]byte) {
	for len(r) > 0 {
		reason := r.reason()
		var block []byte
		block, r = r.next()
		if reason != unkept {
			w.out = appendPacket(w.out, block, comments[reason])
		}
	}
}

// flush writes what is in out.
func (c *Capture) flush() error {
	w := &c.writer
	if len(w.out) == 0 {
		return nil
	}
	err := c.write(w.out)
	w.out = w.out[:0]
	return err
}

// write writes b, which has the frames that have been encoded.
func (c *Capture) write(b []byte) error {
	w := &c.writer
	n, err := w.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.written += w.frames
	c.mu.Unlock()
	w.frames = 0
	return nil
}

// conclude encodes the statistics.
func (c *Capture) conclude() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for _, p := range c.ports {
		c.writer.out = appendStatistics(c.writer.out, p, c.start.UnixNano(), now)
	}
}
