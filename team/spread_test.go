package team

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever fails and comes back: buckets are at live members only, only those move that must, and each
// member has its share.
func TestSpread(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		s := newSpread()
		var weights [MaxMembers]uint64
		members := 1 + r.IntN(MaxMembers)
		all := uint32(1<<members - 1)
		for i := range members {
			weights[i] = 1
		}
		s.settle(&weights, all)
		home := s
		live := all
		for range 20 {
			before, was := s, live
			live ^= 1 << r.IntN(members)
			s.settle(&weights, live)
			var has [MaxMembers]int
			for b, at := range s.at {
				if live == 0 {
					require.EqualValues(t, nobody, at)
					continue
				}
				if live>>at&1 == 0 {
					t.Fatalf("bucket %d is at member %d, which is dead", b, at)
				}
				has[at]++
				old := before.at[b]
				back := live&^was>>s.home[b]&1 != 0
				if old != nobody && live>>old&1 != 0 && !back && old != at {
					t.Fatalf("bucket %d has moved from %d to %d without need", b, old, at)
				}
			}
			require.Equal(t, home.home, s.home)
			if live == all {
				require.Equal(t, home.at, s.at)
				for i := range members {
					require.InDelta(t, buckets/members, has[i], 1)
				}
			}
		}
	}
}

func TestSpreadByWeight(t *testing.T) {
	s := newSpread()
	weights := [MaxMembers]uint64{10, 10, 40, 100}
	s.settle(&weights, 0b1111)
	var has [4]int
	for _, at := range s.at {
		has[at]++
	}
	require.Equal(t, [4]int{64, 64, 256, 640}, has)
	s.settle(&weights, 0b0111)
	has = [4]int{}
	for _, at := range s.at {
		has[at]++
	}
	require.InDelta(t, buckets/6, has[0], 2)
	require.InDelta(t, buckets*4/6, has[2], 2)
}

func TestNeighbouringAddressesAreAtDifferentMembers(t *testing.T) {
	s := newSpread()
	weights := [MaxMembers]uint64{1, 1, 1, 1}
	s.settle(&weights, 0b1111)
	for first := range uint64(2000) {
		seen := map[uint8]bool{}
		for i := range uint64(4) {
			seen[s.at[bucketOf(0x00155d000000+first*4+i)]] = true
		}
		require.Len(t, seen, 4)
	}
}

// A guest that sends from ever new addresses does not displace those who go on sending.
func TestTableOfVNICsIsBounded(t *testing.T) {
	var v vnics
	v.init()
	r := rand.New(rand.NewPCG(1, 1))
	const busy, vlan = 64, 7
	for n := range uint32(200_000) {
		tick := forgetTicks + n/10_000
		v.touch(r.Uint64()<<16>>1|vlan, 0x8100, tick)
		if n%100 == 0 {
			for i := range uint64(busy) {
				v.touch(i<<16|0x020000000000<<16, 0, tick)
			}
		}
	}
	tick := forgetTicks + 20
	found := 0
	for i := range uint64(busy) {
		if v.within(i<<16|0x020000000000<<16, tick, reflectTicks) {
			found++
		}
	}
	require.Greater(t, found, busy*9/10)
	require.LessOrEqual(t, len(v.all(tick)), vnicSets*vnicWays)
	require.Empty(t, v.all(tick+forgetTicks+1))
}
