// Package capture records the frames at the ports of a switch while traffic flows, in the pcapng format
// that Wireshark reads.
//
// A Capture is an extension of the switch. It takes a copy of the first bytes of each frame, stamps it and
// hands it to one goroutine that writes; the switch never waits for the writer. What the writer is too slow
// for is lost to the capture, and counted. Any number of captures may run at once, each with its own
// Filter:
//
//	file, err := os.Create("web.pcapng")
//	c, err := capture.New(file, &capture.Config{Filter: capture.Filter{Ports: []string{"web"}}})
//	stop, err := host.Observe("web.pcapng", c)
//	...
//	stop()
//	err = c.Close() // writes the rest and the statistics
//
// Serve streams captures to readers that connect to a socket; Open and List are its client.
//
// # What is in the file
//
// Each port that the filter admits is an interface, named switch/port. Directions are the switch's: inbound
// is what came from the port, before anything else has looked at it; outbound is what is sent to it, tagged
// as it leaves. So a frame that is forwarded is there twice, if both its ports are captured. The comment of
// a frame that was dropped says why, such as "dropped: spoofed source".
//
// Packets are in the order of their time stamps, which count nanoseconds. The frames of a batch, 64 at
// most, have the same one. Checksums that the sender left to the hardware are not complete, and a frame
// that is to be segmented is there as one.
//
// An Interface Statistics Block for each interface ends the file: the frames seen (isb_ifrecv), those among
// them that the filter accepted (isb_filteraccept), written (isb_usrdeliv) and lost (isb_ifdrop).
package capture
