package team

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/header"
)

func TestShortAndLongWayHaveTheSameHash(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	plain := 0
	for range 10_000 {
		b := make([]byte, 58+r.IntN(40))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		n, proto := len(b)-14, []byte{6, 17, 1, 132}[r.IntN(4)]
		if r.IntN(2) == 0 {
			copy(b[12:], []byte{8, 0, 0x45, 0, byte(n >> 8), byte(n), 0, 0, byte(r.IntN(2) << 5), 0, 64, proto})
			b[46], b[38], b[39] = 5<<4, 0, byte(n-20)
		} else {
			copy(b[12:], []byte{0x86, 0xdd, 0x60 | byte(r.IntN(16)), 0, 0, 0, 0, byte(n - 40), proto, 64})
			b = append(b, make([]byte, 20)...)
			b[66], b[58], b[59] = 5<<4, 0, 8
		}
		hash, ok := hashPlain(b)
		var h header.Header
		h.Parse(b, len(b))
		if ok && h.Reason == header.OK {
			require.Equal(t, hashOf(&h, b), hash)
			plain++
		}
	}
	require.Greater(t, plain, 1000)
}
