package vlan

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Spec is a Mode as plain data: for configuration files, and to read a Mode's settings. It is
// comparable. Fields that do not belong to its Kind are zero.
type Spec struct {
	Kind Kind `json:"mode"`

	VLAN uint16 `json:"vlan,omitempty"` // access

	Native       uint16 `json:"native,omitempty"` // trunk; 0 is no native VLAN
	Allowed      Set    `json:"allowed,omitzero"` // trunk
	TrunkOptions        // trunk; TPID is 0 when it is the default

	Primary     uint16 `json:"primary,omitempty"`    // isolated, community, promiscuous
	Secondary   uint16 `json:"secondary,omitempty"`  // isolated, community
	Secondaries Set    `json:"secondaries,omitzero"` // promiscuous
}

// Spec returns the settings of the mode.
func (m Mode) Spec() Spec {
	s := Spec{Kind: m.kind}
	var set Set
	if m.given != nil {
		set = *m.given
	}
	switch m.kind {
	case KindAccess:
		s.VLAN = m.vlan
	case KindTrunk:
		s.Native, s.Allowed = m.vlan, set
		s.TrunkOptions = TrunkOptions{Untagged: m.untagged, QinQ: m.qinq, TPID: m.tpid}
		if m.tpid == defaultTPID(m.qinq) {
			s.TPID = 0
		}
	case KindIsolated, KindCommunity:
		s.Primary, s.Secondary = m.vlan, m.secondary
	case KindPromiscuous:
		s.Primary, s.Secondaries = m.vlan, set
	}
	return s
}

// Mode returns the mode with these settings, or a *ModeError when it is not valid or when a field is
// set that does not belong to it.
func (s Spec) Mode() (Mode, error) {
	var m Mode
	switch s.Kind {
	case KindUntagged:
	case KindAccess:
		m = Access(s.VLAN)
	case KindTrunk:
		m = Trunk(s.Native, s.Allowed, &s.TrunkOptions)
	case KindIsolated:
		m = Isolated(s.Primary, s.Secondary)
	case KindCommunity:
		m = Community(s.Primary, s.Secondary)
	case KindPromiscuous:
		m = Promiscuous(s.Primary, s.Secondaries)
	default:
		return Mode{}, fmt.Errorf("port mode %d does not exist", s.Kind)
	}
	if err := s.foreign(m.Spec()); err != nil {
		return Mode{}, err
	}
	if err := m.Validate(); err != nil {
		return Mode{}, err
	}
	return m, nil
}

// foreign returns an error when a field is set that is not set in kept, the settings of the mode.
func (s Spec) foreign(kept Spec) error {
	for _, f := range []struct {
		name      string
		value     any
		set, kept bool
	}{
		{"VLAN", s.VLAN, s.VLAN != 0, kept.VLAN != 0},
		{"native VLAN", s.Native, s.Native != 0, kept.Native != 0},
		{"allowed VLANs", s.Allowed, !s.Allowed.IsZero(), !kept.Allowed.IsZero()},
		{"untagged", s.Untagged, s.Untagged, kept.Untagged},
		{"QinQ", s.QinQ, s.QinQ, kept.QinQ},
		{"TPID", fmt.Sprintf("%#04x", s.TPID), s.TPID != 0, s.Kind == KindTrunk},
		{"primary VLAN", s.Primary, s.Primary != 0, kept.Primary != 0},
		{"secondary VLAN", s.Secondary, s.Secondary != 0, kept.Secondary != 0},
		{"secondary VLANs", s.Secondaries, !s.Secondaries.IsZero(), !kept.Secondaries.IsZero()},
	} {
		if f.set && !f.kept {
			return &ModeError{Kind: s.Kind, Field: f.name, Value: fmt.Sprint(f.value), Reason: "does not belong to this mode"}
		}
	}
	return nil
}

var (
	_ json.Marshaler   = Mode{}
	_ json.Unmarshaler = &Mode{}
)

// MarshalJSON returns the Spec in JSON, such as {"mode":"trunk","native":5,"allowed":"2-4,10"}.
func (m Mode) MarshalJSON() ([]byte, error) { return json.Marshal(m.Spec()) }

// UnmarshalJSON reads a Spec, which must be valid and have no unknown fields. On error the mode is
// unchanged; JSON null leaves it unchanged, too.
func (m *Mode) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var s Spec
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return err
	}
	v, err := s.Mode()
	if err != nil {
		return err
	}
	*m = v
	return nil
}
