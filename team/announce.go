package team

import (
	"encoding/binary"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// Announcements are made several times, as one may be lost before the switch forwards, and at a bounded
// rate.
const (
	announceTimes = 3
	announceEvery = 100 * time.Millisecond
	announceBurst = 64
	announcePause = 2 * time.Millisecond

	// refreshEvery is how often an address is announced in any case when most of what is sent from
	// it may leave with another: well below the 300 s after which switches forget (IEEE 802.1Q,
	// table 8-6).
	refreshEvery = time.Minute
)

// announcement tells the switches where a vNIC is now.
type announcement struct {
	vnic vnic
	left int
	at   time.Duration
}

// announceMoves makes announcements due for vNICs that are pinned to another member than before.
func (t *Team) announceMoves(s, prev *snapshot, now time.Duration) {
	var everyone bool
	switch {
	case s.active == 0:
		return
	case s.mode != SwitchIndependent:
		// One switch knows where all members are; a team that has been dead may be at another.
		changed := t.partnerChanged()
		if everyone = changed || prev.active == 0; !everyone {
			return
		}
	}
	old := t.announcements[:0]
	moved := map[uint64]bool{}
	for _, n := range t.vnics.all(tickOf(now)) {
		if to := s.pin(n.address); everyone || to != prev.pin(n.address) {
			moved[n.key()] = true
		}
	}
	for _, a := range t.announcements {
		if !moved[a.vnic.key()] {
			old = append(old, a)
		}
	}
	t.announcements = old
	for _, n := range t.vnics.all(tickOf(now)) {
		if moved[n.key()] {
			t.announcements = append(t.announcements, announcement{n, announceTimes, now})
		}
	}
}

// partnerChanged reports whether the LACP partner is another system than it was.
func (t *Team) partnerChanged() bool {
	if t.agg == nil {
		return false
	}
	system, _, ok := t.agg.Partner()
	if !ok || system == t.partner {
		return false
	}
	t.partner = system
	return true
}

// refresh makes announcements due for vNICs that have sent since the last time.
func (t *Team) refresh(now time.Duration) {
	if !t.cfg.rewrites() || now < t.refreshAt {
		return
	}
	t.refreshAt = now + refreshEvery
	if len(t.announcements) > 0 {
		return // there are enough
	}
	for _, n := range t.vnics.all(tickOf(now)) {
		if t.vnics.within(n.key(), tickOf(now), uint32(refreshEvery>>tickShift)) {
			t.announcements = append(t.announcements, announcement{n, 1, now})
		}
	}
}

// runAnnouncements sends what is due, and returns when there is more to do.
func (t *Team) runAnnouncements(s *snapshot, now time.Duration) time.Duration {
	t.refresh(now)
	next := never
	if t.cfg.rewrites() {
		next = t.refreshAt
	}
	sent := 0
	keep := t.announcements[:0]
	for i := range t.announcements {
		a := t.announcements[i]
		switch {
		case a.at > now:
		case sent == announceBurst:
			a.at = now + announcePause
		case s.active == 0:
			continue
		case t.announce(s, a.vnic, now):
			sent++
			a.left--
			a.at = now + announceEvery
		default:
			a.at = now + announcePause
		}
		if a.left > 0 {
			keep = append(keep, a)
			next = min(next, a.at)
		}
	}
	t.announcements = keep
	return next
}

// announce sends a RARP request from a vNIC (RFC 903: it asks for its own address, and nobody answers),
// and reports whether there was room.
func (t *Team) announce(s *snapshot, n vnic, now time.Duration) bool {
	m := s.slots[s.pin(n.address)]
	var mac [6]byte
	binary.BigEndian.PutUint16(mac[:], uint16(n.address>>32))
	binary.BigEndian.PutUint32(mac[2:], uint32(n.address))
	b := make([]byte, ports.Headroom, ports.Headroom+60)
	b = append(b, ports.Broadcast[:]...)
	b = append(b, mac[:]...)
	b = append(b, 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3)
	b = append(b, mac[:]...)
	b = append(b, 0, 0, 0, 0)
	b = append(b, mac[:]...)
	b = append(b, 0, 0, 0, 0)
	b = append(b, make([]byte, cap(b)-len(b))...)
	f := new(ports.Frame)
	f.SetHead(b, ports.Headroom, len(b)-ports.Headroom)
	f.VLAN = ports.Tag{TPID: n.tpid, TCI: n.vid}

	// What comes back of it is a reflection, however long the vNIC has been silent.
	t.vnics.echo(n.key(), tickOf(now))
	k, err := m.tx[0].send([]*ports.Frame{f})
	if k == 1 {
		t.announced.Add(1)
	}
	return k == 1 || err != nil
}
