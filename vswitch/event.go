package vswitch

import "slices"

// Event is something that happened to a switch of its own accord.
type Event struct {
	Kind   EventKind
	Switch string // its name
	NIC    string // the uplink concerned

	// Protected are the names of the connected vNICs with ProtectedNetwork: those to be moved
	// to a host that has its uplink.
	Protected []string
}

// EventKind says what happened.
type EventKind uint8

// Kinds of events.
const (
	UplinkLost     EventKind = 1 + iota // the link of the uplink went down
	UplinkRestored                      // it is up again
)

// String returns "uplink lost" or "uplink restored".
func (k EventKind) String() string {
	if k == UplinkLost {
		return "uplink lost"
	}
	return "uplink restored"
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
