package capture

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// A ring gives out memory that no other record has, and records in the order in which they were reserved.
func TestRingIsAQueue(t *testing.T) {
	type piece struct {
		at, n int
		fill  byte
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	r := ring{buf: make([]byte, 1000)}
	var queue []piece
	full, wraps := 0, 0
	for i := range 20_000 {
		switch rnd.IntN(5) {
		case 0, 1, 2:
			want := 1 + rnd.IntN(300)
			at, room := r.room(want)
			if room < want {
				full++
				require.LessOrEqual(t, room, len(r.buf)-r.used())
				break
			}
			if at < r.head {
				wraps++
			}
			b := r.reserve(at, want)
			for k := range b {
				b[k] = byte(i)
			}
			queue = append(queue, piece{at, want, byte(i)})
		case 3:
			if n := len(queue); n > 0 {
				last := queue[n-1]
				require.True(t, r.unreserve(last.at, last.n))
				queue = queue[:n-1]
			}
		case 4:
			for oldest := r.oldest(); len(oldest) > 0 && rnd.IntN(3) > 0; {
				p := queue[0]
				queue = queue[1:]
				for _, c := range oldest[:p.n] {
					require.Equal(t, p.fill, c)
				}
				oldest = oldest[p.n:]
				r.release(p.n)
			}
		}
		total := 0
		for _, p := range queue {
			total += p.n
		}
		require.Equal(t, total, r.used())
	}
	require.Greater(t, full, 100)
	require.Greater(t, wraps, 100)
}

func TestRingRefusesToGiveBackWhatIsNotNewest(t *testing.T) {
	r := ring{buf: make([]byte, 100)}
	r.reserve(0, 10)
	r.reserve(10, 10)
	require.False(t, r.unreserve(0, 10))
	require.True(t, r.unreserve(10, 10))
	require.True(t, r.unreserve(0, 10))
	require.Zero(t, r.used())
}

func TestRecordWaitsWithItsWord(t *testing.T) {
	b := extension.NewBatch(out, nil, nil, nil, numbered(5, 1), numbered(300, 2), numbered(70, 3))
	size := sizeOf(b, 0b111, 100)
	require.Equal(t, blockSize(5)+blockSize(100)+blockSize(70), size)
	r := make(record, size)
	r.init(size)
	r.fill(b, 0b111, 100, 7, 1<<40|9)
	require.Equal(t, size, r.size())
	require.False(t, r.is(settled))
	r.settle(2, marked)
	r.setReason(maxReasons)
	require.True(t, r.is(settled))
	require.True(t, r.is(marked))
	require.Equal(t, size, r.size())
	require.Equal(t, 2, r.frames())
	require.EqualValues(t, maxReasons, r.reason())
	require.EqualValues(t, 7, r.id())

	r.restore()
	blocks := readBlocks(t, r)
	require.Len(t, blocks, 3)
	require.EqualValues(t, blockPacket, blocks[0].kind)
	for i, captured := range []int{5, 100, 70} {
		block, rest := r.next()
		require.Len(t, block, blockSize(captured))
		r = rest
		require.EqualValues(t, captured, le.Uint32(blocks[i].body[12:]))
		require.EqualValues(t, b.Frame(i).Len(), le.Uint32(blocks[i].body[16:]))
	}
	require.Empty(t, r)
	require.Less(t, blockSize(MaxSnapLen), MinBuffer)
}
