package overlay

import (
	"net/netip"

	"github.com/hvswitch/hvswitch/ports"
)

// Change is one step of a policy: exactly one of its objects is set. Changes that belong together, such
// as those of a VM's move, are applied together.
type Change struct {
	Subnet *Subnet        `json:"subnet,omitempty"`
	Record *LookupRecord  `json:"record,omitempty"`
	Route  *CustomerRoute `json:"route,omitempty"`

	// Delete removes the object; otherwise it is added or takes the place of the one with the same
	// key. Of an object to delete only the key is looked at. What is not there is deleted without
	// complaint.
	Delete bool `json:"delete,omitempty"`
}

// Key is what an object is known by. Keys are comparable.
type Key struct {
	kind  uint8
	rdid  RDID
	vsid  VSID
	addr  netip.Addr   // CA of a record, next hop of a route
	mac   ports.MAC    // of an L2Only record
	route netip.Prefix // of a route
}

const (
	subnetKind = 1 + iota
	recordKind
	routeKind
)

// Key returns the key of the object.
func (c *Change) Key() Key {
	switch {
	case c.Subnet != nil:
		return Key{kind: subnetKind, vsid: c.Subnet.VSID}
	case c.Record != nil:
		if c.Record.Type == L2Only {
			return Key{kind: recordKind, vsid: c.Record.VSID, mac: c.Record.MAC}
		}
		return Key{kind: recordKind, vsid: c.Record.VSID, addr: c.Record.CA}
	case c.Route != nil:
		k := c.Route.key()
		return Key{kind: routeKind, rdid: c.Route.RDID, vsid: k.vsid, addr: k.nextHop, route: k.destination}
	}
	return Key{}
}

// Validate returns a *ConfigError unless the change is valid.
func (c *Change) Validate() error {
	n := 0
	for _, set := range []bool{c.Subnet != nil, c.Record != nil, c.Route != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		return &ConfigError{"change", "objects", "", "must be exactly one"}
	}
	if c.Delete {
		return nil
	}
	switch {
	case c.Subnet != nil:
		return c.Subnet.Validate()
	case c.Record != nil:
		return c.Record.Validate()
	}
	return c.Route.Validate()
}
