package sflow

import (
	"math"
	"math/bits"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

func sourceOf(rate int) *source {
	return newSource(&extension.Port{}, rate, time.Second)
}

// Each packet is chosen with probability 1/rate: number and place in the batch are those of the binomial
// and the uniform distribution.
func TestOneOfRateIsChosen(t *testing.T) {
	for _, rate := range []int{1, 2, 7, 100, 5000} {
		s := sourceOf(rate)
		const batch = 48
		batches := 1000 * rate / 8
		var chosen float64
		var at [batch]float64
		for range batches {
			_, set := s.pass(batch)
			chosen += float64(bits.OnesCount64(set))
			for ; set != 0; set &= set - 1 {
				at[bits.TrailingZeros64(set)]++
			}
		}
		packets, p := float64(batches*batch), 1/float64(rate)
		require.EqualValues(t, packets, s.passed.Load())
		require.InDelta(t, packets*p, chosen, 6*math.Sqrt(packets*p*(1-p)), "rate %d", rate)
		for i, n := range at {
			require.InDelta(t, chosen/batch, n, 6*math.Sqrt(chosen/batch), "rate %d, place %d", rate, i)
		}
	}
}

func TestDistancesAreGeometric(t *testing.T) {
	const rate, n = 10, 100_000
	s := skipOf(rate)
	var first, sum, squares float64
	for range n {
		d := float64(s.draw())
		if d == 1 {
			first++
		}
		sum += d
		squares += d * d
	}
	mean := sum / n
	require.InDelta(t, rate, mean, 0.2)
	require.InDelta(t, rate*(rate-1), squares/n-mean*mean, 4)
	require.InDelta(t, n/rate, first, 600)
	for range 1000 {
		require.EqualValues(t, 1, skipOf(1).draw())
	}
}

// Whichever workers carry them, every packet counts and every chosen one is taken once.
func TestWorkersShareASource(t *testing.T) {
	const workers, batches = 8, 20_000
	for _, rate := range []int{1, 3, 50} {
		s := sourceOf(rate)
		var mu sync.Mutex
		seen := map[uint64]bool{}
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				mine := make([]uint64, 0, batches)
				for i := range batches {
					before, set := s.pass(1 + (i+w)%4)
					for ; set != 0; set &= set - 1 {
						mine = append(mine, before+1+uint64(bits.TrailingZeros64(set)))
					}
				}
				mu.Lock()
				defer mu.Unlock()
				for _, n := range mine {
					require.False(t, seen[n], "packet %d twice", n)
					seen[n] = true
				}
			})
		}
		wg.Wait()
		packets := float64(workers * batches * 5 / 2)
		require.EqualValues(t, packets, s.passed.Load())
		require.Empty(t, s.due, "packets that nobody took")
		require.Greater(t, s.next.Load(), s.passed.Load())
		p := 1 / float64(rate)
		require.InDelta(t, packets*p, len(seen), 6*math.Sqrt(packets*p*(1-p)))
	}
}
