package vlan_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
)

type modes = map[string]vlan.Mode

func TestConflictsNameBothPorts(t *testing.T) {
	for _, c := range []struct {
		there, comes vlan.Mode
		want         string
		vid          uint16
	}{
		{vlan.Isolated(10, 20), vlan.Isolated(10, 21),
			`port "vm2": primary VLAN 10 is to have the isolated VLAN 21, but has 20 at port "vm1"`, 10},
		{vlan.Isolated(10, 20), vlan.Community(10, 20),
			`port "vm2": VLAN 20 is to be a community, but is an isolated VLAN at port "vm1"`, 20},
		{vlan.Community(10, 20), vlan.Isolated(10, 20),
			`port "vm2": VLAN 20 is to be an isolated VLAN, but is a community at port "vm1"`, 20},
		{vlan.Community(10, 20), vlan.Community(11, 20),
			`port "vm2": VLAN 20 is to be a secondary VLAN of 11, but is one of 10 at port "vm1"`, 20},
		{vlan.Promiscuous(10, set("20-22")), vlan.Promiscuous(11, set("22-23")),
			`port "vm2": VLAN 22 is to be a secondary VLAN of 11, but is one of 10 at port "vm1"`, 22},
		{vlan.Promiscuous(10, set("20-22")), vlan.Isolated(11, 21),
			`port "vm2": VLAN 21 is to be a secondary VLAN of 11, but is one of 10 at port "vm1"`, 21},
		{vlan.Isolated(10, 20), vlan.Isolated(20, 30),
			`port "vm2": VLAN 20 is to be a primary VLAN, but is a secondary one at port "vm1"`, 20},
		{vlan.Promiscuous(10, set("20-22")), vlan.Community(22, 30),
			`port "vm2": VLAN 22 is to be a primary VLAN, but is a secondary one at port "vm1"`, 22},
		{vlan.Isolated(10, 20), vlan.Community(9, 10),
			`port "vm2": VLAN 10 is to be a secondary VLAN, but is a primary one at port "vm1"`, 10},
		{vlan.Promiscuous(10, set("20-22")), vlan.Promiscuous(30, set("10")),
			`port "vm2": VLAN 10 is to be a secondary VLAN, but is a primary one at port "vm1"`, 10},
	} {
		check := func(_ []uint16, err error) {
			t.Helper()
			require.EqualError(t, err, c.want)
			var e *vlan.ConflictError
			require.ErrorAs(t, err, &e)
			require.Equal(t, "vm2", e.Port)
			require.Equal(t, "vm1", e.Other)
			require.Equal(t, c.vid, e.VLAN)
		}
		var a vlan.Associations
		_, err := a.Update(modes{"vm1": c.there})
		require.NoError(t, err)
		check(a.Update(modes{"vm2": c.comes}))

		var together vlan.Associations
		check(together.Update(modes{"vm1": c.there, "vm2": c.comes}))
		require.Nil(t, together.FIDs())

		_, err = a.Update(modes{"vm1": vlan.Untagged(), "vm2": c.comes})
		require.NoError(t, err, "when the other port goes")
	}
}

func TestPortsThatAgree(t *testing.T) {
	var a vlan.Associations
	_, err := a.Update(modes{
		"i1": vlan.Isolated(10, 20), "i2": vlan.Isolated(10, 20),
		"c1": vlan.Community(10, 21), "c2": vlan.Community(10, 21), "c3": vlan.Community(10, 22),
		"gw1": vlan.Promiscuous(10, set("20-23")), "gw2": vlan.Promiscuous(10, set("20")),
		"j": vlan.Isolated(11, 30),
		// These say nothing about private VLANs.
		"in10": vlan.Access(10), "in20": vlan.Access(20), "uplink": vlan.Trunk(10, vlan.AllIDs(), nil), "u": vlan.Untagged(),
	})
	require.NoError(t, err)
	for vid, want := range map[uint16]string{
		0: "none 0", 10: "primary 10", 20: "isolated 10", 21: "community 10", 22: "community 10", 23: "secondary 10",
		24: "none 0", 11: "primary 11", 30: "isolated 11", 4095: "none 0",
	} {
		role, primary := a.Role(vid)
		require.Equal(t, want, fmt.Sprint(role, primary), vid)
	}
	require.Equal(t, "role 9", vlan.Role(9).String())
}

func TestAConflictNamesTheFirstOfSeveralPorts(t *testing.T) {
	var a vlan.Associations
	ports := modes{}
	for i := range 20 {
		ports[fmt.Sprintf("vm%02d", i+5)] = vlan.Isolated(10, 20)
	}
	_, err := a.Update(ports)
	require.NoError(t, err)
	_, err = a.Update(modes{"new": vlan.Isolated(10, 21)})
	require.ErrorContains(t, err, `but has 20 at port "vm05"`)
}

func TestAPrivateVLANChangesItsIsolatedVLANAtOnce(t *testing.T) {
	var a vlan.Associations
	_, err := a.Update(modes{"vm1": vlan.Isolated(10, 20), "vm2": vlan.Isolated(10, 20)})
	require.NoError(t, err)
	_, err = a.Update(modes{"vm1": vlan.Isolated(10, 21)})
	require.Error(t, err, "vm2 has the other one still")
	moved, err := a.Update(modes{"vm1": vlan.Isolated(10, 21), "vm2": vlan.Isolated(10, 21)})
	require.NoError(t, err)
	require.Equal(t, []uint16{20, 21}, moved)
}

func TestAnUpdateWithAnInvalidModeChangesNothing(t *testing.T) {
	var a vlan.Associations
	_, err := a.Update(modes{"vm1": vlan.Community(10, 20), "vm2": vlan.Access(4095)})
	require.EqualError(t, err, `port "vm2": access: VLAN 4095 is out of 1–4094`)
	var e *vlan.ModeError
	require.ErrorAs(t, err, &e)
	role, _ := a.Role(20)
	require.Equal(t, vlan.RoleNone, role)
}

func TestSecondaryVLANsLearnWithTheirPrimary(t *testing.T) {
	var a vlan.Associations
	require.Nil(t, a.FIDs())
	require.Equal(t, uint16(20), a.FIDs().Of(20), "without private VLANs")

	moved, err := a.Update(modes{"vm1": vlan.Isolated(10, 20), "gw": vlan.Promiscuous(10, set("20-21"))})
	require.NoError(t, err)
	require.Equal(t, []uint16{20, 21}, moved)
	before := a.FIDs()
	for vid := range uint16(4096) {
		want := vid
		if vid == 20 || vid == 21 {
			want = 10
		}
		require.Equal(t, want, before.Of(vid))
	}
	require.Equal(t, uint16(10), before.Of(3<<13|20), "of a TCI")

	moved, err = a.Update(modes{"vm2": vlan.Isolated(10, 20)})
	require.NoError(t, err)
	require.Empty(t, moved, "is known")
	require.Same(t, before, a.FIDs())

	moved, err = a.Update(modes{"gw": {}, "vm3": vlan.Isolated(11, 21)})
	require.NoError(t, err)
	require.Equal(t, []uint16{21}, moved)
	require.Equal(t, uint16(11), a.FIDs().Of(21))
	require.Equal(t, uint16(10), before.Of(21), "never changes")

	moved, err = a.Update(modes{"vm1": {}})
	require.NoError(t, err)
	require.Empty(t, moved, "vm2 is there still")
	moved, err = a.Update(modes{"vm2": vlan.Access(20), "vm3": {}, "nobody": {}})
	require.NoError(t, err)
	require.Equal(t, []uint16{20, 21}, moved)
	require.Equal(t, uint16(20), a.FIDs().Of(20))

	moved, err = a.Update(modes{"vm1": vlan.Isolated(20, 10)})
	require.NoError(t, err, "the other way round")
	require.Equal(t, []uint16{10}, moved)
}

// consistent says whether ports contradict each other, by looking at all the VLANs of all of them.
func consistent(ports modes) bool {
	primaries := map[uint16]bool{}
	owners := map[uint16]map[uint16]bool{}
	kinds := map[uint16]map[vlan.Kind]bool{}
	isolated := map[uint16]map[uint16]bool{}
	note := func(s vlan.Spec, id uint16) {
		if owners[id] == nil {
			owners[id] = map[uint16]bool{}
			kinds[id] = map[vlan.Kind]bool{}
		}
		owners[id][s.Primary] = true
		if s.Kind != vlan.KindPromiscuous {
			kinds[id][s.Kind] = true
		}
	}
	for _, m := range ports {
		s := m.Spec()
		if s.Primary == 0 {
			continue
		}
		primaries[s.Primary] = true
		if s.Secondary != 0 {
			note(s, s.Secondary)
		}
		for id := range s.Secondaries.All() {
			note(s, id)
		}
		if s.Kind == vlan.KindIsolated {
			if isolated[s.Primary] == nil {
				isolated[s.Primary] = map[uint16]bool{}
			}
			isolated[s.Primary][s.Secondary] = true
		}
	}
	for id := range owners {
		if primaries[id] || len(owners[id]) > 1 || len(kinds[id]) > 1 {
			return false
		}
	}
	for _, ids := range isolated {
		if len(ids) > 1 {
			return false
		}
	}
	return true
}

// fids returns the FID of each secondary VLAN.
func fids(ports modes) map[uint16]uint16 {
	f := map[uint16]uint16{}
	for _, m := range ports {
		s := m.Spec()
		if s.Secondary != 0 {
			f[s.Secondary] = s.Primary
		}
		for id := range s.Secondaries.All() {
			f[id] = s.Primary
		}
	}
	return f
}

func TestRandomUpdatesKeepAssociationsConsistent(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	next := chance(r)
	accepted, refused := 0, 0
	for range 40 {
		var a vlan.Associations
		ports := modes{}
		for range 200 {
			change := modes{}
			for range 1 + r.IntN(4) {
				name := fmt.Sprintf("vm%d", r.IntN(8))
				change[name] = next.mode()
				if r.IntN(3) == 0 {
					change[name] = vlan.Mode{}
				}
			}
			after := maps.Clone(ports)
			maps.Copy(after, change)
			before := a.FIDs()
			moved, err := a.Update(change)
			if consistent(after) {
				require.NoError(t, err, "%v to %v", change, ports)
				var want []uint16
				for id := range uint16(4096) {
					if before.Of(id) != a.FIDs().Of(id) {
						want = append(want, id)
					}
				}
				require.Equal(t, want, moved)
				ports = after
				accepted++
			} else {
				var e *vlan.ConflictError
				require.ErrorAs(t, err, &e, "%v to %v", change, ports)
				require.Contains(t, change, e.Port)
				require.NotEqual(t, e.Port, e.Other)
				pair := modes{e.Port: change[e.Port], e.Other: after[e.Other]}
				require.False(t, consistent(pair), "%v: %v do not contradict each other", err, pair)
				require.Same(t, before, a.FIDs(), "is unchanged")
				refused++
			}
			want := fids(ports)
			for id := range uint16(4096) {
				primary, ok := want[id]
				if !ok {
					primary = id
				}
				if a.FIDs().Of(id) != primary {
					t.Fatalf("FID of %d is %d, want %d with %v", id, a.FIDs().Of(id), primary, ports)
				}
			}
			for _, id := range append(few, 0, 1007, 4095) {
				checkRole(t, &a, ports, id)
			}
		}
	}
	require.Greater(t, accepted, 1000)
	require.Greater(t, refused, 1000)
}

// checkRole compares the role of a VLAN with what the ports say.
func checkRole(t *testing.T, a *vlan.Associations, ports modes, id uint16) {
	t.Helper()
	wantRole, wantPrimary := vlan.RoleNone, uint16(0)
	for _, m := range ports {
		s := m.Spec()
		switch {
		case id == 0 || s.Primary == 0:
		case s.Primary == id:
			wantRole, wantPrimary = vlan.RolePrimary, id
		case s.Secondary == id && s.Kind == vlan.KindIsolated:
			wantRole, wantPrimary = vlan.RoleIsolated, s.Primary
		case s.Secondary == id:
			wantRole, wantPrimary = vlan.RoleCommunity, s.Primary
		case s.Secondaries.Has(id) && wantRole == vlan.RoleNone:
			wantRole, wantPrimary = vlan.RoleSecondary, s.Primary
		}
	}
	role, primary := a.Role(id)
	require.Equal(t, wantRole, role, "VLAN %d with %v", id, ports)
	require.Equal(t, wantPrimary, primary, "VLAN %d with %v", id, ports)
}
