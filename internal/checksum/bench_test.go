package checksum

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"testing"
)

// oneChain is the plain 64-bit loop that sum is compared with.
func oneChain(b []byte) uint64 {
	var s, c uint64
	for ; len(b) >= 64; b = b[64:] {
		p := (*[64]byte)(b)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[0:]), 0)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[8:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[16:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[24:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[32:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[40:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[48:]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[56:]), c)
		s += c
	}
	for ; len(b) >= 8; b = b[8:] {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), 0)
		s += c
	}
	for i, v := range b {
		s, c = bits.Add64(s, uint64(v)<<(8*i), 0)
		s += c
	}
	return s
}

var sink uint64

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 1448, 65483} {
		buf := make([]byte, n)
		b.Run(fmt.Sprintf("two chains/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				sink += sum(buf)
			}
		})
		b.Run(fmt.Sprintf("one chain/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				sink += oneChain(buf)
			}
		})
		dst := make([]byte, n)
		b.Run(fmt.Sprintf("memcpy/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				copy(dst, buf)
			}
		})
	}
}
