package vswitch

import (
	"fmt"
	"slices"
)

// Event is something that happened to a switch of its own accord.
type Event struct {
	Kind   EventKind
	Switch string // its name
	NIC    string // the uplink concerned, if any

	// Protected are the names of the connected vNICs with ProtectedNetwork: those to be moved
	// to a host that has its uplink.
	Protected []string

	Extension string // the one that failed
	Err       error  // why
}

// EventKind says what happened.
type EventKind uint8

// Kinds of events.
const (
	UplinkLost      EventKind = 1 + iota // the link of the uplink went down
	UplinkRestored                       // it is up again
	ExtensionFailed                      // it panicked and is out of use, until it is disabled and enabled
)

// String returns "uplink lost", "uplink restored" or "extension failed".
func (k EventKind) String() string {
	switch k {
	case UplinkLost:
		return "uplink lost"
	case UplinkRestored:
		return "uplink restored"
	case ExtensionFailed:
		return "extension failed"
	}
	return fmt.Sprintf("event %d", uint8(k))
}

// uplinkChanged tells of a change of the link of port p, if that is the uplink.
func (s *Switch) uplinkChanged(p *port, up bool) {
	snap := s.snap.Load()
	if v := snap.ports.at(p.index); v == nil || v.port != p || v.mac != 0 || s.host.event == nil {
		return
	}
	e := Event{Kind: UplinkLost, Switch: s.name, NIC: p.name}
	if up {
		e.Kind = UplinkRestored
	}
	for v := range snap.ports.all() {
		if v.protected {
			e.Protected = append(e.Protected, v.name)
		}
	}
	slices.Sort(e.Protected)
	s.host.event(e)
}
