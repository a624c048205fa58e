package vlan

import (
	"iter"
	"math/bits"
)

// Set is a set of VLAN ids within 1–4094: half a kilobyte, comparable with ==, copied by assignment.
// The zero Set is empty.
type Set struct {
	bits [(MaxID + 2) / 64]uint64
}

// AllIDs returns the set of all ids, 1–4094.
func AllIDs() Set {
	var s Set
	for i := range s.bits {
		s.bits[i] = ^uint64(0)
	}
	s.bits[0] &^= 1
	s.bits[reservedID/64] &^= 1 << (reservedID % 64)
	return s
}

// Has reports whether id is in the set. No set has an id out of 1–4094.
func (s *Set) Has(id uint16) bool { return id <= MaxID && s.has(id) }

// has is Has for an id of at most 12 bits.
func (s *Set) has(id uint16) bool { return s.bits[id/64%uint16(len(s.bits))]>>(id%64)&1 != 0 }

// Add adds an id. An id out of 1–4094 is an error.
func (s *Set) Add(id uint16) error { return s.AddRange(id, id) }

// AddRange adds the ids from first to last, which is not less than first. An id out of 1–4094 is an
// error and leaves the set unchanged.
func (s *Set) AddRange(first, last uint16) error {
	if err := CheckID(first); err != nil {
		return err
	}
	if err := CheckID(last); err != nil {
		return err
	}
	if last < first {
		return errBackwards(first, last)
	}
	for id := first; id <= last; id++ {
		s.bits[id/64] |= 1 << (id % 64)
	}
	return nil
}

// Remove removes an id, if it is there.
func (s *Set) Remove(id uint16) {
	if id <= MaxID {
		s.bits[id/64] &^= 1 << (id % 64)
	}
}

// Len returns the number of ids.
func (s Set) Len() int {
	n := 0
	for _, w := range s.bits {
		n += bits.OnesCount64(w)
	}
	return n
}

// IsZero reports whether the set is empty.
func (s Set) IsZero() bool { return s == Set{} }

// All yields the ids in ascending order.
func (s Set) All() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for i, w := range s.bits {
			for ; w != 0; w &= w - 1 {
				if !yield(uint16(i*64 + bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}

// Union returns the ids that are in s, in t or in both.
func (s Set) Union(t Set) Set {
	for i, w := range t.bits {
		s.bits[i] |= w
	}
	return s
}

// Equal reports whether s and t have the same ids. It is s == t.
func (s Set) Equal(t Set) bool { return s == t }
