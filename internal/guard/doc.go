// Package guard decides which frames a guest may not send: messages of DHCP servers and of routers,
// packets from addresses that are not its own, false ARP and Neighbor Discovery, more addresses than it
// is allowed, storms.
//
// It only decides. What a frame is comes from the parser, the memory of what was seen before belongs to
// the caller, and so does the clock. Of the settings of a vNIC a program is made once:
//
//	program, err := guard.Compile(&guard.Config{DHCP: true, Router: true})
//	...
//	var h header.Header
//	h.Parse(f.Head(), f.Len())
//	if reason := program.Check(f, &h); reason != guard.Pass {
//
// The sender is hostile, so a frame passes when no station could read a forbidden message out of it, and
// not already when the switch reads none. That takes more than looking for the message:
//
//   - A packet whose headers do not end in sight, or whose lengths disagree, drops (RFC 7113, section 3;
//     RFC 7610, section 5). So does one behind an encapsulation of layer 2 that the parser does not take
//     away and some station does (CVE-2021-27853, CVE-2021-27861).
//   - Of a fragmented datagram every fragment with offset 0 is judged as if it were the only one, and
//     holds all that the judgement needs; later fragments that could change those bytes drop. So a
//     datagram that can be put together from fragments that passed is one that may pass, whichever
//     of overlapping fragments a receiver prefers, and nothing need be remembered.
//   - What the sender left to be done to a frame, a checksum in the payload or cutting it into
//     datagrams, must not make another message of it.
//
// The boundary: what a station takes only after it was told to is not looked into, namely tunnels (IP in
// IP, GRE, VXLAN, Teredo), ESP, AH over IPv4, PPPoE, MPLS, MACsec and tags with other TPIDs than 0x8100
// and 0x88a8.
// Neither are DHCP over TCP (bulk leasequery, RFC 6926 and RFC 5460) and relay agents that listen on
// another port than 67 or 547 (RFC 8357) for messages that do not come from one of these.
//
// Programs are immutable, Limit and Storm have a lock of their own: all may be used by several workers
// at once.
package guard
