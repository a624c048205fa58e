package vswitch

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// edgyIndex is a port index, often one at an end of a word or chunk.
func edgyIndex(r *rand.Rand) int {
	edges := []int{0, 1, 63, 64, 65, 127, 128, 129, 511, 512, 513, 1023, 1024, 4095, 4096, 9999}
	if r.IntN(2) == 0 {
		return edges[r.IntN(len(edges))]
	}
	return r.IntN(2000)
}

func TestPortSetsAreSetsAndVersionsNeverChange(t *testing.T) {
	type version struct {
		set  portSet
		want map[int]bool
	}
	r := rand.New(rand.NewPCG(1, 2))
	versions := []version{{want: map[int]bool{}}}
	for range 500 {
		from := versions[r.IntN(len(versions))]
		v := version{from.set, maps.Clone(from.want)}
		for range r.IntN(40) {
			i := edgyIndex(r)
			member := r.IntN(3) > 0
			v.set = v.set.with(i, member)
			if member {
				v.want[i] = true
			} else {
				delete(v.want, i)
			}
		}
		versions = append(versions, v)
	}
	for _, v := range versions {
		require.Equal(t, slices.Sorted(maps.Keys(v.want)), slices.Collect(v.set.all()), "in order")
		require.Equal(t, len(v.want), v.set.n)
		for i := range 10100 {
			if v.set.has(i) != v.want[i] {
				require.Equal(t, v.want[i], v.set.has(i), "port %d", i)
			}
		}
	}
}

func TestAnEmptiedPortSetIsEmpty(t *testing.T) {
	var s portSet
	for i := range 3000 {
		s = s.with(i, true)
	}
	for i := range 3000 {
		s = s.with(i, false)
	}
	require.Zero(t, s.n)
	require.Empty(t, slices.Collect(s.all()))
	for range s.all() {
		t.Fatal("has a member")
	}
}

func TestAWalkThroughAPortSetCanEndEarly(t *testing.T) {
	s := portSet{}.with(3, true).with(700, true).with(5000, true)
	var got []int
	for i := range s.all() {
		if got = append(got, i); i == 700 {
			break
		}
	}
	require.Equal(t, []int{3, 700}, got)
}

func TestPortTablesAreMapsAndVersionsNeverChange(t *testing.T) {
	type version struct {
		table portTable
		want  map[int]*portView
	}
	r := rand.New(rand.NewPCG(3, 4))
	versions := []version{{want: map[int]*portView{}}}
	for range 300 {
		from := versions[r.IntN(len(versions))]
		v := version{from.table, maps.Clone(from.want)}
		for range r.IntN(40) {
			i := edgyIndex(r)
			if r.IntN(3) > 0 {
				v.want[i] = &portView{maxLen: i}
			} else {
				delete(v.want, i)
			}
			v.table = v.table.with(i, v.want[i])
		}
		versions = append(versions, v)
	}
	for _, v := range versions {
		for i := range 10100 {
			if v.table.at(i) != v.want[i] {
				require.Same(t, v.want[i], v.table.at(i), "port %d", i)
			}
		}
		var want []*portView
		for _, i := range slices.Sorted(maps.Keys(v.want)) {
			want = append(want, v.want[i])
		}
		require.Equal(t, want, slices.Collect(v.table.all()), "in order")
	}
}

func BenchmarkPortSetWith(b *testing.B) {
	var s portSet
	for i := range 10_000 {
		s = s.with(i, true)
	}
	b.ReportAllocs()
	for i := range b.N {
		s = s.with(i%10_000, i/10_000%2 != 0)
	}
}
