package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/overlay"
)

// policy returns the networks of the plan: subnets, their prefixes, and where VMs are.
func (l *lab) policy() (all []overlay.Change) {
	for _, s := range l.plan.subnets {
		all = append(all, overlay.Change{Subnet: &overlay.Subnet{VSID: s.vsid, RDID: s.of.rdid}})
		for _, p := range s.prefixes {
			all = append(all, overlay.Change{Route: &overlay.CustomerRoute{RDID: s.of.rdid, VSID: s.vsid, Destination: p}})
		}
	}
	for _, v := range l.plan.vms {
		all = append(all, l.records(v)...)
	}
	return all
}

// records returns the lookup records of a VM: where each of its addresses is.
func (l *lab) records(v *vm) (all []overlay.Change) {
	for _, ca := range v.cas {
		all = append(all, overlay.Change{Record: &overlay.LookupRecord{
			VSID: v.in.vsid, CA: ca.Addr(), MAC: v.mac, PA: providerAddress(v.host).Addr(), Rule: l.encapsulation,
		}})
	}
	return all
}

// follow makes a host follow the networks of tenants.
func (h *host) follow(scope []*tenant) {
	var ids []overlay.RDID
	for _, t := range scope {
		ids = append(ids, t.rdid)
	}
	h.scope = scope
	h.follower.SetScope(ids...)
}

// policyPatience is what the policy may take to arrive.
const policyPatience = 30 * time.Second

// awaitPolicy waits until each of some hosts has the records of the networks that it follows, and no others.
func (l *lab) awaitPolicy(ctx context.Context, hosts ...*host) error {
	ctx, cancel := context.WithTimeout(ctx, policyPatience)
	defer cancel()
	for {
		err := l.policyDiffers(hosts...)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// policyDiffers says which host has other records than it is to have.
func (l *lab) policyDiffers(hosts ...*host) error {
	for _, h := range hosts {
		want := map[overlay.LookupRecord]bool{}
		for _, v := range l.plan.vms {
			if !slices.Contains(h.scope, v.in.of) {
				continue
			}
			for _, c := range l.records(v) {
				want[*c.Record] = true
			}
		}
		n := 0
		for r := range h.engine.Records() {
			n++
			if !want[r] {
				return fmt.Errorf("%s has a record of %s in VSID %s on %s that it is not to have", h.name, r.CA, r.VSID, r.PA)
			}
		}
		if n != len(want) {
			return fmt.Errorf("%s has %d of %d records", h.name, n, len(want))
		}
	}
	return nil
}
