package guard

import "fmt"

// Reason says why a frame must drop.
type Reason uint8

// Reasons. AddressLimit and StormLimit are not returned by Program.Check; they are what Limit and Storm
// refuse for.
const (
	Pass          Reason = iota
	Malformed            // headers that a station could read otherwise than the switch does
	Encapsulated         // an encapsulation of layer 2 in which a packet hides from the switch
	BadFragment          // a fragment that could change what another one was let pass for
	DHCPServer           // a message of a DHCPv4 or DHCPv6 server
	RouterMessage        // a router advertisement or a redirect
	SourceAddress        // an IP source that is not assigned
	FalseARP             // ARP with an address that is not the sender's
	FalseND              // Neighbor Discovery with an address that is not the sender's
	AddressLimit         // one address more than the limit
	StormLimit           // more flooded frames than the limit
)

var reasons = [...]string{
	Pass:          "pass",
	Malformed:     "malformed headers",
	Encapsulated:  "hidden by encapsulation",
	BadFragment:   "deceptive fragment",
	DHCPServer:    "DHCP server message",
	RouterMessage: "router message",
	SourceAddress: "IP source not assigned",
	FalseARP:      "false ARP",
	FalseND:       "false neighbor discovery",
	AddressLimit:  "address limit",
	StormLimit:    "storm limit",
}

// String returns the reason in a few words.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}
