package vswitch_test

import (
	"context"
	"fmt"
	"log"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// A private lab: two virtual machines on a switch that nobody else can hear. Here a pipe in memory
// stands for the network adapter of each machine.
func Example() {
	host, err := vswitch.NewHost(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()

	if _, err := host.NewSwitch("lab", nil); err != nil { // private, unless told otherwise
		log.Fatal(err)
	}

	alice, aliceNIC := pipe()
	bob, bobNIC := pipe()
	a, err := host.NewVNIC("alice", aliceNIC, &vswitch.VNICConfig{Switch: "lab"})
	if err != nil {
		log.Fatal(err)
	}
	b, err := host.NewVNIC("bob", bobNIC, &vswitch.VNICConfig{Switch: "lab"})
	if err != nil {
		log.Fatal(err)
	}

	write(alice, b.MAC(), a.MAC(), "hello, bob")
	fmt.Println("bob reads:", read(bob))

	// Output:
	// bob reads: hello, bob
}

// An external switch joins virtual machines to what is behind an uplink. The uplink is a NIC or a
// team; here a pipe is the wire.
func ExampleHost_AddNIC() {
	host, err := vswitch.NewHost(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()

	wire, nic := pipe()
	if _, err := host.AddNIC("eth0", nic); err != nil {
		log.Fatal(err)
	}
	sw, err := host.NewSwitch("prod", &vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
	if err != nil {
		log.Fatal(err)
	}
	guest, guestNIC := pipe()
	vm, err := host.NewVNIC("vm1", guestNIC, &vswitch.VNICConfig{
		Switch: "prod",
		MAC:    ports.MAC{0x00, 0x15, 0x5d, 0x00, 0x00, 0x01},
	})
	if err != nil {
		log.Fatal(err)
	}

	write(guest, ports.Broadcast, vm.MAC(), "who has 10.0.0.1?")
	fmt.Println("the wire carries:", read(wire))
	router := ports.MAC{0x00, 0x00, 0x5e, 0x00, 0x01, 0x01}
	write(wire, vm.MAC(), router, "I have")
	fmt.Println("the guest reads:", read(guest))

	for _, a := range sw.Addresses() {
		fmt.Println(a.MAC, "is at", a.Port)
	}

	// Output:
	// the wire carries: who has 10.0.0.1?
	// the guest reads: I have
	// 00:00:5e:00:01:01 is at eth0
	// 00:15:5d:00:00:01 is at vm1
}

// The configuration of a switch changes while traffic flows: this one is cut off from the world, and
// its virtual machines do not notice.
func ExampleSwitch_SetConfig() {
	host, err := vswitch.NewHost(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	_, nic := pipe()
	if _, err := host.AddNIC("eth0", nic); err != nil {
		log.Fatal(err)
	}
	sw, err := host.NewSwitch("prod", &vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
	if err != nil {
		log.Fatal(err)
	}

	cfg := sw.Config()
	cfg.Type, cfg.Uplink = vswitch.Private, ""
	if err := sw.SetConfig(cfg); err != nil {
		log.Fatal(err)
	}
	fmt.Println(sw.Name(), "is", sw.Config().Type)

	// The NIC is free for another switch now; a second one cannot have it.
	uplink := &vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"}
	for _, name := range []string{"dmz", "lab"} {
		if _, err := host.NewSwitch(name, uplink); err != nil {
			fmt.Println(err)
		}
	}

	// Output:
	// prod is private
	// switch "lab": uplink "eth0" is bound to switch "dmz": in use
}

// pipe returns the two ends of a cable in memory.
func pipe() (far, near *ports.PipeEnd) {
	far, near, err := ports.Pipe(nil)
	if err != nil {
		log.Fatal(err)
	}
	return far, near
}

// write sends an Ethernet frame with a text in it.
func write(end *ports.PipeEnd, dst, src ports.MAC, text string) {
	frame := append(dst[:], src[:]...)
	frame = append(frame, 0x88, 0xb5) // the EtherType for experiments
	frame = append(frame, text...)
	if err := end.WriteFrame(context.Background(), frame); err != nil {
		log.Fatal(err)
	}
}

// read returns the text in the next frame that arrives.
func read(end *ports.PipeEnd) string {
	buf := make([]byte, 1514)
	n, err := end.ReadFrame(context.Background(), buf)
	if err != nil {
		log.Fatal(err)
	}
	return string(buf[14:n])
}
