package checksum

import (
	"encoding/binary"
	"math/bits"
)

// Sum is a one's complement sum (RFC 1071, section 1) over the bytes added so far. The zero value is the
// sum of nothing.
//
// The 16-bit words are those of the whole sequence: a piece that begins behind an odd number of bytes
// is added with its bytes swapped (RFC 1071, section 2 (B)), so a packet may be cut anywhere.
type Sum struct {
	acc uint64 // of little-endian words; congruent to the sum modulo 2¹⁶−1
	odd bool   // an odd number of bytes has been added
}

// Add adds the next bytes of the sequence.
func (s *Sum) Add(b []byte) {
	p := sum(b)
	if s.odd {
		p = uint64(bits.ReverseBytes16(fold(p)))
	}
	s.merge(p)
	s.odd = s.odd != (len(b)&1 == 1)
}

// AddWord adds one word in front of or behind the sequence: its place does not matter, since it does
// not change what is odd.
func (s *Sum) AddWord(w uint16) { s.merge(uint64(bits.ReverseBytes16(w))) }

// AddPseudo adds a pseudo header: addrs are source and destination as they stand in the packet (8 bytes
// of IPv4, RFC 9293 section 3.1, or 32 of IPv6, RFC 8200 section 8.1), length is that of the transport
// header and its payload. The two kinds differ only in zeros, which add nothing. Like a word, it has no
// place in the sequence.
func (s *Sum) AddPseudo(addrs []byte, proto uint8, length uint32) {
	w := uint64(proto) + uint64(length>>16) + uint64(length&0xffff) // below 2¹⁸
	s.merge(sum(addrs))
	s.merge(uint64(bits.ReverseBytes32(uint32(w)))) // 2¹⁶ ≡ 1, so two words in one
}

// Fold returns the sum itself, as the checksum field holds it that asks for completion.
func (s *Sum) Fold() uint16 { return bits.ReverseBytes16(fold(s.acc)) }

// Checksum returns the complement of the sum: what the checksum field holds on the wire. Over bytes
// whose checksum is right it returns 0.
func (s *Sum) Checksum() uint16 { return ^s.Fold() }

func (s *Sum) merge(p uint64) {
	acc, carry := bits.Add64(s.acc, p, 0)
	s.acc = acc + carry
}

// Of returns the checksum of b.
func Of(b []byte) uint16 { return ^bits.ReverseBytes16(fold(sum(b))) }

// fold reduces a sum to 16 bits. Only the sum of nothing but zeros folds to 0.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff // at most 33 bits
	acc = acc>>16 + acc&0xffff     // at most 18 bits
	acc = acc>>16 + acc&0xffff     // at most 17 bits
	return uint16(acc>>16 + acc)
}

// sum adds the little-endian words of b, eight bytes at a time with the carry passed on (RFC 1071,
// section 2 (A) to (C)). Two chains run side by side, as one alone waits for its own carry. Adding the
// last carry of a chain cannot carry again: a sum of two words that carried is not all ones.
func sum(b []byte) uint64 {
	var x, y, c uint64
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		x, c = bits.Add64(x, binary.LittleEndian.Uint64(p[0:]), 0)
		x, c = bits.Add64(x, binary.LittleEndian.Uint64(p[8:]), c)
		x, c = bits.Add64(x, binary.LittleEndian.Uint64(p[16:]), c)
		x, c = bits.Add64(x, binary.LittleEndian.Uint64(p[24:]), c)
		x, _ = bits.Add64(x, 0, c)
		y, c = bits.Add64(y, binary.LittleEndian.Uint64(p[32:]), 0)
		y, c = bits.Add64(y, binary.LittleEndian.Uint64(p[40:]), c)
		y, c = bits.Add64(y, binary.LittleEndian.Uint64(p[48:]), c)
		y, c = bits.Add64(y, binary.LittleEndian.Uint64(p[56:]), c)
		y, _ = bits.Add64(y, 0, c)
		b = b[64:]
	}
	x, c = bits.Add64(x, y, 0)
	x += c
	if len(b) >= 32 {
		p := (*[32]byte)(b)
		x, c = bits.Add64(x, binary.LittleEndian.Uint64(p[0:]), 0)
		x, c = bits.Add64(x, binary.LittleEndian.Uint64(p[8:]), c)
		x, c = bits.Add64(x, binary.LittleEndian.Uint64(p[16:]), c)
		x, c = bits.Add64(x, binary.LittleEndian.Uint64(p[24:]), c)
		x, _ = bits.Add64(x, 0, c)
		b = b[32:]
	}
	if len(b) >= 16 {
		x, c = bits.Add64(x, binary.LittleEndian.Uint64(b), 0)
		x, c = bits.Add64(x, binary.LittleEndian.Uint64(b[8:]), c)
		x, _ = bits.Add64(x, 0, c)
		b = b[16:]
	}
	if len(b) >= 8 {
		x, c = bits.Add64(x, binary.LittleEndian.Uint64(b), 0)
		x += c
		b = b[8:]
	}
	var t uint64 // the last 0 to 7 bytes
	n := 0
	if len(b) >= 4 {
		t = uint64(binary.LittleEndian.Uint32(b))
		b, n = b[4:], 32
	}
	if len(b) >= 2 {
		t |= uint64(binary.LittleEndian.Uint16(b)) << n
		b, n = b[2:], n+16
	}
	if len(b) == 1 {
		t |= uint64(b[0]) << n
	}
	x, c = bits.Add64(x, t, 0)
	return x + c
}
