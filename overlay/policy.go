package overlay

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// snapshot is the whole policy at one moment, immutable.
type snapshot struct {
	provider *provider
	byCA     table // records but those of type L2Only
	byMAC    table // all records
	learned  table // by CA; says the MAC only
	subnets  radix[*subnet]
	members  radix[*members] // by VSID
	domains  radix[*domain]  // by number, see writer
	peers    []*peer
}

// subnet is a virtual subnet as the data path sees it.
type subnet struct {
	Subnet
	domain  uint32
	router  ports.MAC
	routers []ca // addresses of the router
}

// members are who is in a virtual subnet: the hosts that records name, and the ports of this one.
type members struct {
	owner *edit
	hosts []host
	ports []*Port
	byMAC map[ports.MAC]*Port
}

// writer is what only those who change the policy need to know.
type writer struct {
	peers   map[netip.Addr]uint32
	records []int                             // by peer: how many name it
	free    []uint32                          // peers that none names
	hosts   map[uint64][encapsulations]uint32 // VSID and peer: how many records of each rule
	domains map[RDID]uint32
	objects map[uint32]int // by domain: subnets and routes
	unused  []uint32       // domains without any
	learned map[learner]int
	detours map[Key]detour
}

// learner is a MAC address whose customer addresses are learned.
type learner struct {
	vsid VSID
	mac  uint64
}

func newWriter() writer {
	return writer{
		peers: map[netip.Addr]uint32{}, hosts: map[uint64][encapsulations]uint32{}, domains: map[RDID]uint32{},
		objects: map[uint32]int{}, learned: map[learner]int{}, detours: map[Key]detour{},
	}
}

// Apply makes changes, all or, with a *ConfigError, none of them. Frames see all of them at once. The
// order of changes to different objects does not matter, and neither does which of them exist: a record
// waits for its subnet. The changes are copied.
//
// A change to a record or a subnet costs the same however many there are; one to a customer route grows
// with the routes and subnets of its virtual network.
func (e *Engine) Apply(changes []Change) error {
	for i := range changes {
		if err := changes[i].Validate(); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := *e.snap.Load()
	ed := new(edit)
	e.w.apply(e, &s, ed, changes)
	e.publish(&s, ed)
	return nil
}

// publish makes a snapshot the one that frames see.
func (e *Engine) publish(s *snapshot, ed *edit) {
	slices.Sort(ed.ca)
	slices.Sort(ed.mac)
	ed.ca, ed.mac = slices.Compact(ed.ca), slices.Compact(ed.mac)
	e.changedCA.count(ed.ca)
	e.changedMAC.count(ed.mac)
	e.snap.Store(s)
	e.changedCA.count(ed.ca)
	e.changedMAC.count(ed.mac)
}

// Replace makes the policy that of the changes, which must be additions, in place of all there was, or
// returns a *ConfigError. What has been learned is kept where it still fits.
func (e *Engine) Replace(changes []Change) error {
	for i := range changes {
		if err := changes[i].Validate(); err != nil {
			return err
		}
		if changes[i].Delete {
			return &ConfigError{"change", "Delete", "true", "is not for a whole policy"}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.snap.Load()
	s := snapshot{provider: old.provider, byMAC: table{byMAC: true}, learned: old.learned}
	ed := new(edit)
	old.members.all(func(vsid uint32, m *members) bool {
		if len(m.ports) > 0 {
			s.members.put(ed, vsid, &members{owner: ed, ports: m.ports, byMAC: m.byMAC})
		}
		return true
	})
	w := newWriter()
	w.learned = e.w.learned
	e.w = w
	e.w.load(e, &s, ed, changes)
	e.w.apply(e, &s, ed, slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.Record != nil }))
	// What was there and is no more has changed too.
	ed.ca, ed.mac = ed.ca[:0], ed.mac[:0]
	for i := range uint16(shards) {
		ed.ca, ed.mac = append(ed.ca, i), append(ed.mac, i)
	}
	e.publish(&s, ed)
	return nil
}

// load puts the records of changes into empty tables.
func (w *writer) load(e *Engine, s *snapshot, ed *edit, changes []Change) {
	var withCA, all []entry
	for i := range changes {
		if r := changes[i].Record; r != nil {
			n := r.entry(w.peer(e, s, r.PA))
			if r.Type == L2Only {
				all = append(all, n)
			} else {
				withCA = append(withCA, n)
			}
		}
	}
	s.byCA.load(ed, withCA)
	all = slices.Grow(all, s.byCA.count)
	s.byCA.all(func(n *entry) bool { all = append(all, *n); return true })
	s.byMAC.load(ed, all)
	s.byMAC.all(func(n *entry) bool { w.count(s, ed, n, 1); return true })
	for pa, i := range w.peers { // only of records that another one has replaced
		if w.records[i] == 0 {
			delete(w.peers, pa)
			w.free = append(w.free, i)
		}
	}
}

func (w *writer) apply(e *Engine, s *snapshot, ed *edit, changes []Change) {
	routes := map[uint32]map[routeKey]CustomerRoute{} // of domains that change
	for i := range changes {
		if len(w.detours) > 0 && changes[i].Record != nil {
			delete(w.detours, changes[i].Key())
		}
		switch c := &changes[i]; {
		case c.Record != nil && c.Delete:
			w.deleteRecord(s, ed, c.Record)
		case c.Record != nil:
			w.putRecord(e, s, ed, c.Record)
		case c.Subnet != nil:
			w.setSubnet(s, ed, c.Subnet, c.Delete)
		case c.Route != nil:
			w.setRoute(s, ed, c.Route, c.Delete, routes)
		}
	}
	for d, all := range routes {
		w.setRoutes(s, ed, d, all)
	}
}

func (r *LookupRecord) entry(peer uint32) entry {
	n := entry{mac: macWord(r.MAC), vsid: uint32(r.VSID) | uint32(r.Type)<<24 | uint32(r.Rule)<<28, peer: peer}
	if r.Type != L2Only {
		a := caOf(r.CA)
		n.hi, n.lo = a.hi, a.lo
	}
	return n
}

func (w *writer) putRecord(e *Engine, s *snapshot, ed *edit, r *LookupRecord) {
	n := r.entry(w.peer(e, s, r.PA))
	w.count(s, ed, &n, 1) // first, so that nothing is given up that stays
	var old entry
	var replaced bool
	if r.Type == L2Only {
		old, replaced = s.byMAC.put(ed, n)
	} else {
		old, replaced = s.byCA.put(ed, n)
		if replaced && !s.byMAC.same(&old, &n) {
			s.byMAC.remove(ed, &old)
		}
		s.byMAC.put(ed, n)
	}
	if replaced {
		w.count(s, ed, &old, -1)
	}
}

func (w *writer) deleteRecord(s *snapshot, ed *edit, r *LookupRecord) {
	if !r.VSID.IsValid() || r.Type != L2Only && !r.CA.IsValid() {
		return
	}
	k := r.entry(0)
	var old entry
	var removed bool
	if r.Type == L2Only {
		old, removed = s.byMAC.remove(ed, &k)
	} else if old, removed = s.byCA.remove(ed, &k); removed {
		s.byMAC.remove(ed, &old)
	}
	if removed {
		w.count(s, ed, &old, -1)
	}
}

// peer returns the index of a provider address.
func (w *writer) peer(e *Engine, s *snapshot, pa netip.Addr) uint32 {
	if i, ok := w.peers[pa]; ok {
		return i
	}
	p := s.provider.newPeer(pa, &e.neighbors)
	if n := len(w.free); n > 0 {
		i := w.free[n-1]
		w.free = w.free[:n-1]
		s.peers = slices.Clone(s.peers)
		s.peers[i] = p
		w.peers[pa] = i
		return i
	}
	i := uint32(len(s.peers))
	s.peers = append(s.peers, p) // older snapshots do not see it
	w.records = append(w.records, 0)
	w.peers[pa] = i
	return i
}

// count keeps account of an entry that is added or removed: which peers there are, and in which subnets.
func (w *writer) count(s *snapshot, ed *edit, n *entry, by int) {
	w.records[n.peer] += by
	if w.records[n.peer] == 0 {
		delete(w.peers, s.peers[n.peer].addr)
		w.free = append(w.free, n.peer)
	}
	k := uint64(n.id())<<32 | uint64(n.peer)
	records := w.hosts[k]
	old := records
	records[n.rule()] += uint32(by)
	was, is := lowest(old), lowest(records)
	if is < encapsulations {
		w.hosts[k] = records
	} else {
		delete(w.hosts, k)
	}
	if was == is {
		return
	}
	m := s.membersOf(ed, n.id())
	i := len(m.hosts)
	if was < encapsulations {
		i = slices.Index(m.hosts, hostOf(n.peer, was))
	} else {
		m.hosts = append(m.hosts, 0)
	}
	if is < encapsulations {
		m.hosts[i] = hostOf(n.peer, is)
		return
	}
	m.hosts[i] = m.hosts[len(m.hosts)-1]
	m.hosts = m.hosts[:len(m.hosts)-1]
	s.dropMembers(ed, n.id(), m)
}

// host is a peer that has members of a subnet, and the encapsulation of what all of them get.
type host uint32

func hostOf(peer uint32, rule Encapsulation) host { return host(peer | uint32(rule)<<28) }

func (h host) peer() uint32        { return uint32(h) & (1<<28 - 1) }
func (h host) rule() Encapsulation { return Encapsulation(h >> 28) }

// lowest returns the first encapsulation that has records.
func lowest(records [encapsulations]uint32) Encapsulation {
	for e, n := range records {
		if n > 0 {
			return Encapsulation(e)
		}
	}
	return encapsulations
}

// membersOf returns the members of a subnet, to be changed.
func (s *snapshot) membersOf(ed *edit, vsid VSID) *members {
	old := s.members.get(uint32(vsid))
	if old != nil && old.owner == ed {
		return old
	}
	m := &members{owner: ed}
	if old != nil {
		m.hosts, m.ports, m.byMAC = slices.Clone(old.hosts), slices.Clone(old.ports), maps.Clone(old.byMAC)
	}
	s.members.put(ed, uint32(vsid), m)
	return m
}

func (s *snapshot) dropMembers(ed *edit, vsid VSID, m *members) {
	if len(m.hosts) == 0 && len(m.ports) == 0 {
		s.members.remove(ed, uint32(vsid))
	}
}

// domain returns the number of a virtual network, for one more or one less object in it.
func (w *writer) domain(s *snapshot, ed *edit, rdid RDID, by int) uint32 {
	d, ok := w.domains[rdid]
	if !ok {
		d = uint32(len(w.domains) + len(w.unused))
		if n := len(w.unused); n > 0 {
			d = w.unused[n-1]
			w.unused = w.unused[:n-1]
		}
		w.domains[rdid] = d
		s.domains.put(ed, d, newDomain(rdid, nil))
	}
	w.objects[d] += by
	if w.objects[d] == 0 {
		delete(w.objects, d)
		delete(w.domains, rdid)
		w.unused = append(w.unused, d)
		s.domains.remove(ed, d)
	}
	return d
}

func (w *writer) setSubnet(s *snapshot, ed *edit, c *Subnet, remove bool) {
	old := s.subnets.get(uint32(c.VSID))
	if remove {
		if old != nil {
			s.subnets.remove(ed, uint32(c.VSID))
			w.domain(s, ed, old.RDID, -1)
		}
		return
	}
	n := &subnet{Subnet: *c, domain: w.domain(s, ed, c.RDID, 1), router: c.routerMAC()}
	n.routers = s.domains.get(n.domain).routers(c.VSID)
	s.subnets.put(ed, uint32(c.VSID), n)
	if old != nil {
		w.domain(s, ed, old.RDID, -1)
	}
}

func (w *writer) setRoute(s *snapshot, ed *edit, r *CustomerRoute, remove bool, changed map[uint32]map[routeKey]CustomerRoute) {
	d, ok := w.domains[r.RDID]
	if !ok && remove {
		return
	}
	if !ok {
		d = w.domain(s, ed, r.RDID, 0+1)
		w.objects[d]--
	}
	all := changed[d]
	if all == nil {
		all = maps.Clone(s.domains.get(d).all)
		if all == nil {
			all = map[routeKey]CustomerRoute{}
		}
		changed[d] = all
	}
	_, there := all[r.key()]
	if remove {
		delete(all, r.key())
		if there {
			w.objects[d]--
		}
		return
	}
	all[r.key()] = *r
	if !there {
		w.objects[d]++
	}
}

// setRoutes gives a domain its routes, and its subnets the addresses of their routers.
func (w *writer) setRoutes(s *snapshot, ed *edit, number uint32, all map[routeKey]CustomerRoute) {
	old := s.domains.get(number)
	if old == nil {
		return
	}
	if w.objects[number] == 0 {
		w.objects[number] = 1
		w.domain(s, ed, old.rdid, -1)
		return
	}
	d := newDomain(old.rdid, all)
	s.domains.put(ed, number, d)
	concerned := map[VSID]bool{}
	for k := range old.all {
		concerned[k.vsid] = true
	}
	for k := range all {
		concerned[k.vsid] = true
	}
	for vsid := range concerned {
		if sub := s.subnets.get(uint32(vsid)); sub != nil && sub.domain == number {
			n := *sub
			n.routers = d.routers(vsid)
			s.subnets.put(ed, uint32(vsid), &n)
		}
	}
}

// wildcard returns the unspecified address of the same family.
func wildcard(a ca) ca {
	if a.hi == 0 && a.lo>>32 == 0xffff {
		return ca{0, mapped4}
	}
	return ca{}
}

// tick returns the time in the unit of learned entries.
func tick(now time.Duration) uint16 { return uint16(now / time.Second) }
