package overlay

import (
	"encoding/binary"

	"github.com/hvswitch/hvswitch/internal/checksum"
)

// Codepoints of ECN (RFC 3168, section 5).
const (
	notECT = 0
	ect1   = 1
	ect0   = 2
	ce     = 3
)

// mark hands the ECN field of an outer header on to the IP header in the inner frame by the table of
// RFC 6040, section 4.2. It returns false when the packet is to be dropped. Frames without IP lose what
// the outer header said.
func mark(inner []byte, outer uint8) bool {
	if len(inner) < ethernetLen+ipv4Len {
		return true
	}
	ip := inner[ethernetLen:]
	switch binary.BigEndian.Uint16(inner[12:]) {
	case typeIPv4:
		if ip[0]>>4 != 4 {
			return true
		}
		now, ok := combine(ip[1]&3, outer)
		if !ok {
			return false
		}
		if old := ip[1]; old&3 != now {
			ip[1] = old&^3 | now
			word := uint16(ip[0]) << 8
			sum := binary.BigEndian.Uint16(ip[10:])
			binary.BigEndian.PutUint16(ip[10:], checksum.Update(sum, word|uint16(old), word|uint16(ip[1])))
		}
	case typeIPv6:
		if ip[0]>>4 != 6 {
			return true
		}
		now, ok := combine(ip[1]>>4&3, outer)
		if !ok {
			return false
		}
		ip[1] = ip[1]&^0x30 | now<<4
	}
	return true
}

func combine(inner, outer uint8) (now uint8, ok bool) {
	switch {
	case inner == notECT:
		return notECT, outer != ce
	case outer == ce:
		return ce, true
	case inner == ect0 && outer == ect1:
		return ect1, true
	}
	return inner, true
}
