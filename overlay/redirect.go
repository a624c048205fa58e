package overlay

import (
	"encoding/binary"
	"net/netip"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// A host that gets a frame for a VM that it does not have tells the host that sent it ([MS-NVGREE],
// section 3.1.5): where the VM is, by the records here, or that it is unknown here. So who has an old
// policy finds a VM that has moved.
//
// The message travels as the frame did, encapsulated in the same virtual subnet, with TTL 128 and FlowID 0
// ([MS-NVGREE], section 2.2). What is inside is between hosts, not VMs:
//
//	Ethernet  to and from the addresses that the frame had outside
//	IP        from the provider address of the host that tells; of a redirect to that where the VM is, of
//	          an unreachable to that of the host that is told; TTL 128
//	ICMP      redirect: IPv4 5/10 with the new address (RFC 792), IPv6 137/1 with the new and the old
//	          address and a Redirected Header (RFC 4861, sections 4.5 and 4.6.3); unreachable: IPv4 3/10,
//	          IPv6 1/1
//	data      the packet it is about, from its outer IP header on, as much as fits into a head
//
// The VM is the inner destination address of that packet. Where a subnet travels in VXLAN or Geneve, so do
// the messages.
//
// A host obeys only the one that the records in force send it to, and only about frames of its own: such
// a message changes where the VM with that MAC address is in that subnet, until the policy says something
// about its records, the VM is heard from where the policy says it is, or some time has passed; see
// Engine.detour. VMs cannot make them: a frame of a VM
// that looks like one, from a provider address of its own host, is dropped as DropSource.
const (
	controlTTL = 128
	controlLen = 8 // ICMP

	redirectLen      = 2*16 + 8 // behind that, of an ICMPv6 redirect
	redirectedOption = 4        // RFC 4861, section 4.6.3

	redirect4, redirectCode4       = 5, 10
	unreachable4, unreachableCode4 = 3, 10
	redirect6, redirectCode6       = 137, 1
	unreachable6, unreachableCode6 = 1, 1
)

// controlled is what a message says.
type controlled struct {
	from netip.Addr // who tells
	to   netip.Addr // where the VM is; not valid of an unreachable

	// Of the packet that it is about.
	src, dst netip.Addr // provider addresses
	vsid     VSID
	mac      ports.MAC
}

// isControl reports whether a frame has the type and code of a message, and who it says it is from.
func isControl(b []byte, h *header.Header) (from netip.Addr, redirect, ok bool) {
	if h.Proto != header.ICMP && h.Proto != header.ICMPv6 || h.L4 == 0 || h.Flags&(header.Fragment|header.SNAP) != 0 {
		return from, false, false
	}
	kind := [2]byte(b[h.L4:])
	switch {
	case h.Proto == header.ICMP && h.Flags&header.IPv4 != 0:
		redirect = kind == [2]byte{redirect4, redirectCode4}
		ok = redirect || kind == [2]byte{unreachable4, unreachableCode4}
	case h.Proto == header.ICMPv6 && h.Flags&header.IPv6 != 0:
		redirect = kind == [2]byte{redirect6, redirectCode6}
		ok = redirect || kind == [2]byte{unreachable6, unreachableCode6}
	}
	if ok {
		from, _ = h.Addrs(b)
	}
	return from, redirect, ok
}

// readControl reads a message, or returns false when it is none.
func (d *Decoder) readControl(f *ports.Frame, h *header.Header) (c controlled, ok bool) {
	b := f.Head()
	from, redirect, ok := isControl(b, h)
	if !ok || !f.Offload.IsZero() || !controlSum(f, h) {
		return c, false
	}
	c.from = from
	if redirect {
		_, c.to = h.Addrs(b)
	}
	q := b[h.L4+controlLen:]
	if redirect && c.to.Is6() {
		if len(q) < redirectLen || q[redirectLen-8] != redirectedOption {
			return c, false
		}
		q = q[redirectLen:]
	}
	var proto byte
	switch {
	case len(q) >= ipv4Len && q[0]>>4 == 4:
		n := int(q[0]&15) * 4
		if n < ipv4Len || n > len(q) {
			return c, false
		}
		c.src, c.dst = netip.AddrFrom4([4]byte(q[12:])), netip.AddrFrom4([4]byte(q[16:]))
		proto, q = q[9], q[n:]
	case len(q) >= ipv6Len && q[0]>>4 == 6:
		c.src, c.dst = netip.AddrFrom16([16]byte(q[8:])), netip.AddrFrom16([16]byte(q[24:]))
		proto, q = q[6], q[ipv6Len:]
	default:
		return c, false
	}
	n := tunnelLen
	if proto == protoUDP {
		if len(q) < udpLen+tunnelLen {
			return c, false
		}
		port := binary.BigEndian.Uint16(q[2:])
		q = q[udpLen:]
		switch port {
		case orDefault(d.VXLANPort, VXLANPort):
		case orDefault(d.GenevePort, GenevePort):
			n += int(q[0]&0x3f) * 4
		default:
			return c, false
		}
	} else if proto != protoGRE {
		return c, false
	}
	if len(q) < n+ethernetLen {
		return c, false
	}
	c.vsid = VSID(binary.BigEndian.Uint32(q[4:]) >> 8)
	c.mac = ports.MAC(q[n:])
	return c, true
}

// controlSum reports whether the ICMP checksum of a frame is right.
func controlSum(f *ports.Frame, h *header.Header) bool {
	b := f.Head()
	var s checksum.Sum
	n := int(binary.BigEndian.Uint16(b[h.L3+2:])) - int(h.L4-h.L3)
	if h.Flags&header.IPv6 != 0 {
		n = int(binary.BigEndian.Uint16(b[h.L3+4:])) + ipv6Len - int(h.L4-h.L3)
		s.AddPseudo(b[h.L3+8:h.L3+40], header.ICMPv6, uint32(n))
	}
	addRest(&s, b[h.L4:], f, n)
	return s.Checksum() == 0
}

// control deals with a message from another host. It returns false when the frame is none.
func (w *Worker) control(f *ports.Frame, m *members, e *Encapsulated) bool {
	if from, _, ok := isControl(f.Head(), &w.h); !ok || from != e.Src {
		return false
	}
	p := w.snap.provider
	dst := ports.MAC(f.Head())
	if p.NoRedirects || dst.IsGroup() || m != nil && m.byMAC[dst] != nil {
		return false
	}
	c, ok := p.decoder.readControl(f, &w.h)
	rec := w.recordOfMAC(e.VSID, macWord(c.mac))
	if !ok || c.src != e.Dst || c.dst != e.Src || c.vsid != e.VSID || rec == nil || !w.lives(rec, e) ||
		!w.e.detour(w.now, e.VSID, macWord(c.mac), c.from, c.to) {
		w.drop(f, DropSource)
		return true
	}
	w.drop(f, DropControl)
	return true
}

// forgesControl reports whether a frame of a vNIC looks like a message from this host.
func (w *Worker) forgesControl(b []byte, h *header.Header) bool {
	from, _, ok := isControl(b, h)
	return ok && w.snap.provider.local(from) >= 0
}

// arrived is a frame as it came from the provider network.
type arrived struct {
	head []byte
	l3   int // of the outer IP header
}

// gone tells the host that sent a frame that its receiver, who is nobody in members m, is not here. rec is
// the record of the receiver, or nil.
func (w *Worker) gone(f *ports.Frame, in arrived, e *Encapsulated, rec *entry, m *members) {
	p := w.snap.provider
	b := f.Head()
	dst := ports.MAC(b)
	if p.NoRedirects || dst.IsGroup() || m != nil && m.byMAC[dst] != nil || !ports.MAC(in.head[6:]).IsUnicast() {
		return
	}
	if _, _, is := isControl(b, &w.h); is {
		return
	}
	to := netip.Addr{}
	if rec != nil {
		peer := w.snap.peers[rec.peer]
		if to = peer.addr; peer.local >= 0 || to == e.Src || to.Is4() != e.Src.Is4() {
			return // it is about to come, or the other one knows better, or it cannot be said
		}
	}
	if !w.e.told[tellerOf(e.Src)].take(w.now) {
		return
	}
	port := p.VXLANPort
	if e.Encapsulation == Geneve {
		port = p.GenevePort
	}
	t, err := NewTunnel(&TunnelConfig{
		Encapsulation: e.Encapsulation, Src: e.Dst, Dst: e.Src, SrcMAC: e.DstMAC, DstMAC: ports.MAC(in.head[6:]), VLAN: e.VLAN,
		TTL: controlTTL, DSCP: p.DSCP, Port: port, ZeroUDPChecksum: p.ZeroUDPChecksum,
	})
	if err != nil {
		return
	}
	g := w.message(t, in, e, to)
	w.h.Parse(g.Head(), g.Len())
	if t.put(g, &w.h, e.VSID, nil) != nil {
		return
	}
	if e.Encapsulation == NVGRE {
		g.Head()[t.n-1] = 0 // FlowID
	}
	w.toProvider(g)
}

// tellerOf returns which limiter bounds the messages to a host, or from it.
func tellerOf(pa netip.Addr) int {
	b := pa.As16()
	return int(hashCA(0, ca6(b[:])) % tellers)
}

const tellers = 64

// message returns what goes into the tunnel.
func (w *Worker) message(t *Tunnel, in arrived, e *Encapsulated, to netip.Addr) *ports.Frame {
	redirect := to.IsValid()
	if !redirect {
		to = e.Src
	}
	if e.Src.Is6() {
		return w.message6(t, in, e, to, redirect)
	}
	r, g := w.letter(t, in, e, ethernetLen+ipv4Len+controlLen)
	ip, icmp := r[ethernetLen:ethernetLen+ipv4Len], r[ethernetLen+ipv4Len:]
	icmp[0], icmp[1] = unreachable4, unreachableCode4
	if redirect {
		icmp[0], icmp[1] = redirect4, redirectCode4
		put4(icmp[4:], to)
	}
	binary.BigEndian.PutUint16(icmp[2:], checksum.Of(icmp))
	binary.BigEndian.PutUint16(r[12:], typeIPv4)
	ip[0], ip[8], ip[9] = 0x45, controlTTL, header.ICMP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(icmp)))
	put4(ip[12:], e.Dst)
	put4(ip[16:], to)
	binary.BigEndian.PutUint16(ip[10:], checksum.Of(ip))
	return g
}

func (w *Worker) message6(t *Tunnel, in arrived, e *Encapsulated, to netip.Addr, redirect bool) *ports.Frame {
	n := ethernetLen + ipv6Len + controlLen
	if redirect {
		n += redirectLen
	}
	r, g := w.letter(t, in, e, n)
	ip, icmp := r[ethernetLen:], r[ethernetLen+ipv6Len:]
	copy(ip[8:], e.Dst.AsSlice())
	copy(ip[24:], to.AsSlice())
	icmp[0], icmp[1] = unreachable6, unreachableCode6
	if redirect {
		icmp[0], icmp[1] = redirect6, redirectCode6
		copy(icmp[8:], to.AsSlice())
		copy(icmp[24:], e.Dst.AsSlice())
		icmp[40], icmp[41] = redirectedOption, byte(len(icmp[40:])/8)
	}
	finishIPv6(r, header.ICMPv6, controlTTL)
	return g
}

// letter returns a frame of n zero bytes but for its MAC addresses, and the packet that it is about, in eights.
func (w *Worker) letter(t *Tunnel, in arrived, e *Encapsulated, n int) (r []byte, g *ports.Frame) {
	g, buf := w.spares.next()
	quote := in.head[in.l3:]
	quote = quote[:min(len(quote), ports.HeadLen-t.n-n)&^7]
	g.SetHead(buf, ports.Headroom, n+len(quote))
	r = g.Head()
	clear(r[:n])
	copy(r, in.head[6:12])
	copy(r[6:], e.DstMAC[:])
	copy(r[n:], quote)
	return r, g
}
