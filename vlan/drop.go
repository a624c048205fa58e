package vlan

import "strconv"

// Drop says why a frame may not pass; zero means that it may.
type Drop uint8

// Reasons. Those of Deliver are DropNested and DropNotMember, those of Admit all but DropNotMember.
const (
	_ Drop = iota

	DropTagged     // tagged, at a port that takes untagged frames only
	DropUntagged   // untagged, at a trunk without native VLAN
	DropReserved   // VLAN 4095, which IEEE 802.1Q table 9-2 reserves
	DropNotAllowed // a VLAN that the trunk does not allow
	DropTPID       // a tag of another TPID than the trunk's
	DropNested     // a tag behind the tag, or a tag that would lose the one in front of it
	DropNotMember  // the port does not receive the VLAN
)

var dropNames = [...]string{
	DropTagged:     "tagged",
	DropUntagged:   "untagged",
	DropReserved:   "reserved VLAN",
	DropNotAllowed: "VLAN not allowed",
	DropTPID:       "wrong TPID",
	DropNested:     "tag behind a tag",
	DropNotMember:  "not in the VLAN",
}

// String returns the reason in words, such as "tagged".
func (d Drop) String() string {
	if int(d) < len(dropNames) && d != 0 {
		return dropNames[d]
	}
	return "drop " + strconv.Itoa(int(d))
}
