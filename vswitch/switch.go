package vswitch

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// SwitchType says whom a switch connects.
type SwitchType uint8

// Types of switches.
const (
	Private  SwitchType = iota // vNICs of VMs only
	Internal                   // VMs and the host, by management vNICs
	External                   // VMs, the host, and what is behind the uplink
)

// String returns "private", "internal" or "external".
func (t SwitchType) String() string {
	switch t {
	case Private:
		return "private"
	case Internal:
		return "internal"
	case External:
		return "external"
	}
	return fmt.Sprintf("switch type %d", uint8(t))
}

// SwitchConfig configures a Switch. Zero fields mean the defaults.
type SwitchConfig struct {
	// ID identifies the switch for as long as it exists, whatever it is called. The default is
	// a random one. It cannot be changed.
	ID string

	Type SwitchType

	// Uplink names the NIC of an external switch. Other types have none.
	Uplink string

	Notes string

	// Ageing is how long an address is remembered after it was last seen: 1 s to 1,000,000 s
	// (IEEE 802.1Q table 8-6), 300 s by default.
	Ageing time.Duration

	// MaxAddresses bounds the addresses that the switch learns: 1 to 4,194,304, 65,536 by
	// default. When they are all taken, a new one takes the place of one of the port that
	// holds most.
	MaxAddresses int

	// QoS divides the bandwidth of the uplink of an external switch. Without it, frames are sent in the
	// order in which they come, and vNICs have no minimum.
	QoS *QoSConfig

	// Overlay forwards the frames of the vNICs with a VSID, and takes from the uplink what is for its
	// provider addresses, in their VLANs. Only an external switch has one, and an engine serves one
	// switch of the host. Its provider addresses are to be in a VLAN that no untrusted vNIC is in; its
	// MTU is to be no more than that of the uplink. It cannot be taken away while there are vNICs
	// with a VSID.
	Overlay *overlay.Engine

	// Extensions take part in what the switch does with frames, in this order. A list that is changed lets
	// those go that are no longer in it; the others go on, in their new order.
	Extensions []extension.Binding
}

const (
	defaultAgeing       = 300 * time.Second
	defaultMaxAddresses = 1 << 16
	limitMaxAddresses   = 1 << 22
)

// Switch is a virtual Ethernet switch. Its ports are the vNICs that name it and, for an external
// switch, its uplink.
type Switch struct {
	host *Host
	name string
	snap atomic.Pointer[snapshot]
	fdb  *fdb

	flooded, floodedUnknown atomic.Uint64

	cfg       SwitchConfig // under Host.mu, as all below
	free      []int        // port indices used before
	indices   int          // port indices used ever
	vlans     vlan.Associations
	overlay   *overlayOf // nil without
	stack     *extension.Stack
	scheduler *scheduler  // nil without QoS
	injectors []*injector // nil where one has gone
	added     map[fdbKey]addedAddress
	deleted   bool
}

// NewSwitch makes a switch. A nil cfg means a private switch with the defaults. The vNICs that name
// the switch and are disconnected become its ports. The name is unique on the host.
func (h *Host) NewSwitch(name string, cfg *SwitchConfig) (*Switch, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.checkNew("switch", name); err != nil {
		return nil, err
	}
	if h.switches[name] != nil {
		return nil, fmt.Errorf("switch %q: %w", name, ErrExists)
	}
	s := &Switch{host: h, name: name}
	s.stack = extension.NewStack(s.extensionFailed)
	var c SwitchConfig
	if cfg != nil {
		c = cfg.clone()
	}
	err := s.check(&c)
	if err != nil {
		return nil, err
	}
	if c.ID, err = h.newID(c.ID); err != nil {
		return nil, fmt.Errorf("switch %q: %w", name, err)
	}
	s.fdb = newFDB(c.MaxAddresses, c.Ageing)
	s.snap.Store(&snapshot{})
	if err := s.configure(c); err != nil {
		s.stopInjectors()
		s.stack.Close()
		delete(h.ids, c.ID)
		return nil, err
	}
	h.switches[name] = s
	h.log.Info("switch made", "switch", name, "type", c.Type.String(), "uplink", c.Uplink)
	s.connectWaiting()
	return s, nil
}

// check completes c with the defaults and says what is wrong with it.
func (s *Switch) check(c *SwitchConfig) error {
	if c.Ageing == 0 {
		c.Ageing = defaultAgeing
	}
	if c.MaxAddresses == 0 {
		c.MaxAddresses = defaultMaxAddresses
	}
	switch {
	case c.Type > External:
		return fmt.Errorf("switch %q: type %d is none: %w", s.name, c.Type, ErrInvalid)
	case c.Type == External && c.Uplink == "":
		return fmt.Errorf("switch %q: an external switch needs an uplink: %w", s.name, ErrInvalid)
	case c.Type != External && c.Uplink != "":
		return fmt.Errorf("switch %q: uplink %q: a switch of type %s has none: %w", s.name, c.Uplink, c.Type, ErrInvalid)
	case c.Type != External && c.QoS != nil:
		return fmt.Errorf("switch %q: QoS: a switch of type %s has no uplink: %w", s.name, c.Type, ErrInvalid)
	case c.Ageing < time.Second || c.Ageing > 1_000_000*time.Second:
		return fmt.Errorf("switch %q: ageing %s is out of 1 s–1,000,000 s: %w", s.name, c.Ageing, ErrInvalid)
	case c.MaxAddresses < 1 || c.MaxAddresses > limitMaxAddresses:
		return fmt.Errorf("switch %q: maximum of %d addresses is out of 1–%d: %w", s.name, c.MaxAddresses, limitMaxAddresses, ErrInvalid)
	}
	if c.Uplink != "" {
		switch n := s.host.nics[c.Uplink]; {
		case n == nil:
			return fmt.Errorf("switch %q: uplink %q: NIC %w", s.name, c.Uplink, ErrNotFound)
		case n.sw != nil && n.sw != s:
			return fmt.Errorf("switch %q: uplink %q is bound to switch %q: %w", s.name, c.Uplink, n.sw.name, ErrInUse)
		}
	}
	return s.checkOverlay(c)
}

// Name returns the name of the switch.
func (s *Switch) Name() string { return s.name }

// ID returns what identifies the switch.
func (s *Switch) ID() string { return s.Config().ID }

// Config returns the configuration, complete with the defaults.
func (s *Switch) Config() SwitchConfig {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	return s.cfg.clone()
}

// clone returns a copy that shares nothing that can be changed.
func (c *SwitchConfig) clone() SwitchConfig {
	n := *c
	n.Extensions = slices.Clone(c.Extensions)
	if c.QoS != nil {
		q := *c.QoS
		n.QoS = &q
	}
	return n
}

// SetConfig changes the switch while traffic flows: all of c, or with an error nothing. VMs stay
// connected whatever the type becomes. Management vNICs of a switch that becomes private are
// disconnected until it is private no more. An uplink that is not named any more is free for another
// switch. An empty ID means the present one.
func (s *Switch) SetConfig(c SwitchConfig) error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if s.deleted {
		return fmt.Errorf("switch %q: %w", s.name, ErrClosed)
	}
	if c.ID == "" {
		c.ID = s.cfg.ID
	}
	if c.ID != s.cfg.ID {
		return fmt.Errorf("switch %q: the ID %q cannot be changed to %q: %w", s.name, s.cfg.ID, c.ID, ErrInvalid)
	}
	if err := s.check(&c); err != nil {
		return err
	}
	c = c.clone()
	old := s.cfg
	if err := s.configure(c); err != nil {
		return err
	}
	s.fdb.setLimits(c.MaxAddresses, c.Ageing)
	s.host.log.Info("switch changed", "switch", s.name, "type", c.Type.String(), "uplink", c.Uplink)
	if old.Type == Private && c.Type != Private || old.Overlay == nil && c.Overlay != nil {
		s.connectWaiting()
	}
	return nil
}

// configure brings the ports of the switch to what c, which has been checked, asks for.
func (s *Switch) configure(c SwitchConfig) error {
	extensions, err := s.extend(c.Extensions)
	if err != nil {
		return err
	}
	change, err := s.changeOverlay(c.Overlay)
	if err != nil {
		extensions.Cancel()
		return err
	}
	s.use(extensions)
	change.apply()
	if err := s.configurePorts(c); err != nil {
		change.revert()
		extensions.Revert()
		s.recompile()
		extensions.Cancel()
		return err
	}
	extensions.Retire()
	change.retire()
	s.cfg = c
	return nil
}

// configurePorts connects and disconnects what c asks for.
func (s *Switch) configurePorts(c SwitchConfig) error {
	var add []*portView
	var remove []*port
	var uplink *port
	nic, was := s.host.nics[c.Uplink], s.host.nics[s.cfg.Uplink]
	if nic != was {
		if nic != nil {
			p, err := newPort(s, nic.name, nic.backend, &nic.count)
			if err != nil {
				return fmt.Errorf("switch %q: uplink %q: %w", s.name, nic.name, err)
			}
			add = append(add, newUplinkView(p))
			uplink = p
		}
		if was != nil {
			remove = append(remove, was.port)
		}
	} else if nic != nil {
		uplink = nic.port
	}
	var hidden []*VNIC
	if c.Type == Private {
		for _, v := range s.host.vnics {
			if v.cfg.Management && v.port != nil && v.port.sw == s {
				hidden = append(hidden, v)
				remove = append(remove, v.port)
			}
		}
	}
	divided, err := s.divide(c.QoS, uplink)
	if err != nil {
		return err
	}
	if err := s.replug(add, remove); err != nil {
		divided.revert()
		return err
	}
	divided.apply()
	if nic != was {
		if was != nil {
			was.sw, was.port = nil, nil
		}
		if nic != nil {
			nic.sw, nic.port = s, add[0].port
		}
	}
	for _, v := range hidden {
		v.port = nil
		s.host.log.Info("vNIC disconnected", "vnic", v.name, "switch", s.name, "reason", "the switch is private")
	}
	return nil
}

// Close deletes the switch. Its vNICs become disconnected, its uplink is free for another.
func (s *Switch) Close() error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if !s.deleted {
		s.delete()
	}
	return nil
}

func (s *Switch) delete() {
	var all []*port
	for p := range s.snap.Load().ports.all() {
		all = append(all, p.port)
	}
	s.replug(nil, all) // cannot fail, as nothing is added
	for _, v := range s.host.vnics {
		if v.port != nil && v.port.sw == s {
			v.port = nil
		}
	}
	for _, n := range s.host.nics {
		if n.sw == s {
			n.sw, n.port = nil, nil
		}
	}
	s.stopInjectors()
	s.stack.Close()
	s.deleted = true
	delete(s.host.switches, s.name)
	delete(s.host.ids, s.cfg.ID)
	s.host.log.Info("switch deleted", "switch", s.name)
}

// Stats returns the counters of the switch and its ports.
func (s *Switch) Stats() SwitchStats {
	st := SwitchStats{
		Flooded:        s.flooded.Load(),
		FloodedUnknown: s.floodedUnknown.Load(),
		Addresses:      s.fdb.len(),
		Learned:        s.fdb.learned.Load(),
		Moved:          s.fdb.moved.Load(),
		Damped:         s.fdb.damped.Load(),
		Evicted:        s.fdb.evicted.Load(),
		Aged:           s.fdb.aged.Load(),
	}
	for p := range s.snap.Load().ports.all() {
		st.Ports = append(st.Ports, p.count.stats(p.name))
	}
	slices.SortFunc(st.Ports, func(a, b PortStats) int { return strings.Compare(a.Port, b.Port) })
	return st
}
