// Package team makes one ports.Backend of several: NIC teaming, static, switch independent or with LACP
// (package lacp).
//
//	uplink, err := team.New([]team.Member{{Backend: nic0}, {Backend: nic1}}, &team.Config{
//		Mode:         team.SwitchIndependent,
//		Distribution: team.Dynamic,
//	})
//
// A team chooses the member on which a frame leaves and decides which of several copies of an arriving
// frame is the one that counts. It is no switch: it forwards nothing between members.
//
// # Mapping
//
// Flows and vNICs fall into 1,024 buckets, and each bucket is at one member. A bucket moves only when its
// member fails, or when the member that it is at home with comes back; all others stay where they are. A
// flow that moves between two members that are both well does so in a gap of Config.FlowletGap, so that
// its frames do not overtake each other.
//
// # Switch independent
//
// The switches at the other end do not know of the team, so they learn each address where they see it
// last, and flood what they have not learned to all members. Hence each destination is taken from one
// member only: a group from the primary, which is the first member in use; a station from the member to
// which its address is pinned, whether it is known to be behind the team or not. With AddressHash all are
// pinned to the primary. Pinning depends on the address and the members in use, and on nothing else, so a
// copy is never taken twice and there is no address whose frames nobody takes. For some milliseconds after
// a destination has got another member, copies that may have been taken before are dropped.
//
// An address is seen at one member only. Where a frame leaves by a member to which its source is not
// pinned, its source is the address of that member. This is done with IP only: ARP, Neighbor Discovery,
// frames to groups and all that is not IP leave by the pinned member. Reports of multicast membership
// (IGMP, MLD) leave by the primary, as groups are taken from there. A frame that arrives from the own
// address of a member, or from an address that the team sent from within the last second or so, was
// reflected and is dropped. When an address is pinned to another member, a RARP request (RFC 903) from it
// tells the switches.
//
// # Pair
//
// A Pair is the NIC of a guest that has a path past the virtual switch, such as a virtual function of a
// physical NIC, and one through it for when it has to do without.
package team
