package team

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// vnics are the addresses that frames were sent from, each in each of its VLANs: who is to be announced,
// and whose frames, when they arrive, are reflections.
//
// The table is as large as it is. A guest that sends from ever new addresses displaces those of its set
// that have been silent for longest; who goes on sending comes back with the next frame.
type vnics struct {
	seed uint64
	mu   sync.Mutex // of who enters an address; all else needs none
	sets [vnicSets]vnicSet
}

const (
	vnicSets = 256
	vnicWays = 8

	tickShift = 26 // a tick is 67 ms

	reflectTicks = uint32(time.Second>>tickShift) + 1
	knownTicks   = uint32(time.Minute >> tickShift)
	forgetTicks  = uint32(5 * time.Minute >> tickShift)
)

// vnicSet begins with a cache line that is enough to find an address.
type vnicSet struct {
	key  [vnicWays]atomic.Uint64 // address<<16 | VLAN id, 0 when there is none
	seen [vnicWays]atomic.Uint32 // tick
	tpid [vnicWays]atomic.Uint32
	told [vnicWays]atomic.Uint32 // tick of the last announcement, whose echo may come back
}

func (v *vnics) init() { v.seed = rand.Uint64() | 1 }

// tickOf returns a tick that is so far from 0 that what has never been was long ago.
func tickOf(now time.Duration) uint32 { return uint32(now>>tickShift) + forgetTicks }

func (v *vnics) set(key uint64) *vnicSet {
	h := (key ^ v.seed>>32) * v.seed
	return &v.sets[(h^h>>32)*v.seed>>56]
}

// touch notes that a frame was sent from an address.
func (v *vnics) touch(key uint64, tpid uint16, tick uint32) {
	s := v.set(key)
	for i := range s.key {
		if s.key[i].Load() == key {
			if s.seen[i].Load() != tick {
				s.seen[i].Store(tick)
			}
			return
		}
	}
	v.enter(s, key, tpid, tick)
}

func (v *vnics) enter(s *vnicSet, key uint64, tpid uint16, tick uint32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	oldest := 0
	for i := range s.key {
		switch k := s.key[i].Load(); {
		case k == key:
			return
		case k == 0:
			oldest = i
		case s.key[oldest].Load() != 0 && s.seen[i].Load() < s.seen[oldest].Load():
			oldest = i
		}
	}
	s.key[oldest].Store(0)
	s.tpid[oldest].Store(uint32(tpid))
	s.seen[oldest].Store(tick)
	s.told[oldest].Store(0)
	s.key[oldest].Store(key)
}

// within reports whether a frame was sent from an address not more than so many ticks ago.
func (v *vnics) within(key uint64, tick, ticks uint32) bool {
	s := v.set(key)
	for i := range s.key {
		if s.key[i].Load() == key {
			return s.silence(i, tick) <= ticks
		}
	}
	return false
}

func (s *vnicSet) silence(i int, tick uint32) uint32 { return tick - min(tick, s.seen[i].Load()) }

// reflected reports whether a frame that arrives from an address has been sent by the team. When the
// address has been silent here for longer than any frame travels, it has moved to another place, and is
// forgotten.
func (v *vnics) reflected(key uint64, tick uint32) bool {
	s := v.set(key)
	for i := range s.key {
		if s.key[i].Load() != key {
			continue
		}
		if s.silence(i, tick) <= reflectTicks || tick-min(tick, s.told[i].Load()) <= reflectTicks {
			return true
		}
		s.key[i].CompareAndSwap(key, 0)
		return false
	}
	return false
}

// echo notes that an address is announced. That keeps nothing from being forgotten.
func (v *vnics) echo(key uint64, tick uint32) {
	s := v.set(key)
	for i := range s.key {
		if s.key[i].Load() == key {
			s.told[i].Store(tick)
		}
	}
}

// vnic is an entry of the table.
type vnic struct {
	address uint64
	tpid    uint16
	vid     uint16
}

func (n vnic) key() uint64 { return n.address<<16 | uint64(n.vid) }

// all returns the addresses that have not been silent for too long.
func (v *vnics) all(tick uint32) []vnic {
	v.mu.Lock()
	defer v.mu.Unlock()
	var list []vnic
	for s := range v.sets {
		for i := range vnicWays {
			set := &v.sets[s]
			if key := set.key[i].Load(); key != 0 && set.silence(i, tick) <= forgetTicks {
				list = append(list, vnic{key >> 16, uint16(set.tpid[i].Load()), uint16(key)})
			}
		}
	}
	return list
}

// forget removes an address from all VLANs.
func (v *vnics) forget(address uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for s := range v.sets {
		for i := range vnicWays {
			if v.sets[s].key[i].Load()>>16 == address {
				v.sets[s].key[i].Store(0)
			}
		}
	}
}
