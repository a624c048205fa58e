package vswitch

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
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

	cfg     SwitchConfig // under Host.mu, as all below
	free    []int        // port indices used before
	indices int          // port indices used ever
	vlans   vlan.Associations
	added   map[fdbKey]addedAddress
	deleted bool
}

// addedAddress is where an address was added: the VLAN is not told by the key, which has the FID.
type addedAddress struct {
	vid  uint16
	port int
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
	var c SwitchConfig
	if cfg != nil {
		c = *cfg
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
	return nil
}

// Name returns the name of the switch.
func (s *Switch) Name() string { return s.name }

// ID returns what identifies the switch.
func (s *Switch) ID() string { return s.Config().ID }

// Config returns the configuration, complete with the defaults.
func (s *Switch) Config() SwitchConfig {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	return s.cfg
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
	old := s.cfg
	if err := s.configure(c); err != nil {
		return err
	}
	s.fdb.setLimits(c.MaxAddresses, c.Ageing)
	s.host.log.Info("switch changed", "switch", s.name, "type", c.Type.String(), "uplink", c.Uplink)
	if old.Type == Private && c.Type != Private {
		s.connectWaiting()
	}
	return nil
}

// configure brings the ports of the switch to what c, which has been checked, asks for.
func (s *Switch) configure(c SwitchConfig) error {
	var add []*portView
	var remove []*port
	nic, was := s.host.nics[c.Uplink], s.host.nics[s.cfg.Uplink]
	if nic != was {
		if nic != nil {
			p, err := newPort(s, nic.name, nic.backend, &nic.count)
			if err != nil {
				return fmt.Errorf("switch %q: uplink %q: %w", s.name, nic.name, err)
			}
			add = append(add, newUplinkView(p))
		}
		if was != nil {
			remove = append(remove, was.port)
		}
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
	if err := s.replug(add, remove); err != nil {
		return err
	}
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
	s.cfg = c
	return nil
}

// uplinkMode is that of every uplink: all VLANs tagged, and the frames of none as they are.
var uplinkMode = vlan.Trunk(0, vlan.AllIDs(), &vlan.TrunkOptions{Untagged: true})

// newUplinkView returns the settings of an uplink: it carries every VLAN, and every address behind
// it is learned.
func newUplinkView(p *port) *portView {
	v := &portView{
		port:         p,
		vlan:         uplinkMode,
		keepPriority: true,
		spoofing:     true,
		maxLen:       etherHeader + p.info.MTU,
		maxAddresses: limitMaxAddresses,
	}
	v.ingress = compile(v)
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
	snap := s.snap.Load()
	modes := map[string]vlan.Mode{}
	for _, p := range remove {
		old := snap.ports.at(p.index)
		if old.vlan.Kind() != vlan.KindUntagged {
			modes[p.name] = vlan.Untagged()
		}
		snap = snap.without(old)
	}
	for _, v := range add {
		if v.vlan.Kind() != vlan.KindUntagged || len(modes) > 0 {
			modes[v.name] = v.vlan
		}
		snap = snap.with(v)
	}
	moved, err := s.vlans.Update(modes)
	if err != nil {
		s.unattach(add)
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
	for _, p := range remove {
		s.takeAdded(func(a addedAddress) bool { return a.port == p.index })
		s.fdb.removePort(p.index)
		s.free = append(s.free, p.index)
	}
	return nil
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
	return vid, ok && p.mac != 0 && !p.trunk()
}

// update changes the settings of a port that is plugged in, or with an error nothing.
func (s *Switch) update(v *portView) error {
	snap := s.snap.Load()
	old := snap.ports.at(v.index)
	var moved []uint16
	if !v.vlan.Equal(old.vlan) {
		var err error
		if moved, err = s.vlans.Update(map[string]vlan.Mode{v.name: v.vlan}); err != nil {
			return fmt.Errorf("switch %q: %w: %w", s.name, err, ErrInvalid)
		}
	}
	oldVID, hadMAC := old.ownVLAN()
	oldKey := makeKey(old.mac, snap.fids.Of(oldVID))
	s.fdb.addPort(v.index, v.maxAddresses)
	s.publish(snap.without(old).with(v), moved)
	if vid, ok := v.ownVLAN(); hadMAC && (!ok || makeKey(v.mac, s.snap.Load().fids.Of(vid)) != oldKey) {
		s.fdb.removeKey(oldKey)
	}
	s.configureMAC(v)
	if old.spoofing && !v.spoofing || !v.vlan.Equal(old.vlan) { // it has no claim to what was learned there
		s.host.synchronize()
		s.flushPort(v.index)
	}
	s.takeAdded(func(a addedAddress) bool { return a.port == v.index && !v.vlan.Receives(a.vid) && !v.sendsIn(a.vid) })
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
			v.port = views[i].port
		}
		return
	}
	for _, v := range waiting {
		if err := v.connect(); err != nil {
			s.host.log.Error("vNIC not connected", "vnic", v.name, "switch", s.name, "error", err)
		}
	}
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

// Addresses returns the forwarding database in the order of VLAN and address.
func (s *Switch) Addresses() []Address {
	var l []Address
	snap, now := s.snap.Load(), s.host.now()
	s.fdb.each(now, func(k fdbKey, v fdbVal, moves uint32) {
		p := snap.ports.at(v.port())
		if p == nil {
			return
		}
		a := Address{MAC: storeMAC(k.mac()), VLAN: k.vid(), Port: p.name, Static: v.static(), Moves: uint64(moves)}
		if !a.Static && now > v.stamp() {
			a.Age = time.Duration(now-v.stamp()) * fdbTick
		}
		l = append(l, a)
	})
	slices.SortFunc(l, func(a, b Address) int {
		if a.VLAN != b.VLAN {
			return int(a.VLAN) - int(b.VLAN)
		}
		return slices.Compare(a.MAC[:], b.MAC[:])
	})
	return l
}

// AddAddress makes mac in a VLAN (0: untagged) a static address of a connected port: it does not age,
// and frames from it are dropped at any other port. It goes when the port is disconnected.
func (s *Switch) AddAddress(mac ports.MAC, vid uint16, port string) error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	p := s.portNamed(port)
	switch {
	case p == nil:
		return fmt.Errorf("switch %q: static address %s: port %q: %w", s.name, mac, port, ErrNotFound)
	case !mac.IsUnicast():
		return fmt.Errorf("switch %q: static address %s: is not the address of one station: %w", s.name, mac, ErrInvalid)
	case vid > vlan.MaxID:
		return fmt.Errorf("switch %q: static address %s: VLAN %d is out of 0–4094: %w", s.name, mac, vid, ErrInvalid)
	case !p.vlan.Receives(vid) && !p.sendsIn(vid):
		return fmt.Errorf("switch %q: static address %s: port %q is not in VLAN %d: %w", s.name, mac, port, vid, ErrInvalid)
	case s.ownerOf(mac, vid) != nil:
		return fmt.Errorf("switch %q: static address %s: is that of vNIC %q: %w", s.name, mac, s.ownerOf(mac, vid).name, ErrInUse)
	}
	s.addAddress(loadMAC(mac), addedAddress{vid, p.index})
	return nil
}

func (s *Switch) addAddress(mac uint64, a addedAddress) {
	k := makeKey(mac, s.snap.Load().fids.Of(a.vid))
	if _, taken := s.added[k]; !taken {
		if _, taken = s.fdb.owner(k); taken {
			return // by a vNIC
		}
	}
	s.fdb.addStatic(k, a.port)
	if s.added == nil {
		s.added = map[fdbKey]addedAddress{}
	}
	s.added[k] = a
}

// takeAdded removes the added addresses that match and returns them.
func (s *Switch) takeAdded(match func(addedAddress) bool) map[fdbKey]addedAddress {
	taken := map[fdbKey]addedAddress{}
	for k, a := range s.added {
		if match(a) {
			taken[k] = a
			delete(s.added, k)
			s.fdb.removeKey(k)
		}
	}
	return taken
}

// RemoveAddress removes an entry, static or learned, of the forwarding database. The address of a
// vNIC cannot be removed.
func (s *Switch) RemoveAddress(mac ports.MAC, vid uint16) error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if v := s.ownerOf(mac, vid); v != nil {
		return fmt.Errorf("switch %q: address %s: is that of vNIC %q: %w", s.name, mac, v.name, ErrInUse)
	}
	if vid > vlan.MaxID || !s.fdb.removeKey(s.key(mac, vid)) {
		return fmt.Errorf("switch %q: address %s in VLAN %d: %w", s.name, mac, vid, ErrNotFound)
	}
	delete(s.added, s.key(mac, vid))
	return nil
}

// key returns the key of an address in a VLAN.
func (s *Switch) key(mac ports.MAC, vid uint16) fdbKey {
	return makeKey(loadMAC(mac), s.snap.Load().fids.Of(vid))
}

// sendsIn reports whether untagged frames from the port are in a VLAN.
func (p *portView) sendsIn(vid uint16) bool {
	pvid, ok := p.vlan.PVID()
	return ok && pvid == vid
}

// ownerOf returns the connected vNIC with that address, or nil.
func (s *Switch) ownerOf(mac ports.MAC, vid uint16) *portView {
	if port, ok := s.fdb.owner(s.key(mac, vid)); ok {
		if p := s.snap.Load().ports.at(port); p != nil && p.mac == loadMAC(mac) {
			return p
		}
	}
	return nil
}

func (s *Switch) portNamed(name string) *portView {
	for p := range s.snap.Load().ports.all() {
		if p.name == name {
			return p
		}
	}
	return nil
}

// FlushPort forgets the addresses learned at a port.
func (s *Switch) FlushPort(name string) error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	p := s.portNamed(name)
	if p == nil {
		return fmt.Errorf("switch %q: port %q: %w", s.name, name, ErrNotFound)
	}
	s.flushPort(p.index)
	return nil
}

func (s *Switch) flushPort(index int) {
	s.fdb.flush(func(_ fdbKey, v fdbVal) bool { return v.port() == index })
}

// FlushVLAN forgets the addresses learned in a VLAN, and in those that share its addresses by private
// VLAN; 0 means those of untagged frames.
func (s *Switch) FlushVLAN(vid uint16) {
	fid := s.snap.Load().fids.Of(vid)
	s.fdb.flush(func(k fdbKey, _ fdbVal) bool { return k.vid() == fid })
}
