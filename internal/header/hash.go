package header

import (
	"encoding/binary"
	"math/bits"
)

// Keys of the hash: the first digits of the fractions of π and e, no more than noise.
const (
	key0 = 0x243f6a8885a308d3
	key1 = 0xb7e151628aed2a6a
	key2 = 0x13198a2e03707344
)

// Hash returns a number for choosing a queue or a worker, the same for all frames of a flow and for
// those of its other direction. It is taken of addresses, ports and protocol; of the IP addresses only
// when the frame is a fragment, so that all fragments of a datagram stay together; of the MAC addresses
// when the frame is malformed or not IP. head is the head that was parsed.
//
// A sender can choose its flows such that they collide, so it is no hash for a table.
func (h *Header) Hash(head []byte) uint32 {
	if h.Reason == OK {
		var ports uint64
		var proto uint64
		if h.Flags&Fragment == 0 {
			proto = uint64(h.Proto)
			if h.Flags&Ports != 0 {
				ports = uint64(h.SrcPort)<<16 | uint64(h.DstPort)
			}
		}
		switch {
		case h.Flags&IPv4 != 0:
			w := binary.BigEndian.Uint64(head[h.L3+12:])
			return mix(w>>32<<16|ports>>16, w&0xffffffff<<16|ports&0xffff, proto)
		case h.Flags&IPv6 != 0:
			a := (*[32]byte)(head[h.L3+8:])
			return mix(squeeze(a[:16], ports>>16), squeeze(a[16:], ports&0xffff), proto)
		}
	}
	if len(head) < ethernetLen {
		return 0
	}
	return mix(binary.BigEndian.Uint64(head)>>16, binary.BigEndian.Uint64(head[4:])&(1<<48-1), 0)
}

// mix hashes two ends of a flow in either order.
func mix(a, b, proto uint64) uint32 {
	hi, lo := bits.Mul64(min(a, b)^key0, max(a, b)^key1^proto<<56)
	hi, lo = bits.Mul64(hi^key2, lo^key0)
	return uint32((hi ^ lo) >> 32)
}

// squeeze makes one word of an IPv6 address and a port.
func squeeze(addr []byte, port uint64) uint64 {
	hi, lo := bits.Mul64(binary.BigEndian.Uint64(addr)^key0, binary.BigEndian.Uint64(addr[8:])^key1^port<<48)
	return hi ^ lo
}
