package vswitch

import "strconv"

// DropReason says why a frame was dropped. Every dropped frame counts under exactly one reason at
// exactly one port: reasons up to DropSamePort at the port it came from, the others, for each
// destination it did not reach, at that destination. Of a frame that the overlay sends to several places
// each copy that it drops counts, at the port the frame came from.
type DropReason uint8

// Reasons at the source port.
const (
	_ DropReason = iota

	DropRunt            // shorter than an Ethernet header
	DropGiant           // longer than the MTU of the port and not to be segmented
	DropBadOffload      // the offload request does not fit the bytes of the frame
	DropInvalidVLAN     // VLAN 4095, which IEEE 802.1Q reserves
	DropTagged          // tagged, from a port that takes untagged frames only
	DropUntagged        // untagged, from a trunk without native VLAN
	DropVLANNotAllowed  // of a VLAN that the trunk does not allow
	DropWrongTPID       // with a tag of another TPID than the trunk's
	DropNestedTag       // with a tag behind its tag, from a port that does not carry such
	DropInvalidSource   // a group or zero source address
	DropSpoofedSource   // not the address of the vNIC, which may not spoof
	DropSourceElsewhere // the source is a configured address of another port
	DropMalformed       // headers that a guard or an ACL cannot judge
	DropEncapsulated    // an encapsulation that hides a packet from the guards
	DropBadFragment     // a fragment that could change what was let pass
	DropDHCPServer      // a message of a DHCP server, from a vNIC with DHCPGuard
	DropRouterMessage   // a router advertisement or redirect, from a vNIC with RouterGuard
	DropSourceAddress   // an IP source that is not assigned to the vNIC
	DropFalseARP        // ARP with an address that is not the vNIC's
	DropFalseND         // Neighbor Discovery with an address that is not the vNIC's
	DropAddressLimit    // one IP address more than the vNIC may use
	DropACLOut          // sent by the VM and denied by its ACL
	DropFilterOut       // dropped by a filter extension
	DropFirewallOut     // of a connection that a firewall extension denies
	DropForwarding      // dropped by the forwarding extension
	DropStormLimit      // flooded more often than the vNIC may
	DropTunnelHeader    // of another host, encapsulated wrongly: outer headers, checksums, fragments, the inner frame
	DropTunnelSource    // from or to a provider address, or in a provider VLAN, that is not the right one
	DropUnknownVSID     // of a virtual subnet that is not known here
	DropCustomerSource  // with the MAC or customer address of another VM
	DropNoRecord        // nobody in the virtual subnet has the destination address
	DropNotHere         // for a VM that is not on this host
	DropNoRoute         // no customer route to the destination
	DropRouter          // for the router of a virtual subnet, which does not take it
	DropTTL             // expired at the router of a virtual subnet
	DropTunnelMTU       // longer than what the provider network carries
	DropUnresolved      // the next hop in the provider network is not known yet
	DropNoProvider      // no provider address of the host leads there
	DropAnswered        // a question that was answered here, or a message between hosts that needs no answer
	DropReserved        // to 01-80-C2-00-00-00 … 0F, which bridges do not forward (IEEE 802.1Q table 8-1)
	DropNoDestination   // no port to send it to
	DropSamePort        // the destination is where it came from
)

// Reasons at a destination port.
const (
	DropLinkDown           = DropSamePort + 1 + iota // the link is down
	DropQueueFull                                    // the receiver does not keep up
	DropTooBig                                       // longer than the MTU of the port
	DropUnsupportedOffload                           // segmentation that neither the port nor software can do
	DropBackendError                                 // the backend failed
	DropACLIn                                        // denied by the ACL of the VM that would receive it
	DropFilterIn                                     // dropped by a filter extension
	DropFirewallIn                                   // of a connection that a firewall extension denies
	DropNotMember                                    // the port is not in the VLAN, kept apart by a private VLAN, or in a virtual subnet

	numDropReasons = iota + DropSamePort + 1
)

var dropNames = [numDropReasons]string{
	DropRunt:               "runt",
	DropGiant:              "giant",
	DropBadOffload:         "bad offload request",
	DropInvalidVLAN:        "invalid VLAN",
	DropTagged:             "tagged",
	DropUntagged:           "untagged",
	DropVLANNotAllowed:     "VLAN not allowed",
	DropWrongTPID:          "wrong TPID",
	DropNestedTag:          "nested tag",
	DropInvalidSource:      "invalid source",
	DropSpoofedSource:      "spoofed source",
	DropSourceElsewhere:    "source elsewhere",
	DropMalformed:          "malformed headers",
	DropEncapsulated:       "hidden by encapsulation",
	DropBadFragment:        "deceptive fragment",
	DropDHCPServer:         "DHCP server message",
	DropRouterMessage:      "router message",
	DropSourceAddress:      "IP source not assigned",
	DropFalseARP:           "false ARP",
	DropFalseND:            "false neighbor discovery",
	DropAddressLimit:       "address limit",
	DropACLOut:             "denied by ACL, outbound",
	DropACLIn:              "denied by ACL, inbound",
	DropFilterOut:          "filter extension, outbound",
	DropFilterIn:           "filter extension, inbound",
	DropFirewallOut:        "firewall extension, outbound",
	DropFirewallIn:         "firewall extension, inbound",
	DropForwarding:         "forwarding extension",
	DropStormLimit:         "storm limit",
	DropTunnelHeader:       "wrong encapsulation",
	DropTunnelSource:       "wrong provider address",
	DropUnknownVSID:        "unknown virtual subnet",
	DropCustomerSource:     "not its customer address",
	DropNoRecord:           "no lookup record",
	DropNotHere:            "VM not on this host",
	DropNoRoute:            "no customer route",
	DropRouter:             "not taken by the router",
	DropTTL:                "TTL expired",
	DropTunnelMTU:          "too big for the provider network",
	DropUnresolved:         "next hop not resolved",
	DropNoProvider:         "no provider address",
	DropAnswered:           "answered",
	DropReserved:           "reserved address",
	DropNoDestination:      "no destination",
	DropSamePort:           "same port",
	DropLinkDown:           "link down",
	DropQueueFull:          "queue full",
	DropTooBig:             "too big",
	DropUnsupportedOffload: "unsupported offload",
	DropBackendError:       "backend error",
	DropNotMember:          "not in the VLAN",
}

// DropReasons returns all reasons, those at the source port first.
func DropReasons() (all []DropReason) {
	for r := DropReason(1); r < numDropReasons; r++ {
		all = append(all, r)
	}
	return all
}

// String returns the reason in words, such as "spoofed source".
func (r DropReason) String() string {
	if int(r) < len(dropNames) && dropNames[r] != "" {
		return dropNames[r]
	}
	return "drop reason " + strconv.Itoa(int(r))
}

// MarshalText returns what String returns.
func (r DropReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
