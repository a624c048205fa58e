package vlan_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
)

// setOf returns the set with these ids.
func setOf(ids ...uint16) vlan.Set {
	var s vlan.Set
	for _, id := range ids {
		if err := s.Add(id); err != nil {
			panic(err)
		}
	}
	return s
}

// edgyID returns an id, often one at an end of the range or of a word.
func edgyID(r *rand.Rand) uint16 {
	edges := []uint16{1, 2, 62, 63, 64, 65, 127, 128, 4030, 4031, 4032, 4093, 4094}
	if r.IntN(2) == 0 {
		return edges[r.IntN(len(edges))]
	}
	return uint16(1 + r.IntN(4094))
}

func TestSetsAreSets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	type version struct {
		set  vlan.Set
		want map[uint16]bool
	}
	versions := []version{{want: map[uint16]bool{}}}
	for range 300 {
		from := versions[r.IntN(len(versions))]
		v := version{from.set, maps.Clone(from.want)}
		for range r.IntN(30) {
			first, last := edgyID(r), edgyID(r)
			switch r.IntN(4) {
			case 0:
				require.NoError(t, v.set.Add(first))
				v.want[first] = true
			case 1:
				if first > last {
					first, last = last, first
				}
				last = min(last, first+100)
				require.NoError(t, v.set.AddRange(first, last))
				for id := first; id <= last; id++ {
					v.want[id] = true
				}
			case 2:
				v.set.Remove(first)
				delete(v.want, first)
			case 3:
				o := versions[r.IntN(len(versions))]
				v.set = v.set.Union(o.set)
				maps.Copy(v.want, o.want)
			}
		}
		versions = append(versions, v)
	}
	for _, v := range versions {
		require.Equal(t, slices.Sorted(maps.Keys(v.want)), slices.Collect(v.set.All()), "in order")
		require.Equal(t, len(v.want), v.set.Len())
		require.Equal(t, len(v.want) == 0, v.set.IsZero())
		for id := range 1 << 16 {
			if v.set.Has(uint16(id)) != v.want[uint16(id)] {
				t.Fatalf("VLAN %d", id)
			}
		}
		o := versions[r.IntN(len(versions))]
		require.Equal(t, maps.Equal(v.want, o.want), v.set == o.set)
		require.Equal(t, v.set == o.set, v.set.Equal(o.set))
	}
}

func TestAllIDs(t *testing.T) {
	s := vlan.AllIDs()
	require.Equal(t, 4094, s.Len())
	require.False(t, s.Has(0))
	require.True(t, s.Has(1))
	require.True(t, s.Has(4094))
	require.False(t, s.Has(4095))
	var byRange vlan.Set
	require.NoError(t, byRange.AddRange(1, 4094))
	require.Equal(t, byRange, s)
}

func TestSetsRefuseWhatIsNoID(t *testing.T) {
	s := setOf(7)
	require.EqualError(t, s.Add(0), "VLAN 0 is out of 1–4094")
	require.EqualError(t, s.Add(4095), "VLAN 4095 is out of 1–4094")
	require.EqualError(t, s.Add(65535), "VLAN 65535 is out of 1–4094")
	require.EqualError(t, s.AddRange(4000, 4095), "VLAN 4095 is out of 1–4094")
	require.EqualError(t, s.AddRange(0, 9), "VLAN 0 is out of 1–4094")
	require.EqualError(t, s.AddRange(9, 8), "the range 9-8 goes backwards")
	for _, id := range []uint16{0, 4095, 4096 + 7, 65535} {
		s.Remove(id)
	}
	require.Equal(t, setOf(7), s, "is unchanged")
}

func TestAWalkThroughASetCanEndEarly(t *testing.T) {
	var got []uint16
	for id := range setOf(3, 700, 4094).All() {
		if got = append(got, id); id == 700 {
			break
		}
	}
	require.Equal(t, []uint16{3, 700}, got)
}
