package vlan_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
)

func TestDeliver(t *testing.T) {
	var (
		untagged    = vlan.Untagged()
		access      = vlan.Access(10)
		native      = vlan.Trunk(5, set("10-11"), nil)
		nativeToo   = vlan.Trunk(10, set("10-11"), nil)
		uplink      = vlan.Trunk(0, vlan.AllIDs(), &vlan.TrunkOptions{Untagged: true})
		qinq        = vlan.Trunk(10, set("10-11"), &vlan.TrunkOptions{QinQ: true})
		qinqNative  = vlan.Trunk(5, set("10-11"), &vlan.TrunkOptions{QinQ: true})
		isolated    = vlan.Isolated(10, 20)
		community   = vlan.Community(10, 21)
		promiscuous = vlan.Promiscuous(10, set("20-21"))
	)
	for _, c := range []struct {
		name   string
		mode   vlan.Mode
		tci    uint16
		nested bool
		tpid   uint16
		want   uint16
		drop   vlan.Drop
	}{
		{"the untagged VLAN at untagged", untagged, tci(0, 7, true), false, 0, 0, 0},
		{"a VLAN at untagged", untagged, 1, false, 0, 0, vlan.DropNotMember},
		{"its VLAN at access", access, tci(10, 7, true), false, 0, 0, 0},
		{"another VLAN at access", access, 11, false, 0, 0, vlan.DropNotMember},
		{"the untagged VLAN at access", access, 0, false, 0, 0, vlan.DropNotMember},
		{"a tag within its VLAN at access", access, 10, true, 0, 0, vlan.DropNested},
		{"a tag within another VLAN at access", access, 11, true, 0, 0, vlan.DropNotMember},

		{"primary at isolated", isolated, 10, false, 0, 0, 0},
		{"its secondary at isolated", isolated, 20, false, 0, 0, vlan.DropNotMember},
		{"a community at isolated", isolated, 21, false, 0, 0, vlan.DropNotMember},
		{"a tag within primary at isolated", isolated, 10, true, 0, 0, vlan.DropNested},
		{"primary at community", community, 10, false, 0, 0, 0},
		{"its secondary at community", community, 21, false, 0, 0, 0},
		{"another secondary at community", community, 20, false, 0, 0, vlan.DropNotMember},
		{"primary at promiscuous", promiscuous, 10, false, 0, 0, 0},
		{"listed at promiscuous", promiscuous, tci(21, 6, false), false, 0, 0, 0},
		{"not listed at promiscuous", promiscuous, 22, false, 0, 0, vlan.DropNotMember},
		{"a tag within listed at promiscuous", promiscuous, 21, true, 0, 0, vlan.DropNested},

		{"allowed at trunk", native, tci(10, 7, true), false, q, tci(10, 7, true), 0},
		{"not allowed at trunk", native, 12, false, 0, 0, vlan.DropNotMember},
		{"native at trunk", native, tci(5, 7, true), false, 0, 0, 0},
		{"native at trunk that allows it", nativeToo, 10, false, 0, 0, 0},
		{"a tag within native at trunk", native, 5, true, 0, 0, vlan.DropNested},
		{"a tag within native at trunk that allows it", nativeToo, 10, true, 0, 0, vlan.DropNested},
		{"a tag within allowed at trunk", native, 10, true, 0, 0, vlan.DropNested},
		{"the untagged VLAN at trunk", native, 0, false, 0, 0, vlan.DropNotMember},
		{"the untagged VLAN at uplink", uplink, tci(0, 3, false), false, 0, 0, 0},
		{"a tag within the untagged VLAN at uplink", uplink, 0, true, 0, 0, vlan.DropNested},
		{"last at uplink", uplink, 4094, false, q, 4094, 0},
		{"reserved at uplink", uplink, 4095, false, 0, 0, vlan.DropNotMember},

		{"allowed at QinQ", qinq, 11, false, ad, 11, 0},
		{"native at QinQ", qinq, 10, false, 0, 0, 0},
		{"a tag within allowed at QinQ", qinq, 11, true, ad, 11, 0},
		{"a tag within native at QinQ that allows it", qinq, tci(10, 2, true), true, ad, tci(10, 2, true), 0},
		{"a tag within native at QinQ that allows no such tag", qinqNative, 5, true, 0, 0, vlan.DropNested},
	} {
		tpid, got, drop := c.mode.Deliver(c.tci, c.nested)
		require.Equal(t, c.drop.String(), drop.String(), c.name)
		require.Equal(t, c.tpid, tpid, c.name)
		require.Equal(t, c.want, got, c.name)
		if !c.nested {
			require.Equal(t, drop == 0, c.mode.Receives(vlan.VID(c.tci)), c.name)
		}
	}
}
