package team

import (
	"encoding/binary"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// snapshot is what the queues see of a team. It does not change.
type snapshot struct {
	closed  bool
	mode    Mode
	dist    Distribution
	rewrite bool // Config.rewrites
	pair    bool
	active  uint32 // slots that frames are sent on
	taken   uint32 // slots that frames are taken from
	primary uint8
	team    uint64 // MAC
	slots   [MaxMembers]*member
	station [MaxMembers]uint64 // source of what is sent by a member that it is not pinned to; 0 is none
	own     addressSet         // the stations
	weight  [MaxMembers]float64
	at      [buckets]uint8

	// Where things were before the last change, and before those not long before it.
	number     uint64
	changed    time.Duration
	was        [buckets]uint8
	wasPrimary uint8
}

// What was before a change matters to a receive queue until it has been found empty at a time when floods
// from before have come over the slowest cable, or has been served for maxSettle: a queue that is never
// empty has not held the oldest for so long.
const (
	skew      = 5 * time.Millisecond
	maxSettle = 100 * time.Millisecond

	// remember is how long a change counts as one of those not long before the last.
	remember = time.Second
)

// addressOf returns the 48 bits of a MAC that b begins with.
func addressOf(b []byte) uint64 {
	_ = b[5]
	return uint64(binary.BigEndian.Uint32(b))<<16 | uint64(b[4])<<8 | uint64(b[5])
}

func addressOfMAC(m ports.MAC) uint64 { return addressOf(m[:]) }

func isGroup(address uint64) bool { return address>>40&1 != 0 }

// bucketOf returns the bucket of a vNIC. Addresses are often given out one after the other; then their
// buckets are neighbours, which are at different members.
func bucketOf(address uint64) uint32 {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	return uint32(address+address/buckets*odd>>32) % buckets
}

// pin returns the member to which an address is pinned: where what is for it is taken from, and what it
// sends leaves unchanged.
func (s *snapshot) pin(address uint64) uint8 {
	if s.dist == AddressHash || isGroup(address) || address == s.team {
		return s.primary
	}
	return s.at[bucketOf(address)]
}

// pinWas is pin before the last change.
func (s *snapshot) pinWas(address uint64) uint8 {
	if s.dist == AddressHash || isGroup(address) || address == s.team {
		return s.wasPrimary
	}
	return s.was[bucketOf(address)]
}

func (s *snapshot) uses(slot uint8) bool { return s.active>>slot&1 != 0 }

// addressSet is a handful of addresses.
type addressSet struct {
	filter uint64 // a bit for the last six bits of each
	list   []uint64
}

func (a *addressSet) add(address uint64) {
	a.filter |= 1 << (address & 63)
	a.list = append(a.list, address)
}

func (a *addressSet) has(address uint64) bool {
	if a.filter>>(address&63)&1 == 0 {
		return false
	}
	for _, o := range a.list {
		if o == address {
			return true
		}
	}
	return false
}

// follow makes prev what was before s.
func (s *snapshot) follow(prev *snapshot, now time.Duration) {
	s.number, s.changed = prev.number+1, now
	s.was, s.wasPrimary = prev.at, prev.primary
	if now-prev.changed >= remember {
		return
	}
	for b, slot := range s.at {
		if slot == prev.at[b] {
			s.was[b] = prev.was[b]
		}
	}
	if s.primary == prev.primary {
		s.wasPrimary = prev.wasPrimary
	}
}

// sameAs reports whether the queues would see no difference.
func (s *snapshot) sameAs(o *snapshot) bool {
	return s.closed == o.closed && s.active == o.active && s.taken == o.taken && s.primary == o.primary &&
		s.slots == o.slots && s.weight == o.weight && s.station == o.station && s.at == o.at
}
