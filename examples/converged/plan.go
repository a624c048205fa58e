package main

import (
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
)

// class is traffic that has a share of the uplink.
type class struct {
	name   string
	weight int
	vnics  []vnic
}

type vnic struct {
	name string
	vid  uint16
	host bool // of the host itself
}

const theVMs = "VMs" // the class of all vNICs without a weight

func classes() []class {
	return []class{
		{"management", 20, []vnic{{"mgmt", 10, true}}},
		{"migration", 50, []vnic{{"migration", 20, true}}},
		{"cluster", 30, []vnic{{"cluster", 30, true}}},
		{theVMs, 100, []vnic{{"vm1", 101, false}, {"vm2", 102, false}}},
	}
}

// config returns what the vNIC of a class is set to.
func (c *class) config(v vnic) *vswitch.VNICConfig {
	cfg := &vswitch.VNICConfig{Switch: switchName, Management: v.host, VLAN: vlan.Access(v.vid)}
	if c.name != theVMs {
		cfg.Bandwidth.MinWeight = c.weight
	}
	return cfg
}

// chapter is some seconds in which the same happens.
type chapter struct {
	title   string
	senders []string // classes
	pulled  []int    // NICs without a cable
	seconds int
}

const (
	settling = 300 * time.Millisecond
	patience = 20 * time.Second
)

func story() []chapter {
	all := []string{"management", "migration", "cluster", theVMs}
	return []chapter{
		{"All want everything", all, nil, 3},
		{"The VMs are quiet", all[:3], nil, 3},
		{"The migration is over", []string{"management", "cluster"}, nil, 3},
		{"Only the VMs are left", []string{theVMs}, nil, 2},
		{"All want everything, and the cable of eth1 is pulled", all, []int{1}, 3},
		{"It is plugged in again", all, nil, 3},
	}
}

// shares returns what each class is to have of the uplink while some send, in percent.
func shares(all []class, senders []string) (percent []float64) {
	sum := 0
	for _, c := range all {
		if slices.Contains(senders, c.name) {
			sum += c.weight
		}
	}
	for _, c := range all {
		p := 0.0
		if slices.Contains(senders, c.name) {
			p = 100 * float64(c.weight) / float64(sum)
		}
		percent = append(percent, p)
	}
	return percent
}
