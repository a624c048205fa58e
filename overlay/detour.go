package overlay

import (
	"net/netip"
	"time"
)

// detour is a record that a message of another host has changed: by a redirect it has another PA, by an
// unreachable it is taken out. Whatever the policy says about the record ends it.
type detour struct {
	policy LookupRecord
	since  time.Duration
	until  time.Duration
}

const (
	redirectAge    = time.Minute // then the old place is asked again
	unreachableAge = time.Second // a host may not know yet of a VM that is to come
	detourPause    = 100 * time.Millisecond
)

// detour changes the records of a MAC address that have the provider address from: to another one or, if
// there is none, for an unreachable. It reports whether it has: each record at most every detourPause, 100
// messages of a host a second. A redirect holds for Config.LearnedAge, as long as what is learned otherwise.
//
// An unreachable that contradicts a redirect brings back what the policy says, as nobody else knows.
func (e *Engine) detour(now time.Duration, vsid VSID, mac uint64, from, to netip.Addr) (changed bool) {
	if !e.obeyed[tellerOf(from)].take(now) {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := *e.snap.Load()
	if to.IsValid() && !s.provider.reaches(to) {
		return false
	}
	ed := new(edit)
	for _, r := range s.recordsOf(vsid, mac) {
		c := Change{Record: &r}
		k := c.Key()
		d, before := e.w.detours[k]
		if r.PA != from || before && now-d.since < detourPause {
			continue
		}
		if !before {
			d.policy = r
		}
		d.since, d.until = now, now+s.provider.LearnedAge
		switch {
		case to.IsValid():
			r.PA = to
			e.w.putRecord(e, &s, ed, &r)
		case r.PA != d.policy.PA:
			e.w.putRecord(e, &s, ed, &d.policy)
		default:
			d.until = now + unreachableAge
			e.w.deleteRecord(&s, ed, &r)
		}
		e.w.detours[k] = d
		changed = true
	}
	if changed {
		e.publish(&s, ed)
	}
	return changed
}

// back ends the detour of a VM that is heard from where the policy says it is: when a VM moves, its new host may
// have sent those who knew already back to the old one.
func (w *Worker) back(rec *entry, e *Encapsulated) {
	if w.notes == nil && w.e.obeyed[tellerOf(e.Src)].take(w.now) {
		w.e.endDetour(rec.id(), rec.mac, e.Src)
	}
}

// endDetour brings back what the policy says about the records of a MAC address if that is a provider address.
func (e *Engine) endDetour(vsid VSID, mac uint64, pa netip.Addr) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.w.detours) == 0 {
		return
	}
	s := *e.snap.Load()
	ed, changed := new(edit), false
	for _, r := range s.recordsOf(vsid, mac) {
		c := Change{Record: &r}
		k := c.Key()
		if d, ok := e.w.detours[k]; ok && d.policy.PA == pa {
			e.w.putRecord(e, &s, ed, &d.policy)
			delete(e.w.detours, k)
			changed = true
		}
	}
	if changed {
		e.publish(&s, ed)
	}
}

// recordsOf returns all records of a MAC address.
func (s *snapshot) recordsOf(vsid VSID, mac uint64) (all []LookupRecord) {
	h := hashMAC(uint32(vsid), mac)
	l := s.byMAC.find(h)
	if l == nil {
		return nil
	}
	for i := l.next(uint8(h), 0); i < len(l.entries); i = l.next(uint8(h), i+1) {
		if n := &l.entries[i]; (n.mac^mac)>>16 == 0 && n.id() == vsid {
			all = append(all, s.record(n))
		}
	}
	return all
}

// reaches reports whether a provider address is of this host or has a way there.
func (p *provider) reaches(to netip.Addr) bool {
	if !isUnicast(to) {
		return false
	}
	if p.local(to) >= 0 {
		return true
	}
	for i := range p.Addresses {
		if a := &p.Addresses[i]; a.Address.Addr().Is4() == to.Is4() && p.nextHop(a, to).IsValid() {
			return true
		}
	}
	return false
}

// endDetours brings back what the policy says about records whose time is up.
func (w *writer) endDetours(e *Engine, s *snapshot, ed *edit, now time.Duration) (changed bool) {
	for k, d := range w.detours {
		if now >= d.until {
			w.putRecord(e, s, ed, &d.policy)
			delete(w.detours, k)
			changed = true
		}
	}
	return changed
}
