package guard

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// Config says which guards a vNIC has. The zero Config has none.
type Config struct {
	// DHCP drops messages of DHCPv4 and DHCPv6 servers.
	DHCP bool

	// Router drops ICMPv4 redirects and router advertisements and ICMPv6 router advertisements
	// and redirects.
	Router bool

	// Source drops IP packets whose source is not assigned.
	Source bool

	// Inspect drops ARP and Neighbor Discovery messages that bind an address to the sender that
	// is not its own: a hardware address other than MAC or, when there are assigned addresses or
	// with Source, an IP address that is not assigned.
	Inspect bool

	// MAC is the address of the vNIC. The zero address means that the guest may use any, as with
	// MAC spoofing allowed; then the messages must agree with the Ethernet source of their frame.
	MAC ports.MAC

	// Addresses are assigned to the vNIC: single addresses as prefixes of full length, and whole
	// subnets. Prefixes must be masked. The link-local IPv6 address that follows from the MAC
	// (EUI-64, RFC 4291, appendix A) is always assigned.
	Addresses []netip.Prefix

	// AnyLinkLocal assigns fe80::/64 and the usable part of 169.254.0.0/16 (RFC 3927, section
	// 2.1). Guests that do not form their address from the MAC need it, unless it is among
	// Addresses: Windows, and Linux with stable-privacy addresses (RFC 7217).
	AnyLinkLocal bool
}

// Program is the guards of a vNIC, ready to judge frames. It is immutable.
type Program struct {
	dhcp, router, source, inspect bool

	mac      uint64 // of the vNIC; 0 is any
	assigned addrSet
}

// Compile makes a program of c. It is nil when no guard is on; what is wrong with c is an error even then.
func Compile(c *Config) (*Program, error) {
	p := &Program{dhcp: c.DHCP, router: c.Router, source: c.Source, inspect: c.Inspect}
	if c.MAC.IsGroup() {
		return nil, fmt.Errorf("MAC %s is a group address", c.MAC)
	}
	if err := p.assigned.add(c.Addresses); err != nil {
		return nil, err
	}
	if !c.DHCP && !c.Router && !c.Source && !c.Inspect {
		return nil, nil
	}
	p.mac = loadMAC(c.MAC[:])
	if !c.Source && len(c.Addresses) == 0 {
		p.assigned = everyAddr()
		return p, nil
	}
	if p.mac != 0 {
		a := linkLocalOf(p.mac)
		p.assigned.v6 = append(p.assigned.v6, range6{a, a})
	}
	if c.AnyLinkLocal {
		p.assigned.v4 = append(p.assigned.v4, linkLocal4)
		p.assigned.v6 = append(p.assigned.v6, linkLocal6)
	}
	p.assigned.normalize()
	return p, nil
}

// Check judges the frame f, whose head is parsed in h and whose offload request has passed
// segment.Check. It returns Pass or the reason to drop the frame. It remembers nothing.
func (p *Program) Check(f *ports.Frame, h *header.Header) Reason {
	// What nearly every frame is: TCP or UDP in whole packets with plain headers. No message that a
	// guard looks for is in there, and no fragment.
	if h.Reason == header.OK && (h.Proto == header.TCP || h.Proto == header.UDP && !dhcpPort(h.SrcPort) && !dhcpPort(h.DstPort)) {
		switch h.Flags &^ header.Tagged {
		case header.IPv4 | header.Ports:
			if !p.source || p.assigned.has4(word32(f.Head(), int(h.L3)+12)) {
				return Pass
			}
		case header.IPv6 | header.Ports:
			if h.L4 == h.L3+ipv6Len && (!p.source || p.assigned.has6(load6(f.Head(), int(h.L3)+8))) {
				return Pass
			}
		}
	}
	return p.check(f, h)
}

// subject is a frame under judgement.
type subject struct {
	*header.Header
	frame *ports.Frame
	head  []byte // as far as the parser looks
	l3    int
	end   int // of the IP packet, from the first byte of the head; may be behind the head
}

func (p *Program) check(f *ports.Frame, h *header.Header) Reason {
	s := subject{Header: h, frame: f, head: inSight(f), l3: int(h.L3)}
	switch h.Reason {
	case header.OK:
	case header.ShortARP, header.BadARP:
		if p.inspect {
			return FalseARP
		}
		return Pass
	default:
		return Malformed
	}
	switch {
	case h.Flags&header.IPv4 != 0:
		s.end = s.l3 + int(word16(s.head, s.l3+2))
		return p.ipv4(&s)
	case h.Flags&header.IPv6 != 0:
		s.end = s.l3 + ipv6Len + int(word16(s.head, s.l3+4))
		return p.ipv6(&s)
	case h.Flags&header.ARP != 0:
		return p.arp(&s)
	case h.EtherType == etherTypeRARP:
		return p.rarp(&s)
	case encapsulated(f, h, s.head):
		return Encapsulated
	}
	return Pass
}

func (p *Program) ipv4(s *subject) Reason {
	if s.Flags&header.Fragment != 0 {
		if r := p.fragment4(s); r != Pass {
			return r
		}
	}
	switch s.Proto {
	case header.UDP:
		if p.dhcp && s.Flags&header.Ports != 0 && s.dhcpv4Server() {
			return DHCPServer
		}
	case header.ICMP:
		if p.router && s.L4 != 0 && routerMessage4(s.head[s.L4]) {
			return RouterMessage
		}
	}
	if p.source {
		return p.source4(s)
	}
	return Pass
}

func (p *Program) ipv6(s *subject) Reason {
	fragment := 0
	if int(s.L4) != s.l3+ipv6Len {
		var r Reason
		if fragment, r = p.chain(s); r != Pass {
			return r
		}
	}
	switch s.Proto {
	case header.UDP:
		if p.dhcp && s.Flags&header.Ports != 0 && s.dhcpv6Server(int(s.L4), true) {
			return DHCPServer
		}
	case header.ICMPv6:
		if s.L4 != 0 {
			if r := p.icmpv6(s, fragment); r != Pass {
				return r
			}
		}
	default:
		if s.L4 != 0 && p.messages() && unknownNext(s.Proto) {
			return Malformed
		}
	}
	if p.source {
		return p.source6(s)
	}
	return Pass
}

// icmpv6 judges an ICMPv6 message by its type. Neighbor Discovery is not sent in fragments, and those
// who receive it so ignore it (RFC 6980, section 5): no fragment of it passes, be it the only one.
func (p *Program) icmpv6(s *subject, fragment int) Reason {
	switch t := s.head[s.L4]; t {
	case icmpRouterAdvertisement6, icmpRedirect6:
		if p.router {
			return RouterMessage
		}
		fallthrough
	case icmpRouterSolicitation, icmpNeighborSolicitation, icmpNeighborAdvertisement:
		if fragment != 0 && (p.router || p.inspect) {
			return BadFragment
		}
		if p.inspect {
			return p.nd(s, t)
		}
	}
	return Pass
}

// messages reports whether a guard looks for messages, so that none may hide.
func (p *Program) messages() bool { return p.dhcp || p.router || p.inspect }

const (
	ipv6Len = 40
	udpLen  = 8
)

// inSight returns the bytes in which the parser looked for headers. Nothing is judged by others, so that
// the verdict does not depend on how much of a frame its backend put into the head.
func inSight(f *ports.Frame) []byte {
	head := f.Head()
	return head[:min(len(head), header.Limit)]
}

func word16(b []byte, at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }
func word32(b []byte, at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }

func load6(b []byte, at int) addr6 {
	w := b[at : at+16]
	return addr6{binary.BigEndian.Uint64(w), binary.BigEndian.Uint64(w[8:])}
}

// loadMAC returns the first six bytes of b as a number.
func loadMAC(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint32(b))<<16 | uint64(binary.BigEndian.Uint16(b[4:]))
}
