package overlay

import (
	"encoding/binary"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// route forwards a packet that a guest sent to the router of its subnet: to the receiver, on whatever host
// it is, in one step. Nothing leaves the routing domain.
func (w *Worker) route(f *ports.Frame, from origin, sub *subnet) {
	b, h := f.Head(), &w.h
	var a ca
	switch l3 := int(h.L3); {
	case h.Flags&header.SNAP != 0:
		w.drop(f, DropRouter)
		return
	case h.Flags&header.IPv4 != 0:
		a = ca4(b[l3+16:])
	case h.Flags&header.IPv6 != 0:
		a = ca6(b[l3+24:])
	}
	if a == wildcard(a) || isGroupCA(a) || a.hi>>54 == 0xfe80>>6 { // and what is not IP
		w.drop(f, DropRouter)
		return
	}
	if sub.isRouter(a) {
		w.echo(f, from)
		return
	}
	s := w.snap
	v, ok := s.domains.get(sub.domain).lookup(a)
	if w.notes != nil {
		w.noteRoute(a, v, ok)
	}
	var to *subnet
	if ok {
		to = s.subnets.get(uint32(v.vsid))
	}
	if to == nil || to.domain != sub.domain {
		w.icmpError(f, from, sub, noRoute, 0)
		w.drop(f, DropNoRoute)
		return
	}
	if to.isRouter(a) {
		w.echo(f, from)
		return
	}
	if ttlOf(b, h) <= 1 {
		w.icmpError(f, from, sub, timeExceeded, 0)
		w.drop(f, DropTTL)
		return
	}
	var m *entry
	if v.onLink {
		m = w.receiver(v.vsid, a)
	} else {
		m = w.resolve(v.vsid, v.hop)
	}
	if w.notes != nil {
		w.noteRecord("receiver", m)
	}
	if m == nil {
		if v.onLink && to.Learning {
			if w.take(&from.port.limit) {
				w.inquire(to, a, from.local)
			}
		} else {
			w.icmpError(f, from, sub, hostUnreachable, 0)
		}
		w.drop(f, DropNoRecord)
		return
	}
	mac := m.addr()
	copy(b, mac[:])
	copy(b[6:], to.router[:])
	addTTL(b, h, 0xff)
	from.routed = true
	w.deliver(f, from, sub, to, m)
}

func ttlOf(b []byte, h *header.Header) uint8 {
	if h.Flags&header.IPv4 != 0 {
		return b[h.L3+8]
	}
	return b[h.L3+7]
}

// addTTL adds to TTL or hop limit, modulo 256.
func addTTL(b []byte, h *header.Header, n uint8) {
	if h.Flags&header.IPv4 == 0 {
		b[h.L3+7] += n
		return
	}
	ip := b[h.L3 : h.L3+ipv4Len]
	old := binary.BigEndian.Uint16(ip[8:])
	ip[8] += n
	sum := checksum.Update(binary.BigEndian.Uint16(ip[10:]), old, binary.BigEndian.Uint16(ip[8:]))
	binary.BigEndian.PutUint16(ip[10:], sum)
}

// echo answers an ICMP echo request to the router (RFC 792; RFC 4443, section 4.2) in place.
func (w *Worker) echo(f *ports.Frame, from origin) {
	if !makeEchoReply(f, &w.h) {
		w.drop(f, DropRouter)
		return
	}
	if w.notes != nil {
		w.note("router: answers the echo request")
	}
	w.toPort(f, from.port)
}

// makeEchoReply makes an echo request, whose offload request has been checked, its answer. It returns false
// when the frame is none.
func makeEchoReply(f *ports.Frame, h *header.Header) bool {
	b := f.Head()
	l3, l4 := int(h.L3), int(h.L4)
	if l4 == 0 || h.Flags&header.Fragment != 0 {
		return false
	}
	const request4, reply4, request6, reply6 = 8, 0, 128, 129
	var reply byte
	switch {
	case h.Flags&header.IPv4 != 0 && h.Proto == header.ICMP && b[l4] == request4 && b[l4+1] == 0:
		reply = reply4
	case h.Flags&header.IPv6 != 0 && h.Proto == header.ICMPv6 && b[l4] == request6 && b[l4+1] == 0:
		reply = reply6
	default:
		return false
	}
	if segment.Finish(f) != nil {
		return false
	}
	f.Offload = ports.Offload{}
	swap(b[0:6], b[6:12])
	old := binary.BigEndian.Uint16(b[l4:])
	b[l4] = reply
	sum := checksum.Update(binary.BigEndian.Uint16(b[l4+2:]), old, binary.BigEndian.Uint16(b[l4:]))
	binary.BigEndian.PutUint16(b[l4+2:], sum)
	if h.Flags&header.IPv4 != 0 {
		swap(b[l3+12:l3+16], b[l3+16:l3+20])
		addTTL(b, h, defaultHL-b[l3+8])
	} else {
		swap(b[l3+8:l3+24], b[l3+24:l3+40])
		b[l3+7] = defaultHL
	}
	return true
}

func swap(a, b []byte) {
	var t [16]byte
	n := copy(t[:], a)
	copy(a, b)
	copy(b, t[:n])
}
