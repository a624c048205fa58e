package overlay

import (
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func TestNothingIsAllocatedPerFrame(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := newTenants(t)
	s.vm(0, 4, 5001, mac(4), "10.0.0.14")
	s.vm(0, 5, 5001, mac(5), "10.0.0.15")
	s.send(0, s.p[1], udp(mac(2), "10.0.0.12").frame(t))
	tso := udp(mac(2), "10.0.0.12")
	tso.proto, tso.payload = layers.IPProtocolTCP, 20000
	big := udp(mac(2), "10.0.0.12")
	big.payload = 3000
	refused := big
	refused.df = true
	for name, f := range map[string]*ports.Frame{
		"to another host": udp(mac(2), "10.0.0.12").frame(t),
		"to another port": udp(mac(4), "10.0.0.14").frame(t),
		"routed":          udp(routerOfVSID(5001), "10.0.1.13").frame(t),
		"broadcast":       udp(ports.Broadcast, "255.255.255.255").frame(t),
		"no route":        udp(routerOfVSID(5001), "172.16.0.1").frame(t),
		"ARP":             arpFrame(ports.Broadcast, mac(1), arp(1, mac(1), "10.0.0.11", ports.MAC{}, "10.0.0.1")).frame(t),
		"ND":              solicit(mac(1), "fd00:0:0:1::11", "fd00:0:0:1::12").frame(t),
		"large segment":   tso.asking(t, 1400),
		"fragmented":      big.frame(t),
		"too big":         refused.frame(t),
	} {
		batch := []*ports.Frame{new(ports.Frame)}
		w := s.hosts[0].w
		run := func() {
			batch[0].CopyFrom(f)
			if len(w.Outbound(s.now, s.p[1], batch)) == 0 {
				t.Error("no output")
			}
		}
		run()
		require.Zero(t, testing.AllocsPerRun(100, run), name)
	}
	in := udp(mac(2), "10.0.0.12").frame(t)
	tun, err := NewTunnel(&TunnelConfig{Src: s.hosts[0].pa, Dst: s.hosts[1].pa, DstMAC: s.hosts[1].mac})
	require.NoError(t, err)
	require.NoError(t, tun.Encap(in, 5001))
	batch := []*ports.Frame{new(ports.Frame)}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		batch[0].CopyFrom(in)
		if s.hosts[1].w.Inbound(s.now, batch)[0].Drop != 0 {
			t.Error("dropped")
		}
	}))
}
