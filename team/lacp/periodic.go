package lacp

import "time"

// runPeriodic is the periodic transmission machine (6.4.13).
func (p *Port) runPeriodic(now time.Duration) {
	if !p.up || !p.actor.State.Has(Activity) && !p.partner.State.Has(Activity) {
		p.periodic = Never // NO_PERIODIC
		return
	}
	short := p.partner.State.Has(ShortTimeout)
	interval := slowPeriodic
	if short {
		interval = fastPeriodic
	}
	switch {
	case p.periodic == Never: // FAST_PERIODIC or SLOW_PERIODIC, for which nobody needs to wait
		p.ntt = true
	case now >= p.periodic:
		p.ntt = true
	case short && !p.periodicShort:
		p.ntt = true
	case short == p.periodicShort:
		return
	}
	p.periodic, p.periodicShort = now+interval, short
}
