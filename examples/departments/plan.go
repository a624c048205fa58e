package main

import (
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/vlan"
)

// Hosts of the plan, and the physical switch.
const (
	host1 = "host1"
	host2 = "host2"
	lan   = "lan"
)

// Switches of a host.
const (
	vms  = "vms"  // external, of the VMs; its uplink is a trunk
	mgmt = "mgmt" // external, of the host itself, on a NIC of its own
	rnd  = "rnd"  // private
)

// VLANs of the departments, and of the hosts' management on the physical LAN.
const (
	sales      uint16 = 2
	finance    uint16 = 3
	hr         uint16 = 4
	management uint16 = 9

	trunkVLANs = "2-4"
)

// place says where a machine is plugged in.
type place struct {
	machine      string
	host, sw     string // the switch lan on the host lan is the physical one
	vlan         vlan.Mode
	ofManagement bool
}

// plan returns where all machines are plugged in.
func plan() []place {
	return []place{
		{machine: "sales-1", host: host1, sw: vms, vlan: vlan.Access(sales)},
		{machine: "sales-2", host: host2, sw: vms, vlan: vlan.Access(sales)},
		{machine: "sales-srv", host: lan, sw: lan, vlan: vlan.Access(sales)},
		{machine: "finance-1", host: host1, sw: vms, vlan: vlan.Access(finance)},
		{machine: "finance-2", host: host2, sw: vms, vlan: vlan.Access(finance)},
		{machine: "finance-srv", host: lan, sw: lan, vlan: vlan.Access(finance)},
		{machine: "hr-1", host: host1, sw: vms, vlan: vlan.Access(hr)},
		{machine: "hr-2", host: host2, sw: vms, vlan: vlan.Access(hr)},
		{machine: "hr-srv", host: lan, sw: lan, vlan: vlan.Access(hr)},
		{machine: "rnd-1", host: host1, sw: rnd},
		{machine: "rnd-2", host: host1, sw: rnd},
		{machine: "host-1", host: host1, sw: mgmt, ofManagement: true},
		{machine: "host-2", host: host2, sw: mgmt, ofManagement: true},
		{machine: "admin", host: lan, sw: lan, vlan: vlan.Access(management)},
	}
}

// requirement is what the plan is to achieve. It says nothing of how.
type requirement struct {
	groups [][]string    // of machines that reach one another, and nobody else
	within time.Duration // what an answer may take; much, as the computer may be busy
	trunk  vlan.Set      // the VLANs seen on each trunk
}

func policy() requirement {
	return requirement{
		groups: [][]string{
			{"sales-1", "sales-2", "sales-srv"},
			{"finance-1", "finance-2", "finance-srv"},
			{"hr-1", "hr-2", "hr-srv"},
			{"rnd-1", "rnd-2"},
			{"host-1", "host-2", "admin"},
		},
		within: 12 * time.Second,
		trunk:  vlan.MustParseSet(trunkVLANs),
	}
}

// reach reports whether two machines are to reach each other.
func (r requirement) reach(a, b string) bool {
	return slices.ContainsFunc(r.groups, func(g []string) bool {
		return slices.Contains(g, a) && slices.Contains(g, b)
	})
}
