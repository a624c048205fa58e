// Package refswitch is a virtual switch that is slow and obvious: maps, loops, one goroutine, time
// passed in. It says what the fast one must do; tests run both on the same events and compare.
//
// It is written from the specification and not from the switch: where two ways of doing a thing are
// equally right, it does the simpler one or asks (Host.Choose). Its methods report with false that the
// event is to be refused, in which case nothing has changed.
package refswitch

import (
	"maps"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// Type says whom a switch connects.
type Type int

// Types of switches.
const (
	Private  Type = iota // VMs only
	Internal             // VMs and the host
	External             // VMs, the host, and what is behind the uplink
)

// SwitchConfig is the configuration of a switch. There are no defaults.
type SwitchConfig struct {
	Type         Type
	Uplink       string // name of a NIC
	Ageing       time.Duration
	MaxAddresses int
}

// VNICConfig is the configuration of a vNIC. There are no defaults.
type VNICConfig struct {
	Switch              string
	Management          bool
	MAC                 ports.MAC
	AllowSpoofing       bool
	BlockUnknownUnicast bool
	Hairpin             bool
	MaxAddresses        int
}

// Cable is what a vNIC or NIC hangs on.
type Cable struct {
	MTU  int // longest payload of a frame, in bytes
	Room int // frames that the receiver takes before it looks at them again
	Down bool
}

// Host is what there is: switches, NICs and vNICs by name.
type Host struct {
	Now      time.Duration
	Switches map[string]*Switch
	Ports    map[string]*Port

	// A station may move MaxMoves times in MoveWindow, which begins with its first move.
	MaxMoves   int
	MoveWindow time.Duration

	// Choose says which of several addresses is evicted, where the specification does not.
	Choose func(sw *Switch, from []Key) Key
}

// Switch is a switch, with what it has counted since it was made.
type Switch struct {
	Name   string
	Config SwitchConfig
	Table  map[Key]*Entry

	Flooded, FloodedUnknown               uint64
	Learned, Moved, Damped, Evicted, Aged uint64
}

// Port is a vNIC or a NIC, with what has been counted since it was added to the host.
type Port struct {
	Name   string
	Cable  Cable
	VNIC   *VNICConfig // nil for a NIC
	Switch *Switch     // nil when disconnected

	RxFrames, RxBytes, TxFrames uint64
	Drops                       map[Reason]uint64
}

// Key is what the forwarding database is about.
type Key struct {
	VLAN uint16 // 0 for untagged frames
	MAC  ports.MAC
}

// Entry is what it knows.
type Entry struct {
	Port   *Port
	Static bool
	Seen   time.Duration
	Moves  uint64

	windowStart time.Duration
	inWindow    int
}

// New returns a host without anything.
func New() *Host { return &Host{Switches: map[string]*Switch{}, Ports: map[string]*Port{}} }

// Trunk reports whether the port carries tagged frames.
func (p *Port) Trunk() bool { return p.VNIC == nil }

// SetLink changes the state of the link of a port. What is behind one that goes down may be reached elsewhere.
func (h *Host) SetLink(name string, up bool) {
	p := h.Ports[name]
	p.Cable.Down = !up
	if !up && p.Switch != nil {
		maps.DeleteFunc(p.Switch.Table, func(_ Key, e *Entry) bool { return e.Port == p && !e.Static })
	}
}

// connected returns the ports of a switch in the order of their names.
func (h *Host) connected(s *Switch) []*Port {
	var l []*Port
	for _, name := range slices.Sorted(maps.Keys(h.Ports)) {
		if p := h.Ports[name]; p.Switch == s {
			l = append(l, p)
		}
	}
	return l
}

// AddNIC adds a NIC.
func (h *Host) AddNIC(name string, c Cable) bool {
	if h.Ports[name] != nil {
		return false
	}
	h.Ports[name] = &Port{Name: name, Cable: c, Drops: map[Reason]uint64{}}
	return true
}

// CloseNIC removes a NIC that is no uplink.
func (h *Host) CloseNIC(name string) bool {
	if h.Ports[name].Switch != nil {
		return false
	}
	delete(h.Ports, name)
	return true
}

// NewSwitch makes a switch and connects what waits for it.
func (h *Host) NewSwitch(name string, c SwitchConfig) bool {
	s := &Switch{Name: name, Table: map[Key]*Entry{}}
	if h.Switches[name] != nil || !h.validSwitch(s, c) {
		return false
	}
	h.Switches[name] = s
	h.configure(s, c)
	return true
}

// SetSwitch changes a switch.
func (h *Host) SetSwitch(name string, c SwitchConfig) bool {
	s := h.Switches[name]
	if !h.validSwitch(s, c) {
		return false
	}
	h.configure(s, c)
	return true
}

// CloseSwitch deletes a switch. Its ports are disconnected.
func (h *Host) CloseSwitch(name string) {
	for _, p := range h.connected(h.Switches[name]) {
		h.disconnect(p)
	}
	delete(h.Switches, name)
}

func (h *Host) validSwitch(s *Switch, c SwitchConfig) bool {
	if c.Type != External {
		return c.Uplink == ""
	}
	nic := h.Ports[c.Uplink]
	return nic != nil && nic.VNIC == nil && (nic.Switch == nil || nic.Switch == s)
}

func (h *Host) configure(s *Switch, c SwitchConfig) {
	s.Config = c
	for _, p := range h.connected(s) {
		if p.VNIC == nil && p.Name != c.Uplink || p.VNIC != nil && !h.belongs(p, s) {
			h.disconnect(p)
		}
	}
	if c.Uplink != "" {
		h.Ports[c.Uplink].Switch = s
	}
	for _, p := range h.Ports {
		if p.VNIC != nil && p.Switch == nil {
			h.connect(p)
		}
	}
	h.forgetAged(s)
	for s.learned(nil) > c.MaxAddresses {
		h.evict(s, s.largest())
	}
}

// belongs reports whether a vNIC is a port of the switch: the host is not part of a private one.
func (h *Host) belongs(p *Port, s *Switch) bool {
	return p.VNIC.Switch == s.Name && !(p.VNIC.Management && s.Config.Type == Private)
}

// NewVNIC adds a vNIC. Its MAC is the one it has got, be it configured or from the pool.
func (h *Host) NewVNIC(name string, cable Cable, c VNICConfig) bool {
	if h.Ports[name] != nil || !h.validVNIC(nil, c) {
		return false
	}
	p := &Port{Name: name, Cable: cable, VNIC: &c, Drops: map[Reason]uint64{}}
	h.Ports[name] = p
	h.connect(p)
	return true
}

// SetVNIC changes a vNIC.
func (h *Host) SetVNIC(name string, c VNICConfig) bool {
	p := h.Ports[name]
	if !h.validVNIC(p, c) {
		return false
	}
	s, old := p.Switch, p.VNIC
	p.VNIC = &c
	if s == nil || c.Switch != old.Switch || c.Management != old.Management {
		h.disconnect(p)
		h.connect(p)
		return true
	}
	for s.learned(p) > c.MaxAddresses {
		h.evict(s, []*Port{p})
	}
	if !c.AllowSpoofing { // it has no claim to what was learned there
		h.FlushPort(s.Name, name)
	}
	if c.MAC != old.MAC {
		delete(s.Table, Key{0, old.MAC})
		s.Table[Key{0, c.MAC}] = &Entry{Port: p, Static: true}
	}
	return true
}

// CloseVNIC removes a vNIC.
func (h *Host) CloseVNIC(name string) {
	h.disconnect(h.Ports[name])
	delete(h.Ports, name)
}

func (h *Host) validVNIC(p *Port, c VNICConfig) bool {
	for _, o := range h.Ports {
		if o != p && o.VNIC != nil && o.VNIC.MAC == c.MAC {
			return false
		}
	}
	if p != nil && p.VNIC.Switch == c.Switch && p.VNIC.Management == c.Management {
		return true
	}
	s := h.Switches[c.Switch]
	return s == nil || !(c.Management && s.Config.Type == Private)
}

// connect makes a vNIC a port of the switch that it names, if there is one for it. Its address is
// known from then on.
func (h *Host) connect(p *Port) {
	if s := h.Switches[p.VNIC.Switch]; s != nil && h.belongs(p, s) {
		p.Switch = s
		s.Table[Key{0, p.VNIC.MAC}] = &Entry{Port: p, Static: true}
	}
}

// disconnect makes a switch forget a port and its addresses, static ones too.
func (h *Host) disconnect(p *Port) {
	if p.Switch != nil {
		maps.DeleteFunc(p.Switch.Table, func(_ Key, e *Entry) bool { return e.Port == p })
		p.Switch = nil
	}
}

// AddAddress makes an address a static one of a port.
func (h *Host) AddAddress(sw string, k Key, port string) bool {
	s, p := h.Switches[sw], h.Ports[port]
	switch {
	case p == nil || p.Switch != s,
		!k.MAC.IsUnicast(),
		k.VLAN > 4094,
		k.VLAN != 0 && !p.Trunk(),
		h.configured(s, k):
		return false
	}
	s.Table[k] = &Entry{Port: p, Static: true}
	return true
}

// RemoveAddress removes an address of the forwarding database.
func (h *Host) RemoveAddress(sw string, k Key) bool {
	s := h.Switches[sw]
	if s.Table[k] == nil || h.configured(s, k) {
		return false
	}
	delete(s.Table, k)
	return true
}

// configured reports whether k is the address of a connected vNIC.
func (h *Host) configured(s *Switch, k Key) bool {
	for _, p := range h.connected(s) {
		if p.VNIC != nil && k == (Key{0, p.VNIC.MAC}) {
			return true
		}
	}
	return false
}

// FlushPort forgets what was learned at a port.
func (h *Host) FlushPort(sw, port string) bool {
	s, p := h.Switches[sw], h.Ports[port]
	if p == nil || p.Switch != s {
		return false
	}
	maps.DeleteFunc(s.Table, func(_ Key, e *Entry) bool { return !e.Static && e.Port == p })
	return true
}

// FlushVLAN forgets what was learned in a VLAN.
func (h *Host) FlushVLAN(sw string, vid uint16) {
	maps.DeleteFunc(h.Switches[sw].Table, func(k Key, e *Entry) bool { return !e.Static && k.VLAN == vid })
}

// Advance lets time pass.
func (h *Host) Advance(d time.Duration) {
	h.Now += d
	for _, s := range h.Switches {
		h.forgetAged(s)
	}
}

func (h *Host) forgetAged(s *Switch) {
	for k, e := range s.Table {
		if !e.Static && h.Now-e.Seen > s.Config.Ageing {
			s.Aged++
			delete(s.Table, k)
		}
	}
}
