package team

import "github.com/hvswitch/hvswitch/ports"

// PinOf returns the index of the member that an address is pinned to, in the order of New, or -1.
func (t *Team) PinOf(address ports.MAC) int {
	s := t.snap.Load()
	slot := s.pin(addressOfMAC(address))
	for i, m := range t.order {
		if m.slot == slot {
			return i
		}
	}
	return -1
}

// Independent reports whether what is for a station is taken from one member only.
func (t *Team) Independent() bool { return t.cfg.Mode == SwitchIndependent }
