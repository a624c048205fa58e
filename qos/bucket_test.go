package qos_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/qos"
)

func TestBucket(t *testing.T) {
	b := qos.NewBucket(8000, 1000) // 1000 bytes a second
	require.True(t, b.Take(600, 0))
	require.False(t, b.Take(401, 0))
	require.True(t, b.Take(400, 0))
	require.True(t, b.Take(0, 0))
	require.True(t, b.Take(-1, 0))
	require.Equal(t, time.Second/10, b.Until(100, 0))
	require.False(t, b.Take(100, time.Second/10-1))
	require.True(t, b.Take(100, time.Second/10))
	require.False(t, b.Take(1, 0), "time does not go back")
	require.Zero(t, b.Until(1000, time.Hour), "it is full")

	require.True(t, b.Take(3000, time.Hour), "more than the burst when it is full")
	require.Equal(t, 2*time.Second+time.Millisecond, b.Until(1, time.Hour))
	require.Equal(t, 3*time.Second, b.Until(1000, time.Hour))
	require.Equal(t, 3*time.Second, b.Until(9000, time.Hour))
}

func TestBucketWithoutRateOrBurst(t *testing.T) {
	var zero qos.Bucket
	require.False(t, zero.Take(1, time.Hour))
	require.Equal(t, time.Duration(math.MaxInt64), zero.Until(1, time.Hour))
	b := qos.NewBucket(0, 10)
	require.True(t, b.Take(10, 0))
	require.Equal(t, time.Duration(math.MaxInt64), b.Until(1, time.Hour))
}

func TestBucketChangesLive(t *testing.T) {
	b := qos.NewBucket(8000, 1000)
	require.True(t, b.Take(1000, 0))
	b.Set(80_000, 5000, time.Second/2) // 500 bytes are there
	require.False(t, b.Take(501, time.Second/2))
	require.Equal(t, 50*time.Millisecond, b.Until(1000, time.Second/2))
	b.Set(80_000, 100, time.Second/2)
	require.True(t, b.Take(100, time.Second/2))
	require.False(t, b.Take(1, time.Second/2))
}

// exact is a Bucket that cannot overflow: its level in billionths of a bit.
type exact struct {
	rate, full, level *big.Int
	last              time.Duration
}

func newExact(rate uint64, burst int) *exact {
	full := new(big.Int).Mul(big.NewInt(int64(burst)), big.NewInt(8e9))
	return &exact{new(big.Int).SetUint64(rate), full, new(big.Int).Set(full), 0}
}

func (e *exact) refill(now time.Duration) {
	if now > e.last {
		gain := new(big.Int).Mul(big.NewInt(int64(now-e.last)), e.rate)
		if e.level.Add(e.level, gain); e.level.Cmp(e.full) > 0 {
			e.level.Set(e.full)
		}
		e.last = now
	}
}

func (e *exact) take(n int, now time.Duration) bool {
	e.refill(now)
	size := new(big.Int).Mul(big.NewInt(int64(n)), big.NewInt(8e9))
	need := size
	if need.Cmp(e.full) > 0 {
		need = e.full
	}
	if e.level.Cmp(need) < 0 {
		return false
	}
	e.level.Sub(e.level, size)
	return true
}

func TestBucketIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	wide := func(most uint64) uint64 { return 1 + r.Uint64N(most)>>r.IntN(40) }
	for range 300 {
		rate, burst := wide(1<<50), int(min(wide(qos.MaxBurst), qos.MaxBurst))
		b, e := qos.NewBucket(rate, burst), newExact(rate, burst)
		var now time.Duration
		for range 100 {
			now += time.Duration(wide(1 << 50))
			n := int(min(wide(qos.MaxBurst), qos.MaxBurst))
			if r.IntN(2) == 0 {
				now += b.Until(n, now)
				probe := b
				require.Zero(t, probe.Until(n, now))
				require.True(t, probe.Take(n, now))
			}
			require.Equal(t, e.take(n, now), b.Take(n, now), "rate %d, burst %d", rate, burst)
			if wait := b.Until(n, now); wait > 0 {
				early := b
				require.False(t, early.Take(n, now+wait-1), "Until is not too long")
			}
		}
	}
}

func FuzzBucket(f *testing.F) {
	f.Add(uint64(8000), 1000, int64(5), 100, int64(1e9), 2000)
	f.Add(uint64(math.MaxUint64), qos.MaxBurst, int64(math.MaxInt64), qos.MaxBurst, int64(1), 1)
	f.Fuzz(func(t *testing.T, rate uint64, burst int, t1 int64, n1 int, t2 int64, n2 int) {
		burst = min(max(burst, 1), qos.MaxBurst)
		b, e := qos.NewBucket(rate, burst), newExact(rate, burst)
		for _, s := range []struct {
			now time.Duration
			n   int
		}{{0, n1}, {time.Duration(t1), n1}, {time.Duration(t2), n2}, {math.MaxInt64, n1}} {
			n := min(max(s.n, 1), qos.MaxBurst)
			require.Equal(t, e.take(n, s.now), b.Take(n, s.now))
			require.GreaterOrEqual(t, b.Until(n, s.now), time.Duration(0))
		}
	})
}

func TestWireBytes(t *testing.T) {
	for _, c := range []struct{ n, headers, segment, want int }{
		{60, 0, 0, 84},
		{42, 0, 0, 84},
		{1514, 0, 0, 1538},
		{1514, 54, 1460, 1538},
		{1515, 54, 1460, 1538 + 84},
		{54 + 3*1460, 54, 1460, 3 * 1538},
		{54 + 3*1460 + 100, 54, 1460, 3*1538 + 178},
		{54 + 100, 54, 1, 100 * 84},
		{54, 54, 1460, 84},
		{100, 200, 10, 124},
	} {
		require.Equal(t, c.want, qos.WireBytes(c.n, c.headers, c.segment), "%+v", c)
	}
	for n := range 3000 {
		want := 0
		for left := n - 54; left > 0; left -= 500 {
			want += qos.WireBytes(54+min(left, 500), 0, 0)
		}
		require.Equal(t, max(want, 84), qos.WireBytes(n, 54, 500))
	}
}
