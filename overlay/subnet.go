package overlay

import (
	"fmt"

	"github.com/hvswitch/hvswitch/ports"
)

// Subnet is a virtual subnet: one broadcast domain of a virtual network. Its address prefixes are the
// customer routes of its VSID without a next hop.
type Subnet struct {
	VSID VSID `json:"vsid"`
	RDID RDID `json:"rdid"` // the virtual network it belongs to

	// RouterMAC is the MAC address of the subnet's router, the same on every host; zero means
	// 02:76:73 and the VSID.
	RouterMAC ports.MAC `json:"routerMac,omitzero"`

	// Learning takes note of the CAs that VMs with L2Only and Dynamic records use, from their ARP,
	// Neighbor Discovery and other packets. Without it a VM uses the CAs of its records and no
	// others.
	Learning bool `json:"learning,omitempty"`

	// Unknown decides on MAC addresses without a record.
	Unknown UnknownMAC `json:"unknown,omitempty"`
}

// UnknownMAC says what becomes of frames from and to MAC addresses without a record.
type UnknownMAC uint8

// Policies for unknown MAC addresses.
const (
	// DropUnknown drops them.
	DropUnknown UnknownMAC = iota

	// FloodUnknown delivers frames to an unknown MAC address to all members of the subnet, and takes
	// frames from one if they come from a member: for VMs that are switches themselves.
	FloodUnknown
)

// Validate returns a *ConfigError unless the subnet is valid.
func (s *Subnet) Validate() error {
	wrong := func(field string, value any, reason string) error {
		return &ConfigError{fmt.Sprintf("virtual subnet %s", s.VSID), field, fmt.Sprint(value), reason}
	}
	switch {
	case !s.VSID.IsValid():
		return wrong("VSID", s.VSID, outOfRange)
	case s.RDID.IsZero():
		return wrong("RDID", "", "is missing")
	case !s.RouterMAC.IsZero() && !s.RouterMAC.IsUnicast():
		return wrong("RouterMAC", s.RouterMAC, notUnicast)
	case s.Unknown > FloodUnknown:
		return wrong("Unknown", uint8(s.Unknown), "does not exist")
	}
	return nil
}

// routerMAC returns the address that the subnet's router has.
func (s *Subnet) routerMAC() ports.MAC {
	if s.RouterMAC.IsZero() {
		return ports.MAC{0x02, 0x76, 0x73, byte(s.VSID >> 16), byte(s.VSID >> 8), byte(s.VSID)}
	}
	return s.RouterMAC
}
