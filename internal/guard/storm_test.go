package guard

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStorm(t *testing.T) {
	s := NewStorm(100, 0)
	require.Equal(t, 100, s.Take(1000, 0), "a second's worth at once")
	require.Equal(t, 0, s.Take(1, 9*time.Millisecond))
	require.Equal(t, 1, s.Take(5, 10*time.Millisecond))
	require.Equal(t, 0, s.Take(5, 5*time.Millisecond), "time goes back")
	require.Equal(t, 50, s.Take(64, 510*time.Millisecond))
	require.Equal(t, 100, s.Take(1000, time.Hour), "no more than the burst")
	require.Equal(t, 0, s.Take(0, 2*time.Hour))
	require.Equal(t, 0, s.Take(-1, 2*time.Hour))

	require.Equal(t, 3, NewStorm(100, 3).Take(100, 0))
	require.Nil(t, NewStorm(0, 5))
	require.Equal(t, 7, NewStorm(0, 0).Take(7, 0), "no limit")
	require.Equal(t, math.MaxUint32, NewStorm(math.MaxUint32, 0).Take(math.MaxInt, math.MaxInt64))
}

// Whatever is asked for when, it grants as much as burst and rate allow, to the frame.
func TestStormIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		rate, burst := 1+r.Uint32N(1e6), 1+r.Uint32N(1000)
		s := NewStorm(rate, burst)
		var now time.Duration
		granted := 0
		for range 500 {
			now += time.Duration(r.IntN(3_000_000))
			n := r.IntN(128)
			got := s.Take(n, now)
			granted += got
			most := float64(burst) + now.Seconds()*float64(rate)
			require.LessOrEqual(t, float64(granted), most+1e-6)
		}
		// Always asked for more than there is, it grants all there can be.
		s = NewStorm(rate, burst)
		granted, now = 0, 0
		step := time.Duration(float64(time.Second) / float64(rate) * float64(burst) / 2)
		for range 500 {
			granted += s.Take(math.MaxInt32, now)
			now += step
		}
		most := float64(burst) + (now-step).Seconds()*float64(rate)
		require.InDelta(t, most, float64(granted), 1)
	}
}

func TestStormConcurrently(t *testing.T) {
	s := NewStorm(1000, 1000)
	var granted atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 10_000 {
				granted.Add(int64(s.Take(3, time.Duration(i)*time.Microsecond*100)))
			}
		})
	}
	wg.Wait()
	require.InDelta(t, 2000, granted.Load(), 1)
}
