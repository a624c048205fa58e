package overlay

import (
	"fmt"
	"strconv"
)

// VSID is a virtual subnet identifier (RFC 7637, section 3.2): 24 bits, of which 4096 … 16777214 name
// virtual subnets. It is also the VNI of VXLAN (RFC 7348, section 5) and of Geneve (RFC 8926, section
// 3.4), within the same bounds, so that one policy serves every encapsulation.
type VSID uint32

// Bounds of a VSID. 0 … 0xFFF and 0xFFFFFF are reserved (RFC 7637, section 3.4).
const (
	MinVSID VSID = 0x1000
	MaxVSID VSID = 0xfffffe
)

// IsValid reports whether v names a virtual subnet.
func (v VSID) IsValid() bool { return v-MinVSID <= MaxVSID-MinVSID }

// String returns the decimal form, such as "5001".
func (v VSID) String() string { return strconv.FormatUint(uint64(v), 10) }

// ParseVSID reads the decimal form of a valid VSID.
func ParseVSID(s string) (VSID, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || !VSID(n).IsValid() {
		return 0, fmt.Errorf("VSID %.20q is out of %d–%d", s, MinVSID, MaxVSID)
	}
	return VSID(n), nil
}
