package natsstore

import "github.com/hvswitch/hvswitch/overlay"

// prepare returns what changes mean to each virtual network. Records belong to the network of their
// subnet, so they come and go with it; those without one belong to the zero RDID.
func (r *replica) prepare(changes []overlay.Change) *transaction {
	p := preparation{
		r: r, places: map[overlay.RDID]int{}, subnets: map[overlay.VSID]*overlay.Subnet{},
		records: map[overlay.VSID]map[overlay.Key]*overlay.LookupRecord{}, routes: map[overlay.Key]*overlay.CustomerRoute{},
	}
	for i := range changes {
		switch c := &changes[i]; {
		case c.Record != nil:
			p.record(c)
		case c.Route != nil:
			p.route(c)
		case c.Subnet != nil:
			p.subnet(c)
		}
	}
	return &p.t
}

// preparation is a transaction that grows. Its maps are what it changes so far; nil is removed.
type preparation struct {
	r       *replica
	t       transaction
	places  map[overlay.RDID]int
	subnets map[overlay.VSID]*overlay.Subnet
	records map[overlay.VSID]map[overlay.Key]*overlay.LookupRecord
	routes  map[overlay.Key]*overlay.CustomerRoute
}

func (p *preparation) add(id overlay.RDID, c overlay.Change) {
	n, ok := p.places[id]
	if !ok {
		n = len(p.t.networks)
		p.places[id] = n
		before := uint64(0)
		if d := p.r.domains[id]; d != nil {
			before = d.at.id
		}
		p.t.networks = append(p.t.networks, network{id, before})
	}
	p.t.steps = append(p.t.steps, step{n, c})
}

func (p *preparation) subnetOf(v overlay.VSID) *overlay.Subnet {
	if s, ok := p.subnets[v]; ok {
		return s
	}
	if d := p.r.domains[p.r.where[v]]; d != nil {
		return d.subnets[v]
	}
	return nil
}

func networkOf(s *overlay.Subnet) (id overlay.RDID) {
	if s != nil {
		id = s.RDID
	}
	return id
}

// stored returns the records of a virtual subnet before the transaction.
func (p *preparation) stored(v overlay.VSID) map[overlay.Key]*overlay.LookupRecord {
	if d := p.r.domains[p.r.where[v]]; d != nil {
		return d.records[v]
	}
	return nil
}

func (p *preparation) record(c *overlay.Change) {
	v, k := c.Record.VSID, c.Key()
	old, ok := p.records[v][k]
	if !ok {
		old = p.stored(v)[k]
	}
	if c.Delete && old == nil {
		return
	}
	if p.records[v] == nil {
		p.records[v] = map[overlay.Key]*overlay.LookupRecord{}
	}
	id := networkOf(p.subnetOf(v))
	if c.Delete {
		p.records[v][k] = nil
		p.add(id, overlay.Change{Record: old, Delete: true})
		return
	}
	p.records[v][k] = c.Record
	p.add(id, overlay.Change{Record: c.Record})
}

func (p *preparation) route(c *overlay.Change) {
	id, k := c.Route.RDID, c.Key()
	old, ok := p.routes[k]
	if d := p.r.domains[id]; !ok && d != nil {
		old = d.routes[k]
	}
	switch {
	case !c.Delete:
		p.routes[k] = c.Route
		p.add(id, overlay.Change{Route: c.Route})
	case old != nil:
		p.routes[k] = nil
		p.add(id, overlay.Change{Route: old, Delete: true})
	}
}

// subnet adds or removes a subnet, and moves its records to the network they belong to then.
func (p *preparation) subnet(c *overlay.Change) {
	s := c.Subnet
	old := p.subnetOf(s.VSID)
	if old == nil && c.Delete {
		return
	}
	moves := old == nil || c.Delete || old.RDID != s.RDID
	var records []*overlay.LookupRecord
	if moves {
		records = p.all(s.VSID)
		for _, r := range records {
			p.add(networkOf(old), overlay.Change{Record: r, Delete: true})
		}
		if old != nil {
			p.add(old.RDID, overlay.Change{Subnet: old, Delete: true})
		}
	}
	if c.Delete {
		s = nil
	} else {
		p.add(s.RDID, overlay.Change{Subnet: s})
	}
	p.subnets[c.Subnet.VSID] = s
	for _, r := range records {
		p.add(networkOf(s), overlay.Change{Record: r})
	}
}

// all returns the records of a virtual subnet with what the transaction has changed.
func (p *preparation) all(v overlay.VSID) (list []*overlay.LookupRecord) {
	for k, r := range p.stored(v) {
		if _, ok := p.records[v][k]; !ok {
			list = append(list, r)
		}
	}
	for _, r := range p.records[v] {
		if r != nil {
			list = append(list, r)
		}
	}
	return list
}
