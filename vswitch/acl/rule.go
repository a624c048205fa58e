package acl

import (
	"net/netip"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// Config is a set of rules for vNICs and how they are applied. The zero Config, and a nil one, allow
// everything.
type Config struct {
	Basic []BasicRule // at most 65,536

	// Extended rules, at most 32,768. 10,000 take some 50 ms to compile and 6 MB, which vNICs with the
	// same Policy share; the most and the worst take half a second and 100 MB.
	Extended []ExtendedRule

	// Connections bounds the connections tracked for each vNIC: 1 to 16,777,216; 0 means 65,536.
	// One takes about 140 bytes. When the bound is lowered, connections above it stay until they
	// end.
	Connections int

	// CheckTCPWindows denies TCP segments outside the windows of their connection.
	CheckTCPWindows bool

	// PickUp lets a stateful rule admit a TCP connection whose beginning was not seen, such as one
	// of a VM that has just moved here. Without it only a SYN begins a connection.
	PickUp bool

	// KeepEstablished says what this Config does to connections that the one before it admitted:
	// with it they go on until they end; without it each is judged again, by the rules for the
	// direction that it was opened in, when its next packet comes. Basic rules hold in either case.
	KeepEstablished bool

	// FilterND subjects IPv6 neighbor solicitations and advertisements to the rules for IP.
	FilterND bool

	// Timeouts are those of connections whose rule has none of its own.
	Timeouts Timeouts
}

// Timeouts say how long a connection is remembered without a packet. Each is 1 s to 30 days and counts
// in units of 100 ms; 0 means the default.
type Timeouts struct {
	TCP          time.Duration // established; 2 h 4 min (RFC 5382, REQ-5)
	TCPHandshake time.Duration // not yet established; 1 min
	TCPClosing   time.Duration // after a FIN; 4 min (RFC 5382, REQ-5)
	UDP          time.Duration // 5 min (RFC 4787, REQ-5)
	ICMP         time.Duration // echo; 1 min (RFC 5508, REQ-2)
	Other        time.Duration // other protocols; 10 min
}

// Direction is the way of a frame as the VM sees it, or a set of ways.
type Direction uint8

// Directions.
const (
	Out  Direction = 1 << iota // sent by the VM
	In                         // received by the VM
	Both = Out | In
)

// Action is what a rule does.
type Action uint8

// Actions.
const (
	Allow Action = 1 + iota
	Deny
	Meter // count bytes; of basic rules for IP addresses only
)

// Side says whose address is meant.
type Side uint8

// Sides.
const (
	Local  Side = 1 + iota // that of the VM
	Remote                 // that of the other end
)

// Kind is a kind of addresses.
type Kind uint8

// Kinds.
const (
	AnyIP  Kind = 1 + iota // every IPv4 and IPv6 address; the shortest match of all
	AnyMAC                 // every MAC address; a shorter match than an address
)

// BasicRule allows, denies or meters by one address. Exactly one of Prefix, MAC and Any is set. Two
// rules with the same address, side and direction are refused, unless one of them is a meter.
type BasicRule struct {
	Name      string // free text, for messages
	Direction Direction
	Action    Action
	Side      Side

	Prefix netip.Prefix // IP addresses; bits behind its length are ignored
	MAC    ports.MAC
	Any    Kind
}

// ExtendedRule allows or denies what matches all of its conditions.
type ExtendedRule struct {
	Name      string // free text, for messages
	Weight    uint16 // higher ones come first
	Direction Direction
	Action    Action // Allow or Deny

	// Local and Remote are IP addresses of the two ends. None means any, IPv4 or IPv6.
	Local, Remote []netip.Prefix

	// Protocol is the IANA protocol number; 0 means any.
	Protocol Protocol

	// LocalPorts and RemotePorts are those of TCP, UDP or SCTP. None means any. What has no ports
	// does not match a rule that has.
	LocalPorts, RemotePorts []PortRange

	// Isolation is the VLAN ID or the virtual subnet ID of the frame, up to 16,777,215; 0 means any.
	Isolation uint32

	// Stateful makes what the rule allows a connection: its packets pass in both directions.
	Stateful bool

	// IdleTimeout is how long an established connection is remembered without a packet: 1 s to 30
	// days. 0 means that of Config.Timeouts.
	IdleTimeout time.Duration
}

// Protocol is an IANA protocol number.
type Protocol uint8

// Protocols.
const (
	ICMP   Protocol = 1
	TCP    Protocol = 6
	UDP    Protocol = 17
	ICMPv6 Protocol = 58
	SCTP   Protocol = 132
)

// PortRange is the ports from First to Last; a Last of 0 means First alone.
type PortRange struct{ First, Last uint16 }

func (r PortRange) last() uint16 {
	if r.Last == 0 {
		return r.First
	}
	return r.Last
}

const (
	maxBasic      = 1 << 16
	maxExtended   = 1 << 15 // what one summary word of a bit set covers
	maxConns      = 1 << 24
	maxIsolation  = 1<<24 - 1
	defaultConns  = 1 << 16
	shortestDelay = time.Second
	longestDelay  = 30 * 24 * time.Hour
)
