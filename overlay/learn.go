package overlay

import "time"

// maxLearned bounds the customer addresses that are learned of one MAC address.
const maxLearned = 64

// learn notes that the VM with a MAC address uses a customer address. It returns false when it may not: it
// uses too many, or another VM has used that one just now.
func (w *Worker) learn(vsid VSID, a ca, mac uint64) bool {
	t := tick(w.now)
	if w.notes != nil {
		ok := w.e.peekLearn(vsid, a, mac, t)
		w.note("sender: %s is learned: %t", addrOf(a), ok)
		return ok
	}
	if old := w.snap.learned.lookupCA(vsid, a); old != nil && t-old.seen() < max(1, w.snap.provider.age/8) &&
		(old.mac^mac)>>16 == 0 {
		return true
	}
	return w.e.learn(vsid, a, mac, t)
}

func (e *Engine) learn(vsid VSID, a ca, mac uint64, t uint16) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := *e.snap.Load()
	old := s.learned.lookupCA(vsid, a)
	who := learner{vsid, mac}
	moved := old == nil || (old.mac^mac)>>16 != 0
	if old != nil && old.seen() == t {
		return !moved // at most one move a second
	}
	if moved {
		if e.w.learned[who] == maxLearned {
			return false
		}
		e.w.learned[who]++
		if old != nil {
			e.w.forget(old)
		}
	}
	n := entry{hi: a.hi, lo: a.lo, mac: mac, vsid: uint32(vsid)}
	n.setSeen(t)
	s.learned.put(new(edit), n)
	e.snap.Store(&s)
	return true
}

// forget keeps account of a learned entry that goes.
func (w *writer) forget(n *entry) {
	who := learner{n.id(), n.mac &^ 0xffff}
	if w.learned[who]--; w.learned[who] <= 0 {
		delete(w.learned, who)
	}
}

// Expire forgets the customer addresses that have not been seen for Config.LearnedAge, and those of VMs
// that have no record any more, and what other hosts said about where VMs are, a minute after. It is to be
// called every few seconds, with the time that workers get.
func (e *Engine) Expire(now time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := *e.snap.Load()
	t := tick(now)
	var old []entry
	s.learned.all(func(n *entry) bool {
		if int16(t-n.seen()) > int16(s.provider.age) || // a worker may be ahead
			s.byMAC.lookupMAC(n.id(), n.mac&^0xffff) == nil {
			old = append(old, *n)
		}
		return true
	})
	ed := new(edit)
	for i := range old {
		s.learned.remove(ed, &old[i])
		e.w.forget(&old[i])
	}
	if e.w.endDetours(e, &s, ed, now) || len(old) > 0 {
		e.publish(&s, ed)
	}
}
