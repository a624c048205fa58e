package team

import (
	"encoding/binary"
	"math/bits"

	"github.com/hvswitch/hvswitch/internal/header"
)

// Keys of the hash: the first digits of the fractions of π and e, no more than noise.
const (
	key0 = 0x243f6a8885a308d3
	key1 = 0xb7e151628aed2a6a
)

func mix(a, b uint64) uint32 {
	hi, lo := bits.Mul64(a^key0, b^key1)
	return uint32(hi ^ lo ^ hi>>32 ^ lo>>32)
}

// hashPlain returns the hash of the flow of a frame that is plainly TCP or UDP: over IPv4 without options
// or fragments, or over IPv6 without extension headers. It does not look whether the lengths make sense:
// a malformed frame may leave by any member.
func hashPlain(head []byte) (hash uint32, ok bool) {
	const ipv4, ipv6 = 0x0800_45, 0x86dd_60
	if len(head) < 58 {
		return 0, false
	}
	b := (*[58]byte)(head)
	switch w := binary.BigEndian.Uint32(b[macsLen:]) >> 8; {
	case w == ipv4 && binary.BigEndian.Uint16(b[20:])&0x3fff == 0 && (b[23] == header.UDP || b[23] == header.TCP):
		return hash4(binary.BigEndian.Uint64(b[26:]), binary.BigEndian.Uint32(b[34:]), b[23]), true
	case w&^0xf == ipv6 && (b[20] == header.UDP || b[20] == header.TCP):
		return hash6((*[32]byte)(b[22:]), binary.BigEndian.Uint32(b[54:]), b[20]), true
	}
	return 0, false
}

func hash4(addrs uint64, ports uint32, proto uint8) uint32 {
	return mix(addrs, uint64(ports)<<8|uint64(proto))
}

func hash6(addrs *[32]byte, ports uint32, proto uint8) uint32 {
	a := mix(binary.BigEndian.Uint64(addrs[:]), binary.BigEndian.Uint64(addrs[8:]))
	b := mix(binary.BigEndian.Uint64(addrs[16:]), binary.BigEndian.Uint64(addrs[24:]))
	return mix(uint64(a)<<32|uint64(b), uint64(ports)<<8|uint64(proto))
}

// hashOf returns the hash of the flow of any frame whose headers have been parsed, the same as hashPlain.
// All fragments of a datagram have that of its addresses; what is not IP, or malformed, that of its MACs.
func hashOf(h *header.Header, head []byte) uint32 {
	var ports uint32
	var proto uint8
	if h.Flags&header.Ports != 0 && h.Flags&header.Fragment == 0 {
		ports, proto = uint32(h.SrcPort)<<16|uint32(h.DstPort), h.Proto
	}
	switch {
	case h.Reason != header.OK:
	case h.Flags&header.IPv4 != 0:
		return hash4(binary.BigEndian.Uint64(head[h.L3+12:]), ports, proto)
	case h.Flags&header.IPv6 != 0:
		return hash6((*[32]byte)(head[h.L3+8:]), ports, proto)
	}
	return mix(binary.BigEndian.Uint64(head)>>16, binary.BigEndian.Uint64(head[4:])&(1<<48-1))
}
