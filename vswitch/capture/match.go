package capture

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// matcher is a Filter made ready for frames.
type matcher struct {
	Filter
	directions [2]bool
	macs       []uint64 // MACs as numbers, the first byte the lowest
	prefixes4  []prefix4
	prefixes6  []prefix6
	tags       bool // whether the tag matters
	headers    bool // whether headers behind the addresses matter
	fates      bool // what became of frames matters
}

// prefix4 and prefix6 are prefixes, as numbers in network byte order.
type prefix4 struct{ addr, mask uint32 }

type prefix6 struct{ addr, mask [2]uint64 }

func compile(f *Filter) (matcher, error) {
	if err := f.validate(); err != nil {
		return matcher{}, err
	}
	m := matcher{Filter: *f}
	for _, l := range []*[]string{&m.Switches, &m.Ports, &m.DropReasons} {
		*l = slices.Clone(*l)
	}
	m.EtherTypes = slices.Clone(f.EtherTypes)
	m.Protocols, m.TransportPorts = slices.Clone(f.Protocols), slices.Clone(f.TransportPorts)
	for _, a := range f.MACs {
		m.macs = append(m.macs, le.Uint64(append(a[:], 0, 0)))
	}
	for _, p := range f.Prefixes {
		m.addPrefix(p)
	}
	for _, d := range []extension.Direction{extension.Ingress, extension.Egress} {
		m.directions[d] = len(f.Directions) == 0 || slices.Contains(f.Directions, d)
	}
	m.tags = f.Untagged || !f.VLANs.IsZero()
	m.headers = len(f.EtherTypes)+len(f.Prefixes)+len(f.Protocols)+len(f.TransportPorts) > 0
	m.fates = f.Dropped || len(f.DropReasons) > 0
	return m, nil
}

func (m *matcher) port(p *extension.Port) bool {
	return (len(m.Switches) == 0 || slices.Contains(m.Switches, p.Switch)) &&
		(len(m.Ports) == 0 || slices.Contains(m.Ports, p.Name))
}

func (m *matcher) addPrefix(p netip.Prefix) {
	a, n := p.Addr(), p.Bits()
	if a.Is4In6() && n >= 96 {
		a, n = a.Unmap(), n-96
	}
	if a.Is4() {
		q := prefix4{mask: ^uint32(0) << (32 - n)}
		b := a.As4()
		q.addr = binary.BigEndian.Uint32(b[:]) & q.mask
		m.prefixes4 = append(m.prefixes4, q)
		return
	}
	q := prefix6{mask: [2]uint64{^uint64(0) << max(64-n, 0), ^uint64(0) << min(128-n, 64)}}
	b := a.As16()
	q.addr[0] = binary.BigEndian.Uint64(b[:]) & q.mask[0]
	q.addr[1] = binary.BigEndian.Uint64(b[8:]) & q.mask[1]
	m.prefixes6 = append(m.prefixes6, q)
}

func (p *prefix4) contains(addr uint32) bool { return addr&p.mask == p.addr }

func (p *prefix6) contains(a, b uint64) bool {
	return a&p.mask[0] == p.addr[0] && b&p.mask[1] == p.addr[1]
}

// frames returns the frames of a batch that match by what they are, as a set of bits.
func (m *matcher) frames(b *extension.Batch) (set uint64) {
	set = 1<<b.Len() - 1
	if m.tags {
		set = m.byTag(b, set)
	}
	if len(m.macs) > 0 {
		set = m.byMAC(b, set)
	}
	if m.headers {
		set = m.byHeader(b, set)
	}
	return set
}

func (m *matcher) byTag(b *extension.Batch, set uint64) (matching uint64) {
	for ; set != 0; set &= set - 1 {
		id := b.Frame(bits.TrailingZeros64(set)).VLAN.VID()
		if id == 0 && m.Untagged || id != 0 && m.VLANs.Has(id) {
			matching |= set & -set
		}
	}
	return matching
}

func (m *matcher) byMAC(b *extension.Batch, set uint64) (matching uint64) {
	for ; set != 0; set &= set - 1 {
		head := b.Frame(bits.TrailingZeros64(set)).Head()
		if len(head) < 12 {
			continue
		}
		dst, src := le.Uint64(head)&(1<<48-1), le.Uint64(head[4:12])>>16
		for _, a := range m.macs {
			if a == dst || a == src {
				matching |= set & -set
				break
			}
		}
	}
	return matching
}

func (m *matcher) byHeader(b *extension.Batch, set uint64) (matching uint64) {
	var h header.Header
	for ; set != 0; set &= set - 1 {
		f := b.Frame(bits.TrailingZeros64(set))
		head := f.Head()
		h.Parse(head, f.Len())
		if len(m.Prefixes) > 0 && !m.addrs(&h, head) {
			continue
		}
		if len(m.EtherTypes) > 0 && (h.L3 == 0 || !slices.Contains(m.EtherTypes, h.EtherType)) {
			continue
		}
		if len(m.Protocols) > 0 && (h.Flags&(header.IPv4|header.IPv6) == 0 || !slices.Contains(m.Protocols, h.Proto)) {
			continue
		}
		if len(m.TransportPorts) > 0 && (!h.Flags.Has(header.Ports) ||
			!slices.Contains(m.TransportPorts, h.SrcPort) && !slices.Contains(m.TransportPorts, h.DstPort)) {
			continue
		}
		matching |= set & -set
	}
	return matching
}

func (m *matcher) addrs(h *header.Header, head []byte) bool {
	switch {
	case h.Flags&header.IPv4 != 0:
		a := head[h.L3+12 : h.L3+20]
		return m.addrs4(binary.BigEndian.Uint32(a), binary.BigEndian.Uint32(a[4:]))
	case h.Flags&header.ARP != 0: // RFC 826: sender and target protocol address
		p := head[h.L3 : h.L3+28]
		return m.addrs4(binary.BigEndian.Uint32(p[14:]), binary.BigEndian.Uint32(p[24:]))
	case h.Flags&header.IPv6 != 0:
		a := head[h.L3+8 : h.L3+40]
		for i := range m.prefixes6 {
			p := &m.prefixes6[i]
			if p.contains(binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(a[8:])) ||
				p.contains(binary.BigEndian.Uint64(a[16:]), binary.BigEndian.Uint64(a[24:])) {
				return true
			}
		}
	}
	return false
}

func (m *matcher) addrs4(src, dst uint32) bool {
	for i := range m.prefixes4 {
		if p := &m.prefixes4[i]; p.contains(src) || p.contains(dst) {
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
