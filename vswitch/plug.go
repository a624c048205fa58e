package vswitch

import (
	"fmt"
	"slices"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// uplinkMode is that of every uplink: all VLANs tagged, and the frames of none as they are.
var uplinkMode = vlan.Trunk(0, vlan.AllIDs(), &vlan.TrunkOptions{Untagged: true})

// newUplinkView returns the settings of an uplink: it carries every VLAN, and every address behind
// it is learned.
func newUplinkView(p *port) *portView {
	v := &portView{
		port:         p,
		vlan:         uplinkMode,
		keepPriority: true,
		priorityTag:  true,
		spoofing:     true,
		maxLen:       etherHeader + p.info.MTU,
		maxAddresses: limitMaxAddresses,
	}
	v.self = &extension.Port{Switch: p.sw.name, Name: p.name, Kind: extension.Uplink, MTU: p.info.MTU, Speed: ports.LinkOf(p.backend).Speed}
	return v
}

// replug changes the set of ports, in one step as frames see it, or with an error not at all. When
// it returns, nothing uses the removed ones.
func (s *Switch) replug(add []*portView, remove []*port) error {
	for i, v := range add {
		v.index = s.takeIndex()
		if err := v.attach(); err != nil {
			s.unattach(add[:i+1])
			return fmt.Errorf("switch %q: port %q: %w", s.name, v.name, err)
		}
	}
	if err := s.introduce(add); err != nil {
		s.unattach(add)
		return err
	}
	if err := s.admit(add); err != nil {
		s.retract(add)
		return err
	}
	snap := s.snap.Load()
	modes := map[string]vlan.Mode{}
	var selves []*extension.Port
	var left []*portView
	for _, p := range remove {
		old := snap.ports.at(p.index)
		if old.vlan.Kind() != vlan.KindUntagged {
			modes[p.name] = vlan.Untagged()
		}
		snap = snap.without(old)
		selves, left = append(selves, old.self), append(left, old)
	}
	for _, v := range add {
		if v.vlan.Kind() != vlan.KindUntagged || len(modes) > 0 {
			modes[v.name] = v.vlan
		}
		snap = snap.with(v)
	}
	moved, err := s.vlans.Update(modes)
	if err != nil {
		s.retract(add)
		return fmt.Errorf("switch %q: %w: %w", s.name, err, ErrInvalid)
	}
	for _, v := range add {
		s.fdb.addPort(v.index, v.maxAddresses)
		v.watchLink()
	}
	for _, p := range remove {
		p.unwatchLink()
		p.detach()
	}
	s.publish(snap, moved)
	for _, v := range add {
		s.configureMAC(v)
		v.start()
	}
	if len(remove) > 0 {
		s.host.synchronize()
	}
	for i, p := range remove {
		s.stack.Disconnect(selves[i])
		s.dismiss(p.name)
		left[i].leaveOverlay()
		s.takeAdded(func(a addedAddress) bool { return a.port == p.index })
		s.fdb.removePort(p.index)
		s.free = append(s.free, p.index)
	}
	return nil
}

// retract takes ports back that have been introduced.
func (s *Switch) retract(add []*portView) {
	for _, v := range add {
		s.dismiss(v.name)
		s.stack.Disconnect(v.self)
		v.leaveOverlay()
	}
	s.unattach(add)
}

func (s *Switch) unattach(views []*portView) {
	for _, v := range views {
		v.detach()
		s.free = append(s.free, v.index)
	}
}

// publish makes a snapshot what workers see. moved are the VLANs whose addresses are now known under
// another.
func (s *Switch) publish(snap *snapshot, moved []uint16) {
	was := s.snap.Load().fids
	next := *snap
	next.fids = s.vlans.FIDs()
	s.snap.Store(&next)
	if len(moved) == 0 {
		return
	}
	s.host.synchronize()
	for _, vid := range moved {
		fid := was.Of(vid)
		s.fdb.flush(func(k fdbKey, _ fdbVal) bool { return k.vid() == fid })
	}
	for k, a := range s.takeAdded(func(a addedAddress) bool { return slices.Contains(moved, a.vid) }) {
		s.addAddress(k.mac(), a)
	}
	for v := range next.ports.all() {
		if vid, ok := v.ownVLAN(); ok && slices.Contains(moved, vid) {
			s.fdb.removeKey(makeKey(v.mac, was.Of(vid)))
			s.configureMAC(v)
		}
	}
}

// configureMAC puts the address of a vNIC into the forwarding database.
func (s *Switch) configureMAC(v *portView) {
	if vid, ok := v.ownVLAN(); ok {
		k := makeKey(v.mac, s.snap.Load().fids.Of(vid))
		s.fdb.addStatic(k, v.index)
		delete(s.added, k)
	}
}

// ownVLAN returns the one VLAN in which the port has its address.
func (p *portView) ownVLAN() (vid uint16, ok bool) {
	vid, ok = p.vlan.PVID()
	return vid, ok && p.mac != 0 && !p.trunk() && p.vsid == 0 && p.team == nil
}

// update changes the settings of a port that is plugged in, or with an error nothing.
func (s *Switch) update(v *portView) error {
	snap := s.snap.Load()
	old := snap.ports.at(v.index)
	if err := s.rejoinOverlay(v, old); err != nil {
		return fmt.Errorf("switch %q: port %q: %w", s.name, v.name, err)
	}
	leave := v.tenant != old.tenant
	var moved []uint16
	if !v.vlan.Equal(old.vlan) {
		var err error
		if moved, err = s.vlans.Update(map[string]vlan.Mode{v.name: v.vlan}); err != nil {
			if leave {
				v.leaveOverlay()
			}
			return fmt.Errorf("switch %q: %w: %w", s.name, err, ErrInvalid)
		}
	}
	if err := s.admitOne(v); err != nil {
		s.vlans.Update(map[string]vlan.Mode{v.name: old.vlan}) // cannot fail, as it was so before
		if leave {
			v.leaveOverlay()
		}
		return err
	}
	if err := s.stack.Replace(v.self); err != nil {
		s.admitOne(old)                                        // nor can this
		s.vlans.Update(map[string]vlan.Mode{v.name: old.vlan}) // cannot fail, as it was so before
		if leave {
			v.leaveOverlay()
		}
		return fmt.Errorf("switch %q: port %q: %w", s.name, v.name, err)
	}
	s.compile(v)
	oldVID, hadMAC := old.ownVLAN()
	oldKey := makeKey(old.mac, snap.fids.Of(oldVID))
	s.fdb.addPort(v.index, v.maxAddresses)
	s.publish(snap.without(old).with(v), moved)
	if vid, ok := v.ownVLAN(); hadMAC && (!ok || makeKey(v.mac, s.snap.Load().fids.Of(vid)) != oldKey) {
		s.fdb.removeKey(oldKey)
	}
	s.configureMAC(v)
	moves := !v.vlan.Equal(old.vlan) || v.vsid != old.vsid
	if leave || moves || old.team != v.team || old.spoofing && !v.spoofing {
		s.host.synchronize()
	}
	if leave {
		old.leaveOverlay()
	}
	if moves || old.team != v.team || old.spoofing && !v.spoofing { // it has no claim to what was learned there
		s.flushPort(v.index)
	}
	s.takeAdded(func(a addedAddress) bool { return a.port == v.index && !v.isIn(a.vid) })
	return nil
}

// refuses returns why the switch would not take a mode for a port, which may be one of its own.
func (s *Switch) refuses(name string, m vlan.Mode) error {
	was := vlan.Untagged()
	if p := s.portNamed(name); p != nil {
		was = p.vlan
	}
	if _, err := s.vlans.Update(map[string]vlan.Mode{name: m}); err != nil {
		return fmt.Errorf("switch %q: %w: %w", s.name, err, ErrInvalid)
	}
	s.vlans.Update(map[string]vlan.Mode{name: was}) // cannot fail, as it was so before
	return nil
}

func (s *Switch) takeIndex() int {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	s.indices++
	return s.indices - 1
}

// connectWaiting plugs in the vNICs that name the switch and are disconnected: all in one step, unless
// one of them cannot be.
func (s *Switch) connectWaiting() {
	var waiting []*VNIC
	var views []*portView
	for _, v := range sortedByName(s.host.vnics) {
		if v.port != nil || !v.belongs(s) {
			continue
		}
		if p, err := newPort(s, v.name, v.backend, &v.count); err == nil {
			waiting, views = append(waiting, v), append(views, v.view(p))
		} else {
			s.host.log.Error("vNIC not connected", "vnic", v.name, "switch", s.name, "error", err)
		}
	}
	if s.replug(views, nil) == nil {
		for i, v := range waiting {
			v.connected(views[i].port)
		}
		return
	}
	for _, v := range waiting {
		if err := v.connect(); err != nil {
			s.host.log.Error("vNIC not connected", "vnic", v.name, "switch", s.name, "error", err)
		}
	}
}
