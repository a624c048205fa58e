package checksum

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// slow is the definition: add the big-endian words, the last one padded with zero, and carry around.
func slow(b []byte) uint16 {
	var s uint32
	for i, v := range b {
		if i&1 == 0 {
			s += uint32(v) << 8
		} else {
			s += uint32(v)
		}
		if s > 0xffff {
			s = s&0xffff + 1
		}
	}
	return uint16(s)
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestExampleOfRFC1071(t *testing.T) {
	var s Sum
	s.Add([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}) // section 3
	require.Equal(t, uint16(0xddf2), s.Fold())
	require.Equal(t, ^uint16(0xddf2), s.Checksum())
}

func TestEveryLengthAgreesWithTheDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 700 {
		for _, b := range [][]byte{randomBytes(r, n), bytes.Repeat([]byte{0xff}, n), make([]byte, n)} {
			require.Equal(t, ^slow(b), Of(b), "%d bytes", n)
		}
	}
	for _, n := range []int{1448, 65483, 65535} {
		b := bytes.Repeat([]byte{0xff}, n)
		require.Equal(t, ^slow(b), Of(b), "%d bytes", n)
	}
}

func TestSumOfNothingIsZero(t *testing.T) {
	var s Sum
	s.Add(nil)
	require.Zero(t, s.Fold())
	require.Equal(t, uint16(0xffff), Of(nil))
}

func TestPiecesOfAnyLength(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		b := randomBytes(r, r.IntN(600))
		var s Sum
		for rest := b; len(rest) > 0; {
			n := min(len(rest), r.IntN(80))
			s.Add(rest[:n])
			rest = rest[n:]
		}
		require.Equal(t, slow(b), s.Fold())
	}
}

func TestWordsAndPseudoHeadersHaveNoPlace(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		addrs := randomBytes(r, []int{8, 32}[r.IntN(2)])
		proto, length, word := uint8(r.Uint32()), r.Uint32(), uint16(r.Uint32())
		head, body := randomBytes(r, r.IntN(50)), randomBytes(r, r.IntN(50))

		all := bytes.Clone(addrs)
		if len(addrs) == 8 {
			length &= 0xffff
			all = append(all, 0, proto)
			all = binary.BigEndian.AppendUint16(all, uint16(length))
		} else {
			all = binary.BigEndian.AppendUint32(all, length)
			all = append(all, 0, 0, 0, proto)
		}
		all = binary.BigEndian.AppendUint16(all, word)
		all = append(append(all, head...), body...)

		var s Sum
		s.Add(head)
		s.AddPseudo(addrs, proto, length)
		s.AddWord(word)
		s.Add(body)
		require.Equal(t, slow(all), s.Fold())
	}
}

func TestUpdateAgreesWithAFreshSum(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 5000 {
		b := randomBytes(r, 20+2*r.IntN(20))
		was := Of(b)
		at := 2 * r.IntN(len(b)/2-1)
		old := binary.BigEndian.Uint32(b[at:])
		changed := r.Uint32() & []uint32{0xffffffff, 0xffff, 0xffff0000, 0}[r.IntN(4)]
		binary.BigEndian.PutUint32(b[at:], changed)
		require.Equal(t, Of(b), Update32(was, old, changed))
		two := Update(Update(was, uint16(old>>16), uint16(changed>>16)), uint16(old), uint16(changed))
		require.Equal(t, Of(b), two)
	}
}

func TestUpdateOfRFC1624(t *testing.T) {
	require.Equal(t, uint16(0x0000), Update(0xdd2f, 0x5555, 0x3285)) // section 4
}

func TestSumsAllocateNothing(t *testing.T) {
	b := make([]byte, 1500)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		var s Sum
		s.AddPseudo(b[:8], 6, 1400)
		s.Add(b[:101])
		s.Add(b[101:])
		_ = s.Checksum()
	}))
}

func FuzzSum(f *testing.F) {
	f.Add([]byte("an odd number of bytes, cut in three."), uint16(7), uint16(11))
	f.Add(bytes.Repeat([]byte{0xff}, 200), uint16(1), uint16(129))
	f.Add([]byte{}, uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, one, two uint16) {
		i := int(one) % (len(b) + 1)
		j := i + int(two)%(len(b)-i+1)
		var s Sum
		s.Add(b[:i])
		s.Add(b[i:j])
		s.Add(b[j:])
		require.Equal(t, slow(b), s.Fold())
		require.Equal(t, ^slow(b), Of(b))
	})
}
