package team

import (
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team/lacp"
)

// retryAfter is how long a member is left alone whose link is up, but whose Send says that it is down.
const retryAfter = time.Second

// kick makes the team's goroutine look what has changed.
func (t *Team) kick() {
	select {
	case t.kicked <- struct{}{}:
	default:
	}
}

func (t *Team) watchMember(m *member) {
	if w, ok := m.backend.(ports.LinkWatcher); ok {
		w.WatchLink(func(ports.Link) { t.kick() })
	}
}

// sendFailed and recvFailed are what queues call when a member fails.
func (t *Team) sendFailed(m *member) {
	if !m.failed.Swap(true) {
		t.kick()
	}
}

func (t *Team) recvFailed(m *member) {
	m.broken.Store(true)
	t.kick()
}

// run is the team's goroutine: whatever is not the way of a frame.
func (t *Team) run() {
	defer close(t.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-t.kicked:
		case <-timer.C:
		}
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return
		}
		next := t.update()
		link, was := t.link, t.told
		t.told = link
		now := t.clock()
		t.mu.Unlock()
		if link != was {
			t.tellLink(link)
		}
		if next != never {
			timer.Reset(max(0, next-now))
		} else {
			timer.Stop()
		}
	}
}

func (t *Team) tellLink(l ports.Link) {
	if f := t.watch.Load(); f != nil {
		(*f)(l)
	}
}

// update brings the team up to date, and returns when it is to be called again if nothing happens.
func (t *Team) update() time.Duration {
	now := t.clock()
	next := never
	for _, m := range t.order {
		next = min(next, t.updateMember(m, now))
	}
	if t.agg != nil {
		t.runLACP(now)
		for _, m := range t.order {
			if m.pending != nil {
				next = min(next, now+slowRetry)
			}
		}
		next = min(next, t.agg.Next())
	}
	prev := t.snap.Load()
	s, again := t.compile(prev, now)
	next = min(next, again)
	if s != prev {
		t.snap.Store(s)
		t.announceMoves(s, prev, now)
		t.failovers += uint64(bits.OnesCount32(prev.active &^ s.active))
	}
	t.link = ports.Link{Up: s.active != 0}
	for _, m := range t.order {
		if s.uses(m.slot) {
			t.link.Speed += m.link.Speed
		}
	}
	return min(next, t.runAnnouncements(s, now))
}

// updateMember looks whether a member can be used.
func (t *Team) updateMember(m *member, now time.Duration) (next time.Duration) {
	next = never
	m.link = ports.LinkOf(m.backend)
	if m.failed.Swap(false) && m.link.Up {
		m.retryAt = now + retryAfter
	}
	up := m.link.Up && !m.broken.Load() && (m.retryAt == 0 || now >= m.retryAt)
	if m.retryAt != 0 && now >= m.retryAt {
		m.retryAt = 0
	} else if m.retryAt != 0 {
		next = m.retryAt
	}
	if up && !m.up {
		m.upSince = now
	}
	m.up = up
	m.usable = up && (t.cfg.Speeds == Weighted || t.speedFits(m, m.link.Speed))
	if m.port != nil {
		m.port.SetLink(now, m.usable, m.link.Speed)
	}
	return next
}

// speedFits reports whether a speed is that of the members in front of m.
func (t *Team) speedFits(m *member, speed uint64) bool {
	if speed == 0 {
		return true
	}
	for _, o := range t.order {
		if o == m {
			return true
		}
		if l := ports.LinkOf(o.backend); l.Up && l.Speed != 0 {
			return l.Speed == speed
		}
	}
	return true
}

// compile makes a snapshot, or returns the one before when nothing has changed.
func (t *Team) compile(prev *snapshot, now time.Duration) (s *snapshot, again time.Duration) {
	s = &snapshot{
		closed: t.closed, mode: t.cfg.Mode, dist: t.cfg.Distribution, rewrite: t.cfg.rewrites(), pair: t.cfg.pair,
		team: addressOfMAC(t.info.MAC), slots: t.members, primary: nobody,
	}
	s.active, s.taken, again = t.inUse(prev, now)
	var weights [MaxMembers]uint64
	for _, m := range t.order {
		if s.primary == nobody && s.uses(m.slot) {
			s.primary = m.slot
		}
		w := t.weightOf(m)
		s.weight[m.slot] = float64(w)
		if !m.standby {
			weights[m.slot] = w
		}
	}
	t.spread.settle(&weights, s.active)
	s.at = t.spread.at
	t.name(s)
	if s.number = prev.number; s.sameAs(prev) {
		return prev, again
	}
	s.follow(prev, now)
	return s, again
}

// inUse returns the slots that frames are sent on and those that they are taken from, and when that may
// change for the time that has passed.
func (t *Team) inUse(prev *snapshot, now time.Duration) (active, taken uint32, again time.Duration) {
	again = never
	if t.agg != nil {
		for _, m := range t.order {
			if m.port.Distributing() {
				active |= 1 << m.slot
			}
			if m.port.Collecting() {
				taken |= 1 << m.slot
			}
		}
		return active, taken, again
	}
	var usable, stays, rest uint32
	standby := uint32(0)
	for _, m := range t.order {
		bit := uint32(1) << m.slot
		taken |= bit
		if m.standby {
			standby = bit
		} else {
			rest |= bit
		}
		if m.usable {
			usable |= bit
			stays |= bit & prev.active
		}
	}
	active = usable
	if stays != 0 { // those that have just come up can wait
		for _, m := range t.order {
			if at := m.upSince + t.cfg.UpDelay; m.usable && !prev.uses(m.slot) && now < at {
				active &^= 1 << m.slot
				again = min(again, at)
			}
		}
	}
	if active&rest == rest && rest != 0 {
		active &^= standby
	}
	if t.cfg.Mode == SwitchIndependent && !t.cfg.pair {
		taken = active
	}
	return active, taken, again
}

// weightOf returns the part of the load that a member can bear, as a speed.
func (t *Team) weightOf(m *member) uint64 {
	if t.cfg.Speeds == SameSpeed {
		return 1
	}
	if m.link.Up && m.link.Speed != 0 {
		m.speed = m.link.Speed // and remembered, so that it is still at home when the link is down
	}
	if m.speed != 0 {
		return m.speed
	}
	for _, o := range t.order {
		if o.speed != 0 {
			return o.speed
		}
	}
	return 1
}

// name finds the addresses that members send from. The primary has that of the team; if that is another's
// own, the two exchange theirs.
func (t *Team) name(s *snapshot) {
	if s.mode != SwitchIndependent || s.primary == nobody {
		return
	}
	s.station[s.primary] = s.team
	for _, m := range t.order {
		if m.slot == s.primary {
			continue
		}
		a := addressOfMAC(m.mac)
		if a == s.team {
			a = addressOfMAC(s.slots[s.primary].mac)
		}
		s.station[m.slot] = a
	}
	for _, a := range s.station {
		if a != 0 {
			s.own.add(a)
		}
	}
}

// setUpLACP makes the LACP system of the team.
func (t *Team) setUpLACP() error {
	if t.cfg.Mode != LACP {
		return nil
	}
	var err error
	t.agg, err = lacp.New(&lacp.Config{
		System:  lacp.SystemID{Priority: t.cfg.SystemPriority, MAC: t.info.MAC},
		Passive: t.cfg.Passive, Short: t.cfg.Short,
	})
	if err != nil {
		return fmt.Errorf("team %q: MAC %v is not that of a station, which LACP needs", t.cfg.Name, t.info.MAC)
	}
	for _, m := range t.order {
		if err := t.addPort(m); err != nil {
			return fmt.Errorf("team %q: member %q: %w", t.cfg.Name, m.name, err)
		}
	}
	t.limitPorts()
	return nil
}

// oneKey is the LACP key of all members when speeds may be mixed.
const oneKey = 1

// addPort makes a member a port of the LACP system.
func (t *Team) addPort(m *member) (err error) {
	cfg := lacp.PortConfig{Priority: m.priority}
	if m.standby {
		cfg.Priority = math.MaxUint16 // the last to be used
	}
	if t.cfg.Speeds == Weighted {
		cfg.Key = oneKey
	}
	m.port, err = t.agg.AddPort(int(m.slot)+1, &cfg)
	return err
}

// limitPorts makes LACP keep one member in reserve when one stands by.
func (t *Team) limitPorts() {
	n := 0
	for _, m := range t.order {
		if m.standby {
			n = len(t.order) - 1
		}
	}
	t.agg.SetMaxPorts(t.clock(), n)
}
