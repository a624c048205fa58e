package acl

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// frame is a frame on its way, for tests: what it says, and its bytes.
type frame struct {
	d        Direction
	src, dst netip.Addr
	proto    Protocol
	sport    uint16
	dport    uint16
	flags    uint8 // TCP
	seq, ack uint32
	window   uint16
	options  []byte // TCP
	payload  []byte
	icmp     []byte // the whole message
	id       uint32 // of a fragment
	offset   int    // bytes
	more     bool
	fragment bool
	hops     uint8
	srcMAC   ports.MAC
	dstMAC   ports.MAC
	vlan     uint32
}

var (
	vmMAC   = ports.MAC{2, 0, 0, 0, 0, 1}
	peerMAC = ports.MAC{2, 0, 0, 0, 0, 2}
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, prefix(s))
	}
	return p
}

// transport returns the bytes behind the IP header, as if there were no fragments.
func (f *frame) transport() []byte {
	switch {
	case f.icmp != nil:
		return f.icmp
	case f.proto == TCP:
		n := 20 + (len(f.options)+3)/4*4
		b := make([]byte, n)
		binary.BigEndian.PutUint16(b, f.sport)
		binary.BigEndian.PutUint16(b[2:], f.dport)
		binary.BigEndian.PutUint32(b[4:], f.seq)
		binary.BigEndian.PutUint32(b[8:], f.ack)
		b[12], b[13] = byte(n/4<<4), f.flags
		binary.BigEndian.PutUint16(b[14:], f.window)
		copy(b[20:], f.options)
		return append(b, f.payload...)
	case f.proto == UDP:
		b := make([]byte, 8)
		binary.BigEndian.PutUint16(b, f.sport)
		binary.BigEndian.PutUint16(b[2:], f.dport)
		binary.BigEndian.PutUint16(b[4:], uint16(8+len(f.payload)))
		return append(b, f.payload...)
	case f.proto == SCTP:
		b := make([]byte, 12)
		binary.BigEndian.PutUint16(b, f.sport)
		binary.BigEndian.PutUint16(b[2:], f.dport)
		return append(b, f.payload...)
	}
	return f.payload
}

// ip returns the IP packet.
func (f *frame) ip() []byte {
	body := f.transport()
	if f.fragment && f.offset > 0 {
		body = f.payload
	}
	hops := f.hops
	if hops == 0 {
		hops = 64
	}
	if f.src.Is4() {
		b := make([]byte, 20)
		b[0] = 0x45
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(body)))
		if f.fragment {
			binary.BigEndian.PutUint16(b[4:], uint16(f.id))
			w := uint16(f.offset / 8)
			if f.more {
				w |= 0x2000
			}
			binary.BigEndian.PutUint16(b[6:], w)
		}
		b[8], b[9] = hops, byte(f.proto)
		copy(b[12:], f.src.AsSlice())
		copy(b[16:], f.dst.AsSlice())
		return append(b, body...)
	}
	b := make([]byte, 40)
	b[0], b[6], b[7] = 0x60, byte(f.proto), hops
	copy(b[8:], f.src.AsSlice())
	copy(b[24:], f.dst.AsSlice())
	if f.fragment {
		b[6] = 44
		x := make([]byte, 8)
		x[0] = byte(f.proto)
		w := uint16(f.offset)
		if f.more {
			w |= 1
		}
		binary.BigEndian.PutUint16(x[2:], w)
		binary.BigEndian.PutUint32(x[4:], f.id)
		b = append(b, x...)
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40+len(body)))
	return append(b, body...)
}

// bytes returns the frame.
func (f *frame) bytes() []byte {
	src, dst := f.srcMAC, f.dstMAC
	if src.IsZero() {
		src, dst = vmMAC, peerMAC
		if f.d == In {
			src, dst = peerMAC, vmMAC
		}
	}
	b := append(append([]byte(nil), dst[:]...), src[:]...)
	if f.src.Is4() {
		b = append(b, 0x08, 0x00)
	} else {
		b = append(b, 0x86, 0xdd)
	}
	return append(b, f.ip()...)
}

// packetOf makes a packet of the bytes of a frame.
func packetOf(b []byte, vlan uint32) packet {
	h := new(header.Header)
	h.Parse(b, len(b))
	return packet{b, h, len(b), vlan}
}

func (f *frame) packet() packet { return packetOf(f.bytes(), f.vlan) }

// reply returns a frame of the same flow in the other direction.
func (f frame) reply() frame {
	f.d = f.d.reverse()
	f.src, f.dst, f.sport, f.dport = f.dst, f.src, f.dport, f.sport
	f.seq, f.ack = f.ack, f.seq
	return f
}

const second = time.Second
