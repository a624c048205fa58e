package overlay

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hvswitch/hvswitch/ports"
)

// Engine is the network virtualization of one host: its policy, its ports, and what it has learned. The
// data path is in its workers.
//
// All methods may be called from any goroutine. Frames are not held up by changes.
type Engine struct {
	mu        sync.Mutex // of whoever changes something
	w         writer
	snap      atomic.Pointer[snapshot]
	neighbors neighbors
	inquiries limiter // that come of frames from the provider network
	told      [tellers]limiter
	obeyed    limiter

	changedCA, changedMAC versions // of the tables of records
}

// NewEngine returns an engine without records, or a *ConfigError. A nil configuration is a host without
// a provider address, whose virtual networks end at itself.
func NewEngine(c *Config) (*Engine, error) {
	if c == nil {
		c = &Config{}
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{w: newWriter()}
	e.snap.Store(&snapshot{provider: newProvider(c), byMAC: table{byMAC: true}})
	return e, nil
}

// Config returns the configuration, with defaults filled in.
func (e *Engine) Config() Config {
	c := e.snap.Load().provider.Config
	c.Addresses, c.Routes = slices.Clone(c.Addresses), slices.Clone(c.Routes)
	return c
}

// SetConfig changes the configuration, or returns a *ConfigError.
func (e *Engine) SetConfig(c *Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := *e.snap.Load()
	s.provider = newProvider(c)
	s.peers = slices.Clone(s.peers)
	for i, p := range s.peers {
		s.peers[i] = s.provider.newPeer(p.addr, &e.neighbors)
	}
	e.snap.Store(&s)
	return nil
}

// PortConfig is a port: the place of one vNIC in a virtual subnet.
type PortConfig struct {
	ID   int // the caller's
	VSID VSID
	MAC  ports.MAC
}

// Port is a vNIC on this host.
type Port struct {
	PortConfig
	engine *Engine
	limit  limiter
	vnic   *VNIC // nil unless an Underlay has it
}

// AddPort adds a port. It returns a *ConfigError, also when another port of the subnet has the MAC
// address.
func (e *Engine) AddPort(c PortConfig) (*Port, error) { return e.addPort(c, nil) }

func (e *Engine) addPort(c PortConfig, v *VNIC) (*Port, error) {
	wrong := func(field string, value any, reason string) (*Port, error) {
		return nil, &ConfigError{fmt.Sprintf("port %d", c.ID), field, fmt.Sprint(value), reason}
	}
	if !c.VSID.IsValid() {
		return wrong("VSID", c.VSID, outOfRange)
	}
	if !c.MAC.IsUnicast() {
		return wrong("MAC", c.MAC, notUnicast)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := *e.snap.Load()
	if m := s.members.get(uint32(c.VSID)); m != nil && m.byMAC[c.MAC] != nil {
		return wrong("MAC", c.MAC, fmt.Sprintf("is that of port %d in VSID %s", m.byMAC[c.MAC].ID, c.VSID))
	}
	p := &Port{PortConfig: c, engine: e, vnic: v}
	m := s.membersOf(new(edit), c.VSID)
	m.ports = append(m.ports, p)
	if m.byMAC == nil {
		m.byMAC = map[ports.MAC]*Port{}
	}
	m.byMAC[c.MAC] = p
	e.snap.Store(&s)
	return p, nil
}

// Close takes the port away. A batch that is under way may still name it. A second call does nothing.
func (p *Port) Close() {
	e := p.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	s := *e.snap.Load()
	if m := s.members.get(uint32(p.VSID)); m == nil || m.byMAC[p.MAC] != p {
		return
	}
	ed := new(edit)
	m := s.membersOf(ed, p.VSID)
	m.ports = slices.DeleteFunc(m.ports, func(o *Port) bool { return o == p })
	delete(m.byMAC, p.MAC)
	s.dropMembers(ed, p.VSID, m)
	e.snap.Store(&s)
}

// Records returns the lookup records in no particular order, as they are when the iteration begins: those of
// the policy, but as messages of other hosts have changed them for a while.
func (e *Engine) Records() iter.Seq[LookupRecord] {
	return func(yield func(LookupRecord) bool) {
		s := e.snap.Load()
		s.byMAC.all(func(n *entry) bool { return yield(s.record(n)) })
	}
}

func (s *snapshot) record(n *entry) LookupRecord {
	return LookupRecord{n.id(), n.ca(), n.addr(), s.peers[n.peer].addr, n.typ(), n.rule()}
}

// Lookup returns the record that frames to a customer address go by, the wildcard included. What has been
// learned has the CA that was asked for and the type Dynamic.
func (e *Engine) Lookup(vsid VSID, a netip.Addr) (LookupRecord, bool) {
	s := e.snap.Load()
	if !a.IsValid() || s.subnets.get(uint32(vsid)) == nil {
		return LookupRecord{}, false
	}
	v := view{snap: s, e: e}
	n := v.receiver(vsid, caOf(a))
	if n == nil {
		return LookupRecord{}, false
	}
	r := s.record(n)
	if r.CA != a && r.Type != GatewayWildcard {
		r.CA, r.Type = a, Dynamic
	}
	return r, true
}

// Learned returns the customer addresses that have been learned, in no particular order, with type Dynamic.
func (e *Engine) Learned() iter.Seq[LookupRecord] {
	return func(yield func(LookupRecord) bool) {
		s := e.snap.Load()
		s.learned.all(func(n *entry) bool {
			m := s.byMAC.lookupMAC(n.id(), n.mac&^0xffff)
			if m == nil {
				return true
			}
			r := s.record(m)
			r.CA, r.Type = n.ca(), Dynamic
			return yield(r)
		})
	}
}

// Subnets returns the virtual subnets by VSID, as they are when the iteration begins.
func (e *Engine) Subnets() iter.Seq[Subnet] {
	return func(yield func(Subnet) bool) {
		e.snap.Load().subnets.all(func(_ uint32, s *subnet) bool { return yield(s.Subnet) })
	}
}

// CustomerRoutes returns the customer routes in no particular order, as they are when the iteration begins.
func (e *Engine) CustomerRoutes() iter.Seq[CustomerRoute] {
	return func(yield func(CustomerRoute) bool) {
		e.snap.Load().domains.all(func(_ uint32, d *domain) bool {
			for r := range maps.Values(d.all) {
				if !yield(r) {
					return false
				}
			}
			return true
		})
	}
}
