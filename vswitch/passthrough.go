package vswitch

import (
	"fmt"
	"strings"

	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// Obstacle is why a vNIC may not bypass its switch.
type Obstacle struct {
	// Setting is the field of VNICConfig that is in the way. "Switch" stands for the switch itself, whose type
	// and Extensions count.
	Setting string

	// Reason says what the hardware cannot do.
	Reason string
}

// String returns "setting: reason".
func (o Obstacle) String() string { return o.Setting + ": " + o.Reason }

// PassThrough returns every reason why the vNIC may not bypass the switch now, by a virtual function of the physical
// NIC (SR-IOV) or another path of its own; none means that it may. A virtual function keeps its guest to one MAC and to
// one VLAN or none, so these are no reasons; policies that look at frames are. The answer holds until a setting of the vNIC
// or the switch, or the captures of the host, change: ask again then.
//
// A VMM that lets it bypass the switch joins both paths with team.NewPair, so that it can be brought back.
func (v *VNIC) PassThrough() []Obstacle {
	v.host.mu.Lock()
	defer v.host.mu.Unlock()
	var list []Obstacle
	in := func(yes bool, setting, format string, args ...any) {
		if yes {
			list = append(list, Obstacle{setting, fmt.Sprintf(format, args...)})
		}
	}
	c := &v.cfg
	if v.port == nil {
		in(true, "Switch", "the vNIC is not connected to switch %q", c.Switch)
	} else {
		s := v.port.sw
		in(s.cfg.Type != External, "Switch", "switch %q is %s, and has no NIC to pass through", s.name, s.cfg.Type)
		in(s.cfg.QoS != nil, "Switch", "switch %q divides the bandwidth of its uplink", s.name)
		if p := s.snap.Load().ports.at(v.port.index).program; p != nil {
			in(true, "Switch", "extensions of switch %q see the frames: %s", s.name, strings.Join(p.Names(), ", "))
		}
	}
	in(c.VSID != 0, "VSID", "the switch encapsulates what the vNIC sends")
	kind := c.VLAN.Kind()
	in(c.Management, "Management", "it is a vNIC of the host")
	in(kind != vlan.KindUntagged && kind != vlan.KindAccess, "VLAN", "mode %s is not one VLAN", kind)
	in(c.IEEEPriorityTag, "IEEEPriorityTag", "priorities are kept by the switch")
	in(c.AllowSpoofing, "AllowSpoofing", "frames for other addresses than that of the vNIC come to the switch")
	in(c.GuestTeam != "", "GuestTeam", "the guest sends from the addresses of other vNICs")
	in(c.Hairpin, "Hairpin", "the switch sends frames back")
	in(c.DHCPGuard, "DHCPGuard", "the switch looks for messages of DHCP servers")
	in(c.RouterGuard, "RouterGuard", "the switch looks for messages of routers")
	in(c.IPSourceGuard, "IPSourceGuard", "the switch compares IP addresses")
	in(c.ARPInspection, "ARPInspection", "the switch looks into ARP and Neighbor Discovery")
	in(c.MaxDynamicAddresses != 0, "MaxDynamicAddresses", "the switch counts IP addresses")
	in(c.StormLimit != 0, "StormLimit", "the switch counts flooded frames")
	in(c.Bandwidth != (Bandwidth{}), "Bandwidth", "the switch limits what is sent, and divides the uplink")
	in(c.ACL != nil && (c.ACL.Judges(acl.In) || c.ACL.Judges(acl.Out)), "ACL", "the switch applies rules")
	in(c.Mirror != MirrorNone, "Mirror", "it is a %s of the mirroring of the switch", c.Mirror)
	return list
}

// bypasses reports whether the frames of a burst may come from the configured address of a port: by the uplink, from a
// guest with another path.
func (b *burst) bypasses(port int) bool {
	if b.in.mac != 0 {
		return false
	}
	p := b.snap.ports.at(port)
	return p != nil && p.passThrough
}
