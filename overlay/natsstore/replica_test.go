package natsstore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
)

// A subnet has moved from one network to another, and the snapshot of the one that it has left is older
// than that. Whoever has caught up knows where the subnet is, in whatever order the snapshots were read.
func TestSubnetsOfSnapshotsOfDifferentAges(t *testing.T) {
	origin := newReplica(true)
	origin.loaded, origin.live, origin.session = true, true, 1
	var made []*transaction
	at := uint64(0)
	commit := func(changes ...overlay.Change) {
		at++
		made = append(made, origin.prepare(changes))
		require.NoError(t, origin.check(made[at-1], mark{at, at}))
		origin.apply(made[at-1], mark{at, at})
	}
	save := func(id overlay.RDID) *snapshot {
		d := origin.domains[id]
		return &snapshot{at: d.at, payload: d.encode()}
	}
	commit(subnet(5001, red), record(5001, 1, 1))
	old := save(red)
	commit(subnet(5001, blue))
	commit(record(5001, 2, 1))
	moved := save(blue)
	commit(record(5001, 3, 1))

	for _, order := range [][]*snapshot{{old, moved}, {moved, old}} {
		s := &Store{r: newReplica(true), progress: make(chan struct{})}
		s.r.session = 1
		for _, e := range order {
			id := red
			if e == moved {
				id = blue
			}
			s.r.domains[id] = newDomain(id)
			require.NoError(t, s.r.fetch(s.r.domains[id], e))
		}
		s.r.loaded = true
		n := &session{Store: s, ctx: t.Context()}
		for i, made := range made {
			m := mark{uint64(i + 1), uint64(i + 1)}
			require.NoError(t, s.r.check(made, m))
			s.r.apply(made, m)
		}
		require.NoError(t, n.show(func() {}))
		require.NotNil(t, s.online)
		for _, changes := range [][]overlay.Change{
			{record(5001, 4, 1)}, {{Record: record(5001, 1, 1).Record, Delete: true}}, {{Subnet: subnet(5001, blue).Subnet, Delete: true}},
		} {
			want, got := origin.prepare(changes), s.r.prepare(changes)
			require.Equal(t, want.networks, got.networks)
			require.ElementsMatch(t, want.steps, got.steps)
		}
	}
}
