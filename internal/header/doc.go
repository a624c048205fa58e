// Package header finds the headers of a frame: Ethernet with inner VLAN tags or SNAP, ARP, IPv4, IPv6
// with its chain of extension headers, TCP, UDP, SCTP, ICMP.
//
// It is not a decoder. Parse checks the lengths once and leaves offsets; whoever needs a field reads it
// there. One call is all:
//
//	var h header.Header
//	h.Parse(frame.Head(), frame.Len())
//
// The sender is hostile. What a receiver could understand in another way than the switch (headers cut
// off, lengths that disagree, a first fragment without its ports) has a Reason and no transport header,
// so no rule about ports matches it by accident.
package header
