package guard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// receiver is a station that is as gullible as any, written without the parser and the guards. It takes
// packets out of every encapsulation that some real station takes them out of, looks at no checksum and
// hardly at a length, puts fragments together as its policy says, and notes what it would have believed.
type receiver struct {
	policy
	queues   map[string]*queue
	depth    int // of fragments in fragments
	believed []string
}

// policy is how a receiver treats fragments.
type policy struct {
	overlap overlap
	// lastNext takes the next header of IPv6 from the latest fragment at offset 0, whichever
	// one gave the bytes.
	lastNext bool
	// trims cuts fragments that others follow to a multiple of 8 bytes.
	trims bool
	// joins puts fragments that are whole datagrams with the others (before RFC 6946).
	joins bool
	// sticky goes on with a datagram that was complete.
	sticky bool
}

type overlap int

const (
	firstWins overlap = iota // byte by byte
	lastWins                 // byte by byte
	drops                    // the whole datagram, except that repetitions are ignored (Linux)
	ignores                  // the later fragment (FreeBSD before 12.2)
	overlaps
)

func policies() (all []policy) {
	for i := range 16 * int(overlaps) {
		all = append(all, policy{overlap(i / 16), i&1 != 0, i&2 != 0, i&4 != 0, i&8 != 0})
	}
	return all
}

// mixes reports whether a next header can come from one fragment and the bytes behind it from another.
// Stations that do so take no Neighbor Discovery from fragments (RFC 6980).
func (p policy) mixes() bool { return p.lastNext != (p.overlap == lastWins) }

type queue struct {
	data    []byte
	have    []bool
	end     int // -1 while not known
	next    byte
	hasNext bool
}

func (r *receiver) believe(format string, args ...any) {
	r.believed = append(r.believed, fmt.Sprintf(format, args...))
}

func (r *receiver) receive(b []byte) {
	r.rawDHCPClient(b)
	if len(b) < 14 {
		return
	}
	r.etherType(int(binary.BigEndian.Uint16(b[12:])), b[14:], b[6:12])
}

// rawDHCPClient reads every frame with the filter "ip and udp dst port 68 and not a later fragment".
func (r *receiver) rawDHCPClient(b []byte) {
	for _, at := range []int{12, 16} { // one tag is taken away by the hardware
		if len(b) < at+22 || binary.BigEndian.Uint16(b[at:]) != 0x0800 || at == 16 && b[12] != 0x81 {
			continue
		}
		p := b[at+2:]
		l4 := int(p[0]&15) * 4
		if p[9] == 17 && binary.BigEndian.Uint16(p[6:])&0x1fff == 0 && len(p) >= l4+4 && binary.BigEndian.Uint16(p[l4+2:]) == 68 {
			r.believe("DHCPv4 to a raw client")
		}
	}
}

func (r *receiver) etherType(t int, b, mac []byte) {
	if t < 0x600 || t == 0x8870 {
		if len(b) < 3 {
			return
		}
		switch b[0] &^ 1 {
		case 6:
			r.etherType(0x0800, b[3:], mac)
		case 0x98:
			r.etherType(0x0806, b[3:], mac)
		case 0xaa:
			r.etherType(0x88b7, b[3:], mac)
		}
		return
	}
	switch t {
	case 0x8100, 0x88a8:
		if len(b) >= 4 {
			r.etherType(int(binary.BigEndian.Uint16(b[2:])), b[4:], mac)
		}
	case 0x88b7:
		if len(b) >= 5 && (bytes.HasPrefix(b, []byte{0, 0, 0}) || bytes.HasPrefix(b, []byte{0, 0, 0xf8})) {
			r.etherType(int(binary.BigEndian.Uint16(b[3:])), b[5:], mac)
		}
	case 0x0800:
		r.ipv4(b)
	case 0x86dd:
		r.ipv6(b)
	case 0x0806:
		r.arp(b)
	}
}

func (r *receiver) arp(b []byte) {
	if len(b) < 28 || b[1] != 1 && b[1] != 6 || !bytes.Equal(b[2:6], be(0x0800, 0x0604)) {
		return
	}
	op, sha, spa, tpa := b[7], b[8:14], b[14:18], b[24:28]
	switch {
	case b[6] != 0 || op != 1 && op != 2:
	case !bytes.Equal(spa, zero4):
		if !bytes.Equal(sha, guestMAC[:]) || !bytes.Equal(spa, guest4) {
			r.believe("ARP: %v is %x", spa, sha)
		}
	case op == 1 && !bytes.Equal(tpa, guest4):
		r.believe("ARP: probe for %v", tpa)
	}
}

func (r *receiver) ipv4(p []byte) {
	if len(p) < 20 || p[0]>>4 != 4 {
		return
	}
	l4, total := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
	if l4 < 20 || total < l4 || total > len(p) {
		return
	}
	src, proto, body := p[12:16], p[9], p[l4:total]
	w := int(binary.BigEndian.Uint16(p[6:]))
	offset, more := w&0x1fff*8, w&0x2000 != 0
	if bytes.Equal(src, zero4) {
		dhcp := proto == 17 && len(body) >= 4 && bytes.Equal(body[:4], be(68, 67)) && offset == 0 && !more
		if !dhcp && proto != 2 {
			r.believe("source 0.0.0.0 of protocol %d", proto)
		}
	} else if !bytes.Equal(src, guest4) {
		r.believe("source %v", src)
	}
	if offset == 0 && !more {
		r.transport4(proto, body)
		return
	}
	key := string(p[4:6]) + string(p[12:20]) + string(rune(proto))
	if q := r.fragment(key, offset, more, proto, body); q != nil {
		r.transport4(proto, q.data[:q.end])
	}
}

func (r *receiver) transport4(proto byte, b []byte) {
	switch {
	case proto == 1 && len(b) > 0 && (b[0] == 5 || b[0] == 9):
		r.believe("ICMPv4 type %d", b[0])
	case proto == 17 && len(b) >= 4:
		dst := binary.BigEndian.Uint16(b[2:])
		if dst == 68 || dst == 67 && len(b) > 8 && b[8] == 2 {
			r.believe("DHCPv4 to port %d", dst)
		}
	}
}

func (r *receiver) ipv6(p []byte) {
	if len(p) < 40 || p[0]>>4 != 6 {
		return
	}
	next, src, body := p[6], p[8:24], p[40:]
	n := int(binary.BigEndian.Uint16(p[4:]))
	if n > len(body) {
		return
	}
	if n != 0 || next != 0 { // Linux leaves a packet without a length but with options as it is
		body = body[:n]
	}
	if !bytes.Equal(src, zero6) && !bytes.Equal(src, guest6) && !bytes.Equal(src, guestLL) {
		r.believe("source %x", src)
	}
	r.headers6(next, body, p[8:40], false)
}

func (r *receiver) headers6(next byte, b, addrs []byte, fragmented bool) {
	for len(b) >= 8 {
		n := 8
		switch next {
		default:
			r.transport6(next, b, addrs, fragmented)
			return
		case 0, 43, 60:
			n += int(b[1]) * 8
		case 51:
			n += int(b[1]) * 4
		case 140:
		case 44:
			w := int(binary.BigEndian.Uint16(b[2:]))
			if fragmented = true; w&^6 == 0 && !r.joins {
				break
			}
			if r.depth++; r.depth < 4 {
				key := string(b[4:8]) + string(addrs) + string(rune(r.depth))
				if q := r.fragment(key, w&0xfff8, w&1 != 0, b[0], b[8:]); q != nil && q.hasNext {
					r.headers6(q.next, q.data[:q.end], addrs, true)
				}
			}
			r.depth--
			return
		}
		if n > len(b) {
			return
		}
		next, b = b[0], b[n:]
	}
	r.transport6(next, b, addrs, fragmented)
}

func (r *receiver) transport6(next byte, b, addrs []byte, fragmented bool) {
	unspecified := bytes.Equal(addrs[:16], zero6)
	if unspecified && next != 58 && next != 59 && len(b) > 0 {
		r.believe("source :: of protocol %d", next)
	}
	switch next {
	case 17:
		if len(b) < 4 {
			return
		}
		dst := binary.BigEndian.Uint16(b[2:])
		if dst == 546 || dst == 547 && len(b) > 8 && bytes.IndexByte([]byte{2, 7, 10, 13, 15, 16, 17, 19, 21, 37}, b[8]) >= 0 {
			r.believe("DHCPv6 to port %d", dst)
		}
	case 58:
		if len(b) < 8 || fragmented && r.mixes() {
			return
		}
		switch b[0] {
		case 134, 137:
			r.believe("ICMPv6 type %d", b[0])
		case 135, 136:
			r.neighbor(b, addrs[:16], unspecified)
		}
	}
}

func (r *receiver) neighbor(b, src []byte, unspecified bool) {
	if len(b) < 24 {
		return
	}
	bound, kind := src, byte(1)
	if b[0] == 136 {
		bound, kind = b[8:24], 2
	} else if unspecified {
		bound = b[8:24]
	}
	own := bytes.Equal(bound, guest6) || bytes.Equal(bound, guestLL)
	if (b[0] == 136 || unspecified) && !own {
		r.believe("ND: claim of %x", bound)
	}
	for b = b[24:]; len(b) >= 8 && b[1] != 0; b = b[8*min(int(b[1]), len(b)/8):] {
		if b[0] == kind && (!own || !bytes.Equal(b[2:8], guestMAC[:])) {
			r.believe("ND: %x is %x", bound, b[2:8])
		}
	}
}

// fragment adds bytes to a datagram and returns that when it is complete.
func (r *receiver) fragment(key string, offset int, more bool, next byte, b []byte) *queue {
	if more && r.trims {
		b = b[:len(b)&^7]
	}
	q := r.queues[key]
	if q == nil {
		q = &queue{end: -1}
		r.queues[key] = q
	}
	if offset == 0 && (r.lastNext || !q.hasNext) {
		q.next, q.hasNext = next, true
	}
	if n := offset + len(b) - len(q.data); n > 0 {
		q.data = append(q.data, make([]byte, n)...)
		q.have = append(q.have, make([]bool, n)...)
	}
	overlapping, contained := false, true
	for i := range b {
		overlapping = overlapping || q.have[offset+i]
		contained = contained && q.have[offset+i]
	}
	switch {
	case overlapping && r.overlap == drops && !contained:
		delete(r.queues, key)
		return nil
	case overlapping && (r.overlap == drops || r.overlap == ignores):
	default:
		for i, c := range b {
			if !q.have[offset+i] || r.overlap == lastWins {
				q.data[offset+i], q.have[offset+i] = c, true
			}
		}
		if !more {
			q.end = offset + len(b)
		}
	}
	if q.end < 0 || slices.Contains(q.have[:q.end], false) {
		return nil
	}
	if !r.sticky {
		delete(r.queues, key)
	}
	return q
}
