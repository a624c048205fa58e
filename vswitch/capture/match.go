package capture

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// matcher is a Filter made ready for frames.
type matcher struct {
	Filter
	directions [2]bool
	tags       bool // whether the tag matters
	headers    bool // whether headers behind the addresses matter
	any        bool // every frame matches by what it is
	fates      bool // what became of frames matters
}

func compile(f *Filter) (matcher, error) {
	if err := f.validate(); err != nil {
		return matcher{}, err
	}
	m := matcher{Filter: *f}
	for _, l := range []*[]string{&m.Switches, &m.Ports, &m.DropReasons} {
		*l = slices.Clone(*l)
	}
	m.MACs, m.EtherTypes = slices.Clone(f.MACs), slices.Clone(f.EtherTypes)
	m.Protocols, m.TransportPorts = slices.Clone(f.Protocols), slices.Clone(f.TransportPorts)
	m.Prefixes = nil
	for _, p := range f.Prefixes {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		m.Prefixes = append(m.Prefixes, p)
	}
	for _, d := range []extension.Direction{extension.Ingress, extension.Egress} {
		m.directions[d] = len(f.Directions) == 0 || slices.Contains(f.Directions, d)
	}
	m.tags = f.Untagged || !f.VLANs.IsZero()
	m.headers = len(f.EtherTypes)+len(f.Prefixes)+len(f.Protocols)+len(f.TransportPorts) > 0
	m.any = !m.tags && len(f.MACs) == 0 && !m.headers
	m.fates = f.Dropped || len(f.DropReasons) > 0
	return m, nil
}

func (m *matcher) port(p *extension.Port) bool {
	return (len(m.Switches) == 0 || slices.Contains(m.Switches, p.Switch)) &&
		(len(m.Ports) == 0 || slices.Contains(m.Ports, p.Name))
}

// frames returns the frames of a batch that match by what they are, as a set of bits.
func (m *matcher) frames(b *extension.Batch) (set uint64) {
	if m.any {
		return 1<<b.Len() - 1
	}
	for i := range b.Len() {
		if m.frame(b.Frame(i)) {
			set |= 1 << i
		}
	}
	return set
}

func (m *matcher) frame(f *ports.Frame) bool {
	if m.tags {
		if id := f.VLAN.VID(); id == 0 && !m.Untagged || id != 0 && !m.VLANs.Has(id) {
			return false
		}
	}
	head := f.Head()
	if len(m.MACs) > 0 && !m.mac(head) {
		return false
	}
	return !m.headers || m.header(head, f.Len())
}

func (m *matcher) mac(head []byte) bool {
	return len(head) >= 12 && (slices.Contains(m.MACs, ports.MAC(head)) || slices.Contains(m.MACs, ports.MAC(head[6:])))
}

func (m *matcher) header(head []byte, frameLen int) bool {
	var h header.Header
	h.Parse(head, frameLen)
	if len(m.EtherTypes) > 0 && (h.L3 == 0 || !slices.Contains(m.EtherTypes, h.EtherType)) {
		return false
	}
	if len(m.Protocols) > 0 && (h.Flags&(header.IPv4|header.IPv6) == 0 || !slices.Contains(m.Protocols, h.Proto)) {
		return false
	}
	if len(m.TransportPorts) > 0 && (!h.Flags.Has(header.Ports) ||
		!slices.Contains(m.TransportPorts, h.SrcPort) && !slices.Contains(m.TransportPorts, h.DstPort)) {
		return false
	}
	return len(m.Prefixes) == 0 || m.addrs(&h, head)
}

func (m *matcher) addrs(h *header.Header, head []byte) bool {
	src, dst := h.Addrs(head)
	if h.Flags.Has(header.ARP) { // RFC 826: sender and target protocol address
		p := head[h.L3:]
		src, dst = netip.AddrFrom4([4]byte(p[14:])), netip.AddrFrom4([4]byte(p[24:]))
	}
	for _, p := range m.Prefixes {
		if p.Contains(src) || p.Contains(dst) {
			return true
		}
	}
	return false
}

// fate reports whether a frame matches by what became of it: by why it was dropped, if it was.
func (m *matcher) fate(dropped bool, reason string) bool {
	if !m.fates {
		return true
	}
	return dropped &&
		(m.Dropped || slices.ContainsFunc(m.DropReasons, func(r string) bool { return strings.HasPrefix(reason, r) }))
}
