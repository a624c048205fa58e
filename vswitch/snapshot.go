package vswitch

import (
	"iter"

	"github.com/hvswitch/hvswitch/vlan"
)

// snapshot is the configuration of a switch as the data path sees it. It never changes: a change of
// configuration makes a new one from it and publishes that, so a frame sees the old configuration or
// the new one, and readers take no lock.
type snapshot struct {
	ports  portTable
	vlans  vlanTable  // who receives what is flooded, the trunks aside
	trunks portSet    // they receive so many VLANs that each is asked
	fids   *vlan.FIDs // under which VLAN the addresses of a VLAN are known

	uplink    int         // its index + 1; 0 without one
	mirrors   portSet     // destinations
	injectors []*portView // where frames of extensions come from, in the place of ports
}

// source returns where frames come from: the port of an index, or with a negative one an injector.
func (s *snapshot) source(index int) *portView {
	if index >= 0 {
		return s.ports.at(index)
	}
	if i := ^index; i < len(s.injectors) {
		return s.injectors[i]
	}
	return nil
}

// members yields the ports that receive the frames of a VLAN.
func (s *snapshot) members(vid uint16) iter.Seq[*portView] {
	return func(yield func(*portView) bool) {
		for i := range s.vlans.at(vid).all() {
			if !yield(s.ports.at(i)) {
				return
			}
		}
		for i := range s.trunks.all() {
			if p := s.ports.at(i); p.vlan.Receives(vid) && !yield(p) {
				return
			}
		}
	}
}

// with returns the snapshot with port p in it.
func (s *snapshot) with(p *portView) *snapshot { return s.change(p, p.index, true) }

// without returns the snapshot without port p.
func (s *snapshot) without(p *portView) *snapshot { return s.change(p, p.index, false) }

func (s *snapshot) change(p *portView, index int, member bool) *snapshot {
	n := *s
	if member {
		n.ports = n.ports.with(index, p)
	} else {
		n.ports = n.ports.with(index, nil)
	}
	if p.mirror == MirrorDestination {
		n.mirrors = n.mirrors.with(index, member)
	}
	if p.mac == 0 {
		n.uplink = 0
		if member {
			n.uplink = index + 1
		}
	}
	if p.vsid != 0 {
		return &n // it is in no VLAN
	}
	if p.trunk() {
		n.trunks = n.trunks.with(index, member)
		return &n
	}
	for vid := range p.vlan.Received() {
		n.vlans = n.vlans.with(vid, index, member)
	}
	return &n
}

// vlanTable is an immutable map from VLAN to ports, copied like portSet.
type vlanTable [64]*[64]portSet

func (t *vlanTable) at(vid uint16) portSet {
	if c := t[vid/64]; c != nil {
		return c[vid%64]
	}
	return portSet{}
}

func (t vlanTable) with(vid uint16, port int, member bool) vlanTable {
	var c [64]portSet
	if t[vid/64] != nil {
		c = *t[vid/64]
	}
	c[vid%64] = c[vid%64].with(port, member)
	t[vid/64] = &c
	return t
}
