package capture

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// Filter says which frames a Capture records: those that match every criterion. A criterion is a field, or
// two where they stand together; it is matched by each of its values, and when it has none by every frame.
// The zero Filter matches all.
//
// Its text form, which ParseFilter reads, is also its form in JSON.
type Filter struct {
	Switches   []string              // names
	Ports      []string              // names of vNICs and NICs
	Directions []extension.Direction // as the switch sees them

	// VLANs are those of the outermost tag that frames have at the port. At an access port they have
	// none, whatever VLAN they are in. Untagged stands for no tag, and for one that has a priority
	// only.
	VLANs    vlan.Set
	Untagged bool

	MACs       []ports.MAC // source or destination
	EtherTypes []uint16    // behind all tags and SNAP; below 0x600 is the length of an 802.2 frame

	// Prefixes have the source or destination of an IP packet, or the sender or target of an ARP
	// packet.
	Prefixes []netip.Prefix

	Protocols      []uint8  // IANA numbers, behind the extension headers of IPv6
	TransportPorts []uint16 // source or destination, of TCP, UDP or SCTP

	// Dropped stands for frames that the switch dropped, and DropReasons for those that it dropped for
	// a reason that begins with one of these: "spoofed source" is a reason of the switch, and
	// "firewall: " has all that the extension "firewall" dropped.
	Dropped     bool
	DropReasons []string
}

var (
	_ encoding.TextMarshaler   = Filter{}
	_ encoding.TextUnmarshaler = (*Filter)(nil)
)

// MarshalText returns what String returns; an error when the filter is not valid.
func (f Filter) MarshalText() ([]byte, error) {
	if err := f.validate(); err != nil {
		return nil, err
	}
	return []byte(f.String()), nil
}

// UnmarshalText reads what ParseFilter reads. On error the filter is unchanged.
func (f *Filter) UnmarshalText(b []byte) error {
	g, err := ParseFilter(string(b))
	if err == nil {
		*f = g
	}
	return err
}

func (f *Filter) validate() error {
	for _, d := range f.Directions {
		if d > extension.Egress {
			return fmt.Errorf("%d is no direction", d)
		}
	}
	for _, p := range f.Prefixes {
		if !p.IsValid() {
			return errors.New("the zero prefix has no addresses")
		}
	}
	return nil
}
