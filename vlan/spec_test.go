package vlan_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
)

func TestASpecRefusesWhatDoesNotBelongToItsMode(t *testing.T) {
	fields := map[string]struct {
		set   func(*vlan.Spec)
		kinds []vlan.Kind // it belongs to
		want  string
	}{
		"VLAN":        {func(s *vlan.Spec) { s.VLAN = 9 }, []vlan.Kind{vlan.KindAccess}, "VLAN 9"},
		"native":      {func(s *vlan.Spec) { s.Native = 9 }, []vlan.Kind{vlan.KindTrunk}, "native VLAN 9"},
		"allowed":     {func(s *vlan.Spec) { s.Allowed = set("9") }, []vlan.Kind{vlan.KindTrunk}, "allowed VLANs 9"},
		"untagged":    {func(s *vlan.Spec) { s.Untagged = true }, []vlan.Kind{vlan.KindTrunk}, "untagged true"},
		"QinQ":        {func(s *vlan.Spec) { s.QinQ = true }, []vlan.Kind{vlan.KindTrunk}, "QinQ true"},
		"TPID":        {func(s *vlan.Spec) { s.TPID = 0x8100 }, []vlan.Kind{vlan.KindTrunk}, "TPID 0x8100"},
		"primary":     {func(s *vlan.Spec) { s.Primary = 9 }, []vlan.Kind{vlan.KindIsolated, vlan.KindCommunity, vlan.KindPromiscuous}, "primary VLAN 9"},
		"secondary":   {func(s *vlan.Spec) { s.Secondary = 9 }, []vlan.Kind{vlan.KindIsolated, vlan.KindCommunity}, "secondary VLAN 9"},
		"secondaries": {func(s *vlan.Spec) { s.Secondaries = set("9") }, []vlan.Kind{vlan.KindPromiscuous}, "secondary VLANs 9"},
	}
	valid := map[vlan.Kind]vlan.Spec{
		vlan.KindUntagged:    vlan.Untagged().Spec(),
		vlan.KindAccess:      vlan.Access(2).Spec(),
		vlan.KindTrunk:       vlan.Trunk(0, set("2"), nil).Spec(),
		vlan.KindIsolated:    vlan.Isolated(2, 3).Spec(),
		vlan.KindCommunity:   vlan.Community(2, 3).Spec(),
		vlan.KindPromiscuous: vlan.Promiscuous(2, set("3")).Spec(),
	}
	for _, k := range everyKind {
		for name, f := range fields {
			s := valid[k]
			f.set(&s)
			_, err := s.Mode()
			belongs := false
			for _, o := range f.kinds {
				belongs = belongs || o == k
			}
			if belongs {
				require.NoError(t, err, "%s: %s", k, name)
			} else {
				require.EqualError(t, err, k.String()+": "+f.want+" does not belong to this mode")
			}
		}
	}
	_, err := vlan.Spec{Kind: 77}.Mode()
	require.EqualError(t, err, "port mode 77 does not exist")
}

func TestModeFromJSONIsStrict(t *testing.T) {
	for text, want := range map[string]string{
		`{"mode":"access","vlan":4095}`:              "access: VLAN 4095 is out of 1–4094",
		`{"mode":"access"}`:                          "access: VLAN 0 is out of 1–4094",
		`{"mode":"trunk","allowed":"2-4,,10"}`:       `VLAN list: "" at character 5: a VLAN id is missing`,
		`{"mode":"trunk","alowed":"2-4","native":2}`: `json: unknown field "alowed"`,
		`{"mode":"hybrid"}`:                          `port mode "hybrid" does not exist`,
		`{"vlan":5}`:                                 "untagged: VLAN 5 does not belong to this mode",
		`[]`:                                         "json: cannot unmarshal array",
	} {
		m := vlan.Access(7)
		require.ErrorContains(t, json.Unmarshal([]byte(text), &m), want, text)
		require.True(t, m.Equal(vlan.Access(7)), "is unchanged")
	}
	m := vlan.Access(7)
	require.NoError(t, json.Unmarshal([]byte("null"), &m))
	require.True(t, m.Equal(vlan.Access(7)))
	require.NoError(t, json.Unmarshal([]byte("{}"), &m))
	require.True(t, m.Equal(vlan.Mode{}))
}
