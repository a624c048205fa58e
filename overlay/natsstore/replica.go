package natsstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/hvswitch/hvswitch/overlay"
)

// replica is what a process has of the policy. The lock of its Store guards it.
type replica struct {
	domains map[overlay.RDID]*domain
	where   map[overlay.VSID]overlay.RDID // networks of the subnets in domains, once they are all of one revision
	session uint64                        // counts them, from 1
	whole   bool                          // networks that are not in domains have nothing
	loaded  bool                          // whole, and all snapshots have been taken
	live    bool                          // as far as the log was when it was opened
	tip     mark                          // the newest message taken
	seen    uint64                        // the newest sequence number taken or refused
	cut     uint64                        // that of the newest cut

	revision uint64 // of the domains that are ready
	fetched  uint64 // the highest of a snapshot
}

// domain is a virtual network's part of the policy.
type domain struct {
	id      overlay.RDID
	ready   bool   // its policy is that of the replica's revision
	fetched uint64 // the session in which its snapshot was taken; 0 for not yet
	at      mark   // of the newest transaction that concerns it
	saved   uint64 // revision of its snapshot in the bucket

	subnets map[overlay.VSID]*overlay.Subnet
	records map[overlay.VSID]map[overlay.Key]*overlay.LookupRecord
	routes  map[overlay.Key]*overlay.CustomerRoute

	watchers map[*watcher]struct{} // in whose scope it is, was or will be
}

func newReplica(whole bool) *replica {
	return &replica{domains: map[overlay.RDID]*domain{}, where: map[overlay.VSID]overlay.RDID{}, whole: whole}
}

func newDomain(id overlay.RDID) *domain {
	return &domain{
		id:       id,
		subnets:  map[overlay.VSID]*overlay.Subnet{},
		records:  map[overlay.VSID]map[overlay.Key]*overlay.LookupRecord{},
		routes:   map[overlay.Key]*overlay.CustomerRoute{},
		watchers: map[*watcher]struct{}{},
	}
}

// domain returns that of a network, or nil if the replica does not have it.
func (r *replica) domain(id overlay.RDID) *domain {
	d := r.domains[id]
	if d == nil && r.loaded {
		d = newDomain(id)
		d.ready, d.fetched = r.live, r.session
		r.domains[id] = d
	}
	return d
}

// change makes a valid change that concerns the domain.
func (r *replica) change(d *domain, c *overlay.Change) {
	switch {
	case c.Subnet != nil && c.Delete:
		delete(d.subnets, c.Subnet.VSID)
		if r.where[c.Subnet.VSID] == d.id {
			delete(r.where, c.Subnet.VSID)
		}
	case c.Subnet != nil:
		d.subnets[c.Subnet.VSID] = c.Subnet
		r.where[c.Subnet.VSID] = d.id
	case c.Record != nil && c.Delete:
		v := c.Record.VSID
		delete(d.records[v], c.Key())
		if len(d.records[v]) == 0 {
			delete(d.records, v)
		}
	case c.Record != nil:
		v := c.Record.VSID
		if d.records[v] == nil {
			d.records[v] = map[overlay.Key]*overlay.LookupRecord{}
		}
		d.records[v][c.Key()] = c.Record
	case c.Route != nil && c.Delete:
		delete(d.routes, c.Key())
	case c.Route != nil:
		d.routes[c.Key()] = c.Route
	}
}

// of appends the policy of a domain, as additions or removals.
func (d *domain) of(out []overlay.Change, remove bool) []overlay.Change {
	for _, r := range d.routes {
		out = append(out, overlay.Change{Route: r, Delete: remove})
	}
	for _, s := range d.subnets {
		out = append(out, overlay.Change{Subnet: s, Delete: remove})
	}
	for _, records := range d.records {
		for _, r := range records {
			out = append(out, overlay.Change{Record: r, Delete: remove})
		}
	}
	return out
}

// encode returns the payload of a snapshot.
func (d *domain) encode() []byte {
	b := make([]byte, 4)
	n := uint32(0)
	for _, c := range d.of(nil, false) {
		b = appendChange(b, &c)
		n++
	}
	binary.BigEndian.PutUint32(b, n)
	return b
}

// fetch fills an empty domain with a snapshot.
func (r *replica) fetch(d *domain, s *snapshot) error {
	objects, err := decodeObjects(s.payload, d.id)
	if err != nil {
		return err
	}
	for i := range objects {
		r.change(d, &objects[i])
	}
	d.fetched, d.at, d.saved = r.session, s.at, s.at.seq
	r.fetched = max(r.fetched, s.at.seq)
	return nil
}

// forget empties the domains that have a snapshot and not yet the log behind it.
func (r *replica) forget() {
	for id, d := range r.domains {
		if d.fetched != 0 && !d.ready {
			r.domains[id] = newDomain(id)
			r.domains[id].watchers = d.watchers
		}
	}
	r.loaded = r.loaded && r.live
}

// locate finds out where subnets are. While domains are of different revisions, one that has moved between
// them may be in both or in none.
func (r *replica) locate() {
	clear(r.where)
	for id, d := range r.domains {
		for v := range d.subnets {
			r.where[v] = id
		}
	}
}

var (
	// errMissed says that messages have been missed.
	errMissed = errors.New("transactions have been missed")

	// errForged says that a transaction was not made from the state it stands behind.
	errForged = errors.New("does not follow the transaction before")

	// errCopies says that the stream and the bucket do not belong together.
	errCopies = errors.New("the stream and the bucket are not copies of one moment")
)

// check returns nil if a transaction is the next one of each of its domains.
func (r *replica) check(t *transaction, m mark) error {
	for _, n := range t.networks {
		d := r.domain(n.id)
		switch {
		case d == nil || d.fetched == 0 || d.at.seq > m.seq:
		case d.at.seq == m.seq && d.at.id != m.id:
			return fmt.Errorf("%w: transaction %d of network %s is another one", errCopies, m.seq, n.id)
		case d.at.seq == m.seq || d.at.id == n.before:
		case d.fetched == r.session:
			return fmt.Errorf("%w of network %s", errForged, n.id)
		default:
			return fmt.Errorf("%w: of network %s, before %d", errMissed, n.id, m.seq)
		}
	}
	return nil
}

// apply makes a transaction in the domains that do not have it yet, and gives watchers what is in their
// scope.
func (r *replica) apply(t *transaction, m mark) {
	domains := make([]*domain, len(t.networks))
	concerned := map[*watcher]struct{}{}
	for i, n := range t.networks {
		d := r.domain(n.id)
		if d == nil || d.fetched == 0 || d.at.seq >= m.seq {
			continue
		}
		d.at, domains[i] = m, d
		r.revision = max(r.revision, m.seq)
		for w := range d.watchers {
			if _, ok := w.scope[d.id]; ok {
				concerned[w] = struct{}{}
			}
		}
	}
	for i := range t.steps {
		if d := domains[t.steps[i].network]; d != nil {
			r.change(d, &t.steps[i].Change)
		}
	}
	in := make([]bool, len(domains))
	for w := range concerned {
		for i, d := range domains {
			in[i] = false
			if d != nil {
				_, in[i] = w.scope[d.id]
			}
		}
		changes := make([]overlay.Change, 0, len(t.steps))
		for i := range t.steps {
			if in[t.steps[i].network] {
				changes = append(changes, t.steps[i].Change)
			}
		}
		w.push(m.seq, changes)
	}
}
