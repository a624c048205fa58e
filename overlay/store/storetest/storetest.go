// Package storetest is the conformance suite of package store: what every Store does, in one call.
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store { return mystore.New(t) })
//	}
package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/overlay/store"
	"github.com/hvswitch/hvswitch/ports"
)

// Networks of the tests.
var networks = []overlay.RDID{{1}, {2}, {3}}

// wait is how long something may take that a store does by itself.
const wait = 10 * time.Second

// Run runs the suite. open returns an empty store, which ends with the test.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s store.Store)
	}{
		{"SnapshotComesFirst", snapshotFirst},
		{"TransactionsAreWhole", wholeTransactions},
		{"NothingOutOfScope", scope},
		{"ScopeChanges", scopeChanges},
		{"RecordsFollowTheirSubnet", recordsFollow},
		{"AnInvalidChangeChangesNothing", invalid},
		{"SlowWatchersGetASnapshot", slow},
		{"NextWaits", waits},
		{"RandomHistories", histories},
		{"ManyAtOnce", concurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

func subnet(v overlay.VSID, id overlay.RDID) overlay.Change {
	return overlay.Change{Subnet: &overlay.Subnet{VSID: v, RDID: id}}
}

func record(v overlay.VSID, n, host byte) overlay.Change {
	return overlay.Change{Record: &overlay.LookupRecord{VSID: v, CA: netip.AddrFrom4([4]byte{10, 0, 0, n}),
		MAC: ports.MAC{2, 0, 0, 0, 0, n}, PA: netip.AddrFrom4([4]byte{192, 0, 2, host})}}
}

func route(v overlay.VSID, id overlay.RDID, metric uint32) overlay.Change {
	return overlay.Change{Route: &overlay.CustomerRoute{RDID: id, VSID: v, Metric: metric,
		Destination: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(v), 0}), 24)}}
}

func remove(c overlay.Change) overlay.Change {
	c.Delete = true
	return c
}

// state is what somebody knows who has seen events.
type state map[overlay.Key]string

func (s state) apply(changes []overlay.Change) {
	for i := range changes {
		c := &changes[i]
		if c.Delete {
			delete(s, c.Key())
			continue
		}
		switch {
		case c.Subnet != nil:
			s[c.Key()] = fmt.Sprintf("%+v", *c.Subnet)
		case c.Record != nil:
			s[c.Key()] = fmt.Sprintf("%+v", *c.Record)
		case c.Route != nil:
			s[c.Key()] = fmt.Sprintf("%+v", *c.Route)
		}
	}
}

// follower applies the events of a watcher.
type follower struct {
	t        *testing.T
	w        store.Watcher
	known    state
	revision uint64
	events   int
}

func watch(t *testing.T, s store.Store, ids ...overlay.RDID) *follower {
	w, err := s.Watch(t.Context(), ids...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.Close() })
	return &follower{t: t, w: w}
}

// next takes one event.
func (f *follower) next() store.Event {
	ctx, cancel := context.WithTimeout(f.t.Context(), wait)
	defer cancel()
	e, err := f.w.Next(ctx)
	require.NoError(f.t, err)
	require.True(f.t, f.known != nil || e.Snapshot, "the first event is a snapshot")
	require.GreaterOrEqual(f.t, e.Revision, f.revision, "revisions never go back")
	if e.Snapshot {
		f.known = state{}
		require.False(f.t, slices.ContainsFunc(e.Changes, func(c overlay.Change) bool { return c.Delete }))
	}
	f.known.apply(e.Changes)
	f.revision = e.Revision
	f.events++
	return e
}

// until takes events until what is known is as wanted.
func (f *follower) until(want state) {
	f.t.Helper()
	deadline := time.Now().Add(wait)
	for f.known == nil || !f.known.equal(want) {
		require.True(f.t, time.Now().Before(deadline), "never got there: has %v, wants %v", f.known, want)
		f.next()
	}
}

// still fails when there is another event.
func (f *follower) still() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Millisecond)
	defer cancel()
	e, err := f.w.Next(ctx)
	require.ErrorIs(f.t, err, context.DeadlineExceeded, "%+v", e)
}

func (s state) equal(o state) bool {
	if len(s) != len(o) {
		return false
	}
	for k, v := range s {
		if o[k] != v {
			return false
		}
	}
	return true
}

func of(changes ...overlay.Change) state {
	s := state{}
	s.apply(changes)
	return s
}

func commit(t *testing.T, s store.Store, changes ...overlay.Change) uint64 {
	t.Helper()
	r, err := s.Commit(t.Context(), changes)
	require.NoError(t, err)
	return r
}

func snapshotFirst(t *testing.T, s store.Store) {
	empty := watch(t, s, networks[0])
	e := empty.next()
	require.True(t, e.Snapshot)
	require.Empty(t, e.Changes)
	changes := []overlay.Change{subnet(5001, networks[0]), record(5001, 1, 1), route(5001, networks[0], 0)}
	r := commit(t, s, changes...)
	f := watch(t, s, networks[0])
	e = f.next()
	require.Equal(t, r, e.Revision)
	require.Equal(t, of(changes...), f.known)
	f.still()
	require.Equal(t, r, empty.next().Revision)
	require.Equal(t, f.known, empty.known)
}

func wholeTransactions(t *testing.T, s store.Store) {
	f := watch(t, s, networks[0], networks[1])
	f.next()
	last := uint64(0)
	for i := range byte(20) {
		changes := []overlay.Change{subnet(5001, networks[0]), subnet(6001, networks[1]), record(5001, 1, i+1), record(6001, 1, i+1), record(5001, 2, i+1)}
		r := commit(t, s, changes...)
		require.Greater(t, r, last)
		last = r
	}
	for i := range byte(20) {
		e := f.next()
		if e.Snapshot {
			return
		}
		want := of(subnet(5001, networks[0]), subnet(6001, networks[1]), record(5001, 1, i+1), record(6001, 1, i+1), record(5001, 2, i+1))
		require.Equal(t, want, f.known)
	}
}

func scope(t *testing.T, s store.Store) {
	f := watch(t, s, networks[0])
	f.next()
	commit(t, s, subnet(6001, networks[1]), record(6001, 1, 1), route(6001, networks[1], 0))
	f.still()
	commit(t, s, subnet(5001, networks[0]), record(6001, 2, 1))
	f.until(of(subnet(5001, networks[0])))
	nothing := watch(t, s)
	require.Empty(t, nothing.next().Changes)
}

func scopeChanges(t *testing.T, s store.Store) {
	red := []overlay.Change{subnet(5001, networks[0]), record(5001, 1, 1), route(5001, networks[0], 0)}
	blue := []overlay.Change{subnet(6001, networks[1]), record(6001, 1, 1), route(6001, networks[1], 0)}
	commit(t, s, red...)
	commit(t, s, blue...)
	f := watch(t, s, networks[0])
	f.next()
	require.NoError(t, f.w.SetScope(networks[0], networks[1]))
	f.until(of(slices.Concat(red, blue)...))
	require.NoError(t, f.w.SetScope(networks[1]))
	f.until(of(blue...))
	require.NoError(t, f.w.SetScope())
	f.until(state{})
	commit(t, s, record(6001, 2, 2))
	f.still()
	require.NoError(t, f.w.SetScope(networks[1]))
	f.until(of(append(blue, record(6001, 2, 2))...))
}

func recordsFollow(t *testing.T, s store.Store) {
	commit(t, s, record(5001, 1, 1), route(5001, networks[0], 0))
	red, blue := watch(t, s, networks[0]), watch(t, s, networks[1])
	red.until(of(route(5001, networks[0], 0)))
	blue.until(state{})
	commit(t, s, subnet(5001, networks[0]))
	red.until(of(route(5001, networks[0], 0), subnet(5001, networks[0]), record(5001, 1, 1)))
	commit(t, s, subnet(5001, networks[1]))
	red.until(of(route(5001, networks[0], 0)))
	blue.until(of(subnet(5001, networks[1]), record(5001, 1, 1)))
	commit(t, s, remove(subnet(5001, networks[1])))
	blue.until(state{})
	commit(t, s, subnet(5001, networks[1]), remove(record(5001, 1, 1)))
	blue.until(of(subnet(5001, networks[1])))
}

func invalid(t *testing.T, s store.Store) {
	f := watch(t, s, networks[0])
	f.next()
	bad := record(5001, 1, 1)
	bad.Record.MAC = ports.MAC{}
	_, err := s.Commit(t.Context(), []overlay.Change{subnet(5001, networks[0]), bad})
	require.ErrorAs(t, err, new(*overlay.ConfigError))
	f.still()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Commit(ctx, []overlay.Change{subnet(5001, networks[0])})
	require.ErrorIs(t, err, context.Canceled)
}

func slow(t *testing.T, s store.Store) {
	commit(t, s, subnet(5001, networks[0]))
	f := watch(t, s, networks[0])
	f.next()
	want := of(subnet(5001, networks[0]))
	for round := range 4 {
		var changes []overlay.Change
		for n := range 25000 {
			c := record(5001, 0, byte(round+1))
			c.Record.CA = netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})
			changes = append(changes, c)
		}
		want.apply(changes)
		commit(t, s, changes...)
	}
	f.until(want)
	require.Less(t, f.events, 8)
}

func waits(t *testing.T, s store.Store) {
	f := watch(t, s, networks[0])
	f.next()
	got := make(chan error)
	go func() {
		_, err := f.w.Next(context.Background())
		got <- err
	}()
	select {
	case err := <-got:
		require.Fail(t, "did not wait", "%v", err)
	case <-time.After(10 * time.Millisecond):
	}
	commit(t, s, subnet(5001, networks[0]))
	require.NoError(t, <-got)
	go func() {
		_, err := f.w.Next(context.Background())
		got <- err
	}()
	require.NoError(t, f.w.Close())
	require.NoError(t, f.w.Close())
	require.ErrorIs(t, <-got, store.ErrClosed)
	require.ErrorIs(t, f.w.SetScope(networks[0]), store.ErrClosed)
}

// model is the policy as a list of objects.
type model struct {
	all map[overlay.Key]overlay.Change
}

func (m *model) commit(changes []overlay.Change) {
	for _, c := range changes {
		if c.Delete {
			delete(m.all, c.Key())
		} else {
			m.all[c.Key()] = c
		}
	}
}

func (m *model) in(ids []overlay.RDID) state {
	want := state{}
	for _, c := range m.all {
		var id overlay.RDID
		switch {
		case c.Subnet != nil:
			id = c.Subnet.RDID
		case c.Route != nil:
			id = c.Route.RDID
		default:
			s := subnet(c.Record.VSID, id)
			if o, ok := m.all[s.Key()]; ok {
				id = o.Subnet.RDID
			}
		}
		if slices.Contains(ids, id) {
			want.apply([]overlay.Change{c})
		}
	}
	return want
}

func randomChange(r *rand.Rand) overlay.Change {
	v := overlay.VSID(5001 + r.IntN(5))
	id := networks[r.IntN(len(networks))]
	var c overlay.Change
	switch r.IntN(8) {
	case 0:
		c = subnet(v, id)
	case 1:
		c = route(v, id, r.Uint32N(3))
	default:
		c = record(v, byte(r.IntN(10)+1), byte(r.IntN(3)+1))
		if r.IntN(5) == 0 {
			c.Record.Type, c.Record.CA = overlay.L2Only, netip.Addr{}
		}
	}
	c.Delete = r.IntN(4) == 0
	return c
}

func histories(t *testing.T, s store.Store) {
	r := rand.New(rand.NewPCG(1, 2))
	m := model{map[overlay.Key]overlay.Change{}}
	scopes := make([][]overlay.RDID, 6)
	var fs []*follower
	for range scopes {
		fs = append(fs, watch(t, s))
	}
	for range 300 {
		var changes []overlay.Change
		for range 1 + r.IntN(6) {
			changes = append(changes, randomChange(r))
		}
		commit(t, s, changes...)
		m.commit(changes)
		for i, f := range fs {
			switch r.IntN(20) {
			case 0, 1:
				scopes[i] = nil
				for _, id := range networks {
					if r.IntN(2) == 0 {
						scopes[i] = append(scopes[i], id)
					}
				}
				require.NoError(t, f.w.SetScope(scopes[i]...))
			case 2:
				require.NoError(t, f.w.Close())
				fs[i] = watch(t, s, scopes[i]...)
			case 3, 4, 5:
				f.until(m.in(scopes[i]))
			}
		}
	}
	for i, f := range fs {
		f.until(m.in(scopes[i]))
	}
}

func concurrent(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]bool{}
	for n := range byte(4) {
		wg.Go(func() {
			for i := range byte(50) {
				r, err := s.Commit(t.Context(), []overlay.Change{subnet(5001+overlay.VSID(n), networks[0]), record(5001+overlay.VSID(n), i+1, 1)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[r] {
					t.Errorf("revision %d twice", r)
				}
				seen[r] = true
				mu.Unlock()
			}
		})
	}
	f := watch(t, s, networks[0])
	want := state{}
	for n := range overlay.VSID(4) {
		want.apply([]overlay.Change{subnet(5001+n, networks[0])})
		for i := range byte(50) {
			want.apply([]overlay.Change{record(5001+n, i+1, 1)})
		}
	}
	f.until(want)
	wg.Wait()
}
