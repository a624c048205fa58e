package qos

import "time"

// Stats is what a class has queued, and what has happened to its frames since it was added. Bytes are
// the sizes given to Enqueue.
type Stats struct {
	Queued, QueuedBytes   int
	Sent, SentBytes       uint64
	Dropped, DroppedBytes uint64 // because the queue was full

	// Throttled is how often the class had frames and had to wait for its maximum.
	Throttled uint64

	// Delay is the time that sent frames were queued: of the last one, the longest, and of all
	// together.
	DelayLast, DelayMax, DelaySum time.Duration
}

// DelayAverage returns the average time that sent frames were queued. That of a period follows from the
// differences of DelaySum and Sent.
func (s Stats) DelayAverage() time.Duration {
	if s.Sent == 0 {
		return 0
	}
	return s.DelaySum / time.Duration(s.Sent)
}

// Stats returns the statistics of the class.
func (c *Class[T]) Stats() Stats {
	s := c.stats
	s.Queued, s.QueuedBytes = c.frames, c.bytes
	return s
}

func (s *Stats) drop(size int) {
	s.Dropped++
	s.DroppedBytes += uint64(size)
}

func (s *Stats) send(size int, delay time.Duration) {
	s.Sent++
	s.SentBytes += uint64(size)
	s.DelayLast = delay
	s.DelaySum += delay
	if delay > s.DelayMax {
		s.DelayMax = delay
	}
}
