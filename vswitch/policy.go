package vswitch

import (
	"fmt"
	"slices"

	"github.com/hvswitch/hvswitch/internal/guard"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// policy is what the guards and limits of a vNIC work with. State in it outlives changes of other
// settings.
type policy struct {
	guard       *guard.Program
	addresses   *guard.Limit
	storm       *guard.Storm
	connections *acl.State
	maximum     *maximum
	rss         *rss
}

// newPolicy returns the policy for c and mac, with the state of v where it still fits.
func (v *VNIC) newPolicy(c *VNICConfig, mac ports.MAC) (policy, error) {
	n := v.policy
	g := guard.Config{
		DHCP: c.DHCPGuard, Router: c.RouterGuard,
		Source: c.IPSourceGuard, Inspect: c.ARPInspection,
		MAC: mac, Addresses: c.Addresses, AnyLinkLocal: c.AnyLinkLocal,
	}
	if c.AllowSpoofing || c.GuestTeam != "" {
		g.MAC = ports.MAC{}
	}
	var err error
	if n.guard, err = guard.Compile(&g); err != nil {
		return n, fmt.Errorf("vNIC %q: %w: %w", v.name, err, ErrInvalid)
	}
	same := slices.Equal(c.Addresses, v.cfg.Addresses)
	if c.MaxDynamicAddresses != v.cfg.MaxDynamicAddresses || !same {
		n.addresses = nil
		if c.MaxDynamicAddresses != 0 {
			limit := guard.LimitConfig{Max: c.MaxDynamicAddresses, Static: c.Addresses}
			if n.addresses, err = guard.NewLimit(&limit); err != nil {
				return n, fmt.Errorf("vNIC %q: dynamic addresses: %w: %w", v.name, err, ErrInvalid)
			}
		}
	}
	if c.StormLimit != v.cfg.StormLimit {
		n.storm = guard.NewStorm(c.StormLimit, 0)
	}
	if c.Bandwidth.MaxRate != v.cfg.Bandwidth.MaxRate || c.Bandwidth.Burst != v.cfg.Bandwidth.Burst {
		n.maximum = newMaximum(c.Bandwidth)
	}
	if c.ACL != nil && n.connections == nil {
		n.connections = acl.NewState()
	}
	n.rss = v.newRSS(c.RSS)
	return n, nil
}

// Connections returns the counts of the connections that the ACL of the vNIC tracks.
func (v *VNIC) Connections() acl.Stats {
	v.host.mu.Lock()
	defer v.host.mu.Unlock()
	if v.policy.connections == nil {
		return acl.Stats{}
	}
	return v.policy.connections.Stats()
}

// Meters returns the readings of the meters of the vNIC's ACL, in the order of its rules.
func (v *VNIC) Meters() []acl.MeterReading {
	v.host.mu.Lock()
	defer v.host.mu.Unlock()
	if v.cfg.ACL == nil {
		return nil
	}
	return v.policy.connections.Meters(v.cfg.ACL)
}
