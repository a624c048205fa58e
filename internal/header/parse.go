package header

import "encoding/binary"

const (
	maxTags       = 4 // among the bytes; two are in use (IEEE 802.1ad)
	maxExtensions = 8 // of IPv6; a host may refuse more (RFC 8504, section 5.3)

	fragmentOffset4 = 0x1fff // of the IPv4 flags word, in 8 bytes (RFC 791, section 3.1)
	moreFragments4  = 0x2000
	fragmentOffset6 = 0xfff8 // of the IPv6 fragment header, in bytes (RFC 8200, section 4.5)
	moreFragments6  = 1

	maxDatagram = 65535
)

// Parse finds the headers of a frame of frameLen bytes that begins with head. The head is the whole
// frame or its first bytes, no fewer than the headers should need.
func (h *Header) Parse(head []byte, frameLen int) {
	// The most frequent frames: no tag among the bytes, IPv4 without options or fragmentation or
	// IPv6 without extension headers, TCP or UDP. All others, and what looks wrong here, take the
	// long way.
	const plainIPv4, plainIPv6 = 0x0800_45, 0x86dd_60
	if len(head) >= ethernetLen+ipv4Len+tcpLen {
		b := (*[ethernetLen + ipv4Len + tcpLen]byte)(head)
		switch w := binary.BigEndian.Uint32(b[macsLen:]) >> 8; {
		case w == plainIPv4 && binary.BigEndian.Uint16(b[20:])&(fragmentOffset4|moreFragments4) == 0:
			const l4 = ethernetLen + ipv4Len
			end := ethernetLen + int(binary.BigEndian.Uint16(b[16:]))
			if n := plain(b[l4:], b[23], end-l4); n > 0 && end <= frameLen && l4+n <= len(head) {
				h.Flags, h.EtherType, h.L3, h.L4 = IPv4|Ports, EtherTypeIPv4, ethernetLen, l4
				h.Payload = uint16(l4 + n)
				h.SrcPort, h.DstPort = binary.BigEndian.Uint16(b[l4:]), binary.BigEndian.Uint16(b[l4+2:])
				h.Proto, h.Reason = b[23], OK
				return
			}
		case w&^0xf == plainIPv6 && len(head) >= ethernetLen+ipv6Len+tcpLen:
			const l4 = ethernetLen + ipv6Len
			b := (*[l4 + tcpLen]byte)(head)
			end := l4 + int(binary.BigEndian.Uint16(b[18:]))
			if n := plain(b[l4:], b[20], end-l4); n > 0 && end <= frameLen && l4+n <= len(head) {
				h.Flags, h.EtherType, h.L3, h.L4 = IPv6|Ports, EtherTypeIPv6, ethernetLen, l4
				h.Payload = uint16(l4 + n)
				h.SrcPort, h.DstPort = binary.BigEndian.Uint16(b[l4:]), binary.BigEndian.Uint16(b[l4+2:])
				h.Proto, h.Reason = b[20], OK
				return
			}
		}
	}
	h.parse(head, frameLen)
}

// plain returns the length of the TCP or UDP header that begins with the 20 bytes b in an IP payload of
// size bytes, or 0 when it is another protocol or something is wrong.
func plain(b []byte, proto uint8, size int) int {
	n := 0
	if proto == TCP {
		n = int(b[12]>>4) * 4
		if n < tcpLen {
			return 0
		}
	} else if proto == UDP {
		n = int(binary.BigEndian.Uint16(b[4:]))
		if n < udpLen || n > size {
			return 0
		}
		n = udpLen
	}
	if n > size {
		return 0
	}
	return n
}

// parser is the state of the long way.
type parser struct {
	*Header
	head []byte // of at most Limit bytes
	end  int    // of what may be parsed, from the first byte of the head: of the frame, then of the IP packet
}

func (h *Header) parse(head []byte, frameLen int) {
	*h = Header{}
	frameLen = max(frameLen, 0)
	p := parser{h, head[:min(len(head), frameLen, Limit)], frameLen}
	p.Reason = p.ethernet()
	if p.Reason != OK {
		p.L4, p.Payload = 0, 0
		p.Flags &^= Ports
	}
}

// need returns OK when the first n bytes of the frame are in the head, and else short when the frame
// has not got them.
func (p *parser) need(n int, short Reason) Reason {
	switch {
	case n > p.end:
		return short
	case n > len(p.head):
		return BeyondHead
	}
	return OK
}

func (p *parser) word(at int) int { return int(binary.BigEndian.Uint16(p.head[at:])) }

func (p *parser) ethernet() Reason {
	if r := p.need(ethernetLen, ShortEthernet); r != OK {
		return r
	}
	at := macsLen // of the EtherType
	for tags := 0; ; tags++ {
		t := p.word(at)
		if t != etherType8021Q && t != etherType8021AD {
			break
		}
		if tags == maxTags {
			return TooManyTags
		}
		p.Flags |= Tagged
		at += tagLen
		if r := p.need(at+2, ShortEthernet); r != OK {
			return r
		}
	}
	p.snap(&at)
	p.EtherType = uint16(p.word(at))
	at += 2
	p.L3 = uint16(at)
	switch p.EtherType {
	case EtherTypeIPv4:
		return p.ipv4(at)
	case EtherTypeIPv6:
		return p.ipv6(at)
	case EtherTypeARP:
		return p.arp(at)
	}
	return OK
}

// snap moves *at from an 802.3 length to the EtherType of an 802.2 SNAP header, where there is one with
// an organization code of zero (RFC 1042). Some guests take IP from there, so nobody may hide it there.
func (p *parser) snap(at *int) {
	l := *at + 2
	if p.word(*at) >= etherTypeLeast || len(p.head) < l+snapLen {
		return
	}
	const dsapSSAPControlCode = 0xaaaa03_000000
	if binary.BigEndian.Uint64(p.head[l:])>>16 == dsapSSAPControlCode && p.word(l+6) >= etherTypeLeast {
		p.Flags |= SNAP
		*at = l + 6
	}
}

func (p *parser) arp(at int) Reason {
	if r := p.need(at+arpLen, ShortARP); r != OK {
		return r
	}
	const ethernetIPv4 = 0x0001_0800_06_04 // hardware and protocol, and the lengths of their addresses
	if binary.BigEndian.Uint64(p.head[at:])>>16 != ethernetIPv4 {
		return BadARP
	}
	p.Flags |= ARP
	return OK
}

func (p *parser) ipv4(at int) Reason {
	if r := p.need(at+ipv4Len, ShortIP); r != OK {
		return r
	}
	if p.head[at]>>4 != 4 {
		return BadIPVersion
	}
	p.Flags |= IPv4
	p.Proto = p.head[at+9]
	l4 := at + int(p.head[at]&15)*4
	total := p.word(at + 2)
	if l4 < at+ipv4Len || at+total < l4 || at+total > p.end {
		return BadIPLength
	}
	p.end = at + total
	if r := p.need(l4, BadIPLength); r != OK {
		return r
	}
	frag := p.word(at + 6)
	offset := frag & fragmentOffset4 * 8
	if r := p.fragment(offset, frag&moreFragments4 != 0, l4); r != OK || offset > 0 {
		return r
	}
	return p.transport(l4)
}

// fragment records that the packet, whose payload begins at at, lies at offset of its datagram.
func (p *parser) fragment(offset int, more bool, at int) Reason {
	if offset == 0 {
		if more {
			p.Flags |= Fragment | FirstFragment
		}
		return OK
	}
	p.Flags |= Fragment
	if offset+p.end-at > maxDatagram || p.Proto == TCP && offset < tcpLen {
		return BadFragment // RFC 1858, section 3.2.2, and RFC 3128
	}
	return OK
}

func (p *parser) ipv6(at int) Reason {
	if r := p.need(at+ipv6Len, ShortIP); r != OK {
		return r
	}
	if p.head[at]>>4 != 6 {
		return BadIPVersion
	}
	p.Flags |= IPv6
	p.Proto = p.head[at+6]
	end := at + ipv6Len + p.word(at+4)
	if end > p.end {
		return BadIPLength
	}
	p.end = end
	at += ipv6Len
	fragments := 0
	for range maxExtensions {
		switch p.Proto {
		case hopByHop, routing, destination, auth, fragment:
		default:
			return p.transport(at)
		}
		if r := p.need(at+8, BadExtension); r != OK { // the least, and the unit, of all of them
			return r
		}
		this, n := p.Proto, 8
		p.Proto = p.head[at]
		switch this {
		case auth: // RFC 4302, section 2.2
			n = (int(p.head[at+1]) + 2) * 4
		case fragment:
			if fragments++; fragments > 1 {
				return BadExtension
			}
			w := p.word(at + 2)
			offset := w & fragmentOffset6
			if r := p.fragment(offset, w&moreFragments6 != 0, at+n); r != OK || offset > 0 {
				return r
			}
		default: // RFC 8200, section 4.3 to 4.6
			n = (int(p.head[at+1]) + 1) * 8
		}
		at += n
		if r := p.need(at, BadExtension); r != OK {
			return r
		}
	}
	return BadExtension
}

// transport looks at the header of p.Proto at at, which is not behind the end of the packet.
func (p *parser) transport(at int) Reason {
	least := 0
	switch p.Proto {
	case TCP:
		least = tcpLen
	case UDP:
		least = udpLen
	case SCTP:
		least = sctpLen
	case ICMP, ICMPv6:
		least = icmpLen
	case noNext:
		return OK
	}
	if r := p.need(at+least, ShortTransport); r != OK {
		return r
	}
	if at < min(p.end, len(p.head)) {
		p.L4 = uint16(at)
	}
	switch p.Proto {
	case TCP:
		n := int(p.head[at+12]>>4) * 4
		if n < tcpLen {
			return BadTransport
		}
		if r := p.need(at+n, BadTransport); r != OK {
			return r
		}
		p.Payload = uint16(at + n)
	case UDP:
		// The length is that of the datagram, of which a first fragment has only a part.
		n := p.word(at + 4)
		if n < udpLen || p.Flags&Fragment == 0 && at+n > p.end {
			return BadTransport
		}
		p.Payload = uint16(at + udpLen)
	case SCTP:
	default:
		return OK
	}
	p.Flags |= Ports
	p.SrcPort, p.DstPort = uint16(p.word(at)), uint16(p.word(at+2))
	return OK
}
