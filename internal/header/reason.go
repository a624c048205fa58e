package header

import "fmt"

// Reason says why a frame is malformed.
type Reason uint8

// Reasons.
const (
	OK             Reason = iota
	ShortEthernet         // no whole Ethernet header, or a tag with nothing behind it
	TooManyTags           // more VLAN tags than anybody needs
	ShortARP              // an ARP packet that is cut off
	BadARP                // an ARP packet that is not IPv4 over Ethernet
	ShortIP               // no whole IP header
	BadIPVersion          // the version is not that of the EtherType
	BadIPLength           // header length or total length is impossible
	BadExtension          // the chain of IPv6 extension headers is cut off, repeats a fragment header, or is too long
	BadFragment           // a fragment that overlaps the transport header or ends behind the longest datagram
	ShortTransport        // no whole transport header, in a first fragment too
	BadTransport          // the TCP data offset or the UDP length is impossible
	BeyondHead            // headers go on behind Limit
)

var reasons = [...]string{
	OK:             "ok",
	ShortEthernet:  "ethernet header cut off",
	TooManyTags:    "too many VLAN tags",
	ShortARP:       "ARP packet cut off",
	BadARP:         "ARP packet not for IPv4 over Ethernet",
	ShortIP:        "IP header cut off",
	BadIPVersion:   "IP version does not match the EtherType",
	BadIPLength:    "impossible IP length",
	BadExtension:   "impossible IPv6 extension headers",
	BadFragment:    "impossible IP fragment",
	ShortTransport: "transport header cut off",
	BadTransport:   "impossible transport header length",
	BeyondHead:     "headers too long",
}

// String returns the reason in a few words.
func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}
