package qos

const (
	// flowsOf is the number of flow queues of a class; a power of two. Flows that share one are
	// treated as one.
	flowsOf    = 64
	flowsShift = 32 - 6

	// quantum is what a flow may send before it is another's turn, in bytes: a frame of 1514 bytes
	// on the wire.
	quantum = 1514 + overhead

	// rounds is the number of turns that a flow waits at most after the longest frame.
	rounds = 8
)

// flow is a queue of a class.
type flow[T any] struct {
	first, last *frame[T]
	next        *flow[T] // in its list
	bytes       int      // queued
	credit      int      // bytes it may send before its turn ends
	listed      bool
	fresh       bool // in the list of fresh ones
}

// flowList is a list of flows that take turns.
type flowList[T any] struct{ first, last *flow[T] }

func (l *flowList[T]) push(f *flow[T]) {
	f.next = nil
	if l.last == nil {
		l.first = f
	} else {
		l.last.next = f
	}
	l.last = f
}

func (l *flowList[T]) pop() {
	f := l.first
	l.first = f.next
	if l.first == nil {
		l.last = nil
	}
	f.next = nil
}

// flows are the queues of a class: deficit round robin (Shreedhar, Varghese 1995) in which a flow that had
// nothing queued comes first for one quantum, as in RFC 8290, section 4. So flows that send little do not
// wait for those that send much.
type flows[T any] struct {
	fresh   flowList[T]
	old     flowList[T]
	fattest *flow[T] // has the most bytes queued, as far as seen
	longest int      // frame of the class ever
	queue   [flowsOf]flow[T]
}

func newFlows[T any]() *flows[T] {
	fs := new(flows[T])
	fs.fattest = &fs.queue[0]
	return fs
}

// of returns the queue of a flow by its hash, which is multiplied by 2^32 over the golden ratio so that
// any of its bits counts.
func (fs *flows[T]) of(hash uint32) *flow[T] { return &fs.queue[hash*0x9e3779b1>>flowsShift] }

// append puts a frame at the end of the flow.
func (f *flow[T]) append(n *frame[T]) {
	if f.first == nil {
		f.first = n
	} else {
		f.last.next = n
	}
	f.last = n
	f.bytes += n.size
}

// relist takes flows without frames out of the lists.
func (fs *flows[T]) relist() {
	for _, l := range []*flowList[T]{&fs.fresh, &fs.old} {
		was := *l
		*l = flowList[T]{}
		for f := was.first; f != nil; {
			next := f.next
			if f.next, f.listed = nil, f.first != nil; f.listed {
				l.push(f)
			}
			f = next
		}
	}
}

func (fs *flows[T]) push(f *flow[T], n *frame[T]) {
	f.append(n)
	if n.size > fs.longest {
		fs.longest = n.size
	}
	if f.bytes > fs.fattest.bytes {
		fs.fattest = f
	}
	if !f.listed {
		f.listed, f.fresh, f.credit = true, true, quantum
		fs.fresh.push(f)
	}
}

// pop removes the frame whose turn it is. There must be one.
func (fs *flows[T]) pop() *frame[T] {
	for {
		f := fs.fresh.first
		if f == nil {
			f = fs.old.first
		}
		if f.next == nil && (fs.fresh.first == nil || fs.old.first == nil) { // no other flow
			n := f.take()
			f.credit = quantum
			if f.first == nil {
				f.listed = false
				fs.fresh, fs.old = flowList[T]{}, flowList[T]{}
			}
			return n
		}
		if f.first != nil && f.credit > 0 {
			n := f.take()
			f.credit -= n.size
			return n
		}
		if f.fresh {
			fs.fresh.pop()
		} else {
			fs.old.pop()
		}
		if f.first == nil && !f.fresh {
			f.listed = false
			continue
		}
		// A fresh flow that is empty takes a turn among the old ones, too: else a flow could
		// always be fresh by sending one frame at a time.
		if f.first != nil {
			f.credit += max(quantum, fs.longest/rounds)
		}
		f.fresh = false
		fs.old.push(f)
	}
}

// take removes the first frame of the flow.
func (f *flow[T]) take() *frame[T] {
	n := f.first
	f.first = n.next
	f.bytes -= n.size
	return n
}

// victim returns the flow that has the most queued, as far as seen, or nil when that is less than floor
// bytes. It looks at all flows only for the sake of a flow that has nothing queued.
func (fs *flows[T]) victim(f *flow[T], floor int) *flow[T] {
	if f.bytes > fs.fattest.bytes {
		fs.fattest = f
	}
	if fs.fattest.bytes < floor && f.first == nil {
		for i := range fs.queue {
			if fs.queue[i].bytes > fs.fattest.bytes {
				fs.fattest = &fs.queue[i]
			}
		}
	}
	if fs.fattest.bytes < floor {
		return nil
	}
	return fs.fattest
}
