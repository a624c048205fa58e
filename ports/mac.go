package ports

import (
	"encoding/hex"
	"fmt"
	"net"
)

// MAC is a 48-bit IEEE 802 address. It is comparable and its zero value is the zero address.
type MAC [6]byte

// Broadcast is ff:ff:ff:ff:ff:ff.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ParseMAC reads a 48-bit address in any form net.ParseMAC takes, such as 02:00:5e:10:00:01.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil {
		return MAC{}, fmt.Errorf("MAC %q: %w", s, err)
	}
	if len(hw) != 6 {
		return MAC{}, fmt.Errorf("MAC %q: has %d bits, 48 are needed", s, 8*len(hw))
	}
	return MAC(hw), nil
}

// IsZero reports whether m is 00:00:00:00:00:00.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsGroup reports whether m is a multicast or broadcast address (IEEE 802 I/G bit).
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

// IsUnicast reports whether m can be the address of one station: not zero and not a group.
func (m MAC) IsUnicast() bool { return !m.IsGroup() && !m.IsZero() }

// String formats m as six lower-case hexadecimal octets with colons.
func (m MAC) String() string {
	b, _ := m.MarshalText()
	return string(b)
}

// MarshalText formats m as String does.
func (m MAC) MarshalText() ([]byte, error) {
	b := make([]byte, 17)
	for i, o := range m {
		hex.Encode(b[3*i:], []byte{o})
		if i < 5 {
			b[3*i+2] = ':'
		}
	}
	return b, nil
}

// UnmarshalText reads what ParseMAC reads.
func (m *MAC) UnmarshalText(b []byte) error {
	v, err := ParseMAC(string(b))
	if err != nil {
		return err
	}
	*m = v
	return nil
}
