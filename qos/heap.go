package qos

// entry is a class in a heap. Keys wrap around: of two, the one from which the other is less than half
// the numbers ahead is the smaller.
type entry[T any] struct {
	key   uint64
	class *Class[T]
}

// heap is a binary heap of classes, the smallest key first.
type heap[T any] []entry[T]

func before(a, b uint64) bool { return int64(a-b) < 0 }

func (h *heap[T]) push(key uint64, c *Class[T]) {
	s := append(*h, entry[T]{})
	*h = s
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !before(key, s[up].key) {
			break
		}
		s[i] = s[up]
		i = up
	}
	s[i] = entry[T]{key, c}
}

// pop removes the first class.
func (h *heap[T]) pop() *Class[T] {
	s := *h
	first, last := s[0].class, len(s)-1
	moved := s[last]
	s[last] = entry[T]{}
	*h = s[:last]
	if last > 0 {
		h.sink(0, moved)
	}
	return first
}

// sink puts e where entry i is, or below.
func (h *heap[T]) sink(i int, e entry[T]) {
	s := *h
	for {
		down := 2*i + 1
		if down >= len(s) {
			break
		}
		if right := down + 1; right < len(s) {
			down += int((s[right].key - s[down].key) >> 63) // before, without a branch
		}
		if !before(s[down].key, e.key) {
			break
		}
		s[i] = s[down]
		i = down
	}
	s[i] = e
}

// rekey gives the first class a key, and puts it where it then belongs. It goes down to a leaf and up
// again: a class that has just sent is behind most others, and comparing it on the way down would cost a
// mispredicted branch a level.
func (h *heap[T]) rekey(key uint64) {
	s := *h
	e := entry[T]{key, s[0].class}
	i := 0
	for {
		down := 2*i + 1
		if down >= len(s) {
			break
		}
		if right := down + 1; right < len(s) {
			down += int((s[right].key - s[down].key) >> 63)
		}
		s[i] = s[down]
		i = down
	}
	for i > 0 {
		up := (i - 1) / 2
		if !before(key, s[up].key) {
			break
		}
		s[i] = s[up]
		i = up
	}
	s[i] = e
}

// remove removes a class that is in the heap, in time proportional to the length of the heap.
func (h *heap[T]) remove(c *Class[T]) {
	s := *h
	kept := s[:0]
	for _, e := range s {
		if e.class != c {
			kept = append(kept, e)
		}
	}
	clear(s[len(kept):])
	*h = kept
	for i := len(kept)/2 - 1; i >= 0; i-- {
		h.sink(i, kept[i])
	}
}
