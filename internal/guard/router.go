package guard

// ICMP types by which routers steer hosts.
const (
	icmpRedirect4            = 5   // RFC 792
	icmpRouterAdvertisement4 = 9   // RFC 1256, section 3
	icmpRouterAdvertisement6 = 134 // RFC 4861, section 4.2
	icmpRedirect6            = 137 // RFC 4861, section 4.5
)

// routerMessage4 reports whether an ICMPv4 message of type t is a router's. Like in IPv6, the type is the
// first byte of the datagram, so every fragment that can hold it is a first one, and is judged.
func routerMessage4(t byte) bool {
	return t == icmpRedirect4 || t == icmpRouterAdvertisement4
}
