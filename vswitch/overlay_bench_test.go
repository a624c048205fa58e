package vswitch

import (
	"net/netip"
	"testing"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
)

// BenchmarkOverlay is what a frame of 1,400 bytes costs a worker: into a tunnel, out of one, and of a VLAN,
// from the uplink, beside them.
func BenchmarkOverlay(b *testing.B) {
	h, _ := NewHost(&HostConfig{Workers: 1})
	defer h.Close()
	pa := [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	paMAC := [2]ports.MAC{{2, 0, 0, 0, 0, 0xa1}, {2, 0, 0, 0, 0, 0xa2}}
	mac := [2]ports.MAC{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}
	ca := [2]netip.Addr{netip.MustParseAddr("10.0.0.11"), netip.MustParseAddr("10.0.0.12")}
	engine, _ := overlay.NewEngine(&overlay.Config{Addresses: []overlay.ProviderAddress{{Address: netip.PrefixFrom(pa[0], 24), MAC: paMAC[0]}}})
	changes := []overlay.Change{
		{Subnet: &overlay.Subnet{VSID: 5001, RDID: overlay.RDID{1}}},
		{Route: &overlay.CustomerRoute{RDID: overlay.RDID{1}, VSID: 5001, Destination: netip.MustParsePrefix("10.0.0.0/24")}},
	}
	for i := range 2 {
		changes = append(changes, overlay.Change{Record: &overlay.LookupRecord{VSID: 5001, CA: ca[i], MAC: mac[i], PA: pa[i]}})
	}
	if err := engine.Apply(changes); err != nil {
		b.Fatal(err)
	}
	uplink, guest, plain := &memGuest{burst: 64}, &memGuest{burst: 64}, &memGuest{burst: 64}
	if _, err := h.AddNIC("eth0", uplink); err != nil {
		b.Fatal(err)
	}
	s, err := h.NewSwitch("s", &SwitchConfig{Type: External, Uplink: "eth0", Overlay: engine})
	if err != nil {
		b.Fatal(err)
	}
	v, err := h.NewVNIC("guest", guest, &VNICConfig{Switch: "s", VSID: 5001, MAC: mac[0]})
	if err != nil {
		b.Fatal(err)
	}
	p, _ := h.NewVNIC("plain", plain, &VNICConfig{Switch: "s"})
	w := h.workers[0]
	w.stop() // the benchmark is the worker

	reply := append(append(paMAC[0][:], paMAC[1][:]...), 8, 6, 0, 1, 8, 0, 6, 4, 0, 2)
	reply = append(append(reply, paMAC[1][:]...), pa[1].AsSlice()...)
	reply = append(append(reply, paMAC[0][:]...), pa[0].AsSlice()...)
	f := new(ports.Frame)
	f.SetHead(reply, 0, len(reply))
	engine.NewWorker().Inbound(h.clock(), []*ports.Frame{f})

	inner := func(dst, src ports.MAC, from, to netip.Addr) []byte {
		m := append(append(dst[:], src[:]...), 8, 0, 0x45, 0, 1400>>8, 1400&0xff, 0, 0, 0x40, 0, 64, 253, 0, 0)
		m = append(append(m, from.AsSlice()...), to.AsSlice()...)
		return append(m, make([]byte, 1400-20)...)
	}
	tunnel, _ := overlay.NewTunnel(&overlay.TunnelConfig{Src: pa[1], Dst: pa[0], SrcMAC: paMAC[1], DstMAC: paMAC[0]})
	for _, c := range []struct {
		name string
		from *memGuest
		in   *port
		to   *memGuest
		wire []byte
		trip bool
	}{
		{"into a tunnel", guest, v.port, uplink, inner(mac[1], mac[0], ca[0], ca[1]), false},
		{"out of a tunnel", uplink, s.host.nics["eth0"].port, guest, inner(mac[0], mac[1], ca[1], ca[0]), true},
		{"in a VLAN", uplink, s.host.nics["eth0"].port, plain, inner(p.MAC(), mac[1], ca[1], ca[0]), false},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.from.frames, c.from.next = make([]ports.Frame, 64), 0
			bufs := make([][]byte, 64)
			n := 0
			lend := func() {
				for i := range bufs {
					if bufs[i] == nil {
						bufs[i] = make([]byte, ports.Headroom+2048)
						g := new(ports.Frame)
						g.SetHead(bufs[i], ports.Headroom, copy(bufs[i][ports.Headroom:], c.wire))
						if c.trip {
							if tunnel.Encap(g, 5001) != nil {
								b.Fatal("not encapsulated")
							}
						}
						n = g.Len()
						copy(bufs[i][ports.Headroom:], append([]byte(nil), g.Head()...))
					}
					c.from.frames[i].SetHead(bufs[i], ports.Headroom, n)
				}
			}
			lend()
			q := c.in.rx[0]
			before := c.to.pos
			w.serve(q)
			if (c.to.pos-before+256)%256 != 64 {
				b.Fatalf("%d frames arrived of 64", c.to.pos-before)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += 64 {
				lend()
				w.serve(q)
			}
			c.from.frames = nil
		})
	}
}
