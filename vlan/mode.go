package vlan

import (
	"fmt"
	"strings"
)

// Mode is the VLAN mode of a port: an immutable value of at most 32 bytes. The zero Mode is untagged. Modes
// are compared with Equal.
//
// The functions that make one always return a Mode, so that it can stand where it is used; whoever
// takes it calls Validate. A Mode that is not valid lets nothing pass.
type Mode struct {
	_ [0]func() // equal modes may have different pointers, so == must not compile

	given *Set // the allowed or secondary VLANs; nil when they are none
	set   *Set // the same for Admit and Deliver; nil also when the mode is not valid

	vlan      uint16 // of an access port; native VLAN of a trunk; primary VLAN
	secondary uint16

	tpid uint16    // of a trunk's tags; 0 of other ports, which send and take none
	pvid uint16    // VLAN of untagged frames that arrive
	bare [2]uint16 // VLANs whose frames leave untagged, besides those of a promiscuous port's set

	kind     Kind
	untagged bool
	qinq     bool
}

// none stands for no VLAN where one could be: as it has more than 12 bits, no frame is in it.
const none = 0xffff

// Untagged returns the mode of a port whose frames are untagged and stay so: they are in the untagged
// VLAN, which has no id and is VLAN 0 here. It is the zero Mode.
func Untagged() Mode { return Mode{} }

// Access returns the mode of a port that is in one VLAN and knows of none: what it sends and receives
// is untagged. A frame with a VLAN tag is dropped, one with a priority tag is not (IEEE 802.1Q 6.9,
// "Admit Only Untagged and Priority-tagged frames").
func Access(id uint16) Mode {
	m := Mode{kind: KindAccess, vlan: id}
	return m.compiled()
}

// TrunkOptions are what few trunks need.
type TrunkOptions struct {
	// Untagged makes untagged frames on the trunk those of the untagged VLAN, that of ports in
	// untagged mode, in both directions. It is for uplinks, and for what Hyper-V calls
	// NativeVlanId 0. A native VLAN excludes it.
	Untagged bool `json:"untagged,omitempty"`

	// QinQ admits and delivers frames with another tag behind the trunk's own. That one is then a
	// service tag (IEEE 802.1ad) if TPID does not say otherwise.
	QinQ bool `json:"qinq,omitempty"`

	// TPID is that of the trunk's tags; those of another are dropped, and frames leave with this
	// one, whatever they came with. It is TPID8021Q or TPID8021AD, or 0 for the default:
	// TPID8021AD with QinQ, TPID8021Q without.
	TPID uint16 `json:"tpid,omitempty"`
}

// Trunk returns the mode of a port that carries the allowed VLANs tagged and the native VLAN untagged.
// Nil options are the defaults.
//
// Allowed is about tagged frames, native about untagged ones. An untagged frame is in the native VLAN,
// allowed or not, and what is in the native VLAN leaves untagged; native 0 is no native VLAN, and
// untagged frames are dropped (IEEE 802.1Q 6.9, "Admit Only VLAN-tagged frames"). A tag must be of an
// allowed VLAN, so that of the native VLAN is dropped unless it is allowed too. A priority tag counts
// as none.
func Trunk(native uint16, allowed Set, o *TrunkOptions) Mode {
	if o == nil {
		o = &TrunkOptions{}
	}
	m := Mode{kind: KindTrunk, vlan: native, given: share(allowed), untagged: o.Untagged, qinq: o.QinQ, tpid: o.TPID}
	if m.tpid == 0 {
		m.tpid = defaultTPID(o.QinQ)
	}
	return m.compiled()
}

// Isolated returns the mode of a port that talks to promiscuous ports of its primary VLAN only. It
// sends in its secondary VLAN and receives the primary one, both untagged (RFC 5517 2.1;
// NDIS_SWITCH_PORT_PVLAN_MODE).
func Isolated(primary, secondary uint16) Mode {
	m := Mode{kind: KindIsolated, vlan: primary, secondary: secondary}
	return m.compiled()
}

// Community returns the mode of a port that talks to ports of the same secondary VLAN and to
// promiscuous ports of its primary VLAN. It sends in its secondary VLAN and receives both, untagged
// (RFC 5517 2.1; NDIS_SWITCH_PORT_PVLAN_MODE).
func Community(primary, secondary uint16) Mode {
	m := Mode{kind: KindCommunity, vlan: primary, secondary: secondary}
	return m.compiled()
}

// Promiscuous returns the mode of a port, such as that of a gateway, that talks to all ports of the
// primary VLAN and of the listed secondary VLANs. It sends in the primary VLAN and receives that and
// the secondaries, untagged (RFC 5517 2.1; NDIS_SWITCH_PORT_PVLAN_MODE).
//
// What it sends reaches the ports of secondary VLANs that it does not list, too; it just does not hear
// them.
func Promiscuous(primary uint16, secondaries Set) Mode {
	m := Mode{kind: KindPromiscuous, vlan: primary, given: share(secondaries)}
	return m.compiled()
}

func share(s Set) *Set {
	if s.IsZero() {
		return nil
	}
	return &s
}

func defaultTPID(qinq bool) uint16 {
	if qinq {
		return TPID8021AD
	}
	return TPID8021Q
}

// compiled returns the mode with the fields that Admit and Deliver read.
func (m Mode) compiled() Mode {
	m.set = nil
	m.pvid = none
	m.bare = [2]uint16{none, none}
	if m.Validate() != nil {
		return m
	}
	m.set = m.given
	switch m.kind {
	case KindUntagged, KindAccess, KindPromiscuous:
		m.pvid = m.vlan
		m.bare[0] = m.vlan
	case KindTrunk:
		if m.vlan != 0 || m.untagged {
			m.pvid = m.vlan
			m.bare[0] = m.vlan
		}
	case KindIsolated:
		m.pvid = m.secondary
		m.bare[0] = m.vlan
	case KindCommunity:
		m.pvid = m.secondary
		m.bare = [2]uint16{m.vlan, m.secondary}
	}
	return m
}

// Kind returns which of the modes it is.
func (m Mode) Kind() Kind { return m.kind }

// PVID returns the VLAN of untagged frames that arrive at the port (IEEE 802.1Q 6.9): 0 is the
// untagged VLAN. It returns false when they are dropped.
func (m Mode) PVID() (vid uint16, ok bool) {
	if m.pvid == none {
		return 0, false
	}
	return m.pvid, true
}

// ModeError says what about a mode is not valid.
type ModeError struct {
	Kind   Kind
	Field  string // such as "native VLAN"
	Value  string // as it was given; empty when it is missing
	Reason string
}

// Error returns all of it, such as "trunk: native VLAN 4095 is out of 1–4094".
func (e *ModeError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s: %s %s", e.Kind, e.Field, e.Reason)
	}
	return fmt.Sprintf("%s: %s %s %s", e.Kind, e.Field, e.Value, e.Reason)
}

// Validate returns a *ModeError unless the mode is valid: ids are within 1–4094, a secondary VLAN is
// not its own primary, a promiscuous port lists secondaries, a trunk carries something.
func (m Mode) Validate() error {
	const (
		primary, secondary = "primary VLAN", "secondary VLAN"
		isPrimary          = "is the primary VLAN too"
	)
	id := func(field string, id uint16) error {
		if CheckID(id) == nil {
			return nil
		}
		return m.wrong(field, fmt.Sprint(id), outOfRange)
	}
	switch m.kind {
	case KindAccess:
		return id("VLAN", m.vlan)
	case KindTrunk:
		if m.vlan != 0 {
			if err := id("native VLAN", m.vlan); err != nil {
				return err
			}
			if m.untagged {
				return m.wrong("native VLAN", fmt.Sprint(m.vlan), "excludes the untagged VLAN")
			}
		}
		if !IsTPID(m.tpid) {
			return m.wrong("TPID", fmt.Sprintf("%#04x", m.tpid), "is neither 0x8100 nor 0x88a8")
		}
		if m.given == nil && m.vlan == 0 && !m.untagged {
			return m.wrong("allowed VLANs", "", "are missing, and there is no native VLAN")
		}
	case KindIsolated, KindCommunity:
		if err := id(primary, m.vlan); err != nil {
			return err
		}
		if err := id(secondary, m.secondary); err != nil {
			return err
		}
		if m.secondary == m.vlan {
			return m.wrong(secondary, fmt.Sprint(m.secondary), isPrimary)
		}
	case KindPromiscuous:
		if err := id(primary, m.vlan); err != nil {
			return err
		}
		if m.given == nil {
			return m.wrong("secondary VLANs", "", "are missing")
		}
		if m.given.Has(m.vlan) {
			return m.wrong(secondary, fmt.Sprint(m.vlan), isPrimary)
		}
	}
	return nil
}

func (m Mode) wrong(field, value, reason string) error {
	return &ModeError{Kind: m.kind, Field: field, Value: value, Reason: reason}
}

// Equal reports whether both modes have the same settings.
func (m Mode) Equal(o Mode) bool { return m.Spec() == o.Spec() }

// String returns the mode with its settings, such as "trunk(native 5, allowed 2-4,10)".
func (m Mode) String() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	s := m.Spec()
	switch m.kind {
	case KindUntagged:
		return m.kind.String()
	case KindAccess:
		add("%d", s.VLAN)
	case KindTrunk:
		if s.Native != 0 {
			add("native %d", s.Native)
		}
		if s.Untagged {
			add("untagged")
		}
		if !s.Allowed.IsZero() {
			add("allowed %s", s.Allowed)
		}
		if s.QinQ {
			add("QinQ")
		}
		if s.TPID != 0 {
			add("TPID %#04x", s.TPID)
		}
	case KindIsolated, KindCommunity:
		add("primary %d", s.Primary)
		add("secondary %d", s.Secondary)
	case KindPromiscuous:
		add("primary %d", s.Primary)
		add("secondaries %s", s.Secondaries)
	}
	return m.kind.String() + "(" + strings.Join(parts, ", ") + ")"
}
