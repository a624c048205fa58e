package toeplitz

import (
	"encoding/binary"

	"github.com/hvswitch/hvswitch/internal/header"
)

// KeyLen is the length of a key in bytes: the longest input, 36 bytes, and 4 more.
const KeyLen = 40

// Key is the secret of a Hash. With a key that senders do not know they cannot choose flows that
// collide.
type Key [KeyLen]byte

// DefaultKey is the key of Microsoft's verification suite, which most drivers use.
var DefaultKey = Key{
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2,
	0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
	0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4,
	0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
	0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
}

// inputLen is the longest input: the addresses of IPv6 and two ports.
const inputLen = 36

// Hash computes the Toeplitz hash for one key, from a table for each byte of the input: 36 KiB. It never
// changes and may be used by several goroutines at once.
type Hash struct {
	// of[i][b] is the hash of an input whose byte i is b and whose other bytes are 0. The hash is
	// linear: that of any input is the sum of those of its bytes, without carry.
	of [inputLen][256]uint32
}

// New makes the tables for a key.
func New(key Key) *Hash {
	t := new(Hash)
	for i := range t.of {
		// The 39 bits of the key that meet the bits of byte i.
		window := uint64(binary.BigEndian.Uint32(key[i:]))<<8 | uint64(key[i+4])
		for bit := range 8 {
			contribution := uint32(window >> (8 - bit))
			half := 1 << (7 - bit)
			for b := half; b < 256; b = (b + 1) | half {
				t.of[i][b] ^= contribution
			}
		}
	}
	return t
}

// Of returns the hash of the frame whose head is parsed in h: of the IP addresses and ports of TCP, UDP
// and SCTP; of the IP addresses alone when there are no ports or the frame is a fragment, the first one
// too, so that all fragments of a datagram stay together; 0 when the frame is not IP.
func (t *Hash) Of(h *header.Header, head []byte) uint32 {
	sum := t.OfAddresses(h, head)
	if h.Flags&(header.Ports|header.Fragment) != header.Ports {
		return sum
	}
	switch {
	case h.Flags&header.IPv4 != 0:
		sum ^= four((*[4][256]uint32)(t.of[8:]), h.SrcPort, h.DstPort)
	case h.Flags&header.IPv6 != 0:
		sum ^= four((*[4][256]uint32)(t.of[32:]), h.SrcPort, h.DstPort)
	}
	return sum
}

// OfAddresses is Of without the ports.
func (t *Hash) OfAddresses(h *header.Header, head []byte) uint32 {
	switch at := int(h.L3); {
	case h.Flags&header.IPv4 != 0:
		return eight((*[8][256]uint32)(t.of[0:]), (*[8]byte)(head[at+12:at+20]))
	case h.Flags&header.IPv6 != 0:
		a := (*[32]byte)(head[at+8 : at+40])
		return eight((*[8][256]uint32)(t.of[0:]), (*[8]byte)(a[:])) ^
			eight((*[8][256]uint32)(t.of[8:]), (*[8]byte)(a[8:])) ^
			eight((*[8][256]uint32)(t.of[16:]), (*[8]byte)(a[16:])) ^
			eight((*[8][256]uint32)(t.of[24:]), (*[8]byte)(a[24:]))
	}
	return 0
}

// eight returns the sum of eight bytes.
func eight(of *[8][256]uint32, a *[8]byte) uint32 {
	return of[0][a[0]] ^ of[1][a[1]] ^ of[2][a[2]] ^ of[3][a[3]] ^ of[4][a[4]] ^ of[5][a[5]] ^ of[6][a[6]] ^ of[7][a[7]]
}

// four returns the sum of two ports.
func four(of *[4][256]uint32, src, dst uint16) uint32 {
	return of[0][src>>8] ^ of[1][byte(src)] ^ of[2][dst>>8] ^ of[3][byte(dst)]
}
