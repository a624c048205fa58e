package lacp

import "time"

// ReceiveState is the state of the receive machine (6.4.12).
type ReceiveState uint8

// States of the receive machine. LACP is never disabled, so that state is not among them.
const (
	ReceiveDisabled  ReceiveState = iota // the link is down
	ReceiveExpired                       // nothing heard, or nothing any more; the partner is asked to hurry
	ReceiveDefaulted                     // nothing heard: the partner is what it is by default
	ReceiveCurrent                       // the partner is as it said
)

func (s ReceiveState) String() string {
	return [...]string{"disabled", "expired", "defaulted", "current"}[s]
}

// runReceive is the receive machine but for the arrival of LACPDUs.
func (p *Port) runReceive(now time.Duration) (moved bool) {
	switch {
	case !p.up:
		if p.receive == ReceiveDisabled && !p.movedOff {
			return false
		}
		p.receive, p.currentWhile = ReceiveDisabled, Never
		p.partner.State.put(Synchronization, false)
		p.actor.State.put(Expired, false)
		p.ntt, p.answers = false, p.answers[:0]
		if p.movedOff { // INITIALIZE
			p.movedOff = false
			p.unselect()
			p.recordDefault()
		}
		return true
	case p.receive == ReceiveDisabled:
		p.expire(now)
		return true
	}
	if p.loopedUntil != 0 && now >= p.loopedUntil {
		p.loopedUntil = 0
		moved = true
	}
	if now < p.currentWhile {
		return moved
	}
	if p.receive == ReceiveCurrent {
		p.expire(now)
	} else {
		p.defaulted()
	}
	return true
}

// expire enters EXPIRED: the partner is told to send at once and then every second.
func (p *Port) expire(now time.Duration) {
	p.receive, p.currentWhile = ReceiveExpired, now+shortTimeout
	p.partner.State.put(Synchronization, false)
	p.partner.State.put(ShortTimeout, true)
	p.actor.State.put(Expired, true)
}

func (p *Port) defaulted() {
	p.receive, p.currentWhile = ReceiveDefaulted, Never
	was := p.partner
	p.recordDefault()
	if was.identity() != p.partner.identity() {
		p.unselect()
	}
	p.actor.State.put(Expired, false)
}

// recordDefault forgets the partner. The one by default is no system, cannot be aggregated, and is in a
// hurry, so that an active port looks for a partner once a second.
func (p *Port) recordDefault() {
	p.partner = PortInfo{State: ShortTimeout}
	p.actor.State.put(Defaulted, true)
}

func (p *Port) receivePDU(now time.Duration, pdu *PDU) {
	if pdu.Actor.System.MAC == p.actor.System.MAC {
		p.loop(now)
		return
	}
	p.count.Received++
	if p.loopedUntil != 0 {
		return // a partner beside a loop is not to be trusted
	}
	p.portMoved(pdu)

	if pdu.Actor.identity() != p.partner.identity() {
		p.unselect()
	}

	// update_NTT: the partner does not know how we are.
	const told = Activity | ShortTimeout | Synchronization | Aggregation
	mine, seen := p.actor, pdu.Partner
	mine.State &= told
	seen.State &= told
	if mine != seen {
		p.ntt = true
	}

	// recordPDU
	knowsUs := pdu.Partner.identity() == p.actor.identity()
	keptAlive := pdu.Actor.State.Has(Activity) || p.actor.State.Has(Activity) && pdu.Partner.State.Has(Activity)
	individual := !pdu.Actor.State.Has(Aggregation)
	inSync := pdu.Actor.State.Has(Synchronization) && (knowsUs || individual) && keptAlive
	p.partner = pdu.Actor
	p.partner.State.put(Synchronization, inSync)
	p.actor.State.put(Defaulted|Expired, false)

	p.receive = ReceiveCurrent
	p.currentWhile = now + longTimeout
	if p.actor.State.Has(ShortTimeout) {
		p.currentWhile = now + shortTimeout
	}
}

// loop notes that the own system is at the other end, be it this port or another: nothing can be
// aggregated there, and what is sent there comes back. It counts as so until no own LACPDU has come back
// for as long as three should have.
func (p *Port) loop(now time.Duration) {
	p.count.Looped++
	p.loopedUntil = now + shortTimeout
	p.receive, p.currentWhile = ReceiveDefaulted, Never
	p.recordDefault()
	p.unselect()
	p.actor.State.put(Expired, false)
}

// portMoved tells a port whose link is down that its partner has shown up at this one (6.4.6).
func (p *Port) portMoved(pdu *PDU) {
	for _, o := range p.agg.ports {
		if o != p && !o.up && o.partner.System == pdu.Actor.System && o.partner.Port.Number == pdu.Actor.Port.Number {
			o.movedOff = true
		}
	}
}
