package sflow_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
	"github.com/hvswitch/hvswitch/vswitch/sflow"
)

// terminal shows the headers of datagrams. A program has net.Dial("udp", "192.0.2.10:6343").
type terminal struct{}

func (terminal) Write(b []byte) (int, error) {
	agent, _ := netip.AddrFromSlice(b[8:12])
	fmt.Printf("sFlow version %d from %v: %d sample\n", binary.BigEndian.Uint32(b), agent, binary.BigEndian.Uint32(b[24:]))
	return len(b), nil
}

func Example() {
	agent, err := sflow.New(&sflow.Config{
		Collectors: []io.Writer{terminal{}},
		Agent:      netip.MustParseAddr("192.0.2.1"),
		Rate:       1, // every packet
	})
	if err != nil {
		panic(err)
	}
	binding := extension.Binding{Name: "sflow", Extension: agent} // for the list of a switch

	s := binding.Extension.(*sflow.Agent) // what the switch does
	if err := s.Start(lan{}); err != nil {
		panic(err)
	}
	port := &extension.Port{Name: "vm1"}
	state, err := s.Connect(port)
	if err != nil {
		panic(err)
	}
	var f ports.Frame
	f.SetHead(make([]byte, 64), 0, 64)
	s.Capture(extension.NewBatch(extension.Ingress, port, port, state, &f))
	s.Disconnect(port, state)
	s.Stop(lan{})
	// Output:
	// sFlow version 5 from 192.0.2.1: 1 sample
}

type lan struct{ extension.Switch }

func (lan) Name() string { return "lan" }
