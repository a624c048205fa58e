package qos

// fair is start-time fair queueing (Goyal, Vin, Cheng 1996). Each class has a virtual time, which a frame
// that it sends moves on by the size of the frame times the charge for a byte of the class, and the class
// furthest back sends next. A class that begins to send has the virtual time of the frame sent last, so it
// comes next, however high its charge. Only what is sent is charged, so the size of a frame need not be
// known before its turn.
type fair[T any] struct {
	ready  heap[T] // classes that may send, by virtual time
	now    uint64  // virtual time of the frame sent last
	latest uint64  // the furthest virtual time of any class
}

// turn is the place of a class in a fair.
type turn struct {
	charge uint64 // for a byte
	start  uint64 // virtual time at which it sends next, or may send if it has something
	ahead  uint64 // what was charged last
}

// enter makes a class take part. It does not make up for the time that it was away, but what it sent last
// is still charged. If that is paid, it comes before all others.
func (q *fair[T]) enter(c *Class[T]) {
	if owed := c.start - q.now; owed-1 >= c.ahead {
		c.start = q.now - 1
	}
	q.ready.push(c.start, c)
}

// sent charges the first class for a frame, and lets it take part further or not.
func (q *fair[T]) sent(c *Class[T], size int, stays bool) {
	if before(q.now, c.start) {
		q.now = c.start
	}
	c.ahead = c.charge * uint64(size)
	c.start += c.ahead
	if before(q.latest, c.start) {
		q.latest = c.start
	}
	if stays {
		q.ready.rekey(c.start)
		return
	}
	q.ready.pop()
	if len(q.ready) == 0 {
		q.now = q.latest // nobody competes: what was sent before counts no more
	}
}

// reprice changes the charge for a byte of a class that does not take part now. What it sent last is
// charged anew.
func (q *fair[T]) reprice(c *Class[T], charge uint64) {
	owed := c.start - q.now
	if owed > c.ahead {
		owed = 0
	}
	c.ahead = owed / c.charge * charge
	c.charge = charge
	c.start = q.now + c.ahead
}
