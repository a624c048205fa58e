package overlay

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func TestErrorsNameObjectFieldValueAndReason(t *testing.T) {
	rec := LookupRecord{VSID: 5001, CA: addr("10.0.0.5"), MAC: mac(1), PA: addr("192.0.2.1")}
	for _, c := range []struct {
		c    Change
		want string
	}{
		{Change{}, "change: objects must be exactly one"},
		{Change{Record: func() *LookupRecord { r := rec; r.VSID = 4095; return &r }()}, "lookup record 10.0.0.5 in VSID 4095: VSID 4095 is out of 4096–16777214"},
		{Change{Record: func() *LookupRecord { r := rec; r.PA = addr("0.0.0.0"); return &r }()}, "lookup record 10.0.0.5 in VSID 5001: PA 0.0.0.0 is no unicast address"},
		{Change{Record: func() *LookupRecord { r := rec; r.MAC = ports.Broadcast; return &r }()}, "lookup record 10.0.0.5 in VSID 5001: MAC ff:ff:ff:ff:ff:ff is no unicast address"},
		{Change{Record: func() *LookupRecord { r := rec; r.CA = addr("224.0.0.1"); return &r }()}, "lookup record 224.0.0.1 in VSID 5001: CA 224.0.0.1 is no unicast address"},
		{Change{Record: func() *LookupRecord { r := rec; r.Type = L2Only; return &r }()}, "lookup record 02:00:00:00:00:01 in VSID 5001: CA 10.0.0.5 is not for type L2Only"},
		{Change{Record: func() *LookupRecord { r := rec; r.Type = GatewayWildcard; return &r }()}, "lookup record 10.0.0.5 in VSID 5001: CA 10.0.0.5 must be 0.0.0.0 or :: for type GatewayWildcard"},
		{Change{Record: func() *LookupRecord { r := rec; r.Rule = 7; return &r }()}, "lookup record 10.0.0.5 in VSID 5001: Rule 7 does not exist"},
		{Change{Subnet: &Subnet{VSID: 5001}}, "virtual subnet 5001: RDID is missing"},
		{Change{Subnet: &Subnet{VSID: 5001, RDID: red, RouterMAC: ports.Broadcast}}, "virtual subnet 5001: RouterMAC ff:ff:ff:ff:ff:ff is no unicast address"},
		{Change{Route: &CustomerRoute{RDID: red, VSID: 5001, Destination: prefix("10.0.0.1/24")}}, "customer route 10.0.0.1/24 of {ed000000-0000-0000-0000-000000000000}: Destination 10.0.0.1/24 has bits behind its length"},
		{Change{Route: &CustomerRoute{RDID: red, VSID: 5001, Destination: prefix("0.0.0.0/0"), NextHop: addr("fd00::1")}}, "customer route 0.0.0.0/0 of {ed000000-0000-0000-0000-000000000000}: NextHop fd00::1 is of another IP version than Destination"},
	} {
		e, err := NewEngine(nil)
		require.NoError(t, err)
		err = e.Apply([]Change{{Subnet: &Subnet{VSID: 5002, RDID: red}}, c.c})
		require.EqualError(t, err, c.want)
		require.ErrorAs(t, err, new(*ConfigError))
		require.Empty(t, slices.Collect(e.Subnets()), "nothing is applied")
		require.EqualError(t, e.Replace([]Change{c.c}), c.want)
	}
	pa := ProviderAddress{Address: prefix("192.0.2.1/24"), MAC: mac(1)}
	for _, c := range []struct {
		c    Config
		want string
	}{
		{Config{MTU: 100}, "provider network: MTU 100 is out of 576–65535"},
		{Config{DSCP: 64}, "provider network: DSCP 64 is out of 0–63"},
		{Config{LearnedAge: time.Second}, "provider network: LearnedAge 1s is out of 10s–8h"},
		{Config{VXLANPort: 6081}, "provider network: GenevePort 6081 is VXLANPort too"},
		{Config{Addresses: []ProviderAddress{pa, pa}}, "provider address 192.0.2.1/24: Address 192.0.2.1/24 is there twice"},
		{Config{Addresses: []ProviderAddress{{Address: prefix("192.0.2.1/24")}}}, "provider address 192.0.2.1/24: MAC 00:00:00:00:00:00 is no unicast address"},
		{Config{Addresses: []ProviderAddress{{Address: prefix("192.0.2.1/24"), MAC: mac(1), VLAN: 4095}}}, "provider address 192.0.2.1/24: VLAN 4095 is out of 1–4094"},
		{Config{Addresses: []ProviderAddress{pa}, Routes: []ProviderRoute{{Destination: prefix("10.0.0.0/8"), NextHop: addr("10.0.0.1")}}}, "provider route 10.0.0.0/8: NextHop 10.0.0.1 is no neighbor on the prefix of a provider address"},
	} {
		_, err := NewEngine(&c.c)
		require.EqualError(t, err, c.want)
	}
	e, _ := NewEngine(nil)
	p, err := e.AddPort(PortConfig{ID: 3, VSID: 5001, MAC: mac(1)})
	require.NoError(t, err)
	_, err = e.AddPort(PortConfig{ID: 4, VSID: 5001, MAC: mac(1)})
	require.EqualError(t, err, "port 4: MAC 02:00:00:00:00:01 is that of port 3 in VSID 5001")
	p.Close()
	_, err = e.AddPort(PortConfig{ID: 4, VSID: 5001, MAC: mac(1)})
	require.NoError(t, err)
}

func TestTextForms(t *testing.T) {
	id, err := ParseRDID("{11111111-2222-3333-4444-0000000000ff}")
	require.NoError(t, err)
	require.Equal(t, "{11111111-2222-3333-4444-0000000000ff}", id.String())
	for _, s := range []string{"", "{}", "11111111-2222-3333-4444-0000000000f", "11111111-2222-3333-4444x0000000000ff", "g1111111-2222-3333-4444-0000000000ff"} {
		_, err := ParseRDID(s)
		require.Error(t, err, s)
	}
	for _, s := range []string{"4095", "16777215", "-1", "x", ""} {
		_, err := ParseVSID(s)
		require.Error(t, err, s)
	}
	v, err := ParseVSID("5001")
	require.NoError(t, err)
	require.Equal(t, VSID(5001), v)

	c := Change{Record: &LookupRecord{VSID: 5001, CA: addr("10.0.0.5"), MAC: mac(1), PA: addr("192.0.2.1"), Type: Dynamic, Rule: VXLAN}}
	b, err := json.Marshal(c)
	require.NoError(t, err)
	require.Equal(t, `{"record":{"vsid":5001,"ca":"10.0.0.5","mac":"02:00:00:00:00:01","pa":"192.0.2.1","type":"Dynamic","rule":"VXLAN"}}`, string(b))
	var back Change
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, c, back)
	for d := range drops {
		require.NotEmpty(t, d.String())
	}
}

func TestRouterIsTheFirstAddress(t *testing.T) {
	for p, want := range map[string]string{"10.0.0.0/24": "10.0.0.1", "10.0.0.8/30": "10.0.0.9", "10.0.0.8/31": "10.0.0.8", "10.0.0.8/32": "10.0.0.8",
		"fd00::/64": "fd00::1", "fd00::/127": "fd00::"} {
		r := CustomerRoute{Destination: prefix(p)}
		require.Equal(t, want, r.Router().String())
	}
}

// Whatever the order in which changes come, alone or together, the policy is the same; and it is what a
// dump gives back.
func TestOrderDoesNotMatter(t *testing.T) {
	s := newTenants(t)
	want := dump(s.hosts[0].e)
	reversed := slices.Clone(s.policy)
	slices.Reverse(reversed)
	e, _ := NewEngine(nil)
	require.NoError(t, e.Apply(reversed))
	require.Equal(t, want, dump(e))
	e, _ = NewEngine(nil)
	for _, c := range reversed {
		require.NoError(t, e.Apply([]Change{c}))
	}
	require.Equal(t, want, dump(e))
	require.NoError(t, e.Replace(s.policy))
	require.Equal(t, want, dump(e))

	for _, c := range s.policy {
		c.Delete = true
		require.NoError(t, e.Apply([]Change{c, c}))
	}
	require.Empty(t, dump(e))
	w := e.w
	require.Empty(t, w.peers)
	require.Empty(t, w.hosts)
	require.Empty(t, w.domains)
	require.Empty(t, w.objects)
	require.Zero(t, e.snap.Load().members.count)
	require.Zero(t, e.snap.Load().domains.count)
	require.Len(t, w.free, 2)
}

func dump(e *Engine) (all []string) {
	for r := range e.Records() {
		all = append(all, fmt.Sprint(r))
	}
	for r := range e.Subnets() {
		all = append(all, fmt.Sprint(r))
	}
	for r := range e.CustomerRoutes() {
		all = append(all, fmt.Sprint(r))
	}
	slices.Sort(all)
	return all
}

func TestChangedProviderAddress(t *testing.T) {
	s := newTenants(t)
	s.send(0, s.p[1], udp(mac(2), "10.0.0.12").frame(t))
	c := s.hosts[0].e.Config()
	c.MTU = 9000
	require.NoError(t, s.hosts[0].e.SetConfig(&c))
	p := udp(mac(2), "10.0.0.12")
	p.payload = 8000
	require.Equal(t, []delivery{{1, 2, p.bytes(t)}}, s.send(0, s.p[1], p.frame(t)))
	c.Addresses = []ProviderAddress{{Address: netip.MustParsePrefix("192.0.2.77/24"), MAC: s.hosts[0].mac, VLAN: 9}}
	require.NoError(t, s.hosts[0].e.SetConfig(&c))
	require.Equal(t, 1, s.drops(DropSource, func() { s.send(0, s.p[1], p.frame(t)) }), "the records say another address")
}
