// Package sflow exports samples of the frames and counters of a switch in sFlow version 5
// (https://sflow.org/sflow_version_5.txt). An Agent is a capture extension:
//
//	collector, err := net.Dial("udp", "192.0.2.10:6343")
//	agent, err := sflow.New(&sflow.Config{
//		Collectors: []io.Writer{collector},
//		Agent:      netip.MustParseAddr("192.0.2.1"),
//		Rate:       1000,
//	})
//	binding := extension.Binding{Name: "sflow", Extension: agent}
//
// # Flow samples
//
// Each port is a data source, whose ifIndex is extension.Port.Index + 1. Sampled is what comes into the
// switch by the port, before anything else has looked at it, and with Config.Egress what leaves by it too,
// which is one data source then: a sample whose output is the data source was leaving. Frames that the
// switch drops are sampled where they came in; frames that an extension has injected came in by no port,
// and their input is 0. Where a frame will leave is not known when it comes in: its output is 0.
//
// Of the packets of a data source each is chosen with probability 1/Rate, independently of the others and
// of what is in them. sample_pool is exact: it counts every packet up to the sampled one, whichever worker
// of the switch carried it. Chosen packets that cannot be sent are in drops. A frame that asks for
// segmentation is one packet.
//
// A sample has the first Config.HeaderLen bytes of the frame as it is on the wire, its tag inserted, the
// length of the frame with its FCS (which is the 4 bytes that were stripped), and for a tagged frame VLAN
// and priority as extended switch data: as source where it comes in, as destination where it leaves.
//
// # Counter samples
//
// With Config.Counters each port sends its generic interface counters and its name (structure 1005)
// regularly.
//
// Datagrams are at most 1,400 bytes long. A sample waits no longer than a second.
package sflow
