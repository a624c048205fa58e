package vlan_test

import (
	"encoding/json"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
)

var (
	set       = vlan.MustParseSet
	everyKind = []vlan.Kind{
		vlan.KindUntagged, vlan.KindAccess, vlan.KindTrunk, vlan.KindIsolated, vlan.KindCommunity, vlan.KindPromiscuous,
	}
)

// validModes are modes of every kind with their String, in JSON, and the VLANs they receive and, at
// first, the one that untagged frames are in; -1 is none.
var validModes = []struct {
	mode     vlan.Mode
	text     string
	json     string
	pvid     int
	receives []uint16
}{
	{vlan.Mode{}, "untagged", `{"mode":"untagged"}`, 0, []uint16{0}},
	{vlan.Untagged(), "untagged", `{"mode":"untagged"}`, 0, []uint16{0}},
	{vlan.Access(1), "access(1)", `{"mode":"access","vlan":1}`, 1, []uint16{1}},
	{vlan.Access(4094), "access(4094)", `{"mode":"access","vlan":4094}`, 4094, []uint16{4094}},
	{vlan.Trunk(5, set("2-4,10"), nil), "trunk(native 5, allowed 2-4,10)",
		`{"mode":"trunk","native":5,"allowed":"2-4,10"}`, 5, []uint16{2, 3, 4, 5, 10}},
	{vlan.Trunk(3, set("2-4"), &vlan.TrunkOptions{}), "trunk(native 3, allowed 2-4)",
		`{"mode":"trunk","native":3,"allowed":"2-4"}`, 3, []uint16{2, 3, 4}},
	{vlan.Trunk(0, set("2-4"), nil), "trunk(allowed 2-4)", `{"mode":"trunk","allowed":"2-4"}`, -1, []uint16{2, 3, 4}},
	{vlan.Trunk(5, vlan.Set{}, nil), "trunk(native 5)", `{"mode":"trunk","native":5}`, 5, []uint16{5}},
	{vlan.Trunk(0, set("7,4094"), &vlan.TrunkOptions{Untagged: true}), "trunk(untagged, allowed 7,4094)",
		`{"mode":"trunk","allowed":"7,4094","untagged":true}`, 0, []uint16{0, 7, 4094}},
	{vlan.Trunk(0, vlan.Set{}, &vlan.TrunkOptions{Untagged: true}), "trunk(untagged)",
		`{"mode":"trunk","untagged":true}`, 0, []uint16{0}},
	{vlan.Trunk(0, set("7"), &vlan.TrunkOptions{QinQ: true}), "trunk(allowed 7, QinQ)",
		`{"mode":"trunk","allowed":"7","qinq":true}`, -1, []uint16{7}},
	{vlan.Trunk(0, set("7"), &vlan.TrunkOptions{QinQ: true, TPID: vlan.TPID8021Q}), "trunk(allowed 7, QinQ, TPID 0x8100)",
		`{"mode":"trunk","allowed":"7","qinq":true,"tpid":33024}`, -1, []uint16{7}},
	{vlan.Trunk(0, set("7"), &vlan.TrunkOptions{TPID: vlan.TPID8021AD}), "trunk(allowed 7, TPID 0x88a8)",
		`{"mode":"trunk","allowed":"7","tpid":34984}`, -1, []uint16{7}},
	{vlan.Isolated(10, 200), "isolated(primary 10, secondary 200)",
		`{"mode":"isolated","primary":10,"secondary":200}`, 200, []uint16{10}},
	{vlan.Community(10, 201), "community(primary 10, secondary 201)",
		`{"mode":"community","primary":10,"secondary":201}`, 201, []uint16{10, 201}},
	{vlan.Community(300, 4), "community(primary 300, secondary 4)",
		`{"mode":"community","primary":300,"secondary":4}`, 4, []uint16{4, 300}},
	{vlan.Promiscuous(10, set("200-201")), "promiscuous(primary 10, secondaries 200-201)",
		`{"mode":"promiscuous","primary":10,"secondaries":"200-201"}`, 10, []uint16{10, 200, 201}},
}

func TestModesReadBackPrintAndTravelAsJSON(t *testing.T) {
	for i, c := range validModes {
		require.NoError(t, c.mode.Validate(), c.text)
		require.Equal(t, c.text, c.mode.String())

		spec := c.mode.Spec()
		require.Equal(t, c.mode.Kind(), spec.Kind)
		back, err := spec.Mode()
		require.NoError(t, err, c.text)
		require.True(t, back.Equal(c.mode), c.text)
		require.Equal(t, spec, back.Spec(), c.text)

		b, err := json.Marshal(c.mode)
		require.NoError(t, err)
		require.JSONEq(t, c.json, string(b))
		fromJSON := vlan.Access(99)
		require.NoError(t, json.Unmarshal(b, &fromJSON), c.text)
		require.True(t, fromJSON.Equal(c.mode), c.text)

		vid, ok := c.mode.PVID()
		require.Equal(t, c.pvid >= 0, ok, c.text)
		require.Equal(t, uint16(max(0, c.pvid)), vid, c.text)
		require.Equal(t, c.receives, slices.Collect(c.mode.Received()), c.text)

		for j, o := range validModes {
			require.Equal(t, i == j || c.text == o.text, c.mode.Equal(o.mode), "%s and %s", c.text, o.text)
		}
	}
}

func TestAModeIsSmall(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(vlan.Mode{}), uintptr(32))
}

func TestATrunkSaysTheDefaultTPIDAsTheDefault(t *testing.T) {
	a := vlan.Trunk(0, set("7"), &vlan.TrunkOptions{TPID: vlan.TPID8021Q})
	require.True(t, a.Equal(vlan.Trunk(0, set("7"), nil)))
	a = vlan.Trunk(0, set("7"), &vlan.TrunkOptions{TPID: vlan.TPID8021AD, QinQ: true})
	require.True(t, a.Equal(vlan.Trunk(0, set("7"), &vlan.TrunkOptions{QinQ: true})))
}

func TestTheVLANsOfAModeDoNotChangeWithTheSetItWasMadeOf(t *testing.T) {
	s := set("2")
	m := vlan.Trunk(0, s, nil)
	require.NoError(t, s.Add(3))
	require.False(t, m.Receives(3))
	got := m.Spec()
	got.Allowed.Remove(2)
	require.True(t, m.Receives(2))
}

func TestAWalkThroughReceivedVLANsCanEndEarly(t *testing.T) {
	m := vlan.Trunk(0, set("5,9"), &vlan.TrunkOptions{Untagged: true})
	for stop := range 3 {
		var got []uint16
		for vid := range m.Received() {
			if got = append(got, vid); len(got) > stop {
				break
			}
		}
		require.Equal(t, []uint16{0, 5, 9}[:stop+1], got)
	}
}

var invalidModes = []struct {
	mode vlan.Mode
	want string
}{
	{vlan.Access(0), "access: VLAN 0 is out of 1–4094"},
	{vlan.Access(4095), "access: VLAN 4095 is out of 1–4094"},
	{vlan.Access(65535), "access: VLAN 65535 is out of 1–4094"},
	{vlan.Trunk(4095, set("2"), nil), "trunk: native VLAN 4095 is out of 1–4094"},
	{vlan.Trunk(65535, set("2"), nil), "trunk: native VLAN 65535 is out of 1–4094"},
	{vlan.Trunk(0, vlan.Set{}, nil), "trunk: allowed VLANs are missing, and there is no native VLAN"},
	{vlan.Trunk(2, set("2"), &vlan.TrunkOptions{Untagged: true}), "trunk: native VLAN 2 excludes the untagged VLAN"},
	{vlan.Trunk(2, set("2"), &vlan.TrunkOptions{TPID: 0x9100}), "trunk: TPID 0x9100 is neither 0x8100 nor 0x88a8"},
	{vlan.Isolated(0, 2), "isolated: primary VLAN 0 is out of 1–4094"},
	{vlan.Isolated(1, 4095), "isolated: secondary VLAN 4095 is out of 1–4094"},
	{vlan.Isolated(1, 65535), "isolated: secondary VLAN 65535 is out of 1–4094"},
	{vlan.Isolated(7, 7), "isolated: secondary VLAN 7 is the primary VLAN too"},
	{vlan.Community(4095, 2), "community: primary VLAN 4095 is out of 1–4094"},
	{vlan.Community(2, 0), "community: secondary VLAN 0 is out of 1–4094"},
	{vlan.Community(7, 7), "community: secondary VLAN 7 is the primary VLAN too"},
	{vlan.Promiscuous(0, set("2")), "promiscuous: primary VLAN 0 is out of 1–4094"},
	{vlan.Promiscuous(65535, set("2")), "promiscuous: primary VLAN 65535 is out of 1–4094"},
	{vlan.Promiscuous(2, vlan.Set{}), "promiscuous: secondary VLANs are missing"},
	{vlan.Promiscuous(2, set("1-3")), "promiscuous: secondary VLAN 2 is the primary VLAN too"},
}

func TestValidateNamesFieldValueAndReason(t *testing.T) {
	for _, c := range invalidModes {
		err := c.mode.Validate()
		require.EqualError(t, err, c.want)
		var e *vlan.ModeError
		require.ErrorAs(t, err, &e)
		require.Equal(t, c.mode.Kind(), e.Kind)
		_, err = c.mode.Spec().Mode()
		require.EqualError(t, err, c.want)
		require.NotEmpty(t, c.mode.String())
	}
}

func TestAnInvalidModeLetsNothingPass(t *testing.T) {
	for _, c := range invalidModes {
		_, ok := c.mode.PVID()
		require.False(t, ok, c.want)
		require.Empty(t, slices.Collect(c.mode.Received()), c.want)
		for tci := range 1 << 16 {
			tci := uint16(tci)
			for _, nested := range []bool{false, true} {
				for _, tpid := range []uint16{0, vlan.TPID8021Q, vlan.TPID8021AD, 0x9100} {
					if _, drop := c.mode.Admit(tpid, tci, nested); drop == 0 {
						t.Fatalf("%s: admits %#04x %#04x", c.want, tpid, tci)
					}
				}
				if _, _, drop := c.mode.Deliver(tci, nested); drop == 0 {
					t.Fatalf("%s: delivers %#04x", c.want, tci)
				}
			}
			if c.mode.Receives(tci) {
				t.Fatalf("%s: receives %d", c.want, tci)
			}
		}
	}
}

func TestKindNames(t *testing.T) {
	for _, k := range everyKind {
		b, err := k.MarshalText()
		require.NoError(t, err)
		require.Equal(t, k.String(), string(b))
		var back vlan.Kind
		require.NoError(t, back.UnmarshalText(b))
		require.Equal(t, k, back)
	}
	require.Equal(t, "kind 6", vlan.Kind(6).String())
	_, err := vlan.Kind(6).MarshalText()
	require.EqualError(t, err, "port mode 6 does not exist")
	k := vlan.KindTrunk
	require.EqualError(t, k.UnmarshalText([]byte("hybrid")), `port mode "hybrid" does not exist`)
	require.Equal(t, vlan.KindTrunk, k)
}

func TestDropNames(t *testing.T) {
	seen := map[string]bool{}
	for d := vlan.DropTagged; d <= vlan.DropNotMember; d++ {
		require.NotContains(t, d.String(), "drop ")
		require.False(t, seen[d.String()])
		seen[d.String()] = true
	}
	require.Equal(t, "drop 0", vlan.Drop(0).String())
	require.Equal(t, "drop 99", vlan.Drop(99).String())
}
