package acl

import (
	"sync"
	"time"
)

// State is what one vNIC remembers: connections, fragments, meters. An idle one is a few hundred bytes;
// its tables grow as they are needed and shrink again.
//
// Any number of goroutines may use it at once. A Judge holds its lock, for the time that a batch
// takes, some 20 ns a packet: the worker that polls the vNIC and those that deliver to it wait for each
// other as the latter do for its transmit queue, and for no other vNIC.
type State struct {
	key hashKey // does not change

	mu        sync.Mutex
	table     table
	datagrams datagrams
	cache     cache
	bound     *binding // of the policy used last
	former    *binding // of the one before: for workers that have not yet heard of the change
	epoch     uint32
	stats     Stats
	touched   uint64
}

// Stats are counts since the State was made.
type Stats struct {
	Connections int    // at present
	Created     uint64 // connections
	Expired     uint64 // forgotten when idle, or because no rule is stateful any more
	Evicted     uint64 // forgotten to make room
	Refused     uint64 // not made for want of room; their packets were denied

	DatagramsEvicted uint64 // fragmented datagrams forgotten to make room
}

// NewState returns a State without connections.
func NewState() *State { return &State{key: newHashKey()} }

// Sweep forgets connections that have expired, of some thousand that it looks at, and gives back memory
// that is not needed any more. Judge.End does the same, bit by bit; Sweep is for vNICs without traffic, every
// second or so.
func (s *State) Sweep(now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.former = nil
	if s.bound == nil {
		return
	}
	t := ticks(now)
	s.stats.Expired += uint64(s.table.sweep(s.bound.policy, t, 2048))
	if s.table.count == 0 {
		s.table = table{}
	}
	s.datagrams.release(t)
	s.cache.release()
}

// Stats returns the counts.
func (s *State) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.stats
	n.Connections = s.table.count
	n.DatagramsEvicted = s.datagrams.evicted
	return n
}

// Meters returns the readings of the meters of p, in the order of its rules.
func (s *State) Meters(p *Policy) []MeterReading {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.binding(p)
	if b == nil {
		b = newBinding(p, 0, s.former, s.bound)
	}
	var list []MeterReading
	for i, rule := range p.meters {
		list = append(list, MeterReading{int(rule), b.counts[i][0], b.counts[i][1]})
	}
	return list
}

func ticks(d time.Duration) uint32 { return uint32(d / tick) }

// binding returns the binding of p, or nil.
func (s *State) binding(p *Policy) *binding {
	for _, b := range [...]*binding{s.bound, s.former} {
		if b != nil && b.policy == p {
			return b
		}
	}
	return nil
}

// bind returns the binding of p, which becomes that of the state.
func (s *State) bind(p *Policy) *binding {
	if s.bound != nil && s.bound.policy == p {
		return s.bound
	}
	if s.former != nil && s.former.policy == p {
		s.bound, s.former = s.former, s.bound
		return s.bound
	}
	s.epoch++
	s.bound, s.former = newBinding(p, s.epoch, s.former, s.bound), s.bound
	if !p.tracks {
		s.stats.Expired += uint64(s.table.count)
		s.table = table{}
	}
	return s.bound
}
