package team

import (
	"encoding/binary"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

const (
	etherLen = 14
	macsLen  = 12
	tagLen   = 4

	igmp = 2   // IANA protocol numbers
	vrrp = 112 // whose sender is its MAC (RFC 9568, section 7.3)

	// ICMPv6 types of Multicast Listener Discovery (RFC 2710, RFC 3810) and of Neighbor Discovery
	// (RFC 4861).
	mldQuery, mldDone = 130, 132
	mldReport2        = 143
	ndFirst, ndLast   = 133, 137
)

// way is where a frame leaves.
type way struct {
	slot    uint8
	moving  bool   // the vNIC is between two members: it must not leave now
	station uint64 // source address to leave with; 0 when it is to stay
}

// route finds the way of a frame, and notes its source.
func (q *txQueue) route(s *snapshot, f *ports.Frame, now time.Duration) way {
	head := f.Head()
	if len(head) < etherLen {
		return way{slot: s.primary}
	}
	w := binary.BigEndian.Uint64(head[4:])
	src := w & (1<<48 - 1)
	vid, tpid := vlanOf(f, head)
	if key := src<<16 | uint64(vid); q.noted[src%uint64(len(q.noted))] != key {
		q.note(src, key, tpid)
	}

	pin := s.primary
	switch s.dist {
	case HyperVPort:
		pin = s.pin(src)
		if s.mode == SwitchIndependent && head[0]&1 != 0 && q.speaksForGroup(s, pin, f, head) {
			return way{slot: s.primary, station: s.station[s.primary]}
		}
		return way{slot: pin, moving: now-s.changed < q.team.cfg.FlowletGap && s.moving(src)}
	case Dynamic:
		pin = s.pin(src)
	}
	// Frames to groups stay, so that none is flooded from an address that nobody knows.
	if s.rewrite && head[0]&1 != 0 {
		if q.speaksForGroup(s, pin, f, head) {
			return way{slot: s.primary, station: s.station[s.primary]}
		}
		return way{slot: pin}
	}
	n := f.Len()
	hash, plain := hashPlain(head)
	if !plain {
		q.h.Parse(head, n)
		if s.rewrite && bound(&q.h, head) {
			return way{slot: pin}
		}
		hash = hashOf(&q.h, head)
	}
	slot := q.steer(hash, n, now)
	if slot == pin || !s.rewrite {
		return way{slot: slot}
	}
	return way{slot: slot, station: s.station[slot]}
}

// bound reports whether a frame must leave with the source it has: all but IP, and what IP stations send
// to tell or find each other's addresses.
func bound(h *header.Header, head []byte) bool {
	switch {
	case h.Reason != header.OK || h.Flags&(header.IPv4|header.IPv6) == 0:
		return true
	case h.Proto == header.ICMPv6:
		if h.L4 == 0 {
			return true // a fragment, which may be of anything
		}
		kind := head[h.L4]
		return kind >= ndFirst && kind <= ndLast || h.Flags&header.Fragment != 0
	}
	return h.Proto == vrrp
}

// speaksForGroup reports whether a frame to a group, whose source is pinned to a member, must leave by the
// primary instead: it tells switches who wants to hear the group.
func (q *txQueue) speaksForGroup(s *snapshot, pin uint8, f *ports.Frame, head []byte) bool {
	if pin == s.primary || s.station[s.primary] == 0 {
		return false
	}
	q.h.Parse(head, f.Len())
	h := &q.h
	switch {
	case h.Reason != header.OK:
		return false
	case h.Flags&header.IPv4 != 0:
		return h.Proto == igmp
	case h.Flags&header.IPv6 != 0 && h.Proto == header.ICMPv6 && h.L4 != 0:
		kind := head[h.L4]
		return kind >= mldQuery && kind <= mldDone || kind == mldReport2
	}
	return false
}

// moving reports whether a vNIC has just got another member though the one before is well, as the standby of a pair is
// when the primary comes back.
func (s *snapshot) moving(address uint64) bool {
	was, is := s.pinWas(address), s.pin(address)
	return was != is && was != nobody && (s.uses(was) || s.pair && !s.slots[is].standby)
}

// note enters the source of a frame into the table of vNICs, once a tick.
func (q *txQueue) note(src, key uint64, tpid uint16) {
	if !isGroup(src) && src != 0 {
		q.noted[src%uint64(len(q.noted))] = key
		q.team.vnics.touch(key, tpid, q.tick)
	}
}

// vlanOf returns the outermost tag of a frame, be it beside the bytes or among them.
func vlanOf(f *ports.Frame, head []byte) (vid, tpid uint16) {
	if f.VLAN.TPID != 0 {
		return f.VLAN.VID(), f.VLAN.TPID
	}
	if t := binary.BigEndian.Uint16(head[macsLen:]); (t == ports.TPID8021Q || t == ports.TPID8021AD) && len(head) >= etherLen+tagLen {
		return binary.BigEndian.Uint16(head[etherLen:]) & 0xfff, t
	}
	return 0, 0
}
