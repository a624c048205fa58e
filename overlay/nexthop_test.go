package overlay

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func TestNextHop(t *testing.T) {
	s := newTenants(t)
	s.vm(0, 4, 5001, mac(4), "10.0.0.14")
	gateway := mac(9)
	s.vm(1, 9, 5002, gateway, "10.0.1.99")
	s.apply(Change{Route: &CustomerRoute{RDID: red, VSID: 5002, Destination: prefix("172.16.0.0/12"), NextHop: addr("10.0.1.99")}},
		Change{Route: &CustomerRoute{RDID: red, VSID: 5002, Destination: prefix("172.31.0.0/16"), NextHop: addr("10.0.1.98")}})
	s.send(0, s.p[1], udp(mac(2), "10.0.0.12").frame(t)) // host 2 is known
	e := s.hosts[0].e
	here, there := s.hosts[0].pa, s.hosts[1].pa
	for to, want := range map[string]NextHop{
		"10.0.0.12":      {VSID: 5001, Address: addr("10.0.0.12"), MAC: mac(2), Source: here, Via: there, ViaMAC: s.hosts[1].mac},
		"10.0.0.14":      {VSID: 5001, Address: addr("10.0.0.14"), MAC: mac(4), Source: here},
		"10.0.0.1":       {VSID: 5001, Address: addr("10.0.0.1"), MAC: routerOfVSID(5001), Source: here},
		"10.0.1.1":       {VSID: 5002, Address: addr("10.0.1.1"), MAC: routerOfVSID(5002), Source: here, Routed: true},
		"10.0.1.13":      {VSID: 5002, Address: addr("10.0.1.13"), MAC: mac(3), Source: here, Via: there, ViaMAC: s.hosts[1].mac, Routed: true},
		"172.16.5.5":     {VSID: 5002, Address: addr("10.0.1.99"), MAC: gateway, Source: here, Via: there, ViaMAC: s.hosts[1].mac, Routed: true},
		"fd00:0:0:2::13": {VSID: 5002, Address: addr("fd00:0:0:2::13"), MAC: mac(3), Source: here, Via: there, ViaMAC: s.hosts[1].mac, Routed: true},
	} {
		from := addr("10.0.0.11")
		if addr(to).Is6() {
			from = addr("fd00:0:0:1::11")
		}
		got, drop := e.NextHop(5001, from, addr(to))
		require.Zero(t, drop, to)
		if want.MAC != routerOfVSID(want.VSID) {
			require.Equal(t, want.MAC, got.Record.MAC)
			require.Equal(t, want.VSID, got.Record.VSID)
			want.Record = got.Record
		}
		require.Equal(t, want, got, to)
		if want.Routed && want.Via.IsValid() { // frames go that way
			d := s.send(0, s.p[1], packet{src: mac(1), dst: routerOfVSID(5001), from: from, to: addr(to), payload: 5}.frame(t))
			require.Len(t, d, 1)
			require.Equal(t, want.MAC, ports.MAC(d[0].data))
		}
	}
	for _, c := range []struct {
		vsid     VSID
		from, to string
		is       Drop
	}{
		{5099, "10.0.0.11", "10.0.0.12", DropUnknownVSID},
		{5001, "10.0.0.77", "10.0.0.12", DropSource},
		{5001, "10.0.0.12", "10.0.0.11", DropNotHere},
		{5001, "10.0.0.11", "fd00::1", DropMalformed},
		{5001, "10.0.0.11", "255.255.255.255", DropMalformed},
		{5001, "10.0.0.11", "192.168.0.1", DropNoRoute},
		{5001, "10.0.0.11", "10.0.0.77", DropNoRecord},
		{5001, "10.0.0.11", "172.31.0.1", DropNoRecord},
	} {
		_, drop := e.NextHop(c.vsid, addr(c.from), addr(c.to))
		require.Equal(t, c.is, drop, c.to)
	}
	_, drop := e.NextHop(5001, netip.Addr{}, addr("10.0.0.12"))
	require.Equal(t, DropMalformed, drop)
	require.ElementsMatch(t, []netip.Addr{addr("10.0.0.11"), addr("fd00:0:0:1::11")}, e.AddressesOf(5001, mac(1)))
}
