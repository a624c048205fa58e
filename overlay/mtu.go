package overlay

import (
	"encoding/binary"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// fits reports whether a frame, or what it is cut into, has at most mtu bytes behind its Ethernet header.
func (w *Worker) fits(f *ports.Frame, mtu int) bool {
	if f.Offload.Segment == ports.SegmentNone {
		return f.Fits(mtu)
	}
	headers := int(w.h.Payload) - int(w.h.L3)
	if w.h.Proto == header.TCP {
		return headers < mtu // its segments are made to fit
	}
	return headers+int(f.Offload.SegmentSize) <= mtu
}

// tooBig deals with a frame that the provider network does not carry (RFC 7637, section 4.4): its sender
// is told the MTU or, where it has allowed that, the inner packet is fragmented.
func (w *Worker) tooBig(f *ports.Frame, from origin, in *subnet, vsid VSID, way *path, rule Encapsulation, next *ports.MAC) {
	b, h := f.Head(), &w.h
	mtu := way.mtu[rule]
	const dontFragment = 0x40
	if h.Flags&header.IPv4 != 0 && b[h.L3+6]&dontFragment == 0 && f.Offload.Segment == ports.SegmentNone &&
		h.Flags&header.SNAP == 0 && w.fragment(f, mtu) {
		for _, g := range w.cut {
			if way.tunnels[rule].put(g, h, vsid, next) == nil {
				w.toProvider(g)
			}
		}
		return
	}
	if from.routed { // it is quoted as it was sent
		addTTL(b, h, 1)
	}
	w.icmpError(f, from, in, packetTooBig, mtu)
	w.drop(f, DropTooBig)
}

// fragment cuts an IPv4 packet into w.cut (RFC 791, section 3.2), so that none has more than mtu bytes. It
// returns false when that is not possible: packets with options are not cut.
func (w *Worker) fragment(f *ports.Frame, mtu int) bool {
	b := f.Head()
	l3 := int(w.h.L3)
	if b[l3] != 0x45 || l3 != ethernetLen {
		return false
	}
	if segment.Finish(f) != nil {
		return false
	}
	const headers = ethernetLen + ipv4Len
	left := int(binary.BigEndian.Uint16(b[l3+2:])) - ipv4Len
	word := binary.BigEndian.Uint16(b[l3+6:])
	size := (mtu - ipv4Len) &^ 7
	rest := b[headers:]
	body := f.Body()
	w.cut = w.cut[:0]
	for at := int(word & 0x1fff); left > 0; {
		n := min(size, left)
		g, buf := w.spares.next()
		inHead := min(n, ports.HeadLen-headers)
		g.SetHead(buf, ports.Headroom, headers+inHead)
		r := g.Head()
		copy(r, b[:headers])
		lend := n
		for k := 0; lend > 0; {
			if len(rest) == 0 {
				rest, body = body[0], body[1:]
				continue
			}
			m := min(lend, len(rest))
			if k < inHead {
				m = copy(r[headers+k:], rest[:m])
			} else {
				g.AppendBody(rest[:m])
			}
			k, lend, rest = k+m, lend-m, rest[m:]
		}
		left -= n
		more := word & 0x2000
		if left > 0 {
			more = 0x2000
		}
		ip := r[l3 : l3+ipv4Len]
		binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Len+n))
		binary.BigEndian.PutUint16(ip[6:], word&0xc000|more|uint16(at))
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], checksum.Of(ip))
		at += n / 8
		w.cut = append(w.cut, g)
	}
	return true
}
