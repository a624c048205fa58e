package overlay

import (
	"cmp"
	"net/netip"
	"slices"
)

// domain is the routing table of a virtual network. It is immutable.
type domain struct {
	rdid     RDID
	all      map[routeKey]CustomerRoute
	v4, v6   []routesOfLength // by descending length
	gateways []via            // of all routes with a next hop
	links    []VSID           // subnets with a prefix
}

// routesOfLength are the best routes to prefixes of one length.
type routesOfLength struct {
	mask ca
	to   map[ca]via
}

// via is where a route leads: on-link into a subnet, or to a gateway there.
type via struct {
	vsid   VSID
	onLink bool
	hop    ca
}

func newDomain(rdid RDID, routes map[routeKey]CustomerRoute) *domain {
	d := &domain{rdid: rdid, all: routes}
	best := map[netip.Prefix]CustomerRoute{}
	for _, r := range routes {
		if old, ok := best[r.Destination]; !ok || r.before(&old) {
			best[r.Destination] = r
		}
		v := r.via()
		if !v.onLink && !slices.Contains(d.gateways, v) {
			d.gateways = append(d.gateways, v)
		}
		if v.onLink && !slices.Contains(d.links, v.vsid) {
			d.links = append(d.links, v.vsid)
		}
	}
	byLength := map[int]*routesOfLength{}
	for p, r := range best {
		bits := p.Bits()
		if p.Addr().Is4() {
			bits += 96
		}
		key := bits
		if p.Addr().Is4() {
			key += 1000
		}
		l := byLength[key]
		if l == nil {
			l = &routesOfLength{maskOf(bits), map[ca]via{}}
			byLength[key] = l
		}
		l.to[caOf(p.Addr())] = r.via()
	}
	var keys []int
	for k := range byLength {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b int) int { return cmp.Compare(b, a) })
	for _, k := range keys {
		if k >= 1000 {
			d.v4 = append(d.v4, *byLength[k])
		} else {
			d.v6 = append(d.v6, *byLength[k])
		}
	}
	return d
}

func maskOf(bits int) ca {
	if bits <= 64 {
		return ca{^uint64(0) << (64 - bits), 0}
	}
	return ca{^uint64(0), ^uint64(0) << (128 - bits)}
}

func (r *CustomerRoute) via() via {
	if r.OnLink() {
		return via{vsid: r.VSID, onLink: true}
	}
	return via{vsid: r.VSID, hop: caOf(r.NextHop)}
}

// before reports whether r is preferred to another route with the same destination.
func (r *CustomerRoute) before(o *CustomerRoute) bool {
	switch {
	case r.Metric != o.Metric:
		return r.Metric < o.Metric
	case r.VSID != o.VSID:
		return r.VSID < o.VSID
	}
	return r.key().nextHop.Less(o.key().nextHop)
}

// lookup returns where the longest matching prefix leads.
func (d *domain) lookup(a ca) (v via, ok bool) {
	if d == nil {
		return v, false
	}
	routes := d.v6
	if a.hi == 0 && a.lo>>32 == 0xffff {
		routes = d.v4
	}
	for i := range routes {
		l := &routes[i]
		if v, ok = l.to[ca{a.hi & l.mask.hi, a.lo & l.mask.lo}]; ok {
			return v, true
		}
	}
	return v, false
}

// routers returns the addresses of the router of a subnet, at most one for each on-link prefix.
func (d *domain) routers(vsid VSID) (list []ca) {
	for k, r := range d.all {
		if k.vsid == vsid && r.OnLink() {
			list = append(list, caOf(r.Router()))
		}
	}
	slices.SortFunc(list, func(a, b ca) int { return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo)) })
	return list
}
