package overlay

import (
	"fmt"
	"net/netip"
)

// Encapsulation is how frames of virtual subnets travel between provider addresses.
type Encapsulation uint8

// Encapsulations.
const (
	NVGRE  Encapsulation = iota // RFC 7637
	VXLAN                       // RFC 7348
	Geneve                      // RFC 8926, without options

	encapsulations
)

var encapsulationNames = [encapsulations]string{NVGRE: "NVGRE", VXLAN: "VXLAN", Geneve: "Geneve"}

// UDP destination ports that IANA assigned.
const (
	VXLANPort  = 4789 // RFC 7348, section 5
	GenevePort = 6081 // RFC 8926, section 3.3
)

const (
	ethernetLen = 14
	tagLen      = 4 // IEEE 802.1Q
	ipv4Len     = 20
	ipv6Len     = 40
	udpLen      = 8
	tunnelLen   = 8 // GRE with key, VXLAN and Geneve alike

	maxOuterLen = ethernetLen + ipv6Len + udpLen + tunnelLen
)

const (
	protoUDP = 17
	protoGRE = 47

	typeIPv4  = 0x0800
	typeARP   = 0x0806
	typeIPv6  = 0x86dd
	typeTEB   = 0x6558 // Transparent Ethernet Bridging: an Ethernet frame follows
	dontFrag  = 0x4000 // IPv4 flags word (RFC 791, section 3.1)
	greKey    = 0x2000 // GRE flags word: K (RFC 2890, section 2)
	vxlanVNI  = 0x0800 // VXLAN flags word: I
	defaultHL = 64     // IANA's recommended TTL
)

// Overhead returns the bytes that encapsulation puts in front of an inner Ethernet frame, the outer
// Ethernet header included, on the way to provider address pa: 42 to 70.
func (e Encapsulation) Overhead(pa netip.Addr) int {
	n := ethernetLen + ipv4Len + tunnelLen
	if pa.Is6() {
		n += ipv6Len - ipv4Len
	}
	if e != NVGRE {
		n += udpLen
	}
	return n
}

// InnerMTU returns the longest payload behind the inner Ethernet header that fits a provider network
// with that MTU, in bytes.
func (e Encapsulation) InnerMTU(mtu int, pa netip.Addr) int { return mtu - e.Overhead(pa) }

// String returns the name, such as "NVGRE".
func (e Encapsulation) String() string {
	if e < encapsulations {
		return encapsulationNames[e]
	}
	return fmt.Sprintf("encapsulation %d", uint8(e))
}

// MarshalText returns what String returns; a value that is no encapsulation is an error.
func (e Encapsulation) MarshalText() ([]byte, error) {
	if e >= encapsulations {
		return nil, fmt.Errorf("encapsulation %d does not exist", uint8(e))
	}
	return []byte(e.String()), nil
}

// UnmarshalText reads what String returns. On error e is unchanged.
func (e *Encapsulation) UnmarshalText(b []byte) error {
	for i, name := range encapsulationNames {
		if name == string(b) {
			*e = Encapsulation(i)
			return nil
		}
	}
	return fmt.Errorf("encapsulation %.20q does not exist", b)
}
