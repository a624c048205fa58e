package overlay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// A cluster address with a Dynamic record moves from VM to VM where the subnet learns, and comes back.
func TestClusterAddressMoves(t *testing.T) {
	s := newScene(t, 2)
	s.subnet(red, 5001, "10.0.0.0/24")
	var p [2]*Port
	for i, ca := range []string{"10.0.0.11", "10.0.0.12"} {
		s.apply(Change{Record: &LookupRecord{VSID: 5001, CA: addr(ca), MAC: mac(byte(i + 1)), PA: s.hosts[i].pa, Type: Dynamic}})
		p[i] = s.port(i, i, 5001, mac(byte(i+1)))
	}
	s.apply(Change{Record: &LookupRecord{VSID: 5001, CA: addr("10.0.0.100"), MAC: mac(1), PA: s.hosts[0].pa, Type: Dynamic}})
	owner := func() ports.MAC {
		a, _ := s.hosts[0].e.Lookup(5001, addr("10.0.0.100"))
		b, _ := s.hosts[1].e.Lookup(5001, addr("10.0.0.100"))
		require.Equal(t, a, b)
		return a.MAC
	}
	claim := func(host int) {
		m := mac(byte(host + 1))
		s.now += 2 * time.Second
		s.send(host, p[host], arpFrame(ports.Broadcast, m, arp(1, m, "10.0.0.100", ports.MAC{}, "10.0.0.100")).frame(t))
	}
	require.Equal(t, 1, s.drops(DropSource, func() { claim(1) }), "the subnet does not learn")
	require.Equal(t, mac(1), owner())
	s.apply(Change{Subnet: &Subnet{VSID: 5001, RDID: red, Learning: true}})
	claim(1)
	require.Equal(t, mac(2), owner())
	claim(0)
	require.Equal(t, mac(1), owner())
	claim(1)
	for _, h := range s.hosts {
		h.e.Expire(s.now + 2*defaultLearnedAge)
	}
	require.Equal(t, mac(1), owner(), "the record says so")
}

func TestProviderVLAN(t *testing.T) {
	s := newTenants(t)
	for _, h := range s.hosts {
		c := h.e.Config()
		c.Addresses[0].VLAN = 9
		require.NoError(t, h.e.SetConfig(&c))
	}
	f := udp(mac(2), "10.0.0.12")
	require.Equal(t, []delivery{{1, 2, f.bytes(t)}}, s.send(0, s.p[1], f.frame(t)))
	for _, x := range s.wire {
		require.Equal(t, ports.Tag{TPID: 0x8100, TCI: 9}, x.VLAN)
	}
	x := s.wire[len(s.wire)-1]
	tagged := frameOf(wire(x)) // a tag among the bytes is as good
	require.Zero(t, s.hosts[1].w.Inbound(s.now, []*ports.Frame{tagged})[0].Drop)
	x.VLAN = ports.Tag{}
	require.Equal(t, DropProviderVLAN, s.hosts[1].w.Inbound(s.now, []*ports.Frame{x})[0].Drop)
}

func TestTaggedGuestFramesAreDropped(t *testing.T) {
	s := newTenants(t)
	p := udp(mac(2), "10.0.0.12")
	p.tags = []uint16{5}
	require.Equal(t, 1, s.drops(DropTagged, func() { s.send(0, s.p[1], p.frame(t)) }))
	p.tags = nil
	f := p.frame(t)
	f.VLAN = ports.Tag{TPID: 0x8100, TCI: 5}
	require.Equal(t, 1, s.drops(DropTagged, func() { s.send(0, s.p[1], f) }))
	f.VLAN = ports.Tag{TPID: 0x8100, TCI: 5 << 13} // priority alone
	require.Equal(t, []delivery{{1, 2, p.bytes(t)}}, s.send(0, s.p[1], f))
}

// Bytes that were written down once, by hand from the RFCs' figures.
func TestGoldenHeaders(t *testing.T) {
	payload := packet{src: mac(1), dst: mac(2), etherType: 0x88b5, l3: []byte("hi")}
	for e, want := range map[Encapsulation]string{
		NVGRE: "\x02\x00\x00\x00\x00\xa2\x02\x00\x00\x00\x00\xa1\x08\x00" +
			"\x45\x00\x00\x2c\x00\x00\x40\x00\x40\x2f\xb6\x9f\xc0\x00\x02\x01\xc0\x00\x02\x02" +
			"\x20\x00\x65\x58\x00\x13\x89",
		VXLAN: "\x02\x00\x00\x00\x00\xa2\x02\x00\x00\x00\x00\xa1\x08\x00" +
			"\x45\x00\x00\x34\x00\x00\x40\x00\x40\x11\xb6\xb5\xc0\x00\x02\x01\xc0\x00\x02\x02",
	} {
		f := payload.frame(t)
		require.NoError(t, tunnel(t, TunnelConfig{Encapsulation: e}).Encap(f, 5001))
		require.Equal(t, want, string(wire(f)[:len(want)]), "%s", e)
	}
	f := payload.frame(t)
	require.NoError(t, tunnel(t, TunnelConfig{Encapsulation: VXLAN}).Encap(f, 5001))
	require.Equal(t, "\x12\xb5\x00\x20\x00\x00\x08\x00\x00\x00\x00\x13\x89\x00", string(wire(f)[36:50]))
	f = payload.frame(t)
	require.NoError(t, tunnel(t, TunnelConfig{Encapsulation: Geneve}).Encap(f, 5001))
	require.Equal(t, "\x17\xc1\x00\x20\x00\x00\x00\x00\x65\x58\x00\x13\x89\x00", string(wire(f)[36:50]))
}

// VMs whose addresses are learned are routed to and from, also by hosts without a VM in their subnet.
func TestRoutedToLearnedAddresses(t *testing.T) {
	for _, six := range []bool{false, true} {
		s := newScene(t, 3)
		s.subnet(red, 5001, "10.0.0.0/24", "fd00:0:0:1::/64")
		s.subnet(red, 5002, "10.0.1.0/24", "fd00:0:0:2::/64")
		s.apply(Change{Subnet: &Subnet{VSID: 5002, RDID: red, Learning: true}})
		a := s.vm(0, 1, 5001, mac(1), "10.0.0.11", "fd00:0:0:1::11")
		var b [3]*Port
		for i := 1; i < 3; i++ {
			s.apply(Change{Record: &LookupRecord{VSID: 5002, MAC: mac(byte(10 + i)), PA: s.hosts[i].pa, Type: L2Only}})
			b[i] = s.port(i, 10+i, 5002, mac(byte(10+i)))
		}
		there, back := udp(routerOfVSID(5001), "10.0.1.50"), packet{src: mac(11), dst: routerOfVSID(5002), from: addr("10.0.1.50"), to: addr("10.0.0.11"), payload: 7}
		hello := arpFrame(ports.Broadcast, mac(11), arp(1, mac(11), "10.0.1.50", ports.MAC{}, "10.0.1.50"))
		router := addr("10.0.1.1")
		if six {
			router = addr("fd00:0:0:2::1")
			there = udp(routerOfVSID(5001), "fd00:0:0:2::50")
			back.from, back.to = addr("fd00:0:0:2::50"), addr("fd00:0:0:1::11")
			hello = packet{src: mac(11), dst: ports.MAC{0x33, 0x33, 0, 0, 0, 1}, from: addr("fd00:0:0:2::50"), to: addr("ff02::1"), payload: 9}
		}
		// Nobody knows it: the VMs of the subnet are asked.
		asked := func() (n int) {
			for _, d := range s.send(0, a, there.frame(t)) {
				require.Equal(t, routerOfVSID(5002), ports.MAC(d.data[6:]))
				require.True(t, ports.MAC(d.data).IsGroup())
				n++
			}
			return n
		}
		require.Zero(t, asked(), "the next hops are not known yet")
		require.Equal(t, 2, asked())
		s.send(1, b[1], hello.frame(t)) // hosts 1 and 2 learn
		require.Zero(t, asked(), "host 1 answers in the name of the VM")
		got := s.send(0, a, there.frame(t))
		require.Len(t, got, 1)
		require.Equal(t, 11, got[0].port)
		require.Len(t, s.send(1, b[1], back.frame(t)), 1)

		// The VM begins.
		s.hosts[0].e.Expire(s.now + 2*defaultLearnedAge)
		require.Empty(t, s.send(1, b[1], back.frame(t)))
		require.Len(t, s.send(1, b[1], back.frame(t)), 1, "host 0 has asked")

		// The question of somebody without a part in the network is not answered.
		q := s.hosts[0].w.question(back.from, router, routerOfVSID(5002))
		tun, err := NewTunnel(&TunnelConfig{Src: addr("192.0.2.99"), Dst: s.hosts[1].pa, DstMAC: s.hosts[1].mac})
		require.NoError(t, err)
		require.NoError(t, tun.Encap(q, 5002))
		out := s.hosts[1].w.Inbound(s.now, []*ports.Frame{q})
		require.Len(t, out, 1)
		require.Equal(t, DropUnknownProvider, out[0].Drop)
	}
}
