package overlay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// world is what the reference model knows: lists, which it goes through from end to end.
type world struct {
	subnets []Subnet
	records []LookupRecord
	routes  []CustomerRoute
	pas     []netip.Addr
	ports   []worldPort
}

type worldPort struct {
	host int
	PortConfig
}

func (w *world) subnet(v VSID) *Subnet {
	for i := range w.subnets {
		if w.subnets[i].VSID == v {
			return &w.subnets[i]
		}
	}
	return nil
}

// ofMAC returns the record that stands for a MAC address.
func (w *world) ofMAC(v VSID, m ports.MAC) *LookupRecord {
	var best *LookupRecord
	for i := range w.records {
		r := &w.records[i]
		if r.VSID != v || r.MAC != m {
			continue
		}
		if best == nil || r.Type < best.Type || r.Type == best.Type && lessCA(r.CA, best.CA) {
			best = r
		}
	}
	return best
}

func lessCA(a, b netip.Addr) bool {
	x, y := [16]byte{}, [16]byte{}
	if a.IsValid() {
		x = a.As16()
	}
	if b.IsValid() {
		y = b.As16()
	}
	return slices.Compare(x[:], y[:]) < 0
}

func (w *world) ofCA(v VSID, a netip.Addr) *LookupRecord {
	for i := range w.records {
		if r := &w.records[i]; r.VSID == v && r.CA == a {
			return r
		}
	}
	return nil
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// route returns the best route of a virtual network to an address.
func (w *world) route(id RDID, a netip.Addr) *CustomerRoute {
	var best *CustomerRoute
	for i := range w.routes {
		r := &w.routes[i]
		if r.RDID != id || !r.Destination.Contains(a) {
			continue
		}
		if best == nil || r.Destination.Bits() > best.Destination.Bits() ||
			r.Destination.Bits() == best.Destination.Bits() && r.before(best) {
			best = r
		}
	}
	return best
}

func (w *world) isRouter(v VSID, a netip.Addr) bool {
	for _, r := range w.routes {
		if s := w.subnet(v); r.VSID == v && s != nil && r.RDID == s.RDID && r.OnLink() && r.Router() == a {
			return true
		}
	}
	return false
}

// maySend reports whether a MAC address of a port may send from an address.
func (w *world) maySend(p worldPort, m ports.MAC, from netip.Addr) bool {
	s, rec := w.subnet(p.VSID), w.ofMAC(p.VSID, m)
	switch {
	case rec == nil && (s.Unknown != FloodUnknown || m == s.routerMAC()):
		return false
	case rec != nil && (m != p.MAC || rec.PA != w.pas[p.host]):
		return false
	case from.IsUnspecified():
		return true
	case w.isRouter(p.VSID, from):
		return false
	}
	r, way := w.ofCA(p.VSID, from), w.route(s.RDID, from)
	onLink := way != nil && way.OnLink() && way.VSID == p.VSID
	switch {
	case r != nil:
		return r.MAC == m
	case rec == nil:
		return onLink
	case way != nil && way.OnLink() && way.VSID != p.VSID:
		return false
	}
	if wild := w.ofCA(p.VSID, unspecified(from)); wild != nil && wild.MAC == m {
		return true
	}
	for _, r := range w.routes {
		if r.RDID == s.RDID && r.VSID == p.VSID && !r.OnLink() && !onLink && r.NextHop.Is4() == from.Is4() {
			if gw := w.ofCA(r.VSID, r.NextHop); gw != nil && gw.MAC == m {
				return true
			}
		}
	}
	return false
}

// portsOf returns the ports that get a frame for a MAC address in a subnet, wherever they are.
func (w *world) at(v VSID, rec *LookupRecord) (to []string) {
	for _, p := range w.ports {
		if p.VSID == v && p.MAC == rec.MAC && w.pas[p.host] == rec.PA {
			to = append(to, fmt.Sprint(p.host, p.ID))
		}
	}
	return to
}

// all returns the other ports of a subnet: on the host of the sender, and where there are records.
func (w *world) all(p worldPort) (to []string) {
	for _, q := range w.ports {
		if q.VSID != p.VSID || q.ID == p.ID {
			continue
		}
		has := q.host == p.host
		for _, r := range w.records {
			has = has || r.VSID == q.VSID && r.PA == w.pas[q.host]
		}
		if has {
			to = append(to, fmt.Sprint(q.host, q.ID))
		}
	}
	return to
}

// outbound returns which ports get a packet that a port sends.
func (w *world) outbound(p worldPort, k packet) (to []string) {
	s := w.subnet(p.VSID)
	if s == nil || !w.maySend(p, k.src, k.from) {
		return nil
	}
	if k.dst == s.routerMAC() {
		if w.isRouter(p.VSID, k.to) {
			return nil
		}
		r := w.route(s.RDID, k.to)
		if r == nil || w.subnet(r.VSID) == nil || w.subnet(r.VSID).RDID != s.RDID || w.isRouter(r.VSID, k.to) || k.ttl == 1 {
			return nil
		}
		hop := k.to
		if !r.OnLink() {
			hop = r.NextHop
		}
		rec := w.ofCA(r.VSID, hop)
		if rec == nil && r.OnLink() {
			rec = w.ofCA(r.VSID, unspecified(k.to))
		}
		if rec == nil || r.VSID == p.VSID && rec.MAC == p.MAC && rec.PA == w.pas[p.host] {
			return nil
		}
		if k.from.IsUnspecified() || !w.leadsBack(s.RDID, k.from, w.pas[p.host]) {
			return hereOnly(p, w.at(r.VSID, rec)) // no other host takes it
		}
		return w.at(r.VSID, rec)
	}
	rec := w.ofMAC(p.VSID, k.dst)
	switch {
	case k.dst.IsGroup(), rec == nil && s.Unknown == FloodUnknown:
		to = w.all(p)
		for _, q := range w.ports { // a host that has the port needs not ask who else may be meant
			if q.VSID == p.VSID && q.MAC == k.dst && q.host != p.host {
				to = slices.DeleteFunc(to, func(o string) bool { return o[0] == fmt.Sprint(q.host)[0] && o != fmt.Sprint(q.host, q.ID) })
			}
		}
	case rec == nil, rec.MAC == p.MAC && rec.PA == w.pas[p.host]:
	default:
		to = w.at(p.VSID, rec)
	}
	isMember := func(r LookupRecord) bool { return r.VSID == p.VSID && r.PA == w.pas[p.host] }
	if !slices.ContainsFunc(w.records, isMember) {
		to = hereOnly(p, to)
	}
	return to
}

// leadsBack reports whether what comes from an address of a virtual network may come from a host.
func (w *world) leadsBack(id RDID, from, pa netip.Addr) bool {
	of := func(v VSID, a netip.Addr) bool {
		s, rec := w.subnet(v), w.ofCA(v, a)
		return s != nil && s.RDID == id && rec != nil && rec.PA == pa
	}
	if r := w.route(id, from); r != nil && r.OnLink() {
		if w.ofCA(r.VSID, from) != nil {
			return of(r.VSID, from)
		}
		return of(r.VSID, unspecified(from))
	}
	for _, r := range w.routes {
		if r.RDID != id {
			continue
		}
		if r.OnLink() && of(r.VSID, unspecified(from)) || !r.OnLink() && r.NextHop.Is4() == from.Is4() && of(r.VSID, r.NextHop) {
			return true
		}
	}
	return false
}

// hereOnly returns those of the ports that are on the host of p.
func hereOnly(p worldPort, to []string) []string {
	return slices.DeleteFunc(to, func(q string) bool { return q[0] != fmt.Sprint(p.host)[0] })
}

var rdids = []RDID{{1}, {2}, {3}}

func nth(s, x int, six bool) netip.Addr {
	if six {
		return netip.AddrFrom16([16]byte{0xfd, 7: byte(s), 15: byte(x)})
	}
	return netip.AddrFrom4([4]byte{10, 0, byte(s), byte(x)})
}

// randomWorld builds tenants who all use the same addresses.
func randomWorld(t *testing.T, r *rand.Rand) (*world, *scene, []*Port) {
	s := newScene(t, 3)
	w := &world{}
	for _, h := range s.hosts {
		w.pas = append(w.pas, h.pa)
	}
	var changes []Change
	for i, id := range rdids {
		for n := range 1 + r.IntN(3) {
			sub := Subnet{VSID: VSID(5000 + 10*i + n), RDID: id}
			if r.IntN(4) == 0 {
				sub.Unknown = FloodUnknown
			}
			w.subnets = append(w.subnets, sub)
			for _, six := range []bool{false, true} {
				bits := 24
				if six {
					bits = 64
				}
				w.routes = append(w.routes, CustomerRoute{RDID: id, VSID: sub.VSID, Destination: netip.PrefixFrom(nth(n, 0, six), bits)})
			}
		}
	}
	// Mistakes of the operator: a route into a subnet of another tenant.
	if r.IntN(2) == 0 {
		sub := w.subnets[r.IntN(len(w.subnets))]
		w.routes = append(w.routes, CustomerRoute{RDID: rdids[r.IntN(3)], VSID: sub.VSID, Destination: netip.PrefixFrom(nth(r.IntN(4), 0, false), 25)})
	}
	keys := map[Key]bool{}
	for vm := range 12 {
		sub := w.subnets[r.IntN(len(w.subnets))]
		host, m := r.IntN(3), mac(byte(1+r.IntN(6)))
		p := worldPort{host, PortConfig{ID: vm, VSID: sub.VSID, MAC: m}}
		if !slices.ContainsFunc(w.ports, func(q worldPort) bool { return q.VSID == p.VSID && q.MAC == p.MAC }) {
			w.ports = append(w.ports, p)
		}
		for _, six := range []bool{false, true} {
			rec := LookupRecord{VSID: sub.VSID, CA: nth(int(sub.VSID%10), 2+r.IntN(5), six), MAC: m, PA: w.pas[host]}
			if r.IntN(10) == 0 {
				rec.CA, rec.Type = unspecified(rec.CA), GatewayWildcard
			}
			if i := slices.IndexFunc(w.records, func(o LookupRecord) bool { return o.VSID == rec.VSID && o.MAC == rec.MAC }); i >= 0 {
				rec.PA = w.records[i].PA // one VM is on one host
			}
			k := Change{Record: &rec}
			if !keys[k.Key()] {
				keys[k.Key()] = true
				w.records = append(w.records, rec)
			}
		}
		if r.IntN(6) == 0 {
			w.routes = append(w.routes, CustomerRoute{RDID: sub.RDID, VSID: sub.VSID, Destination: prefix("0.0.0.0/0"), NextHop: nth(int(sub.VSID%10), 2+r.IntN(5), false), Metric: uint32(vm)})
		}
	}
	routes := map[Key]bool{}
	w.routes = slices.DeleteFunc(w.routes, func(c CustomerRoute) bool {
		k := Change{Route: &c}
		again := routes[k.Key()]
		routes[k.Key()] = true
		return again
	})
	for i := range w.subnets {
		changes = append(changes, Change{Subnet: &w.subnets[i]})
	}
	for i := range w.records {
		changes = append(changes, Change{Record: &w.records[i]})
	}
	for i := range w.routes {
		changes = append(changes, Change{Route: &w.routes[i]})
	}
	r.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
	s.apply(changes...)
	var ps []*Port
	for _, p := range w.ports {
		ps = append(ps, s.port(p.host, p.ID, p.VSID, p.MAC))
	}
	return w, s, ps
}

func randomPacket(r *rand.Rand, w *world, v VSID, own ports.MAC) packet {
	six := r.IntN(2) == 0
	p := packet{src: own, dst: mac(byte(1 + r.IntN(7))), ttl: 64, payload: 8,
		from: nth(int(v%10), 1+r.IntN(7), six), to: nth(r.IntN(3), 1+r.IntN(7), six)}
	switch r.IntN(8) {
	case 0:
		p.src = mac(byte(1 + r.IntN(7)))
	case 1:
		p.from = nth(r.IntN(3), 1+r.IntN(7), six)
	case 2:
		p.from = unspecified(p.from)
	case 3:
		p.from = addr("8.8.8.8")
		if six {
			p.from = addr("2001:db8::8")
		}
	}
	if r.IntN(3) > 0 { // most often what the records say
		for _, rec := range w.records {
			if rec.VSID == v && rec.MAC == own && rec.CA.Is6() == six && rec.Type == Static {
				p.from = rec.CA
			}
		}
	}
	switch r.IntN(6) {
	case 0, 1, 2:
		p.dst = routerOfVSID(v)
	case 3:
		p.dst = ports.Broadcast
	case 4:
		p.dst = routerOfVSID(w.subnets[r.IntN(len(w.subnets))].VSID)
	}
	if r.IntN(6) == 0 {
		p.to = addr("9.9.9.9")
		if six {
			p.to = addr("2001:db8::9")
		}
	}
	if r.IntN(10) == 0 {
		p.ttl = 1
	}
	return p
}

// Whatever guests send, it gets where the reference model says, and nowhere else.
func TestAgainstReferenceModel(t *testing.T) {
	delivered, worlds := 0, 80
	for seed := range worlds {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		w, s, ps := randomWorld(t, r)
		for range 60 {
			i := r.IntN(len(ps))
			p := w.ports[i]
			k := randomPacket(r, w, p.VSID, p.MAC)
			var got []string
			for _, d := range s.send(p.host, ps[i], k.frame(t)) {
				if n := len(k.bytes(t)); len(d.data) == n && string(d.data[n-16:]) == string(k.bytes(t)[n-16:]) {
					got = append(got, fmt.Sprint(d.host, d.port))
				} else {
					require.Equal(t, p.ID, d.port, "errors go to the sender")
				}
			}
			want := w.outbound(p, k)
			slices.Sort(got)
			slices.Sort(want)
			require.ElementsMatch(t, want, got, "seed %d: port %+v sends %+v", seed, p, k)
			delivered += len(got)
			crossed(t, w, p.VSID, got)
		}
	}
	require.Greater(t, delivered, worlds*10)
}

// crossed fails when a frame from a subnet got to another routing domain.
func crossed(t *testing.T, w *world, from VSID, to []string) {
	for _, p := range w.ports {
		if slices.Contains(to, fmt.Sprint(p.host, p.ID)) {
			require.Equal(t, w.subnet(from).RDID, w.subnet(p.VSID).RDID)
		}
	}
}

// Whatever somebody in the provider network sends, a VM gets it only in its own subnet, and only from a
// host of its own routing domain that may speak for the inner source.
func TestForgedWorlds(t *testing.T) {
	passed := 0
	for seed := range 80 {
		r := rand.New(rand.NewPCG(uint64(seed), 8))
		w, s, _ := randomWorld(t, r)
		for range 200 {
			v := w.subnets[r.IntN(len(w.subnets))].VSID
			k := randomPacket(r, w, v, mac(byte(1+r.IntN(7))))
			if r.IntN(3) == 0 {
				k.src = routerOfVSID(v)
			}
			if r.IntN(10) == 0 {
				v = VSID(4096 + r.IntN(3000))
			}
			to := r.IntN(3)
			src := w.pas[r.IntN(3)]
			if r.IntN(5) == 0 {
				src = addr("192.0.2.77")
			}
			f := k.frame(t)
			tun, err := NewTunnel(&TunnelConfig{Encapsulation: Encapsulation(r.IntN(3)), Src: src, Dst: w.pas[to], DstMAC: s.hosts[to].mac})
			require.NoError(t, err)
			require.NoError(t, tun.Encap(f, v))
			for _, o := range s.hosts[to].w.Inbound(s.now, []*ports.Frame{f}) {
				if o.Drop != 0 {
					continue
				}
				passed++
				require.NotNil(t, o.Port)
				require.Equal(t, v, o.Port.VSID)
				id := w.subnet(v).RDID
				speaks := false
				for _, rec := range w.records {
					if sub := w.subnet(rec.VSID); sub.RDID == id && rec.PA == src && src != w.pas[to] {
						speaks = speaks || rec.MAC == k.src && rec.VSID == v || rec.CA == k.from || rec.Type == GatewayWildcard ||
							slices.ContainsFunc(w.routes, func(c CustomerRoute) bool { return c.RDID == id && c.NextHop == rec.CA }) ||
							w.subnet(v).Unknown == FloodUnknown && rec.VSID == v
					}
				}
				require.True(t, speaks, "seed %d: %s says %+v in %s", seed, src, k, v)
			}
		}
	}
	require.Greater(t, passed, 50)
}
