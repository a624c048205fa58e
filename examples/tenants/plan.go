package main

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
)

// tenant has one virtual network.
type tenant struct {
	name string
	rdid overlay.RDID
}

// subnet is a virtual subnet of a tenant.
type subnet struct {
	of       *tenant
	name     string
	vsid     overlay.VSID
	prefixes []netip.Prefix // that of another tenant may be the same
}

// vm is a virtual machine of the plan.
type vm struct {
	name string
	in   *subnet
	mac  ports.MAC
	cas  []netip.Prefix // one address of each prefix of the subnet
	host int            // from 0
}

// plan says who is where.
type plan struct {
	hosts   int
	tenants []*tenant
	subnets []*subnet
	vms     []*vm
}

// newPlan gives red and blue the same subnets, with VMs on at least two hosts each. The more hosts, the more VMs:
// each host has one at least.
func newPlan(hosts int) *plan {
	p := &plan{hosts: hosts, tenants: []*tenant{{"red", overlay.RDID{0xed}}, {"blue", overlay.RDID{0xb1}}}}
	step := (hosts + 3) / 4
	for t, of := range p.tenants {
		for i, name := range []string{"web", "db"} {
			s := &subnet{of: of, name: name, vsid: overlay.VSID(5001 + 1000*t + i), prefixes: []netip.Prefix{
				netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24),
				netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(i)}), 64),
			}}
			p.subnets = append(p.subnets, s)
			first := 11
			if of.name == "blue" && name == "db" {
				first++ // so some addresses are of one tenant alone
			}
			for n := range max(2, step) {
				p.vms = append(p.vms, newVM(s, n+1, first+n, (n+(2*i+t)*step)%hosts))
			}
		}
	}
	return p
}

// newVM plans the n-th VM of a subnet, with a number below 100 that its addresses end in.
func newVM(s *subnet, n, number, host int) *vm {
	v := &vm{name: fmt.Sprintf("%s-%s%d", s.of.name, s.name, n), in: s, host: host}
	v.mac = ports.MAC{2, 0, 0, byte(s.vsid >> 8), byte(s.vsid), byte(number)}
	for _, p := range s.prefixes {
		a := p.Addr().AsSlice()
		a[len(a)-1] = byte(number)
		if p.Addr().Is6() {
			a[len(a)-1] = byte(number/10<<4 | number%10) // reads the same
		}
		ca, _ := netip.AddrFromSlice(a)
		v.cas = append(v.cas, netip.PrefixFrom(ca, p.Bits()))
	}
	return v
}

// has reports whether an address is one of the VM.
func (v *vm) has(ca netip.Addr) bool {
	return slices.ContainsFunc(v.cas, func(p netip.Prefix) bool { return p.Addr() == ca })
}

// addresses returns all customer addresses, each once, however many VMs have it.
func (p *plan) addresses() (all []netip.Addr) {
	for _, v := range p.vms {
		for _, ca := range v.cas {
			all = append(all, ca.Addr())
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// at returns the VMs on a host.
func (p *plan) at(host int) (all []*vm) {
	for _, v := range p.vms {
		if v.host == host {
			all = append(all, v)
		}
	}
	return all
}

// scope returns the tenants that have VMs on a host.
func (p *plan) scope(host int) (all []*tenant) {
	for _, t := range p.tenants {
		if slices.ContainsFunc(p.at(host), func(v *vm) bool { return v.in.of == t }) {
			all = append(all, t)
		}
	}
	return all
}

// requirement is what the plan is to achieve. It says nothing of how.
type requirement struct {
	groups [][]string    // of VMs that reach one another, and nobody else
	within time.Duration // what an answer may take; much, as the computer may be busy
	inVain time.Duration // what a VM waits for an answer that must not come
}

// tenantsApart requires that the VMs of a tenant reach one another, across subnets and hosts, and no others.
func (p *plan) tenantsApart() requirement {
	r := requirement{within: 20 * time.Second, inVain: time.Second}
	for _, t := range p.tenants {
		var group []string
		for _, v := range p.vms {
			if v.in.of == t {
				group = append(group, v.name)
			}
		}
		r.groups = append(r.groups, group)
	}
	return r
}

// reach reports whether two VMs are to reach each other.
func (r requirement) reach(a, b *vm) bool {
	return slices.ContainsFunc(r.groups, func(g []string) bool {
		return slices.Contains(g, a.name) && slices.Contains(g, b.name)
	})
}
