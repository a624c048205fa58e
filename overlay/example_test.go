package overlay_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
)

// The codec alone: a frame goes through a tunnel and comes out again.
func ExampleTunnel() {
	tunnel, err := overlay.NewTunnel(&overlay.TunnelConfig{
		Encapsulation: overlay.NVGRE,
		Src:           netip.MustParseAddr("192.0.2.1"), SrcMAC: ports.MAC{2, 0, 0, 0, 0, 0xa1},
		Dst: netip.MustParseAddr("192.0.2.2"), DstMAC: ports.MAC{2, 0, 0, 0, 0, 0xa2},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	f := new(ports.Frame)
	f.SetHead(make([]byte, ports.Headroom+60), ports.Headroom, 60) // a frame of a VM

	fmt.Println(tunnel.Encap(f, 5001), f.Len())
	var e overlay.Encapsulated
	drop := new(overlay.Decoder).Decap(f, &e)
	fmt.Println(drop == 0, e.Encapsulation, e.VSID, e.Src, f.Len())
	// Output:
	// <nil> 102
	// true NVGRE 5001 192.0.2.1 60
}

// A guest asks for the address of its router; the engine of its host answers.
func ExampleEngine() {
	red, _ := overlay.ParseRDID("{11111111-2222-3333-4444-000000000000}")
	host := netip.MustParsePrefix("192.0.2.1/24")
	vm := ports.MAC{0x02, 0, 0, 0, 0, 1}

	engine, err := overlay.NewEngine(&overlay.Config{
		Addresses: []overlay.ProviderAddress{{Address: host, MAC: ports.MAC{2, 0, 0, 0, 0, 0xa1}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = engine.Apply([]overlay.Change{
		{Subnet: &overlay.Subnet{VSID: 5001, RDID: red}},
		{Route: &overlay.CustomerRoute{RDID: red, VSID: 5001, Destination: netip.MustParsePrefix("10.0.0.0/24")}},
		{Record: &overlay.LookupRecord{VSID: 5001, CA: netip.MustParseAddr("10.0.0.5"), MAC: vm, PA: host.Addr()}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	port, err := engine.AddPort(overlay.PortConfig{ID: 1, VSID: 5001, MAC: vm})
	if err != nil {
		fmt.Println(err)
		return
	}

	request := append(append(ports.Broadcast[:], vm[:]...), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	request = append(append(request, vm[:]...), 10, 0, 0, 5, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1)
	f := new(ports.Frame)
	f.SetHead(append(make([]byte, ports.Headroom), request...), ports.Headroom, len(request))
	for _, out := range engine.NewWorker().Outbound(0, port, []*ports.Frame{f}) {
		fmt.Printf("port %d: 10.0.0.1 is at %s\n", out.Port.ID, ports.MAC(out.Frame.Head()[22:]))
	}
	// Output: port 1: 10.0.0.1 is at 02:76:73:00:13:89
}

// Two VMs of a virtual network on two hosts, without a switch: each is a ports.Backend.
func ExampleUnderlay() {
	red, _ := overlay.ParseRDID("{11111111-2222-3333-4444-000000000000}")
	pa := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24")}
	ca := []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("10.0.0.6")}
	vm := []ports.MAC{{2, 0, 0, 0, 0, 5}, {2, 0, 0, 0, 0, 6}}
	var nics [2]*ports.PipeEnd
	nics[0], nics[1], _ = ports.Pipe(nil) // the provider network

	var vnics [2]*overlay.VNIC
	for i := range 2 {
		engine, _ := overlay.NewEngine(&overlay.Config{
			Addresses: []overlay.ProviderAddress{{Address: pa[i], MAC: ports.MAC{2, 0, 0, 0, 0, 0xa1 + byte(i)}}},
		})
		_ = engine.Apply([]overlay.Change{
			{Subnet: &overlay.Subnet{VSID: 5001, RDID: red}},
			{Route: &overlay.CustomerRoute{RDID: red, VSID: 5001, Destination: netip.MustParsePrefix("10.0.0.0/24")}},
			{Record: &overlay.LookupRecord{VSID: 5001, CA: ca[0], MAC: vm[0], PA: pa[0].Addr()}},
			{Record: &overlay.LookupRecord{VSID: 5001, CA: ca[1], MAC: vm[1], PA: pa[1].Addr()}},
		})
		underlay, err := overlay.NewUnderlay(engine, nics[i])
		if err != nil {
			fmt.Println(err)
			return
		}
		defer underlay.Close()
		vnics[i], _ = underlay.Attach(overlay.VNICConfig{PortConfig: overlay.PortConfig{VSID: 5001, MAC: vm[i]}})
	}
	fmt.Println("MTU of the guests:", vnics[0].Info().MTU)

	f := new(ports.Frame)
	f.SetHead(append(append(append(make([]byte, ports.Headroom), vm[1][:]...), vm[0][:]...), 0x88, 0xb5, 'h', 'i'), ports.Headroom, 16)
	arrived := ports.NewBatch(1)
	for arrived.Len() == 0 { // the first frames are lost while the hosts find each other
		_, _ = vnics[0].Tx(0).Send([]*ports.Frame{f})
		time.Sleep(time.Millisecond)
		_ = vnics[1].Rx(0).Recv(arrived)
	}
	fmt.Printf("%s\n", arrived.Frames()[0].Head()[14:])
	// Output:
	// MTU of the guests: 1458
	// hi
}
