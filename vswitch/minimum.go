package vswitch

import "fmt"

// division is a change of how the bandwidth of the uplink is divided.
type division struct {
	sw      *Switch
	was     *scheduler
	wasQoS  *QoSConfig
	changed bool // the one scheduler, not which one it is
}

// divide makes the bandwidth of an uplink, which may be nil, be divided as cfg says, nil meaning not at all. With an
// error it has changed nothing. Until apply the scheduler has no part in what is sent.
func (s *Switch) divide(cfg *QoSConfig, uplink *port) (*division, error) {
	d := &division{sw: s, was: s.scheduler, wasQoS: s.cfg.QoS}
	if cfg == nil || uplink == nil {
		for v := range s.snap.Load().ports.all() {
			if v.bandwidth.hasMinimum() {
				return nil, fmt.Errorf("switch %q: QoS is needed for the minimum bandwidth of vNIC %q: %w", s.name, v.name, ErrInUse)
			}
		}
		s.scheduler = nil
		return d, nil
	}
	if s.scheduler != nil && s.scheduler.port == uplink {
		if *cfg == *s.cfg.QoS {
			return d, nil
		}
		d.changed = true
		if err := s.scheduler.configure(*cfg, s.host.clock()); err != nil {
			return nil, fmt.Errorf("switch %q: QoS: %w: %w", s.name, err, ErrInvalid)
		}
		return d, nil
	}
	next, err := newScheduler(*cfg, uplink)
	if err != nil {
		return nil, fmt.Errorf("switch %q: QoS: %w: %w", s.name, err, ErrInvalid)
	}
	for v := range s.snap.Load().ports.all() {
		if err := next.admit(v.name, v.bandwidth, s.host.clock()); err != nil {
			return nil, fmt.Errorf("switch %q: QoS: vNIC %q: %w: %w", s.name, v.name, err, ErrInvalid)
		}
	}
	s.scheduler = next
	return d, nil
}

// revert takes the change back.
func (d *division) revert() {
	if d.changed {
		d.was.configure(*d.wasQoS, d.sw.host.clock()) // cannot fail, as it was so before
	}
	d.sw.scheduler = d.was
}

// apply makes frames pass the scheduler.
func (d *division) apply() {
	s := d.sw
	if s.scheduler == d.was {
		return
	}
	if d.was != nil {
		d.was.close()
	}
	snap := s.snap.Load()
	for old := range snap.ports.all() {
		is := (*scheduler)(nil)
		if n := s.scheduler; n != nil && old.port == n.port {
			is = n
		}
		if is != old.scheduler {
			v := *old
			v.scheduler = is
			snap = snap.with(&v)
		}
	}
	s.publish(snap, nil)
	if s.scheduler != nil {
		s.scheduler.newSpeed.Store(true) // it may have changed since
	}
}

// admit gives ports that are about to be connected their minimum.
func (s *Switch) admit(add []*portView) error {
	for _, v := range add {
		if err := s.admitOne(v); err != nil {
			return err
		}
	}
	return nil
}

// admitOne gives a port its minimum, or with an error leaves it the one that it has.
func (s *Switch) admitOne(v *portView) error {
	if s.scheduler == nil {
		if v.bandwidth.hasMinimum() {
			return fmt.Errorf("switch %q: vNIC %q: a minimum bandwidth needs QoS, which the switch has not: %w", s.name, v.name, ErrInvalid)
		}
		return nil
	}
	if err := s.scheduler.admit(v.name, v.bandwidth, s.host.clock()); err != nil {
		return fmt.Errorf("switch %q: vNIC %q: %w: %w", s.name, v.name, err, ErrInvalid)
	}
	return nil
}

// dismiss takes the minimum of a port away.
func (s *Switch) dismiss(name string) {
	if s.scheduler != nil {
		s.scheduler.admit(name, Bandwidth{}, s.host.clock()) // cannot fail without a minimum
	}
}

// Classes returns how the bandwidth of the uplink is divided: the vNICs with a minimum by name, and last "default",
// which is all other ports. There are none without QoS.
func (s *Switch) Classes() []ClassStats {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if s.scheduler == nil {
		return nil
	}
	return s.scheduler.stats()
}

// speedChanged makes the scheduler follow the link of port p, if that is the uplink.
func (s *Switch) speedChanged(p *port) {
	if v := s.snap.Load().ports.at(p.index); v != nil && v.port == p && v.scheduler != nil {
		v.scheduler.newSpeed.Store(true)
	}
}
