package vswitch_test

import (
	"fmt"
	"log"
	"net/netip"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// Two tenants with the same addresses on one switch. Each has a virtual network of its own, in which the
// switch is the router; other hosts with the same records would be part of it by way of the uplink.
func ExampleSwitchConfig_overlay() {
	host, err := vswitch.NewHost(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	_, nic := pipe()
	if _, err := host.AddNIC("eth0", nic); err != nil {
		log.Fatal(err)
	}
	pa := netip.MustParsePrefix("192.0.2.1/24")
	engine, err := overlay.NewEngine(&overlay.Config{
		Addresses: []overlay.ProviderAddress{{Address: pa, MAC: ports.MAC{2, 0, 0, 0, 0, 0xa1}, VLAN: 100}},
	})
	if err != nil {
		log.Fatal(err)
	}
	config := vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0", Overlay: engine}
	if _, err := host.NewSwitch("prod", &config); err != nil {
		log.Fatal(err)
	}

	guests := map[string]*ports.PipeEnd{}
	for n, vm := range []struct {
		name string
		vsid overlay.VSID
		ca   string
	}{
		{"red1", 5001, "10.0.0.11"}, {"red2", 5001, "10.0.0.12"},
		{"blue1", 6001, "10.0.0.11"}, {"blue2", 6001, "10.0.0.12"},
	} {
		mac := ports.MAC{2, 0, 0, 0, 0, byte(n)}
		err := engine.Apply([]overlay.Change{
			{Subnet: &overlay.Subnet{VSID: vm.vsid, RDID: overlay.RDID{byte(vm.vsid >> 8)}}},
			{Record: &overlay.LookupRecord{VSID: vm.vsid, CA: netip.MustParseAddr(vm.ca), MAC: mac, PA: pa.Addr()}},
		})
		if err != nil {
			log.Fatal(err)
		}
		guest, backend := pipe()
		if _, err := host.NewVNIC(vm.name, backend, &vswitch.VNICConfig{Switch: "prod", VSID: vm.vsid, MAC: mac}); err != nil {
			log.Fatal(err)
		}
		guests[vm.name] = guest
	}

	write(guests["red1"], ports.Broadcast, ports.MAC{2, 0, 0, 0, 0, 0}, "hello from red1")
	write(guests["blue1"], ports.Broadcast, ports.MAC{2, 0, 0, 0, 0, 2}, "hello from blue1")
	fmt.Println("red2 reads:", read(guests["red2"]))
	fmt.Println("blue2 reads:", read(guests["blue2"]))

	// Output:
	// red2 reads: hello from red1
	// blue2 reads: hello from blue1
}
