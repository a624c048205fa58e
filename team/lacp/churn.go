package lacp

import "time"

// churn is a churn detection machine, that of the actor or of the partner (6.4.17).
type churn struct {
	since    time.Duration
	running  bool
	detected bool
}

func (c *churn) run(now time.Duration, watched, inSync bool) {
	switch {
	case !watched || inSync:
		*c = churn{}
	case c.detected:
	case !c.running:
		c.running, c.since = true, now
	case now >= c.since+churnDetection:
		c.running, c.detected = false, true
	}
}

func (c *churn) next() time.Duration {
	if c.running {
		return c.since + churnDetection
	}
	return Never
}

func (p *Port) runChurn(now time.Duration) {
	p.actorChurn.run(now, p.up, p.actor.State.Has(Synchronization))
	p.partnerChurn.run(now, p.up, p.partner.State.Has(Synchronization))
}
