package vswitch

import (
	"fmt"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/vlan"
)

// expireOverlay is after how many turns of housekeeping overlays forget what they have learned and not seen
// again.
const expireOverlay = 5

// checkOverlay says what is wrong with the overlay of a switch.
func (s *Switch) checkOverlay(c *SwitchConfig) error {
	if c.Overlay == nil {
		for _, v := range sortedByName(s.host.vnics) {
			if v.cfg.VSID != 0 && v.port != nil && v.port.sw == s {
				return fmt.Errorf("switch %q: Overlay: vNIC %q with VSID %s needs it: %w", s.name, v.name, v.cfg.VSID, ErrInUse)
			}
		}
		return nil
	}
	if c.Type != External {
		return fmt.Errorf("switch %q: Overlay: a switch of type %s has none, as it has no uplink: %w", s.name, c.Type, ErrInvalid)
	}
	for _, o := range sortedByName(s.host.switches) {
		if o != s && o.cfg.Overlay == c.Overlay {
			return fmt.Errorf("switch %q: Overlay: the engine is that of switch %q: %w", s.name, o.name, ErrInUse)
		}
	}
	return nil
}

// checkOverlay says what is wrong with the virtual subnet of a vNIC.
func (v *VNIC) checkOverlay(c *VNICConfig) error {
	if c.VSID == 0 {
		return nil
	}
	if !c.VSID.IsValid() {
		return fmt.Errorf("vNIC %q: VSID %s is out of %s–%s: %w", v.name, c.VSID, overlay.MinVSID, overlay.MaxVSID, ErrInvalid)
	}
	if c.VLAN.Kind() != vlan.KindUntagged {
		return fmt.Errorf("vNIC %q: VSID %s does not go with VLAN %s, which must be untagged: %w", v.name, c.VSID, c.VLAN, ErrInvalid)
	}
	joins := v.cfg.VSID == 0 || c.Switch != v.cfg.Switch
	if s := v.host.switches[c.Switch]; s != nil && joins && s.cfg.Overlay == nil {
		return fmt.Errorf("switch %q: vNIC %q: VSID %s: the switch has no Overlay: %w", s.name, v.name, c.VSID, ErrInvalid)
	}
	return nil
}

// joinOverlay gives a vNIC that is about to be connected its place in its virtual subnet.
func (s *Switch) joinOverlay(v *portView) error {
	if v.vsid == 0 {
		return nil
	}
	var err error
	v.tenant, err = s.overlay.add(v)
	return err
}

func (o *overlayOf) add(v *portView) (*overlay.Port, error) {
	p, err := o.engine.AddPort(overlay.PortConfig{ID: v.index, VSID: v.vsid, MAC: storeMAC(v.mac)})
	if err != nil {
		return nil, fmt.Errorf("overlay: %w: %w", err, ErrInvalid)
	}
	return p, nil
}

// rejoinOverlay gives a vNIC with new settings its place, which is that of the old ones if it can be.
func (s *Switch) rejoinOverlay(v, old *portView) error {
	if v.vsid == old.vsid && v.mac == old.mac {
		v.tenant = old.tenant
		return nil
	}
	return s.joinOverlay(v)
}

// leaveOverlay gives up the place of a vNIC whose frames nobody forwards any more.
func (v *portView) leaveOverlay() {
	if v.tenant != nil {
		v.tenant.Close()
	}
}

// overlayChange is another engine for a switch.
type overlayChange struct {
	s        *Switch
	old, new *overlayOf
	// The places of its vNICs, by index of the port.
	left, joined map[int]*overlay.Port
}

// changeOverlay prepares another engine, or does nothing when it is the same.
func (s *Switch) changeOverlay(e *overlay.Engine) (*overlayChange, error) {
	c := &overlayChange{s: s, old: s.overlay, new: s.overlay, left: map[int]*overlay.Port{}, joined: map[int]*overlay.Port{}}
	if c.old == nil && e == nil || c.old != nil && c.old.engine == e {
		return c, nil
	}
	c.new = nil
	if e != nil {
		c.new = &overlayOf{e, make([]*overlay.Worker, len(s.host.workers))}
	}
	for v := range s.snap.Load().ports.all() {
		if v.vsid == 0 {
			continue
		}
		p, err := c.new.add(v)
		if err != nil {
			closeAll(c.joined)
			return nil, fmt.Errorf("switch %q: Overlay: vNIC %q: %w", s.name, v.name, err)
		}
		c.left[v.index], c.joined[v.index] = v.tenant, p
	}
	return c, nil
}

// apply makes frames go through the new engine.
func (c *overlayChange) apply() { c.use(c.new, c.joined) }

// revert undoes apply and what was prepared.
func (c *overlayChange) revert() {
	c.use(c.old, c.left)
	closeAll(c.joined)
}

// retire gives up the places in the old engine.
func (c *overlayChange) retire() { closeAll(c.left) }

func closeAll(all map[int]*overlay.Port) {
	for _, p := range all {
		p.Close()
	}
}

func (c *overlayChange) use(o *overlayOf, tenants map[int]*overlay.Port) {
	s := c.s
	if o == s.overlay {
		return
	}
	s.overlay = o
	snap := s.snap.Load()
	for old := range snap.ports.all() {
		if old.vsid == 0 && old.mac != 0 {
			continue
		}
		v := *old
		v.tenant = tenants[v.index]
		s.compile(&v)
		snap = snap.with(&v)
	}
	s.publish(snap, nil)
	s.host.synchronize()
}

// expireOverlay makes the overlay forget what has aged.
func (s *Switch) expireOverlay() {
	s.host.mu.Lock()
	o := s.overlay
	s.host.mu.Unlock()
	if o != nil {
		o.engine.Expire(s.host.clock())
	}
}
