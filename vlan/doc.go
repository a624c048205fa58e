// Package vlan holds the rules of VLANs at a switch port: which VLAN a frame that arrives is in, and
// whether and with what tag it leaves at another port.
//
// A Mode says what a port is: untagged, access, trunk, or isolated, community or promiscuous in a
// private VLAN. Mode.Admit and Mode.Deliver are the two calls that matter:
//
//	tci, drop := from.Admit(tag.TPID, tag.TCI, nested) // nested: another tag follows
//	tpid, tci, drop := to.Deliver(tci, nested)
//
// Both look at nothing but their arguments, do not allocate, and take a few nanoseconds.
//
// Associations keeps what concerns a switch as a whole: which secondary VLANs belong to which primary
// VLAN, and so which VLANs learn addresses together. Set is a set of VLAN ids, written 2-4,10. Tag is
// a decoded tag.
//
// The package forwards nothing and knows neither frames nor ports; package vswitch does.
//
// # Private VLANs
//
// What passes between two ports is decided by the VLAN that a frame is in, and by nothing else, so it
// is the same on one switch and over a trunk between two (RFC 5517 3):
//
//	port          sends in    receives
//	isolated      secondary   primary
//	community     secondary   primary and its secondary
//	promiscuous   primary     primary and the secondaries it lists
//
// Ports of other modes are ordinary members of the VLANs they carry, primary and secondary ones
// included. So a port with access to the primary VLAN is a promiscuous one that lists no secondaries:
// it and promiscuous ports reach each other; what it sends reaches isolated and community ports, but
// what they send does not reach it. A port with access to a secondary VLAN hears whatever is sent in
// that one, even by isolated ports. Whoever wants neither does not assign such ids.
//
// # Tags behind tags
//
// No frame can change its VLAN by a second tag behind the first. One rule stands for that: a frame
// whose tag is followed by another enters and leaves through QinQ trunks only, and never without its
// outer tag. Hence nobody ever sees an inner tag outermost: not behind a priority tag, which is dropped,
// and not behind the tag of a native VLAN, which leaves tagged if that VLAN is allowed too, and is
// dropped otherwise. For the same reason a trunk does not admit tags of another TPID than its own, and
// untagged, access and private VLAN ports admit no VLAN tag at all, not even of their own VLAN.
//
// # Priority
//
// A TCI that Admit returns has the frame's priority (PCP and DEI) in it. Whoever does not trust it
// continues with VID(tci) instead, which is the same TCI without priority. Where Deliver says that a
// frame leaves untagged, its priority is lost, unless the caller has it leave with a priority tag: TPID
// 0x8100 and tci with VID 0.
package vlan
