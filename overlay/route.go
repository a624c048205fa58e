package overlay

import (
	"fmt"
	"net/netip"
)

// CustomerRoute is a route of a virtual network (New-NetVirtualizationCustomerRoute).
//
// Without a next hop it says which prefix a virtual subnet has; the first address of the prefix is that
// of the router. With one it leads by a gateway, a VM with a lookup record for NextHop in the subnet.
// The longest prefix wins, then the lowest metric, then the lowest VSID and next hop.
type CustomerRoute struct {
	RDID        RDID         `json:"rdid"`
	VSID        VSID         `json:"vsid"`
	Destination netip.Prefix `json:"destination"`
	NextHop     netip.Addr   `json:"nextHop,omitzero"` // none, 0.0.0.0 or :: for on-link
	Metric      uint32       `json:"metric,omitempty"`
}

// OnLink reports whether the route has no next hop.
func (r *CustomerRoute) OnLink() bool { return !r.NextHop.IsValid() || r.NextHop.IsUnspecified() }

// Router returns the address of the router of an on-link prefix: its first address, that is the one
// behind the network's own where there is room for one.
func (r *CustomerRoute) Router() netip.Addr { return routerOf(r.Destination) }

func routerOf(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr()
	if a.BitLen()-p.Bits() < 2 {
		return a // RFC 3021, RFC 6164: each address is a host's
	}
	return a.Next()
}

// Validate returns a *ConfigError unless the route is valid.
func (r *CustomerRoute) Validate() error {
	wrong := func(field string, value any, reason string) error {
		return &ConfigError{fmt.Sprintf("customer route %s of %s", r.Destination, r.RDID), field, fmt.Sprint(value), reason}
	}
	switch p := r.Destination; {
	case r.RDID.IsZero():
		return wrong("RDID", "", "is missing")
	case !r.VSID.IsValid():
		return wrong("VSID", r.VSID, outOfRange)
	case !p.IsValid() || p.Addr().Is4In6():
		return wrong("Destination", p, "is no IPv4 or IPv6 prefix")
	case p != p.Masked():
		return wrong("Destination", p, "has bits behind its length")
	case p.Addr().IsMulticast():
		return wrong("Destination", p, "is multicast")
	case r.OnLink():
		return nil
	case !isUnicast(r.NextHop):
		return wrong("NextHop", r.NextHop, notUnicast)
	case r.NextHop.Is4() != p.Addr().Is4():
		return wrong("NextHop", r.NextHop, "is of another IP version than Destination")
	}
	return nil
}

// routeKey is what makes a route another one; the metric can be changed.
type routeKey struct {
	vsid        VSID
	destination netip.Prefix
	nextHop     netip.Addr
}

func (r *CustomerRoute) key() routeKey {
	k := routeKey{r.VSID, r.Destination, r.NextHop}
	if r.OnLink() {
		k.nextHop = netip.Addr{}
	}
	return k
}
