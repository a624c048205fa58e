package extension

import "net/netip"

// Connection is what a Firewall authorizes: the packets of one flow at one port, in both directions.
type Connection struct {
	Port     *Port     // where it is authorized
	Opener   Direction // of its first packet
	Protocol uint8     // IANA protocol number
	VLAN     uint16    // of the first packet, as it is at the port; 0 is untagged

	// Local is the address at the port, Remote the other one. The ports are 0 where the protocol has none.
	Local, Remote netip.AddrPort
}
