// Package acl is the access control of a vNIC: which frames may leave it and which may reach it. The
// switch asks it for every frame; it does no I/O, knows no clock and starts no goroutine.
//
// A Config holds the rules. Compile makes an immutable Policy of them, which any number of vNICs may
// share; a State is what one vNIC remembers: its connections, fragments and meters. A Judge judges a batch
// of frames:
//
//	policy, err := acl.Compile(&acl.Config{Extended: []acl.ExtendedRule{
//		{Weight: 10, Direction: acl.Out, Action: acl.Allow, Stateful: true},
//		{Weight: 1, Direction: acl.In, Action: acl.Deny},
//	}})
//	state := acl.NewState()                      // one for each vNIC
//	judge := state.Begin(policy, acl.Out, now)
//	for _, p := range packets {
//		verdict := judge.Check(p.head, &p.header, p.len, p.vlan)
//	}
//	judge.End()
//
// # What is decided, and in what order
//
// Directions are those the VM sees: Out is what it sends, and there the local address is the source; In
// is what it receives, and there the local address is the destination. What no rule denies passes.
//
//   - Basic rules for MAC addresses judge every frame. Basic rules for IP addresses judge IP packets.
//     Of each kind the longest match decides; of a local and a remote rule of the same length a denying
//     one does. Meters are a separate list, so a meter neither allows nor hides a denial: of the frames
//     that pass, each counts at the meter with the longest match, the remote one if there are two.
//   - Then what belongs to a connection that a stateful rule admitted passes, in both directions,
//     whatever other extended rules say.
//   - Then the extended rules judge IP packets: the highest weight that matches, and of equal weights
//     the one listed first.
//
// So a frame has to get past the MAC rules, the IP rules and the extended rules, each on its own. The
// basic rules hold for established connections too.
//
// Frames that are not IP, such as ARP, are not subject to rules for IP. Nor are IPv6 neighbor
// solicitations and advertisements (RFC 4861), which are to IPv6 what ARP is to IPv4, unless
// Config.FilterND is set. An IP packet that is malformed is denied if there is any rule for IP in its
// direction, or a stateful one: nobody knows what its receiver would take it for.
//
// # Connections
//
// TCP (tcp.go) is followed by its states. A connection begins with a SYN, so a forged ACK does not pass
// (RFC 9293). UDP, SCTP, ICMP echo and other protocols live until their idle timeout (RFC 4787, 5508,
// 5382). An ICMP error passes if the packet it quotes belongs to a connection (RFC 5508, section 4).
// Other ICMP passes by the rules, without state. An answer from another address than the one that was asked,
// as DHCP and multicast have it, is of no connection and needs a rule of its own.
//
// Fragments (fragment.go) share the verdict on the first one, without which the later ones are denied
// unless the rules would allow any. Overlapping and tiny fragments are denied (RFC 1858, 3128, 5722,
// 7112).
//
// # Bounds
//
// What a guest, or somebody who writes to it, can make a State remember is bounded by
// Config.Connections and 1,024 fragmented datagrams. A full table makes room by forgetting the oldest
// connection that was never answered or has ended; when all have been answered, the new one is denied
// and counted. No other vNIC is concerned.
//
// The cost of a frame does not grow with the rules: a packet of a known flow is one look-up, and the
// rules for a new one are found by the intersection of bit vectors (classify.go).
package acl
