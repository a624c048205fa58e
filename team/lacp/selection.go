package lacp

import (
	"cmp"
	"slices"
	"time"
)

// Selection says whether a port may be in the group (6.4.14).
type Selection uint8

// Values of Selection.
const (
	Unselected Selection = iota
	Standby              // could be, but there are enough
	Selected
)

func (s Selection) String() string { return [...]string{"unselected", "standby", "selected"}[s] }

// group is what the ports of a link aggregation group have in common, beside the own system: the LAG ID
// (6.3.6). The zero group is none.
type group struct {
	system SystemID // partner's
	key    uint16   // partner's
	own    uint16   // the own key
}

// group returns the group that the port belongs to, or none.
func (p *Port) group() group {
	if !p.up || p.loopedUntil != 0 || p.actor.State.Has(Defaulted) || !p.partner.State.Has(Aggregation) {
		return group{}
	}
	return group{p.partner.System, p.partner.Key, p.actor.Key}
}

func (p *Port) unselect() { p.selection = Unselected }

// A group that does not come into use within chance must let others try, and its ports count less than
// those of others for a while: so no partner keeps the aggregator from the others by doing nothing with it,
// or by being ever another.
const (
	chance  = 3 * aggregateWait
	penalty = time.Minute
)

// runSelection is the selection logic: one group has the aggregator, and keeps it as long as a port of it
// is in use. Else it goes to the group with the most bandwidth.
func (a *Aggregator) runSelection(now time.Duration) (moved bool) {
	if a.has(a.selected, (*Port).Collecting) {
		a.trial = Never
	} else {
		moved = a.choose(now)
	}
	var members []*Port
	for _, p := range a.ports {
		if g := p.group(); g != (group{}) && g == a.selected {
			members = append(members, p)
		} else if p.selection != Unselected {
			p.selection, moved = Unselected, true
		}
	}
	limit := len(members)
	if a.cfg.MaxPorts > 0 && limit > a.cfg.MaxPorts {
		limit = a.cfg.MaxPorts
		slices.SortFunc(members, a.order())
	}
	for i, p := range members {
		want := Selected
		if i >= limit {
			want = Standby
		}
		// The machine that detaches an unselected port must see that it is.
		if p.selection == want || p.selection == Unselected && p.mux != MuxDetached {
			continue
		}
		p.selection, p.tried, moved = want, a.selected, true
	}
	return moved
}

// choose gives the aggregator to the best group.
func (a *Aggregator) choose(now time.Duration) (moved bool) {
	if now >= a.trial {
		a.punish(now)
	}
	best := a.best(now)
	if best == (group{}) && a.has(a.selected, (*Port).mayBe) {
		best = a.selected // its partner may be heard again before it is forgotten
	}
	if best != a.selected {
		if a.trial != Never { // it had its chance, and is not there any more
			a.punish(now)
		}
		a.selected, moved = best, true
		a.trial = now + chance
	}
	switch {
	case best == (group{}):
		a.trial = Never
	case a.trial == Never || now >= a.trial:
		a.trial = now + chance
	}
	return moved
}

// punish makes the ports of the group that has the aggregator count less.
func (a *Aggregator) punish(now time.Duration) {
	for _, p := range a.ports {
		if p.tried == a.selected {
			p.punishedUntil = now + penalty
		}
	}
}

func (p *Port) heard() bool { return p.receive == ReceiveCurrent }

func (p *Port) mayBe() bool { return p.receive != ReceiveDisabled }

// has reports whether a port of which that is true belongs to the group.
func (a *Aggregator) has(g group, that func(*Port) bool) bool {
	return g != (group{}) && slices.ContainsFunc(a.ports, func(p *Port) bool { return that(p) && p.group() == g })
}

// best returns the group to use: the fastest, and among equals that of the lowest partner, so that it
// does not depend on who was first.
func (a *Aggregator) best(now time.Duration) group {
	var best group
	var bestSpeed uint64
	bestPorts, bestFree := 0, 0
	for i, p := range a.ports {
		g := p.group()
		if g == (group{}) || !p.heard() {
			continue
		}
		if slices.ContainsFunc(a.ports[:i], func(o *Port) bool { return o.group() == g && o.heard() }) {
			continue
		}
		var speed uint64
		n, free := 0, 0
		for _, o := range a.ports[i:] {
			if o.heard() && o.group() == g {
				speed += o.speed
				n++
				if now >= o.punishedUntil {
					free = 1
				}
			}
		}
		c := cmp.Or(cmp.Compare(free, bestFree), cmp.Compare(speed, bestSpeed), cmp.Compare(n, bestPorts), g.compare(best))
		if c > 0 || best == (group{}) {
			best, bestSpeed, bestPorts, bestFree = g, speed, n, free
		}
	}
	return best
}

// compare orders groups: positive when g is to be preferred.
func (g group) compare(h group) int {
	return cmp.Or(h.system.compare(g.system), cmp.Compare(h.key, g.key), cmp.Compare(h.own, g.own))
}

// order returns who comes first when not all can be used. The system with the lower identifier decides,
// by the priorities of its ports (6.7.1). Ports whose partner is silent come last.
func (a *Aggregator) order() func(p, q *Port) int {
	ours := a.system.compare(a.selected.system) < 0
	return func(p, q *Port) int {
		c := cmp.Or(p.partner.Port.compare(q.partner.Port), p.actor.Port.compare(q.actor.Port))
		if ours {
			c = p.actor.Port.compare(q.actor.Port)
		}
		return cmp.Or(cmp.Compare(silent(p), silent(q)), c)
	}
}

func silent(p *Port) int {
	if p.heard() {
		return 0
	}
	return 1
}
