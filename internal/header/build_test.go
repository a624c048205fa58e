package header

import (
	"encoding/binary"
	"math/rand/v2"
)

// built is a frame that was put together header by header, and what the parser must say about it.
type built struct {
	bytes []byte
	want  Header
}

// build makes a frame. Each part appends its header; lengths are set when all parts are there.
func build(parts ...part) built {
	f := built{bytes: []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}}
	var finish []func()
	for _, p := range parts {
		if fn := p(&f); fn != nil {
			finish = append(finish, fn)
		}
	}
	for i := len(finish) - 1; i >= 0; i-- {
		finish[i]()
	}
	return f
}

type part func(f *built) (finish func())

func (f *built) add(b ...byte) int {
	at := len(f.bytes)
	f.bytes = append(f.bytes, b...)
	return at
}

func (f *built) put(at, v int) { binary.BigEndian.PutUint16(f.bytes[at:], uint16(v)) }

func tag(tpid uint16) part {
	return func(f *built) func() {
		f.add(byte(tpid>>8), byte(tpid), 0x20, 7)
		f.want.Flags |= Tagged
		return nil
	}
}

func etherType(t uint16) part {
	return func(f *built) func() {
		f.add(byte(t>>8), byte(t))
		f.want.EtherType, f.want.L3 = t, uint16(len(f.bytes))
		return nil
	}
}

func snap(t uint16) part {
	return func(f *built) func() {
		at := f.add(0, 0, 0xaa, 0xaa, 3, 0, 0, 0, byte(t>>8), byte(t))
		f.want.EtherType, f.want.L3 = t, uint16(len(f.bytes))
		f.want.Flags |= SNAP
		return func() { f.put(at, len(f.bytes)-at-2) }
	}
}

func ip4(proto uint8, options int) part {
	return func(f *built) func() {
		h := make([]byte, 20+options)
		h[0], h[8], h[9] = 0x40|byte(len(h)/4), 64, proto
		copy(h[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
		for i := 20; i < len(h); i++ {
			h[i] = 1 // no operation
		}
		at := f.add(h...)
		f.want.Flags |= IPv4
		f.want.Proto = proto
		return func() { f.put(at+2, len(f.bytes)-at) }
	}
}

// frag4 makes the IPv4 header in front of it that of a fragment.
func frag4(offset int, more bool) part {
	return func(f *built) func() {
		w := offset / 8
		if more {
			w |= 0x2000
		}
		f.put(int(f.want.L3)+6, w)
		f.want.setFragment(offset, more)
		return nil
	}
}

func (h *Header) setFragment(offset int, more bool) {
	if offset > 0 {
		h.Flags |= Fragment
	} else if more {
		h.Flags |= Fragment | FirstFragment
	}
}

func ip6(proto uint8) part {
	return func(f *built) func() {
		h := make([]byte, 40)
		h[0], h[6], h[7], h[8], h[23], h[24], h[39] = 0x60, proto, 64, 0xfd, 1, 0xfd, 2
		at := f.add(h...)
		f.want.Flags |= IPv6
		f.want.Proto = proto
		return func() { f.put(at+4, len(f.bytes)-at-40) }
	}
}

// ext adds an extension header of units × 8 bytes (AH: 4) with next as the one behind it. What is in
// front of it must name it.
func ext(next uint8, units int) part {
	return func(f *built) func() {
		h := make([]byte, units*8)
		h[0], h[1] = next, byte(units-1)
		if units > 0 {
			h[2], h[3] = 1, byte(len(h)-4) // PadN
		}
		f.add(h...)
		f.want.Proto = next
		return nil
	}
}

func ah(next uint8) part {
	return func(f *built) func() {
		h := make([]byte, 24)
		h[0], h[1] = next, 4
		f.add(h...)
		f.want.Proto = next
		return nil
	}
}

func frag6(next uint8, offset int, more bool) part {
	return func(f *built) func() {
		at := f.add(next, 0, 0, 0, 1, 2, 3, 4)
		w := offset
		if more {
			w |= 1
		}
		f.put(at+2, w)
		f.want.Proto = next
		f.want.setFragment(offset, more)
		return nil
	}
}

func ports(h *Header, at int) {
	h.Flags |= Ports
	h.SrcPort, h.DstPort, h.L4 = 1000, 2000, uint16(at)
}

func tcp(options int) part {
	return func(f *built) func() {
		h := make([]byte, 20+options)
		binary.BigEndian.PutUint16(h, 1000)
		binary.BigEndian.PutUint16(h[2:], 2000)
		h[12], h[13] = byte(len(h)/4)<<4, 0x10
		for i := 20; i < len(h); i++ {
			h[i] = 1 // no operation
		}
		ports(&f.want, f.add(h...))
		f.want.Payload = uint16(len(f.bytes))
		return nil
	}
}

func udp() part {
	return func(f *built) func() {
		at := f.add(1000>>8, 1000&255, 2000>>8, 2000&255, 0, 0, 0, 0)
		ports(&f.want, at)
		f.want.Payload = uint16(len(f.bytes))
		return func() { f.put(at+4, len(f.bytes)-at) }
	}
}

func sctp() part {
	return func(f *built) func() {
		at := f.add(1000>>8, 1000&255, 2000>>8, 2000&255, 0, 0, 0, 0, 0, 0, 0, 0)
		ports(&f.want, at)
		return nil
	}
}

// opaque is a transport header that the parser does not look into.
func opaque(n int) part {
	return func(f *built) func() {
		if at := f.add(make([]byte, n)...); n > 0 {
			f.want.L4 = uint16(at)
		}
		return nil
	}
}

func payload(n int) part {
	return func(f *built) func() {
		f.add(make([]byte, n)...)
		return nil
	}
}

func arp() part {
	return func(f *built) func() {
		f.add(append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 20)...)...)
		f.want.Flags |= ARP
		return nil
	}
}

// randomFrame builds any well-formed frame.
func randomFrame(r *rand.Rand) built {
	var parts []part
	for range r.IntN(4) {
		parts = append(parts, tag([]uint16{0x8100, 0x88a8}[r.IntN(2)]))
	}
	transport := []uint8{TCP, UDP, SCTP, ICMP, 47, 59, 50}[r.IntN(7)]
	more, offset := false, 0
	if r.IntN(4) == 0 {
		more, offset = r.IntN(2) == 0, 8*r.IntN(2)*(3+r.IntN(500))
	}
	version6 := r.IntN(2) == 0
	if version6 && transport == ICMP {
		transport = ICMPv6
	}
	tail := []part{payload(r.IntN(40))}
	if offset == 0 {
		switch transport {
		case TCP:
			tail = append([]part{tcp(4 * r.IntN(11))}, tail...)
		case UDP:
			tail = append([]part{udp()}, tail...)
		case SCTP:
			tail = append([]part{sctp()}, tail...)
		case ICMP, ICMPv6:
			tail = append([]part{opaque(8)}, tail...)
		case 59:
			tail = nil
		default:
			tail = append([]part{opaque(r.IntN(20))}, tail...)
		}
	}
	if offset == 0 && (transport == 47 || transport == 50) {
		tail = tail[:1] // or an empty header would lie at the payload
	}
	if !version6 {
		if transport == 59 {
			transport, tail = 47, []part{opaque(4)}
			if offset > 0 {
				tail = nil
			}
		}
		parts = append(parts, etherType(EtherTypeIPv4), ip4(transport, 4*r.IntN(11)))
		if more || offset > 0 {
			parts = append(parts, frag4(offset, more))
		}
		return build(append(parts, tail...)...)
	}
	chain := []uint8{transport}
	for range r.IntN(4) {
		chain = append(chain, []uint8{hopByHop, routing, destination, auth}[r.IntN(4)])
	}
	if more || offset > 0 {
		if transport == TCP && offset > 0 || r.IntN(2) == 0 {
			chain = append(chain[:1], fragment)
		} else {
			chain = append(chain, fragment)
		}
	}
	last := len(chain) - 1
	parts = append(parts, etherType(EtherTypeIPv6), ip6(chain[last]))
	for i := last; i > 0; i-- {
		next := chain[i-1]
		switch chain[i] {
		case auth:
			parts = append(parts, ah(next))
		case fragment:
			parts = append(parts, frag6(next, offset, more))
			if offset > 0 {
				return build(append(parts, payload(r.IntN(40)))...)
			}
		default:
			parts = append(parts, ext(next, 1+r.IntN(3)))
		}
	}
	return build(append(parts, tail...)...)
}
