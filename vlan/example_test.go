package vlan_test

import (
	"encoding/json"
	"fmt"

	"github.com/hvswitch/hvswitch/vlan"
)

// A virtual machine in VLAN 10 sends an untagged frame, which leaves at the uplink with a tag.
func Example() {
	vm := vlan.Access(10)
	uplink := vlan.Trunk(0, vlan.AllIDs(), &vlan.TrunkOptions{Untagged: true})

	tci, drop := vm.Admit(0, 0, false)
	if drop != 0 {
		panic(drop)
	}
	tpid, out, drop := uplink.Deliver(tci, false)
	fmt.Printf("%#04x %+v %v\n", tpid, vlan.TagOf(out), drop == 0)

	// A tag is no way into another VLAN.
	_, drop = vm.Admit(vlan.TPID8021Q, 20, false)
	fmt.Println("VLAN 20:", drop)
	// Output:
	// 0x8100 {VID:10 PCP:0 DEI:false} true
	// VLAN 20: tagged
}

// Tenants see the gateway, not each other.
func ExampleIsolated() {
	tenant1, tenant2 := vlan.Isolated(10, 200), vlan.Isolated(10, 200)
	gateway := vlan.Promiscuous(10, vlan.MustParseSet("200-201"))

	reaches := func(from, to vlan.Mode) bool {
		tci, drop := from.Admit(0, 0, false)
		if drop == 0 {
			_, _, drop = to.Deliver(tci, false)
		}
		return drop == 0
	}
	fmt.Println(reaches(tenant1, gateway), reaches(gateway, tenant1), reaches(tenant1, tenant2))
	// Output: true true false
}

func ExampleParseSet() {
	s, err := vlan.ParseSet("10,2-4")
	fmt.Println(s, s.Len(), err)
	_, err = vlan.ParseSet("2-4,4095")
	fmt.Println(err)
	// Output:
	// 2-4,10 4 <nil>
	// VLAN list: "4095" at character 5: VLAN 4095 is out of 1–4094
}

func ExampleMode_json() {
	var m vlan.Mode
	err := json.Unmarshal([]byte(`{"mode":"trunk","native":5,"allowed":"2-4,10"}`), &m)
	fmt.Println(m, err)
	// Output: trunk(native 5, allowed 2-4,10) <nil>
}

func ExampleAssociations() {
	var a vlan.Associations
	if _, err := a.Update(map[string]vlan.Mode{"vm1": vlan.Isolated(10, 200)}); err != nil {
		panic(err)
	}
	fmt.Println("VLAN 200 learns in", a.FIDs().Of(200))
	_, err := a.Update(map[string]vlan.Mode{"vm2": vlan.Isolated(10, 201)})
	fmt.Println(err)
	// Output:
	// VLAN 200 learns in 10
	// port "vm2": primary VLAN 10 is to have the isolated VLAN 201, but has 200 at port "vm1"
}
