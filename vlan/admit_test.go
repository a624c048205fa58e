package vlan_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
)

const (
	q  = vlan.TPID8021Q
	ad = vlan.TPID8021AD
)

// tci returns tag control information with a priority.
func tci(vid uint16, pcp uint8, dei bool) uint16 {
	return vlan.Tag{VID: vid, PCP: pcp, DEI: dei}.TCI()
}

func TestAdmit(t *testing.T) {
	var (
		untagged    = vlan.Untagged()
		access      = vlan.Access(10)
		native      = vlan.Trunk(5, set("10-11"), nil)
		nativeToo   = vlan.Trunk(10, set("10-11"), nil)
		tagsOnly    = vlan.Trunk(0, set("10-11"), nil)
		uplink      = vlan.Trunk(0, vlan.AllIDs(), &vlan.TrunkOptions{Untagged: true})
		qinq        = vlan.Trunk(10, set("10-11"), &vlan.TrunkOptions{QinQ: true})
		qinqQ       = vlan.Trunk(0, set("10-11"), &vlan.TrunkOptions{QinQ: true, TPID: q})
		service     = vlan.Trunk(0, set("10-11"), &vlan.TrunkOptions{TPID: ad})
		isolated    = vlan.Isolated(10, 20)
		community   = vlan.Community(10, 21)
		promiscuous = vlan.Promiscuous(10, set("20-21"))
	)
	prio := tci(0, 5, true)
	for _, c := range []struct {
		name   string
		mode   vlan.Mode
		tpid   uint16
		tci    uint16
		nested bool
		want   uint16
		drop   vlan.Drop
	}{
		{"untagged at untagged", untagged, 0, 0, false, 0, 0},
		{"priority at untagged", untagged, q, prio, false, prio, 0},
		{"tag at untagged", untagged, q, 10, false, 0, vlan.DropTagged},
		{"reserved at untagged", untagged, q, 4095, false, 0, vlan.DropTagged},
		{"service tag at untagged", untagged, ad, 10, false, 0, vlan.DropTagged},
		{"service priority at untagged", untagged, ad, 0, false, 0, vlan.DropTagged},
		{"strange tag at untagged", untagged, 0x9100, 0, false, 0, vlan.DropTagged},
		{"two tags at untagged", untagged, q, 10, true, 0, vlan.DropTagged},
		{"tag behind priority at untagged", untagged, q, 0, true, 0, vlan.DropNested},
		{"unread tag at untagged", untagged, 0, 0, true, 0, vlan.DropNested},

		{"untagged at access", access, 0, 0, false, 10, 0},
		{"TCI of no tag at access", access, 0, 0xffff, false, 10, 0},
		{"priority at access", access, q, prio, false, tci(10, 5, true), 0},
		{"its own tag at access", access, q, 10, false, 0, vlan.DropTagged},
		{"another tag at access", access, q, 11, false, 0, vlan.DropTagged},
		{"its own tag and another at access", access, q, 10, true, 0, vlan.DropTagged},
		{"tag behind priority at access", access, q, prio, true, 0, vlan.DropNested},

		{"untagged at isolated", isolated, 0, 0, false, 20, 0},
		{"priority at isolated", isolated, q, prio, false, tci(20, 5, true), 0},
		{"primary tag at isolated", isolated, q, 10, false, 0, vlan.DropTagged},
		{"secondary tag at isolated", isolated, q, 20, false, 0, vlan.DropTagged},
		{"untagged at community", community, 0, 0, false, 21, 0},
		{"primary tag at community", community, q, 10, false, 0, vlan.DropTagged},
		{"untagged at promiscuous", promiscuous, 0, 0, false, 10, 0},
		{"priority at promiscuous", promiscuous, q, prio, false, tci(10, 5, true), 0},
		{"secondary tag at promiscuous", promiscuous, q, 20, false, 0, vlan.DropTagged},
		{"two tags at promiscuous", promiscuous, q, 20, true, 0, vlan.DropTagged},

		{"untagged at trunk", native, 0, 0, false, 5, 0},
		{"priority at trunk", native, q, prio, false, tci(5, 5, true), 0},
		{"allowed at trunk", native, q, tci(10, 7, true), false, tci(10, 7, true), 0},
		{"not allowed at trunk", native, q, 12, false, 0, vlan.DropNotAllowed},
		{"native tag at trunk that allows no such tag", native, q, 5, false, 0, vlan.DropNotAllowed},
		{"native tag at trunk that allows it", nativeToo, q, tci(10, 1, false), false, tci(10, 1, false), 0},
		{"native tag and another at trunk", nativeToo, q, 10, true, 0, vlan.DropNested},
		{"reserved at trunk", native, q, 4095, false, 0, vlan.DropReserved},
		{"two tags at trunk", native, q, 10, true, 0, vlan.DropNested},
		{"tag behind priority at trunk", native, q, prio, true, 0, vlan.DropNested},
		{"unread tag at trunk", native, 0, 0, true, 0, vlan.DropNested},
		{"service tag at trunk", native, ad, 10, false, 0, vlan.DropTPID},
		{"service priority at trunk", native, ad, 0, false, 0, vlan.DropTPID},
		{"strange tag at trunk", native, 0x9100, 10, false, 0, vlan.DropTPID},

		{"untagged at trunk without native", tagsOnly, 0, 0, false, 0, vlan.DropUntagged},
		{"priority at trunk without native", tagsOnly, q, prio, false, 0, vlan.DropUntagged},
		{"allowed at trunk without native", tagsOnly, q, 10, false, 10, 0},

		{"untagged at uplink", uplink, 0, 0, false, 0, 0},
		{"priority at uplink", uplink, q, prio, false, prio, 0},
		{"first at uplink", uplink, q, 1, false, 1, 0},
		{"last at uplink", uplink, q, 4094, false, 4094, 0},
		{"reserved at uplink", uplink, q, 4095, false, 0, vlan.DropReserved},
		{"two tags at uplink", uplink, q, 10, true, 0, vlan.DropNested},

		{"service tag at QinQ", qinq, ad, 11, false, 11, 0},
		{"service tag and another at QinQ", qinq, ad, tci(11, 3, false), true, tci(11, 3, false), 0},
		{"native service tag and another at QinQ", qinq, ad, 10, true, 10, 0},
		{"service tag not allowed at QinQ", qinq, ad, 12, true, 0, vlan.DropNotAllowed},
		{"reserved service tag at QinQ", qinq, ad, 4095, true, 0, vlan.DropReserved},
		{"tag behind service priority at QinQ", qinq, ad, prio, true, 0, vlan.DropNested},
		{"service priority at QinQ", qinq, ad, prio, false, tci(10, 5, true), 0},
		{"customer tag at QinQ", qinq, q, 11, false, 0, vlan.DropTPID},
		{"customer tag and another at QinQ", qinq, q, 11, true, 0, vlan.DropTPID},
		{"untagged at QinQ", qinq, 0, 0, false, 10, 0},
		{"two customer tags at QinQ by customer tags", qinqQ, q, 11, true, 11, 0},
		{"service tag at QinQ by customer tags", qinqQ, ad, 11, true, 0, vlan.DropTPID},
		{"service tag at trunk by service tags", service, ad, 11, false, 11, 0},
		{"service tag and another at trunk by service tags", service, ad, 11, true, 0, vlan.DropNested},
	} {
		got, drop := c.mode.Admit(c.tpid, c.tci, c.nested)
		require.Equal(t, c.drop.String(), drop.String(), c.name)
		require.Equal(t, c.want, got, c.name)
	}
}
