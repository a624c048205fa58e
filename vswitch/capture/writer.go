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
	out       []byte // encoded, to be written
	frames    uint64 // in out
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
		full := c.ring.used() >= much && len(settled(c.ring.oldest(), 1)) > 0
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
		records := settled(c.ring.oldest(), outputSize)
		c.mu.Unlock()

		for _, p := range ports[c.writer.described:] {
			c.writer.out = appendInterface(c.writer.out, &p.port, c.snapLen, c.writer.filter)
		}
		c.writer.described = len(ports)
		for r := records; len(r) > 0; {
			c.writer.packets(record(r), ports[record(r).id()], comments)
			r = r[record(r).size():]
		}
		if len(records) == 0 {
			break
		}
		c.mu.Lock()
		c.ring.release(len(records))
		c.mu.Unlock()
		todo -= len(records)
		if len(c.writer.out) >= outputSize {
			if err := c.flush(); err != nil {
				return err
			}
		}
	}
	return c.flush()
}

// settled returns the first records of r that are settled, about limit bytes of them.
func settled(r []byte, limit int) []byte {
	n := 0
	for n < len(r) && n < limit && record(r[n:]).settled() {
		n += record(r[n:]).size()
	}
	return r[:n]
}

// packets encodes the frames of a record.
func (w *writer) packets(r record, p *port, comments [][]byte) {
	at := r[recordHeader:]
	for range r.frames() {
		f := frameWord(le.Uint64(at))
		n := f.captured()
		if reason := f.reason(); reason != unkept {
			w.out = appendPacket(w.out, r, f.original(), at[word:word+n], comments[reason])
			w.frames++
			p.delivered++
		}
		at = at[frameSize(n):]
	}
}

// flush writes what has been encoded.
func (c *Capture) flush() error {
	w := &c.writer
	if len(w.out) == 0 {
		return nil
	}
	n, err := w.w.Write(w.out)
	if err == nil && n < len(w.out) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.written += w.frames
	c.mu.Unlock()
	w.out, w.frames = w.out[:0], 0
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
