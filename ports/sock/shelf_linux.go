package sock

import "sync"

// shelf keeps what sockets need only while they work. The one that was put back last is taken first:
// it is in the processor's cache.
type shelf[T any] struct {
	make func() *T

	mu   sync.Mutex
	free []*T
}

// shelfSize is how many are kept, more than there are workers.
const shelfSize = 32

func (s *shelf[T]) take() *T {
	s.mu.Lock()
	if n := len(s.free); n > 0 {
		t := s.free[n-1]
		s.free = s.free[:n-1]
		s.mu.Unlock()
		return t
	}
	s.mu.Unlock()
	return s.make()
}

func (s *shelf[T]) put(t *T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == nil {
		s.free = make([]*T, 0, shelfSize)
	}
	if len(s.free) < shelfSize {
		s.free = append(s.free, t)
	}
}
