package lacp

import "time"

// MuxState is the state of the mux machine with independent control of collecting and distributing
// (6.4.15, figure 6-21).
type MuxState uint8

// States of the mux machine.
const (
	MuxDetached     MuxState = iota
	MuxWaiting               // for ports that could join at once
	MuxAttached              // to the aggregator: in sync, as far as this end is concerned
	MuxCollecting            // takes frames
	MuxDistributing          // sends frames too
)

func (s MuxState) String() string {
	return [...]string{"detached", "waiting", "attached", "collecting", "distributing"}[s]
}

// runMux takes one step of the mux machine.
func (p *Port) runMux(now time.Duration) (moved bool) {
	next := p.mux
	inSync := p.selection == Selected && p.partner.State.Has(Synchronization)
	switch p.mux {
	case MuxDetached:
		if p.selection != Unselected {
			next = MuxWaiting
			p.waitWhile, p.waitedSince = now+aggregateWait, now
		}
	case MuxWaiting:
		switch {
		case p.selection == Unselected:
			next = MuxDetached
		case p.selection == Selected && p.ready(now):
			next = MuxAttached
		case now >= p.waitWhile:
			p.waitWhile = Never
			if p.selection == Selected {
				p.waitWhile = p.waitedSince + 2*aggregateWait
			}
			moved = true // others may have waited for it
		}
	case MuxAttached:
		if p.selection != Selected {
			next = MuxDetached
		} else if inSync {
			next = MuxCollecting
		}
	case MuxCollecting:
		if !inSync {
			next = MuxAttached
		} else if p.partner.State.Has(Collecting) {
			next = MuxDistributing
		}
	case MuxDistributing:
		if !inSync || !p.partner.State.Has(Collecting) {
			next = MuxCollecting
		}
	}
	if next == p.mux {
		return moved
	}
	p.mux = next
	if next != MuxWaiting {
		p.waitWhile = Never
	}
	p.actor.State.put(Synchronization, next >= MuxAttached)
	p.actor.State.put(Collecting, next >= MuxCollecting)
	p.actor.State.put(Distributing, next == MuxDistributing)
	if next != MuxWaiting {
		p.ntt = true
	}
	return true
}

// ready reports whether the port has waited for long enough: for those that wait for the same aggregator
// too, but never longer than twice the time, so that a port that starts over and over holds up nobody.
func (p *Port) ready(now time.Duration) bool {
	if now < p.waitedSince+aggregateWait {
		return false
	}
	if now >= p.waitedSince+2*aggregateWait {
		return true
	}
	for _, o := range p.agg.ports {
		if o.mux == MuxWaiting && o.selection == Selected && now < o.waitedSince+aggregateWait {
			return false
		}
	}
	return true
}
