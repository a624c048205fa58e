package vswitch

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// VNICConfig configures a VNIC. A nil *VNICConfig or zero fields mean the defaults.
type VNICConfig struct {
	// ID identifies the vNIC for as long as it exists. The default is a random one. It cannot
	// be changed.
	ID string

	// Switch names the switch to connect to. While there is none of that name, or with an empty
	// name, the vNIC is disconnected.
	Switch string

	// Management makes it a vNIC of the host itself: its backend is a TAP on the host. A
	// private switch has none.
	Management bool

	// MAC is the address of the vNIC. The default is one from the host's pool. An address of
	// the pool's range cannot be chosen.
	MAC ports.MAC

	// VLAN is the mode of the port: untagged by default, access, trunk or one of the modes of
	// private VLANs. The guest of an untagged or access port cannot send tags.
	VLAN vlan.Mode

	// VSID, if not 0, puts the vNIC into a virtual subnet of the overlay of its switch in place of a
	// VLAN: VLAN is to be untagged, and the switch to have an Overlay. A vNIC that names a switch made
	// without one stays disconnected. What else it may send is up to the records of the overlay;
	// BlockUnknownUnicast, Hairpin and IEEEPriorityTag have no effect, and StormLimit bounds its
	// broadcast and multicast frames.
	VSID overlay.VSID

	// IEEEPriorityTag keeps the 802.1p priority of the frames that the guest sends, and tells it
	// that of the untagged frames it gets by a priority tag. By default the priority is zeroed.
	IEEEPriorityTag bool

	// AllowSpoofing lets the guest send from any unicast address. By default only frames from
	// the address of the vNIC pass.
	AllowSpoofing bool

	// GuestTeam, if not empty, names a team that the guest makes of this vNIC and of those on the same
	// switch that name it too: each may send from the addresses of all, and frames to one of these go
	// where it was used last.
	GuestTeam string

	// BlockUnknownUnicast keeps frames to addresses that the switch does not know away from the
	// vNIC.
	BlockUnknownUnicast bool

	// Hairpin lets frames go back to the vNIC they came from.
	Hairpin bool

	// MaxAddresses bounds the addresses learned at the vNIC, which needs AllowSpoofing: 1 to
	// 4,194,304, 1,024 by default. A new one takes the place of an old one.
	MaxAddresses int

	// DHCPGuard drops messages of DHCPv4 and DHCPv6 servers that the guest sends, RouterGuard its
	// router advertisements and redirects (ICMPv4 types 5 and 9, ICMPv6 types 134 and 137). Both
	// also drop what could be such a message to its receiver but cannot be judged: malformed
	// headers and deceptive fragments (RFC 7113, RFC 7610).
	DHCPGuard, RouterGuard bool

	// Addresses are the IP addresses assigned to the vNIC: single ones as prefixes of full
	// length, and whole subnets. IPSourceGuard drops IP packets from others, and ARPInspection
	// ARP and Neighbor Discovery messages that claim others, or another MAC. The link-local IPv6
	// address made from the MAC (RFC 4291, appendix A) is always assigned, with AnyLinkLocal the
	// other link-local addresses too.
	Addresses                    []netip.Prefix
	IPSourceGuard, ARPInspection bool
	AnyLinkLocal                 bool

	// MaxDynamicAddresses bounds the IP addresses, IPv4 and IPv6 alike, that the guest uses beside
	// Addresses: 1 to 4,096; 0 means no bound. One that was not used for five minutes does not count.
	MaxDynamicAddresses int

	// StormLimit bounds the frames that the guest may have flooded, broadcast, multicast and
	// unknown unicast together: frames a second, of which as many may come at once; 0 means no
	// bound.
	StormLimit uint32

	// Bandwidth is what the vNIC sends at most, and gets of the uplink at least. A minimum needs a switch
	// with QoS.
	Bandwidth Bandwidth

	// ACL says what the VM may send and receive. Nil allows everything. A policy may be shared by
	// many vNICs.
	ACL *acl.Policy

	// RSS spreads the flows that the vNIC receives over the queues of its guest. Without it, what comes from
	// one receive queue of the switch goes to one of them. A change of it may let frames of a flow overtake
	// those that wait in another queue of the guest.
	RSS *RSSConfig

	// PassThrough says that the guest has another path as well, such as a virtual function of the physical
	// NIC, so that frames from the address of the vNIC also come by the uplink. By default these are
	// dropped, as somebody else's. VNIC.PassThrough says whether the guest may use the other path.
	PassThrough bool

	// Mirror makes the vNIC a source or a destination of the mirroring on its switch. With MirrorTag,
	// copies come to a destination with the VLAN and the priority of the frames, in an 802.1Q tag.
	Mirror    MirrorRole
	MirrorTag bool

	// ExtensionState is what VNIC.ExtensionState returned, for the same vNIC, on the host it comes from.
	// Extensions restore it when the vNIC is connected.
	ExtensionState map[string][]byte

	// ProtectedNetwork names the vNIC in the Event of a lost uplink.
	ProtectedNetwork bool

	Notes string
}

const defaultMaxPortAddresses = 1024

// VNIC is the network adapter of a VM, or of the host (a management vNIC), as the switch sees it.
type VNIC struct {
	host    *Host
	name    string
	backend ports.Backend
	count   counters

	cfg     VNICConfig // under Host.mu, as all below
	mac     ports.MAC
	policy  policy
	port    *port             // nil while disconnected
	saved   map[string][]byte // by the extensions of the switch that it leaves
	deleted bool
}

// NewVNIC adds a vNIC whose frames go by b, and connects it when the switch it names exists. On
// success the host owns b and closes it. The name is unique among the NICs and vNICs of the host.
func (h *Host) NewVNIC(name string, b ports.Backend, cfg *VNICConfig) (*VNIC, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.checkNewPort("vNIC", name); err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fmt.Errorf("vNIC %q: no backend: %w", name, ErrInvalid)
	}
	var c VNICConfig
	if cfg != nil {
		c = *cfg
		c.Addresses = slices.Clone(c.Addresses)
	}
	v := &VNIC{host: h, name: name, backend: b}
	err := v.check(&c)
	if err != nil {
		return nil, err
	}
	if c.ID, err = h.newID(c.ID); err != nil {
		return nil, fmt.Errorf("vNIC %q: %w", name, err)
	}
	mac, err := v.takeMAC(c.MAC)
	if err != nil {
		delete(h.ids, c.ID)
		return nil, err
	}
	if v.policy, err = v.newPolicy(&c, mac); err == nil {
		v.cfg, v.mac = c, mac
		h.regroup(&c, v)
		err = v.connect()
	}
	if err != nil {
		h.regroup(&c, nil)
		v.releaseMAC(mac)
		delete(h.ids, c.ID)
		return nil, err
	}
	h.vnics[name] = v
	h.log.Info("vNIC made", "vnic", name, "mac", mac.String(), "switch", c.Switch, "connected", v.port != nil)
	return v, nil
}

// VNIC returns the vNIC of that name, or nil.
func (h *Host) VNIC(name string) *VNIC {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.vnics[name]
}

// VNICs returns the vNICs in the order of their names.
func (h *Host) VNICs() []*VNIC {
	h.mu.Lock()
	defer h.mu.Unlock()
	return sortedByName(h.vnics)
}

// check completes c with the defaults and says what is wrong with it.
func (v *VNIC) check(c *VNICConfig) error {
	if c.MaxAddresses == 0 {
		c.MaxAddresses = defaultMaxPortAddresses
	}
	h := v.host
	if err := c.VLAN.Validate(); err != nil {
		return fmt.Errorf("vNIC %q: VLAN: %w: %w", v.name, err, ErrInvalid)
	}
	if err := c.Bandwidth.check(); err != nil {
		return fmt.Errorf("vNIC %q: %w", v.name, err)
	}
	var err error
	if c.RSS, err = c.RSS.complete(v.backend.Info().TxQueues); err != nil {
		return fmt.Errorf("vNIC %q: RSS: %w: %w", v.name, err, ErrInvalid)
	}
	switch {
	case c.MaxAddresses < 1 || c.MaxAddresses > limitMaxAddresses:
		return fmt.Errorf("vNIC %q: maximum of %d addresses is out of 1–%d: %w", v.name, c.MaxAddresses, limitMaxAddresses, ErrInvalid)
	case c.Mirror > MirrorDestination:
		return fmt.Errorf("vNIC %q: %s is none: %w", v.name, c.Mirror, ErrInvalid)
	case c.MAC.IsGroup():
		return fmt.Errorf("vNIC %q: MAC %s is a group address: %w", v.name, c.MAC, ErrInvalid)
	case !c.MAC.IsZero() && h.macs.r.contains(c.MAC):
		return fmt.Errorf("vNIC %q: static MAC %s lies in the host's pool %s–%s: %w", v.name, c.MAC, h.macs.r.First, h.macs.r.Last, ErrInvalid)
	case h.macOwner[c.MAC] != nil && h.macOwner[c.MAC] != v:
		return fmt.Errorf("vNIC %q: MAC %s is that of vNIC %q: %w", v.name, c.MAC, h.macOwner[c.MAC].name, ErrInUse)
	}
	if err := v.checkOverlay(c); err != nil {
		return err
	}
	if err := v.checkTeam(c); err != nil {
		return err
	}
	joins := c.Management && (!v.cfg.Management || c.Switch != v.cfg.Switch)
	if s := h.switches[c.Switch]; s != nil && joins && s.cfg.Type == Private {
		return fmt.Errorf("switch %q: management vNIC %q: a private switch has none: %w", s.name, v.name, ErrInvalid)
	}
	return nil
}

// takeMAC returns want, or when that is zero an address from the pool, and makes v its owner.
func (v *VNIC) takeMAC(want ports.MAC) (ports.MAC, error) {
	if want.IsZero() {
		var err error
		if want, err = v.host.macs.take(); err != nil {
			return want, fmt.Errorf("vNIC %q: %w", v.name, err)
		}
	}
	v.host.macOwner[want] = v
	return want, nil
}

func (v *VNIC) releaseMAC(m ports.MAC) {
	delete(v.host.macOwner, m)
	if v.host.macs.r.contains(m) {
		v.host.macs.release(m)
	}
}

// view returns the settings of v as the port p.
func (v *VNIC) view(p *port) *portView {
	w := &portView{
		port:         p,
		mac:          loadMAC(v.mac),
		maxLen:       etherHeader + p.info.MTU,
		vlan:         v.cfg.VLAN,
		vsid:         v.cfg.VSID,
		keepPriority: v.cfg.IEEEPriorityTag,
		priorityTag:  v.cfg.IEEEPriorityTag,
		spoofing:     v.cfg.AllowSpoofing,
		team:         v.host.teamOf(&v.cfg),
		blockUnknown: v.cfg.BlockUnknownUnicast,
		hairpin:      v.cfg.Hairpin,
		maxAddresses: v.cfg.MaxAddresses,
		guard:        v.policy.guard,
		addresses:    v.policy.addresses,
		storm:        v.policy.storm,
		maximum:      v.policy.maximum,
		bandwidth:    v.cfg.Bandwidth,
		acl:          v.cfg.ACL,
		connections:  v.policy.connections,
		judgedIn:     v.cfg.ACL != nil && v.cfg.ACL.Judges(acl.In),
		rss:          v.policy.rss,
		passThrough:  v.cfg.PassThrough,
		mirror:       v.cfg.Mirror,
		mirrorTag:    v.cfg.MirrorTag,
		saved:        v.cfg.ExtensionState,
		protected:    v.cfg.ProtectedNetwork,
	}
	w.self = &extension.Port{
		Switch: p.sw.name, Name: v.name, ID: v.cfg.ID, Kind: extension.VNIC,
		MAC: v.mac, MTU: p.info.MTU, Speed: ports.LinkOf(p.backend).Speed, Index: p.index,
	}
	if v.cfg.Management {
		w.self.Kind = extension.Management
	}
	return w
}

// connect plugs the vNIC into the switch it names, if that exists and takes it.
func (v *VNIC) connect() error {
	s := v.host.switches[v.cfg.Switch]
	if s == nil || !v.belongs(s) {
		return nil
	}
	p, err := newPort(s, v.name, v.backend, &v.count)
	if err != nil {
		return fmt.Errorf("switch %q: vNIC %q: %w", s.name, v.name, err)
	}
	if err := s.replug([]*portView{v.view(p)}, nil); err != nil {
		return err
	}
	v.connected(p)
	return nil
}

// connected notes that the vNIC has become a port.
func (v *VNIC) connected(p *port) {
	v.port = p
	v.cfg.ExtensionState = nil // restored
}

// belongs reports whether the vNIC is to be a port of s.
func (v *VNIC) belongs(s *Switch) bool {
	return v.cfg.Switch == s.name && !(v.cfg.Management && s.cfg.Type == Private) && (v.cfg.VSID == 0 || s.cfg.Overlay != nil)
}

// disconnect unplugs the vNIC.
func (v *VNIC) disconnect() {
	if v.port != nil {
		v.port.sw.replug(nil, []*port{v.port}) // cannot fail, as nothing is added
		v.port = nil
	}
}

// Name returns the name of the vNIC.
func (v *VNIC) Name() string { return v.name }

// ID returns what identifies the vNIC.
func (v *VNIC) ID() string { return v.Config().ID }

// MAC returns the address of the vNIC, which the guest is to use.
func (v *VNIC) MAC() ports.MAC {
	v.host.mu.Lock()
	defer v.host.mu.Unlock()
	return v.mac
}

// Connected reports whether the vNIC is a port of the switch it names.
func (v *VNIC) Connected() bool {
	v.host.mu.Lock()
	defer v.host.mu.Unlock()
	return v.port != nil
}

// Config returns the configuration, complete with the defaults; its MAC is zero when the address is
// from the pool.
func (v *VNIC) Config() VNICConfig {
	v.host.mu.Lock()
	defer v.host.mu.Unlock()
	c := v.cfg
	c.Addresses, c.RSS = slices.Clone(c.Addresses), c.RSS.clone()
	return c
}

// SetConfig changes the vNIC while traffic flows: all of c, or with an error nothing. A frame sees
// the old settings or the new ones. An empty ID means the present one.
func (v *VNIC) SetConfig(c VNICConfig) error {
	h := v.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if v.deleted {
		return fmt.Errorf("vNIC %q: %w", v.name, ErrClosed)
	}
	if c.ID == "" {
		c.ID = v.cfg.ID
	}
	if c.ID != v.cfg.ID {
		return fmt.Errorf("vNIC %q: the ID %q cannot be changed to %q: %w", v.name, v.cfg.ID, c.ID, ErrInvalid)
	}
	if err := v.check(&c); err != nil {
		return err
	}
	c.Addresses = slices.Clone(c.Addresses)
	oldCfg, oldMAC, oldPolicy := v.cfg, v.mac, v.policy
	if c.MAC != v.cfg.MAC {
		mac, err := v.takeMAC(c.MAC)
		if err != nil {
			return err
		}
		v.mac = mac
	}
	policy, err := v.newPolicy(&c, v.mac)
	if err == nil {
		v.cfg, v.policy = c, policy
		h.regroup(&oldCfg, nil)
		h.regroup(&c, nil)
		err = v.apply(oldCfg)
	}
	if err != nil {
		if v.mac != oldMAC {
			v.releaseMAC(v.mac)
		}
		v.cfg, v.mac, v.policy = oldCfg, oldMAC, oldPolicy
		h.regroup(&c, nil)
		h.regroup(&oldCfg, nil)
		if v.port == nil {
			v.cfg.ExtensionState = v.saved
			v.connect()
		}
		v.saved = nil
		return err
	}
	v.saved = nil
	if v.mac != oldMAC {
		v.releaseMAC(oldMAC)
	}
	h.log.Info("vNIC changed", "vnic", v.name, "switch", c.Switch, "connected", v.port != nil)
	return nil
}

// apply makes the port of v what its configuration says. With an error, the port is as it was or
// disconnected.
func (v *VNIC) apply(old VNICConfig) error {
	if v.port != nil && v.cfg.Switch == old.Switch && v.cfg.Management == old.Management {
		return v.port.sw.update(v.view(v.port))
	}
	if s := v.host.switches[v.cfg.Switch]; s != nil && v.port != nil && v.belongs(s) {
		if err := s.refuses(v.name, v.cfg.VLAN); err != nil { // before it is unplugged in vain
			return err
		}
		v.saved, _ = v.port.sw.stack.Save(v.port.sw.stack.Port(v.port.index)) // for when it has to come back
	}
	v.disconnect()
	return v.connect()
}

// Info returns what the backend says of itself: MTU, queues, offloads.
func (v *VNIC) Info() ports.Info { return v.backend.Info() }

// Link returns the state of the link: whether the guest listens.
func (v *VNIC) Link() ports.Link { return ports.LinkOf(v.backend) }

// Stats returns the counters of the vNIC.
func (v *VNIC) Stats() PortStats { return v.count.stats(v.name) }

// Close disconnects the vNIC, releases its address and closes its backend. When it returns, the
// switch uses no memory of the backend any more.
func (v *VNIC) Close() error {
	v.host.mu.Lock()
	defer v.host.mu.Unlock()
	if v.deleted {
		return nil
	}
	return v.delete()
}

func (v *VNIC) delete() error {
	v.disconnect()
	v.deleted = true
	v.releaseMAC(v.mac)
	delete(v.host.vnics, v.name)
	v.host.regroup(&v.cfg, nil)
	delete(v.host.ids, v.cfg.ID)
	v.host.log.Info("vNIC deleted", "vnic", v.name)
	return v.backend.Close()
}
