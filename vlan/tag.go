package vlan

// Tag protocol identifiers: the EtherType values that begin a tag (IEEE 802.1Q table 9-1).
const (
	TPID8021Q  = 0x8100 // customer VLAN tag
	TPID8021AD = 0x88a8 // service VLAN tag, once IEEE 802.1ad
)

// IsTPID reports whether a tag begins with this EtherType.
func IsTPID(etherType uint16) bool { return etherType == TPID8021Q || etherType == TPID8021AD }

// Tag is the control information of a VLAN tag in its parts (IEEE 802.1Q 9.6).
type Tag struct {
	VID uint16 // VLAN identifier, 0–4095; 0 means that the tag has a priority only
	PCP uint8  // priority code point, 0–7
	DEI bool   // drop eligible
}

// Layout of the tag control information.
const (
	vidMask  = 0x0fff
	deiBit   = 0x1000
	pcpShift = 13
)

// TagOf decodes tag control information, as the two octets behind the TPID give it in network byte
// order. TagOf(tci).TCI() is tci.
func TagOf(tci uint16) Tag {
	return Tag{VID: tci & vidMask, PCP: uint8(tci >> pcpShift), DEI: tci&deiBit != 0}
}

// TCI encodes the tag control information. Bits of VID above 12 and of PCP above 3 are ignored.
func (t Tag) TCI() uint16 {
	tci := t.VID&vidMask | uint16(t.PCP)<<pcpShift
	if t.DEI {
		tci |= deiBit
	}
	return tci
}

// VID returns the VLAN identifier in tag control information, 0–4095.
func VID(tci uint16) uint16 { return tci & vidMask }
