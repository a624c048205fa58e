package overlay

import (
	"fmt"
	"net/netip"

	"github.com/hvswitch/hvswitch/ports"
)

// LookupRecord says where a customer address lives: in which virtual subnet, behind which MAC address,
// on the host with which provider address (New-NetVirtualizationLookupRecord). A VM has one record for
// each of its addresses.
//
// Records of one virtual subnet are told apart by their CA, those of type L2Only by their MAC.
type LookupRecord struct {
	VSID VSID       `json:"vsid"`
	CA   netip.Addr `json:"ca"` // IPv4 or IPv6; 0.0.0.0 or :: for GatewayWildcard; none for L2Only
	MAC  ports.MAC  `json:"mac"`
	PA   netip.Addr `json:"pa"`

	Type RecordType `json:"type,omitempty"`

	// Rule is how frames to the PA are encapsulated.
	Rule Encapsulation `json:"rule,omitempty"`
}

// RecordType is what a lookup record is about.
type RecordType uint8

// Types of records (MSFT_NetVirtualizationLookupRecordSettingData.Type).
const (
	// Static: the CA belongs to the MAC.
	Static RecordType = iota

	// Dynamic: as Static, and in a subnet with Learning the CA moves to another MAC that is seen
	// with it, as cluster addresses do.
	Dynamic

	// GatewayWildcard: the MAC takes whatever no other record of the subnet is for, and may send from
	// any address.
	GatewayWildcard

	// L2Only: the MAC is known, its CAs are learned where the subnet has Learning.
	L2Only

	recordTypes
)

var recordTypeNames = [recordTypes]string{Static: "Static", Dynamic: "Dynamic", GatewayWildcard: "GatewayWildcard", L2Only: "L2Only"}

// String returns the name of the type, such as "L2Only".
func (t RecordType) String() string {
	if t < recordTypes {
		return recordTypeNames[t]
	}
	return fmt.Sprintf("record type %d", uint8(t))
}

// MarshalText returns what String returns; a value that is no type is an error.
func (t RecordType) MarshalText() ([]byte, error) {
	if t >= recordTypes {
		return nil, fmt.Errorf("record type %d does not exist", uint8(t))
	}
	return []byte(t.String()), nil
}

// UnmarshalText reads what String returns. On error t is unchanged.
func (t *RecordType) UnmarshalText(b []byte) error {
	for i, name := range recordTypeNames {
		if name == string(b) {
			*t = RecordType(i)
			return nil
		}
	}
	return fmt.Errorf("record type %.20q does not exist", b)
}

// Validate returns a *ConfigError unless the record is valid.
func (r *LookupRecord) Validate() error {
	wrong := func(field string, value any, reason string) error {
		object := fmt.Sprintf("lookup record %s in VSID %s", r.CA, r.VSID)
		if r.Type == L2Only {
			object = fmt.Sprintf("lookup record %s in VSID %s", r.MAC, r.VSID)
		}
		return &ConfigError{object, field, fmt.Sprint(value), reason}
	}
	if !r.VSID.IsValid() {
		return wrong("VSID", r.VSID, outOfRange)
	}
	switch {
	case r.Type >= recordTypes:
		return wrong("Type", uint8(r.Type), "does not exist")
	case r.Type == L2Only && r.CA.IsValid():
		return wrong("CA", r.CA, "is not for type L2Only")
	case r.Type == GatewayWildcard && !r.CA.IsUnspecified():
		return wrong("CA", r.CA, "must be 0.0.0.0 or :: for type GatewayWildcard")
	case r.Type < GatewayWildcard && !isUnicast(r.CA):
		return wrong("CA", r.CA, notUnicast)
	case !r.MAC.IsUnicast():
		return wrong("MAC", r.MAC, notUnicast)
	case !isUnicast(r.PA):
		return wrong("PA", r.PA, notUnicast)
	case r.Rule >= encapsulations:
		return wrong("Rule", uint8(r.Rule), "does not exist")
	}
	return nil
}

var outOfRange = fmt.Sprintf("is out of %d–%d", MinVSID, MaxVSID)
