package qos

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHeapIsSorted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		base := r.Uint64()
		if r.IntN(2) == 0 {
			base = math.MaxUint64 - 50 // keys wrap around
		}
		var h heap[int]
		want := map[*Class[int]]uint64{}
		add := func() {
			c, ahead := &Class[int]{}, r.Uint64N(100)
			h.push(base+ahead, c)
			want[c] = ahead
		}
		for range r.IntN(40) {
			add()
		}
		for range 100 {
			if len(h) == 0 {
				add()
				continue
			}
			switch r.IntN(4) {
			case 0:
				add()
			case 1:
				ahead := want[h[0].class] + r.Uint64N(100)
				want[h[0].class] = ahead
				h.rekey(base + ahead)
			case 2:
				c := h[r.IntN(len(h))].class
				h.remove(c)
				delete(want, c)
			case 3:
				least := slices.Min(aheads(want))
				c := h.pop()
				require.Equal(t, least, want[c])
				delete(want, c)
			}
		}
		require.Len(t, h, len(want))
		for len(h) > 0 {
			least := slices.Min(aheads(want))
			c := h.pop()
			require.Equal(t, least, want[c])
			delete(want, c)
		}
	}
}

func aheads(of map[*Class[int]]uint64) (list []uint64) {
	for _, a := range of {
		list = append(list, a)
	}
	return list
}
