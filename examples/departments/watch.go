package main

import (
	"maps"
	"sync"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
)

// watched is the end of a cable that notes what it receives.
type watched struct {
	*ports.PipeEnd
	seen *sightings
}

var (
	_ ports.Backend  = watched{}
	_ ports.Notifier = watchedQueue{}
)

// Rx implements ports.Backend.
func (w watched) Rx(i int) ports.RxQueue {
	q := w.PipeEnd.Rx(i)
	return watchedQueue{q, q.(ports.Notifier), w.seen}
}

type watchedQueue struct {
	ports.RxQueue
	ports.Notifier
	seen *sightings
}

// Recv implements ports.RxQueue.
func (q watchedQueue) Recv(b *ports.Batch) error {
	before := b.Len()
	err := q.RxQueue.Recv(b)
	q.seen.add(b.Frames()[before:])
	return err
}

// sightings are the frames that were seen somewhere, by their VLAN (0: without a tag) and source.
type sightings struct {
	mu    sync.Mutex
	vlans map[uint16]int
	from  map[ports.MAC]bool
}

func newSightings() *sightings {
	return &sightings{vlans: map[uint16]int{}, from: map[ports.MAC]bool{}}
}

func (s *sightings) add(frames []*ports.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range frames {
		s.vlans[vlan.VID(f.VLAN.TCI)]++
		if head := f.Head(); len(head) >= 12 {
			s.from[ports.MAC(head[6:12])] = true
		}
	}
}

// framesOf returns the number of frames by VLAN.
func (s *sightings) framesOf() map[uint16]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.vlans)
}

// heard reports whether there was a frame from a station.
func (s *sightings) heard(from ports.MAC) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from[from]
}
