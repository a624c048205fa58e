package vlan_test

import (
	"fmt"
	"testing"

	"github.com/hvswitch/hvswitch/vlan"
)

func BenchmarkAdmit(b *testing.B) {
	for _, c := range []struct {
		name      string
		mode      vlan.Mode
		tpid, tci uint16
	}{
		{"untagged port", vlan.Untagged(), 0, 0},
		{"access port", vlan.Access(10), 0, 0},
		{"access port, priority tag", vlan.Access(10), vlan.TPID8021Q, 5 << 13},
		{"isolated port", vlan.Isolated(10, 20), 0, 0},
		{"trunk, tagged", vlan.Trunk(5, vlan.AllIDs(), nil), vlan.TPID8021Q, 10},
		{"trunk, native", vlan.Trunk(5, vlan.AllIDs(), nil), 0, 0},
		{"access port, refused", vlan.Access(10), vlan.TPID8021Q, 20},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var sum uint16
			for b.Loop() {
				tci, drop := c.mode.Admit(c.tpid, c.tci, false)
				sum += tci + uint16(drop)
			}
			sink = sum
		})
	}
}

func BenchmarkDeliver(b *testing.B) {
	for _, c := range []struct {
		name string
		mode vlan.Mode
		tci  uint16
	}{
		{"untagged port", vlan.Untagged(), 0},
		{"access port", vlan.Access(10), 10},
		{"community port", vlan.Community(10, 20), 20},
		{"promiscuous port", vlan.Promiscuous(10, set("2-9,11-4094")), 20},
		{"trunk, tagged", vlan.Trunk(5, vlan.AllIDs(), nil), 10},
		{"trunk, native", vlan.Trunk(5, vlan.AllIDs(), nil), 5},
		{"isolated port, refused", vlan.Isolated(10, 20), 20},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var sum uint16
			for b.Loop() {
				tpid, tci, drop := c.mode.Deliver(c.tci, false)
				sum += tpid + tci + uint16(drop)
			}
			sink = sum
		})
	}
}

var sink uint16

// A change of one port takes as long among 10,000 others in private VLANs as among ten.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("%d ports", n), func(b *testing.B) {
			var a vlan.Associations
			ports := map[string]vlan.Mode{}
			for i := range n {
				ports[fmt.Sprint("vm", i)] = vlan.Community(10, uint16(20+i%1000))
			}
			if _, err := a.Update(ports); err != nil {
				b.Fatal(err)
			}
			change := map[string]vlan.Mode{"vm3": {}}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				change["vm3"] = vlan.Community(10, uint16(3000+i%2))
				if _, err := a.Update(change); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFID(b *testing.B) {
	var a vlan.Associations
	if _, err := a.Update(map[string]vlan.Mode{"vm": vlan.Isolated(10, 20)}); err != nil {
		b.Fatal(err)
	}
	fids := a.FIDs()
	var sum uint16
	for b.Loop() {
		sum += fids.Of(20)
	}
	sink = sum
}
