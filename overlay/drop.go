package overlay

import "strconv"

// Drop says why a frame goes nowhere; zero means that it does not stop here.
type Drop uint8

// Reasons. Those of Decoder.Decap come first.
const (
	_ Drop = iota

	DropNotTunnel     // no encapsulated frame: of another protocol, or not for a port of ours
	DropOuter         // malformed outer headers
	DropOuterChecksum // wrong outer IPv4 or UDP checksum, or none over IPv6
	DropFragment      // a fragment of an outer packet (RFC 7637, section 4.4)
	DropTunnelHeader  // bits, version or protocol of GRE, VXLAN or Geneve
	DropOption        // a critical option or a control message of Geneve
	DropReservedVSID  // a reserved VSID (RFC 7637, section 3.4)
	DropInner         // no whole inner Ethernet header
	DropInnerTag      // an inner VLAN tag (RFC 7637, section 3.3)
	DropECN           // congestion that the inner packet cannot bear witness to (RFC 6040, section 4.2)

	DropProviderVLAN    // not in the VLAN of the provider address
	DropNotOurs         // not for a provider address of this host
	DropUnknownProvider // from a provider address that has no part in the virtual subnet
	DropUnknownVSID     // no such virtual subnet here
	DropSource          // the MAC or customer address of somebody else
	DropTagged          // a guest's frame with a VLAN tag
	DropMalformed       // headers that are impossible
	DropNoRecord        // nobody has the destination address
	DropNotHere         // for a VM that is not on this host
	DropNoRoute         // no customer route to the destination
	DropRouter          // for the router, which does not take it
	DropTTL             // expired
	DropTooBig          // longer than the MTU of the way
	DropUnresolved      // the next hop in the provider network is not known yet
	DropNoProvider      // no provider address of ours leads there
	DropOffload         // an offload request that cannot be honoured
	DropSelf            // back to where it came from
	DropAnswered        // a question that was answered, or that needs no answer
	DropNoMember        // nobody else in the virtual subnet
	DropControl         // a redirect or unreachable of another host, which has been obeyed

	// Those of an Underlay follow.

	DropNoRoom   // more than the device or the vNIC takes at once
	DropLinkDown // the device to the provider network has no link
	DropRefused  // the device or the vNIC does not take such a frame

	drops
)

var dropNames = [drops]string{
	DropNotTunnel:       "not encapsulated",
	DropOuter:           "malformed outer header",
	DropOuterChecksum:   "wrong outer checksum",
	DropFragment:        "outer fragment",
	DropTunnelHeader:    "wrong tunnel header",
	DropOption:          "critical option or control message",
	DropReservedVSID:    "reserved VSID",
	DropInner:           "inner frame cut off",
	DropInnerTag:        "inner VLAN tag",
	DropECN:             "congestion marked on a packet without ECN",
	DropProviderVLAN:    "wrong provider VLAN",
	DropNotOurs:         "not our provider address",
	DropUnknownProvider: "unknown provider address",
	DropUnknownVSID:     "unknown VSID",
	DropSource:          "forged source",
	DropTagged:          "tagged",
	DropMalformed:       "malformed",
	DropNoRecord:        "no lookup record",
	DropNotHere:         "VM not on this host",
	DropNoRoute:         "no customer route",
	DropRouter:          "not taken by the router",
	DropTTL:             "TTL expired",
	DropTooBig:          "too big",
	DropUnresolved:      "next hop not resolved",
	DropNoProvider:      "no provider address",
	DropOffload:         "impossible offload request",
	DropSelf:            "to its own source",
	DropAnswered:        "answered",
	DropNoMember:        "no other member",
	DropControl:         "redirect or unreachable",
	DropNoRoom:          "no room",
	DropLinkDown:        "link down",
	DropRefused:         "refused by the device",
}

// String returns the reason in words, such as "unknown VSID".
func (d Drop) String() string {
	if d < drops && d != 0 {
		return dropNames[d]
	}
	return "drop " + strconv.Itoa(int(d))
}
