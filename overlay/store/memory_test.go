package store_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/overlay/store"
	"github.com/hvswitch/hvswitch/overlay/store/storetest"
	"github.com/hvswitch/hvswitch/ports"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		m := store.NewMemory()
		t.Cleanup(func() { _ = m.Close() })
		return m
	})
}

func TestClose(t *testing.T) {
	m := store.NewMemory()
	w, err := m.Watch(t.Context())
	require.NoError(t, err)
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
	_, err = w.Next(t.Context())
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = m.Commit(t.Context(), nil)
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = m.Watch(t.Context())
	require.ErrorIs(t, err, store.ErrClosed)
}

var red = overlay.RDID{0xed}

func record(n, host byte) overlay.Change {
	return overlay.Change{Record: &overlay.LookupRecord{VSID: 5001, CA: netip.AddrFrom4([4]byte{10, 0, 0, n}),
		MAC: ports.MAC{2, 0, 0, 0, 0, n}, PA: netip.AddrFrom4([4]byte{192, 0, 2, host})}}
}

// unreliable is a store that is away at times.
type unreliable struct {
	*store.Memory
	away atomic.Bool
	mu   sync.Mutex
	w    []store.Watcher
}

func (u *unreliable) Watch(ctx context.Context, scope ...overlay.RDID) (store.Watcher, error) {
	if u.away.Load() {
		return nil, errors.New("away")
	}
	w, err := u.Memory.Watch(ctx, scope...)
	u.mu.Lock()
	u.w = append(u.w, w)
	u.mu.Unlock()
	return w, err
}

func TestFollowerSurvivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unreliable{Memory: store.NewMemory()}
		e, err := overlay.NewEngine(nil)
		require.NoError(t, err)
		f := store.NewFollower(u, e)
		ctx, cancel := context.WithCancel(t.Context())
		var failures atomic.Int32
		done := make(chan error)
		go func() { done <- f.Run(ctx, func(error) { failures.Add(1) }) }()
		synctest.Wait()
		commit := func(changes ...overlay.Change) uint64 {
			r, err := u.Commit(ctx, changes)
			require.NoError(t, err)
			synctest.Wait()
			return r
		}
		commit(overlay.Change{Subnet: &overlay.Subnet{VSID: 5001, RDID: red}}, record(1, 1))
		require.Empty(t, slices.Collect(e.Records()), "out of scope")
		f.SetScope(red)
		synctest.Wait()
		require.Len(t, slices.Collect(e.Records()), 1)

		u.away.Store(true)
		for _, w := range u.w {
			_ = w.Close()
		}
		commit(record(1, 2), record(2, 2))
		time.Sleep(5 * time.Second)
		require.Len(t, slices.Collect(e.Records()), 1, "what is known stays")
		require.GreaterOrEqual(t, failures.Load(), int32(4))

		u.away.Store(false)
		time.Sleep(2 * time.Second)
		require.Len(t, slices.Collect(e.Records()), 2)
		require.Equal(t, commit(record(3, 1)), f.Revision())
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

// After any history, and with a store that is away at times, each engine has exactly what is in its scope.
func TestEnginesHaveTheStateOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		u := &unreliable{Memory: store.NewMemory()}
		ctx, cancel := context.WithCancel(t.Context())
		var engines []*overlay.Engine
		var followers []*store.Follower
		scopes := make([][]overlay.RDID, 4)
		var wg sync.WaitGroup
		for range scopes {
			e, err := overlay.NewEngine(nil)
			require.NoError(t, err)
			f := store.NewFollower(u, e)
			wg.Go(func() { _ = f.Run(ctx, nil) })
			engines, followers = append(engines, e), append(followers, f)
		}
		for range 400 {
			var changes []overlay.Change
			for range 1 + r.IntN(5) {
				c := record(byte(1+r.IntN(20)), byte(1+r.IntN(3)))
				c.Record.VSID += overlay.VSID(r.IntN(4))
				id := overlay.RDID{byte(1 + r.IntN(3))}
				switch r.IntN(6) {
				case 0:
					c = overlay.Change{Subnet: &overlay.Subnet{VSID: c.Record.VSID, RDID: id}}
				case 1:
					c = overlay.Change{Route: &overlay.CustomerRoute{RDID: id, VSID: c.Record.VSID, Destination: netip.MustParsePrefix("10.0.0.0/24")}}
				}
				c.Delete = r.IntN(4) == 0
				changes = append(changes, c)
			}
			_, err := u.Commit(ctx, changes)
			require.NoError(t, err)
			i := r.IntN(len(scopes))
			switch r.IntN(12) {
			case 0:
				scopes[i] = nil
				for n := range byte(3) {
					if r.IntN(2) == 0 {
						scopes[i] = append(scopes[i], overlay.RDID{n + 1})
					}
				}
				followers[i].SetScope(scopes[i]...)
			case 1:
				u.away.Store(true)
				u.mu.Lock()
				for _, w := range u.w {
					_ = w.Close()
				}
				u.w = nil
				u.mu.Unlock()
			case 2:
				u.away.Store(false)
			case 3, 4:
				synctest.Wait()
			}
		}
		u.away.Store(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for i, e := range engines {
			w, err := u.Memory.Watch(ctx, scopes[i]...)
			require.NoError(t, err)
			event, err := w.Next(ctx)
			require.NoError(t, err)
			want, err := overlay.NewEngine(nil)
			require.NoError(t, err)
			require.NoError(t, want.Replace(event.Changes))
			require.ElementsMatch(t, slices.Collect(want.Records()), slices.Collect(e.Records()))
			require.ElementsMatch(t, slices.Collect(want.Subnets()), slices.Collect(e.Subnets()))
			require.ElementsMatch(t, slices.Collect(want.CustomerRoutes()), slices.Collect(e.CustomerRoutes()))
			require.LessOrEqual(t, followers[i].Revision(), event.Revision)
		}
		cancel()
		wg.Wait()
	})
}

// 1,000 hosts follow one network each of 100; a commit concerns ten of them.
func BenchmarkCommit(b *testing.B) {
	m := store.NewMemory()
	var ws []store.Watcher
	for i := range 1000 {
		w, _ := m.Watch(b.Context(), overlay.RDID{1, byte(i % 100)})
		_, _ = w.Next(b.Context())
		ws = append(ws, w)
	}
	for i := range 100 {
		_, _ = m.Commit(b.Context(), []overlay.Change{{Subnet: &overlay.Subnet{VSID: overlay.VSID(5001 + i), RDID: overlay.RDID{1, byte(i)}}}})
	}
	for _, w := range ws {
		_, _ = w.Next(b.Context())
	}
	i := 0
	for b.Loop() {
		c := record(byte(i%200+1), 1)
		c.Record.VSID = overlay.VSID(5001 + i%100)
		_, _ = m.Commit(b.Context(), []overlay.Change{c})
		for k := i % 100; k < 1000; k += 100 {
			_, _ = ws[k].Next(b.Context())
		}
		i++
	}
}
