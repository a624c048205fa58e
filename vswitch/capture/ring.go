package capture

// ring is a queue of records in one piece of memory. A record is one after the other reserved, filled, read
// and released; it is contiguous. It is the caller's to lock.
type ring struct {
	buf        []byte
	head, tail int // where the next record comes, and where the oldest one begins
	wrapped    bool
	limit      int // where the records behind tail end, when those before head have begun again at 0
}

// room returns where a record of want bytes fits; when none does, the largest free place.
func (r *ring) room(want int) (at, n int) {
	if r.wrapped {
		return r.head, r.tail - r.head
	}
	if n = len(r.buf) - r.head; n >= want || n >= r.tail {
		return r.head, n
	}
	return 0, r.tail
}

// reserve takes n bytes at a place that room returned.
func (r *ring) reserve(at, n int) []byte {
	if at != r.head {
		r.wrapped, r.limit = true, r.head
	}
	r.head = at + n
	return r.buf[at:r.head]
}

// unreserve gives back a record if it is the newest one, and reports whether it was.
func (r *ring) unreserve(at, n int) bool {
	if at+n != r.head {
		return false
	}
	r.head = at
	if r.wrapped && at == 0 {
		r.head, r.wrapped = r.limit, false
	}
	r.rewind()
	return true
}

// used is the number of bytes in records.
func (r *ring) used() int {
	if r.wrapped {
		return r.limit - r.tail + r.head
	}
	return r.head - r.tail
}

// oldest returns the oldest records that lie one behind the other.
func (r *ring) oldest() []byte {
	if r.wrapped {
		return r.buf[r.tail:r.limit]
	}
	return r.buf[r.tail:r.head]
}

// release frees the n oldest bytes.
func (r *ring) release(n int) {
	r.tail += n
	r.rewind()
}

// rewind goes back to the start where possible, so that a short queue stays in the cache.
func (r *ring) rewind() {
	if r.wrapped && r.tail == r.limit {
		r.tail, r.wrapped = 0, false
	}
	if !r.wrapped && r.tail == r.head {
		r.tail, r.head = 0, 0
	}
}
