package acl

import (
	"fmt"
	"strconv"
)

func name(names []string, i int, what string) string {
	if i < len(names) && names[i] != "" {
		return names[i]
	}
	return what + " " + strconv.Itoa(i)
}

// String returns "out", "in" or "both".
func (d Direction) String() string {
	return name([]string{Out: "out", In: "in", Both: "both"}, int(d), "direction")
}

// String returns "allow", "deny" or "meter".
func (a Action) String() string {
	return name([]string{Allow: "allow", Deny: "deny", Meter: "meter"}, int(a), "action")
}

// String returns "local" or "remote".
func (s Side) String() string {
	return name([]string{Local: "local", Remote: "remote"}, int(s), "side")
}

// String returns "any IP" or "any MAC".
func (k Kind) String() string {
	return name([]string{AnyIP: "any IP", AnyMAC: "any MAC"}, int(k), "kind")
}

// String returns the name of the protocol, or "protocol" and its number.
func (p Protocol) String() string {
	switch p {
	case 0:
		return "any protocol"
	case ICMP:
		return "ICMP"
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case ICMPv6:
		return "ICMPv6"
	case SCTP:
		return "SCTP"
	}
	return "protocol " + strconv.Itoa(int(p))
}

// String returns "80" or "8000-8080".
func (r PortRange) String() string {
	if r.last() == r.First {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}
