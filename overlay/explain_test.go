package overlay

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func copyOf(f *ports.Frame) *ports.Frame {
	g := new(ports.Frame)
	g.CopyFrom(f)
	return g
}

// An explanation says what happens then, and changes nothing of it.
func TestExplanationsComeTrue(t *testing.T) {
	for name, p := range map[string]struct {
		packet
		says string
	}{
		"to another host": {udp(mac(2), "10.0.0.12"), "receiver: record 10.0.0.12: MAC 02:00:00:00:00:02 on host 192.0.2.2, by NVGRE"},
		"routed":          {udp(routerOfVSID(5001), "10.0.1.13"), "router: 10.0.1.13 is on-link in VSID 5002"},
		"no route":        {udp(routerOfVSID(5001), "172.16.0.1"), "router: no route to 172.16.0.1"},
		"nobody":          {udp(mac(77), "10.0.0.77"), "receiver: no record"},
		"flooded":         {udp(ports.Broadcast, "255.255.255.255"), "flooded to the members of VSID 5001"},
		"forged":          {packet{src: mac(2), dst: mac(3), from: addr("10.0.0.12"), to: addr("10.0.0.13")}, "sender: record 10.0.0.12"},
		"answered":        {arpFrame(ports.Broadcast, mac(1), arp(1, mac(1), "10.0.0.11", ports.MAC{}, "10.0.0.1")), "answered that 10.0.0.1 is at " + routerOfVSID(5001).String()},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTenants(t)
			h := s.hosts[0]
			f := p.frame(t)
			for range 2 * errorBurst / errorEach { // were it not for free, nobody would be told any more
				h.e.ExplainOutbound(s.now, s.p[1], copyOf(f))
			}
			s.send(0, s.p[1], udp(mac(2), "10.0.0.12").frame(t))
			require.Equal(t, ports.Broadcast, ports.MAC(s.wire[0].Head()), "no explanation has asked for the next hop")
			said := h.e.ExplainOutbound(s.now, s.p[1], copyOf(f))
			require.Contains(t, strings.Join(said.Steps, "\n"), p.says)
			out := h.w.Outbound(s.now, s.p[1], []*ports.Frame{copyOf(f)})
			require.Len(t, said.Outputs, len(out))
			for i, o := range out {
				require.Equal(t, o.Drop, said.Outputs[i].Drop)
				require.Equal(t, o.Port, said.Outputs[i].Port)
				require.Equal(t, wire(o.Frame), wire(said.Outputs[i].Frame))
				if o.Drop != 0 || o.Port != nil {
					continue
				}
				in := s.hosts[1].e.ExplainInbound(s.now, copyOf(o.Frame))
				require.Contains(t, in.Steps[0], "NVGRE from host 192.0.2.1 to 192.0.2.2")
				real := s.hosts[1].w.Inbound(s.now, []*ports.Frame{copyOf(o.Frame)})
				require.Equal(t, real[0].Port, in.Outputs[0].Port)
				require.Equal(t, real[0].Drop, in.Outputs[0].Drop)
			}
		})
	}
}

func TestAnExplanationTeachesNothing(t *testing.T) {
	s := newTenants(t)
	s.apply(Change{Subnet: &Subnet{VSID: 5001, RDID: red, Learning: true}},
		Change{Record: &LookupRecord{VSID: 5001, MAC: mac(5), PA: s.hosts[0].pa, Type: L2Only}})
	p := s.port(0, 5, 5001, mac(5))
	e := s.hosts[0].e
	hello := arpFrame(ports.Broadcast, mac(5), arp(1, mac(5), "10.0.0.50", ports.MAC{}, "10.0.0.50")).frame(t)
	said := e.ExplainOutbound(s.now, p, copyOf(hello))
	require.Contains(t, strings.Join(said.Steps, "\n"), "sender: 10.0.0.50 is learned: true")
	require.Empty(t, collect(e.Learned()))
	s.hosts[0].w.Outbound(s.now, p, []*ports.Frame{hello})
	require.Len(t, collect(e.Learned()), 1)

	reply := arpFrame(s.hosts[0].mac, s.hosts[1].mac, arp(2, s.hosts[1].mac, "192.0.2.2", s.hosts[0].mac, "192.0.2.1")).frame(t)
	udp := udp(mac(2), "10.0.0.12").frame(t)
	e.ExplainInbound(s.now, copyOf(reply))
	require.Equal(t, DropUnresolved, e.ExplainOutbound(s.now, s.p[1], copyOf(udp)).Outputs[0].Drop)
	s.hosts[0].w.Inbound(s.now, []*ports.Frame{reply})
	require.Zero(t, e.ExplainOutbound(s.now, s.p[1], copyOf(udp)).Outputs[0].Drop)
}

func collect(records func(func(LookupRecord) bool)) (all []LookupRecord) {
	records(func(r LookupRecord) bool { all = append(all, r); return true })
	return all
}

// What Concerns leaves out, Inbound would drop as DropNotTunnel.
func TestConcerns(t *testing.T) {
	s := newTenants(t)
	h := s.hosts[1]
	c := h.e.Config()
	c.Addresses[0].VLAN = 9
	require.NoError(t, h.e.SetConfig(&c))
	tunneled := udp(mac(2), "10.0.0.12").frame(t)
	tun, err := NewTunnel(&TunnelConfig{Src: s.hosts[0].pa, Dst: h.pa, DstMAC: h.mac})
	require.NoError(t, err)
	require.NoError(t, tun.Encap(tunneled, 5001))
	for name, c := range map[string]struct {
		f    *ports.Frame
		vlan uint16
		is   bool
	}{
		"tunneled":           {tunneled, 9, true},
		"in another VLAN":    {tunneled, 8, false},
		"to somebody else":   {udp(mac(2), "10.0.0.12").frame(t), 9, false},
		"ARP":                {arpFrame(ports.Broadcast, mac(1), arp(1, mac(1), "192.0.2.1", ports.MAC{}, "192.0.2.2")).frame(t), 9, true},
		"ND":                 {solicit(mac(1), "fd00::1", "fd00::2").frame(t), 9, true},
		"ARP elsewhere":      {arpFrame(ports.Broadcast, mac(1), arp(1, mac(1), "192.0.2.1", ports.MAC{}, "192.0.2.2")).frame(t), 0, false},
		"another broadcast":  {udp(ports.Broadcast, "255.255.255.255").frame(t), 9, false},
		"cut off":            {frameOf(tunneled.Head()[:13]), 9, false},
		"cut off behind ARP": {frameOf(append(append(ports.Broadcast[:], h.mac[:]...), 0x86, 0xdd)), 9, false},
	} {
		require.Equal(t, c.is, h.e.Concerns(c.f, c.vlan), name)
	}
}
