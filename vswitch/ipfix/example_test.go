package ipfix_test

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/hvswitch/hvswitch/vswitch/extension"
	"github.com/hvswitch/hvswitch/vswitch/ipfix"
)

// terminal shows the headers of messages. A program has net.Dial("udp", "192.0.2.10:4739").
type terminal struct{}

func (terminal) Write(b []byte) (int, error) {
	fmt.Printf("IPFIX version %d of domain %d\n", binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[12:]))
	return len(b), nil
}

func Example() {
	exporter, err := ipfix.New(&ipfix.Config{
		Collectors: []io.Writer{terminal{}},
		Domain:     7,
	})
	if err != nil {
		panic(err)
	}
	binding := extension.Binding{Name: "ipfix", Extension: exporter} // for the list of a switch

	starter := binding.Extension.(extension.Starter) // what the switch does
	if err := starter.Start(lan{}); err != nil {
		panic(err)
	}
	starter.Stop(lan{})
	fmt.Println(exporter.Stats().Messages, "message")
	// Output:
	// IPFIX version 10 of domain 7
	// 1 message
}

type lan struct{ extension.Switch }

func (lan) Name() string { return "lan" }
