package hvswitch_test

import (
	"context"
	"fmt"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// Two guests in memory on a private switch: one sends a frame to the other.
func Example() {
	host, err := vswitch.NewHost(nil)
	if err != nil {
		panic(err)
	}
	defer host.Close()
	if _, err := host.NewSwitch("lab", nil); err != nil {
		panic(err)
	}

	plug := func(name string) (*ports.PipeEnd, ports.MAC) {
		guest, port, err := ports.Pipe(nil)
		if err != nil {
			panic(err)
		}
		nic, err := host.NewVNIC(name, port, &vswitch.VNICConfig{Switch: "lab"})
		if err != nil {
			panic(err)
		}
		return guest, nic.MAC()
	}
	vm1, mac1 := plug("vm1")
	vm2, mac2 := plug("vm2")

	frame := append(append(mac2[:], mac1[:]...), "\x88\xb5hello, vm2"...)
	if err := vm1.WriteFrame(context.Background(), frame); err != nil {
		panic(err)
	}
	buf := make([]byte, 1514)
	n, err := vm2.ReadFrame(context.Background(), buf)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", buf[14:n])
	// Output: hello, vm2
}
