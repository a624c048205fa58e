package capture

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
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

func TestFrameWord(t *testing.T) {
	w := makeFrameWord(65553, maxFrameLen, 63).withReason(7).withReason(maxReasons)
	require.Equal(t, 65553, w.captured())
	require.Equal(t, maxFrameLen, w.original())
	require.Equal(t, 63, w.place())
	require.EqualValues(t, maxReasons, w.reason())
	require.Zero(t, frameSize(65553)%word)
	require.Less(t, recordHeader+frameSize(MaxSnapLen), MinBuffer)
}
