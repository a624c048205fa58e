package vlan

import "fmt"

// VLAN ids that can be assigned. IEEE 802.1Q table 9-2 reserves 0, which in a tag means priority only,
// and 4095.
const (
	MinID = 1
	MaxID = 4094
)

const reservedID = 4095 // IEEE 802.1Q table 9-2

// CheckID returns an error unless id is within 1–4094.
func CheckID(id uint16) error {
	if id < MinID || id > MaxID {
		return fmt.Errorf("VLAN %d %s", id, outOfRange)
	}
	return nil
}

const outOfRange = "is out of 1–4094"
