package capture_test

import (
	"bytes"
	"fmt"

	"github.com/google/gopacket/pcapgo"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/capture"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// What the switch drops at the port web is recorded, with the reason. Here the calls of the switch are
// made by hand.
func Example() {
	filter, err := capture.ParseFilter("port=web drop=any")
	if err != nil {
		fmt.Println(err)
		return
	}
	var file bytes.Buffer
	c, err := capture.New(&file, &capture.Config{Filter: filter})
	if err != nil {
		fmt.Println(err)
		return
	}

	web := &extension.Port{Switch: "prod", Name: "web"}
	state, _ := c.Connect(web)
	good, bad := new(ports.Frame), new(ports.Frame)
	good.SetHead(make([]byte, 60), 0, 60)
	bad.SetHead(make([]byte, 1514), 0, 1514)
	batch := extension.NewBatch(extension.Ingress, web, web, state, good, bad)
	c.Capture(batch)
	batch.Drop(1, "spoofed source")
	c.Fate(batch)

	if err := c.Close(); err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%+v\n", c.Stats())
	r, _ := pcapgo.NewNgReader(&file, pcapgo.DefaultNgReaderOptions)
	_, info, _ := r.ReadPacketData()
	port, _ := r.Interface(info.InterfaceIndex)
	fmt.Println(port.Name, info.Length, info.CaptureLength)
	// Output:
	// {Received:2 Accepted:1 Written:1 Lost:0}
	// prod/web 1514 128
}

func ExampleParseFilter() {
	f, err := capture.ParseFilter(`vlan=10-20,untagged proto=17 drop="spoofed source"`)
	fmt.Println(f, err)
	_, err = capture.ParseFilter("port=web proto=gre")
	fmt.Println(err)
	// Output:
	// vlan=10-20,untagged proto=udp drop="spoofed source" <nil>
	// term "proto": "gre" is no name and no number within 0–255
}
