package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// Config is how a host is connected to the provider network.
type Config struct {
	// Addresses are the host's provider addresses.
	Addresses []ProviderAddress `json:"addresses"`

	// Routes lead to provider addresses that are on no prefix of Addresses.
	Routes []ProviderRoute `json:"routes,omitempty"`

	// MTU of the provider network in bytes, 576 … 65535; 0 means 1500. Guests have it less the
	// overhead of their encapsulation: with NVGRE over IPv4 1458 of 1500.
	MTU int `json:"mtu,omitempty"`

	// Offloads are those of the device to the provider network. Only OffloadChecksum is used: large
	// segments are cut in software.
	Offloads ports.Offloads `json:"offloads,omitempty"`

	// TTL, DSCP, CopyDSCP and ZeroUDPChecksum are as in TunnelConfig.
	TTL             uint8 `json:"ttl,omitempty"`
	DSCP            uint8 `json:"dscp,omitempty"`
	CopyDSCP        bool  `json:"copyDscp,omitempty"`
	ZeroUDPChecksum bool  `json:"zeroUdpChecksum,omitempty"`

	// VXLANPort and GenevePort are UDP ports; 0 means those that IANA assigned.
	VXLANPort  uint16 `json:"vxlanPort,omitempty"`
	GenevePort uint16 `json:"genevePort,omitempty"`

	// LearnedAge is how long a learned customer address is kept without being seen, 10 s … 8 h; 0
	// means 10 minutes.
	LearnedAge time.Duration `json:"learnedAge,omitempty"`

	// NoRedirects neither tells other hosts of VMs that are not here, nor obeys them. It is for
	// provider networks with tunnel endpoints that let VMs say what only hosts may.
	NoRedirects bool `json:"noRedirects,omitempty"`
}

// ProviderAddress is an address of the host in the provider network (New-NetVirtualizationProviderAddress).
type ProviderAddress struct {
	Address netip.Prefix `json:"address"` // with the length of the prefix it is on
	MAC     ports.MAC    `json:"mac"`
	VLAN    uint16       `json:"vlan,omitempty"` // 1 … 4094; 0 for untagged
}

// ProviderRoute is a route of the provider network (New-NetVirtualizationProviderRoute).
type ProviderRoute struct {
	Destination netip.Prefix `json:"destination"`
	NextHop     netip.Addr   `json:"nextHop"` // on the prefix of a provider address
	Metric      uint32       `json:"metric,omitempty"`
}

const (
	defaultMTU        = 1500
	defaultLearnedAge = 10 * time.Minute
)

// Validate returns a *ConfigError unless the configuration is valid.
func (c *Config) Validate() error {
	wrong := func(object, field string, value any, reason string) error {
		return &ConfigError{object, field, fmt.Sprint(value), reason}
	}
	if c.MTU != 0 && (c.MTU < 576 || c.MTU > 65535) {
		return wrong("provider network", "MTU", c.MTU, "is out of 576–65535")
	}
	if c.DSCP > 63 {
		return wrong("provider network", "DSCP", c.DSCP, "is out of 0–63")
	}
	if c.LearnedAge != 0 && (c.LearnedAge < 10*time.Second || c.LearnedAge > 8*time.Hour) {
		return wrong("provider network", "LearnedAge", c.LearnedAge, "is out of 10s–8h")
	}
	if p := orDefault(c.VXLANPort, VXLANPort); p == orDefault(c.GenevePort, GenevePort) {
		return wrong("provider network", "GenevePort", p, "is VXLANPort too")
	}
	seen := map[netip.Addr]bool{}
	for _, a := range c.Addresses {
		object := "provider address " + a.Address.String()
		switch {
		case !a.Address.IsValid() || !isUnicast(a.Address.Addr()):
			return wrong(object, "Address", a.Address, notUnicast)
		case seen[a.Address.Addr()]:
			return wrong(object, "Address", a.Address, "is there twice")
		case !a.MAC.IsUnicast():
			return wrong(object, "MAC", a.MAC, notUnicast)
		case a.VLAN > 4094:
			return wrong(object, "VLAN", a.VLAN, "is out of 1–4094")
		}
		seen[a.Address.Addr()] = true
	}
	for _, r := range c.Routes {
		object := "provider route " + r.Destination.String()
		if !r.Destination.IsValid() || r.Destination != r.Destination.Masked() {
			return wrong(object, "Destination", r.Destination, "is no prefix")
		}
		onLink := false
		for _, a := range c.Addresses {
			onLink = onLink || a.Address.Contains(r.NextHop)
		}
		if !onLink || !isUnicast(r.NextHop) || seen[r.NextHop] {
			return wrong(object, "NextHop", r.NextHop, "is no neighbor on the prefix of a provider address")
		}
		if r.NextHop.Is4() != r.Destination.Addr().Is4() {
			return wrong(object, "NextHop", r.NextHop, "is of another IP version than Destination")
		}
	}
	return nil
}

// nextHop returns where frames from a to pa go first, or none.
func (c *Config) nextHop(a *ProviderAddress, pa netip.Addr) (hop netip.Addr) {
	if a.Address.Contains(pa) {
		return pa
	}
	var best *ProviderRoute
	for i := range c.Routes {
		r := &c.Routes[i]
		if !r.Destination.Contains(pa) || !a.Address.Contains(r.NextHop) {
			continue
		}
		if best == nil || r.Destination.Bits() > best.Destination.Bits() ||
			r.Destination.Bits() == best.Destination.Bits() && r.Metric < best.Metric {
			best = r
		}
	}
	if best == nil {
		return netip.Addr{}
	}
	return best.NextHop
}

// provider is a Config with all that follows from it.
type provider struct {
	Config
	decoder Decoder
	age     uint16 // of learned addresses, in ticks
}

func newProvider(c *Config) *provider {
	p := &provider{Config: *c}
	p.Addresses, p.Routes = slices.Clone(c.Addresses), slices.Clone(c.Routes)
	if p.MTU == 0 {
		p.MTU = defaultMTU
	}
	if p.LearnedAge == 0 {
		p.LearnedAge = defaultLearnedAge
	}
	p.age = uint16(p.LearnedAge / time.Second)
	p.decoder = Decoder{VXLANPort: c.VXLANPort, GenevePort: c.GenevePort, ZeroUDPChecksum: c.ZeroUDPChecksum}
	return p
}

// local returns the place of a provider address of this host, or -1.
func (p *provider) local(a netip.Addr) int {
	for i := range p.Addresses {
		if p.Addresses[i].Address.Addr() == a {
			return i
		}
	}
	return -1
}

func (a *ProviderAddress) tag() ports.Tag {
	if a.VLAN == 0 {
		return ports.Tag{}
	}
	return ports.Tag{TPID: ports.TPID8021Q, TCI: a.VLAN}
}

// peer is a provider address that records name, and the ways there.
type peer struct {
	addr  netip.Addr
	local int    // place among the addresses of this host, or -1
	paths []path // from each address of this host
}

// path is the way from a provider address of this host to a peer. It leads nowhere when hop is nil.
type path struct {
	hop     *neighbor
	tunnels [encapsulations]*Tunnel
	mtu     [encapsulations]int // behind the inner Ethernet header
}

func (p *provider) newPeer(addr netip.Addr, neighbors *neighbors) *peer {
	r := &peer{addr: addr, local: p.local(addr)}
	if r.local >= 0 {
		return r
	}
	r.paths = make([]path, len(p.Addresses))
	for i := range p.Addresses {
		a := &p.Addresses[i]
		hop := p.nextHop(a, addr)
		if !hop.IsValid() || a.Address.Addr().Is4() != addr.Is4() {
			continue
		}
		w := &r.paths[i]
		w.hop = neighbors.of(a.VLAN, hop)
		for e := range encapsulations {
			port := p.VXLANPort
			if e == Geneve {
				port = p.GenevePort
			}
			t, err := NewTunnel(&TunnelConfig{
				Encapsulation: e, Src: a.Address.Addr(), Dst: addr, SrcMAC: a.MAC, VLAN: a.tag(), TTL: p.TTL,
				DSCP: p.DSCP, CopyDSCP: p.CopyDSCP, Port: port, ZeroUDPChecksum: p.ZeroUDPChecksum,
			})
			if err != nil {
				w.hop = nil
				break
			}
			w.tunnels[e], w.mtu[e] = t, e.InnerMTU(p.MTU, addr)
		}
	}
	return r
}
