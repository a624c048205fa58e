package vswitch_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/vswitch"
)

// A host whose policy is old hears from the old host of a VM where it is, or that it is nowhere.
func TestHostIsToldThatAVMHasMoved(t *testing.T) {
	for _, gone := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			c := newCloud(t)
			c.subnet(red, 5001, "10.0.0.0/24")
			a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(1, "b", 5001, "10.0.0.12")
			c.introduce(0)
			a.says(b, "hello")
			require.Equal(t, []string{"hello"}, b.hears())

			require.NoError(t, b.vnic.Close())
			moved := overlay.Change{Record: &overlay.LookupRecord{VSID: 5001, CA: b.ca, MAC: b.mac, PA: paOf(3)}, Delete: gone}
			require.NoError(t, c.nodes[1].engine.Apply([]overlay.Change{moved}))
			a.says(b, "are you there?")
			a.lab.settle()
			told := uplinkDrops(c.nodes[0])
			require.Equal(t, map[vswitch.DropReason]uint64{vswitch.DropAnswered: 1}, told)
			require.Equal(t, map[vswitch.DropReason]uint64{vswitch.DropNotHere: 1}, uplinkDrops(c.nodes[1]))
			r, ok := c.nodes[0].engine.Lookup(5001, b.ca)
			require.Equal(t, !gone, ok)
			if ok {
				require.Equal(t, paOf(3), r.PA)
			}
		})
	}
}

// uplinkDrops returns what the uplink of a host has dropped.
func uplinkDrops(n *node) map[vswitch.DropReason]uint64 {
	for _, p := range n.sw().Stats().Ports {
		if p.Port == "eth0" {
			return p.Drops
		}
	}
	return nil
}
