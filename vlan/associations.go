package vlan

import (
	"fmt"
	"maps"
	"slices"
)

// Associations are the private VLANs of a switch: which secondary VLANs are associated with which
// primary VLAN (RFC 5517 2.1), as the modes of its ports say. They are consistent:
//
//   - a VLAN is not both a primary and a secondary one,
//   - a secondary VLAN belongs to one primary VLAN, and is either isolated or a community,
//   - a primary VLAN has at most one isolated VLAN.
//
// Isolated and community ports say of what kind their secondary VLAN is, promiscuous ports do not.
// Ports of other modes say nothing: in a private VLAN, too, they are ordinary members of the VLANs
// they are in.
//
// The zero value is a switch without private VLANs. It is not safe for concurrent use.
type Associations struct {
	ports map[string]Mode // those in private modes
	uses  map[uint16]*use
	fids  *FIDs
}

// use is what ports say of a VLAN. The counts are of ports.
type use struct {
	primary                      int
	isolated, community, unknown int // as a secondary VLAN, by kind

	primaryVLAN  uint16 // of a secondary VLAN
	isolatedVLAN uint16 // of a primary VLAN; 0 if it has none
}

func (u *use) secondary() int { return u.isolated + u.community + u.unknown }

func (u *use) count(k Kind) *int {
	switch k {
	case KindIsolated:
		return &u.isolated
	case KindCommunity:
		return &u.community
	}
	return &u.unknown
}

// ConflictError says that the mode of a port contradicts that of another one.
type ConflictError struct {
	Port   string // whose mode was refused
	Other  string // whose mode it contradicts
	VLAN   uint16 // what they disagree on
	Reason string // the whole of it, in words
}

// Error returns the port and the reason, which names the other port.
func (e *ConflictError) Error() string { return fmt.Sprintf("port %q: %s", e.Port, e.Reason) }

// Update sets the modes of ports, by name, all of them or none. A port that goes is set to the zero
// Mode. It returns the secondary VLANs whose FID has changed, in ascending order: addresses learned in
// them so far are in the wrong table.
//
// Modes that contradict each other, or those of other ports, are a *ConflictError; a mode that is not
// valid is an error that wraps a *ModeError and names the port. In both cases nothing changes.
//
// The time it takes depends on the ports that change, not on the others, but for two things: new FIDs
// are a copy of 8 KiB, and the port of a conflict is searched for among all.
func (a *Associations) Update(modes map[string]Mode) (moved []uint16, err error) {
	names := slices.Sorted(maps.Keys(modes)) // so that the error is always the same
	for _, name := range names {
		if err := modes[name].Validate(); err != nil {
			return nil, fmt.Errorf("port %q: %w", name, err)
		}
	}
	if a.ports == nil {
		a.ports = map[string]Mode{}
		a.uses = map[uint16]*use{}
	}
	old := map[string]Mode{}
	for _, name := range names {
		if m, ok := a.ports[name]; ok {
			old[name] = m
			a.remove(name)
		}
	}
	for i, name := range names {
		if err := a.add(name, modes[name]); err != nil {
			for _, name := range names[:i] {
				a.remove(name)
			}
			for name, m := range old {
				if a.add(name, m) != nil {
					panic("vlan: associations that were consistent are no more")
				}
			}
			return nil, err
		}
	}
	return a.refile(old, modes), nil
}

// FIDs returns the FIDs of all VLANs, nil when there never was a private VLAN. An Update does not
// change it but makes a new one, if need be. Any number of goroutines may use it.
func (a *Associations) FIDs() *FIDs { return a.fids }

// Role is what a VLAN is in private VLANs.
type Role uint8

// Roles of VLANs.
const (
	RoleNone      Role = iota // no part of a private VLAN
	RolePrimary               // primary VLAN
	RoleIsolated              // isolated secondary VLAN
	RoleCommunity             // community secondary VLAN
	RoleSecondary             // secondary VLAN of which only promiscuous ports know
)

var roleNames = [...]string{"none", "primary", "isolated", "community", "secondary"}

// String returns the name of the role, such as "isolated".
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// Role returns what a VLAN is, and the primary VLAN of its private VLAN, 0 if it has none.
func (a *Associations) Role(vid uint16) (r Role, primary uint16) {
	u := a.uses[vid]
	switch {
	case u == nil:
		return RoleNone, 0
	case u.primary > 0:
		return RolePrimary, vid
	case u.isolated > 0:
		return RoleIsolated, u.primaryVLAN
	case u.community > 0:
		return RoleCommunity, u.primaryVLAN
	}
	return RoleSecondary, u.primaryVLAN
}

// secondaries returns the secondary VLANs that a mode names.
func (m *Mode) secondaries() Set {
	var s Set
	switch m.kind {
	case KindIsolated, KindCommunity:
		_ = s.Add(m.secondary)
	case KindPromiscuous:
		s = *m.given
	}
	return s
}

func (m *Mode) hasSecondary(id uint16) bool {
	if m.kind == KindPromiscuous {
		return m.given.Has(id)
	}
	return m.secondary == id
}

// add adds a port. If it conflicts with another one, nothing changes.
func (a *Associations) add(name string, m Mode) error {
	if !m.kind.Private() {
		return nil
	}
	if err := a.conflict(name, m); err != nil {
		return err
	}
	a.ports[name] = m
	p := a.use(m.vlan)
	p.primary++
	for id := range m.secondaries().All() {
		s := a.use(id)
		s.primaryVLAN = m.vlan
		*s.count(m.kind)++
	}
	if m.kind == KindIsolated {
		p.isolatedVLAN = m.secondary
	}
	return nil
}

func (a *Associations) use(id uint16) *use {
	u := a.uses[id]
	if u == nil {
		u = &use{}
		a.uses[id] = u
	}
	return u
}

// remove removes a port, if it is there.
func (a *Associations) remove(name string) {
	m, ok := a.ports[name]
	if !ok {
		return
	}
	delete(a.ports, name)
	p := a.uses[m.vlan]
	p.primary--
	for id := range m.secondaries().All() {
		s := a.uses[id]
		*s.count(m.kind)--
		if m.kind == KindIsolated && s.isolated == 0 {
			p.isolatedVLAN = 0
		}
		if s.secondary() == 0 {
			delete(a.uses, id)
		}
	}
	if p.primary == 0 {
		delete(a.uses, m.vlan)
	}
}

// conflict returns what speaks against a port.
func (a *Associations) conflict(name string, m Mode) error {
	primary := m.vlan
	p := a.uses[primary]
	if p != nil && p.secondary() > 0 {
		return a.contradicts(name, primary, func(o *Mode) bool { return o.hasSecondary(primary) },
			"VLAN %d is to be a primary VLAN, but is a secondary one", primary)
	}
	for id := range m.secondaries().All() {
		s := a.uses[id]
		switch {
		case s == nil:
		case s.primary > 0:
			return a.contradicts(name, id, func(o *Mode) bool { return o.vlan == id },
				"VLAN %d is to be a secondary VLAN, but is a primary one", id)
		case s.primaryVLAN != primary:
			return a.contradicts(name, id, func(o *Mode) bool { return o.hasSecondary(id) },
				"VLAN %d is to be a secondary VLAN of %d, but is one of %d", id, primary, s.primaryVLAN)
		case m.kind == KindIsolated && s.community > 0:
			return a.contradicts(name, id, func(o *Mode) bool { return o.kind == KindCommunity && o.secondary == id },
				"VLAN %d is to be an isolated VLAN, but is a community", id)
		case m.kind == KindCommunity && s.isolated > 0:
			return a.contradicts(name, id, func(o *Mode) bool { return o.kind == KindIsolated && o.secondary == id },
				"VLAN %d is to be a community, but is an isolated VLAN", id)
		}
	}
	if m.kind == KindIsolated && p != nil && p.isolatedVLAN != 0 && p.isolatedVLAN != m.secondary {
		return a.contradicts(name, primary, func(o *Mode) bool { return o.kind == KindIsolated && o.vlan == primary },
			"primary VLAN %d is to have the isolated VLAN %d, but has %d", primary, m.secondary, p.isolatedVLAN)
	}
	return nil
}

// contradicts returns the error for a port that contradicts those that match. It names the first of
// them in alphabetical order.
func (a *Associations) contradicts(name string, id uint16, match func(*Mode) bool, format string, args ...any) error {
	other := ""
	found := false
	for o, m := range a.ports {
		if match(&m) && (!found || o < other) {
			other, found = o, true
		}
	}
	reason := fmt.Sprintf(format, args...) + fmt.Sprintf(" at port %q", other)
	return &ConflictError{Port: name, Other: other, VLAN: id, Reason: reason}
}

// refile brings the FIDs up to date after the modes of ports have changed, and returns which VLANs
// have another.
func (a *Associations) refile(old, modes map[string]Mode) []uint16 {
	var named Set
	for _, changed := range []map[string]Mode{old, modes} {
		for _, m := range changed {
			named = named.Union(m.secondaries())
		}
	}
	primaries := map[uint16]uint16{}
	for id := range named.All() {
		fid, primary := id, uint16(0)
		if u := a.uses[id]; u != nil && u.secondary() > 0 {
			fid, primary = u.primaryVLAN, u.primaryVLAN
		}
		if a.fids.Of(id) != fid {
			primaries[id] = primary
		}
	}
	if len(primaries) == 0 {
		return nil
	}
	a.fids = a.fids.with(primaries)
	return slices.Sorted(maps.Keys(primaries))
}
