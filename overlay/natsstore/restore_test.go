package natsstore

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
)

// gate is a way to the server that can be shut.
type gate struct{ shut atomic.Bool }

func (g *gate) Dial(network, address string) (net.Conn, error) {
	if g.shut.Load() {
		return nil, errors.New("shut")
	}
	return net.Dial(network, address)
}

func put(t *testing.T, s *Store, changes ...overlay.Change) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	r, err := s.Commit(ctx, changes)
	require.NoError(t, err)
	return r
}

// The store is restored from an older copy: whether hosts are back before others have committed or after,
// with the log as long as it was or longer, they have the state of the store.
func TestRestoredFromAnOlderCopy(t *testing.T) {
	for _, c := range []struct {
		name    string
		after   int // messages between snapshots
		lost    int // commits that are not in the copy
		commits int // before the host is back
		empty   bool
	}{
		{name: "NothingSince", lost: 5},
		{name: "Shorter", lost: 5, commits: 2},
		{name: "AsLong", lost: 5, commits: 5},
		{name: "Longer", lost: 5, commits: 20},
		{name: "LongerAndCut", after: 4, lost: 5, commits: 30},
		{name: "ShorterAndCut", after: 4, lost: 20, commits: 3},
		{name: "Empty", lost: 5, empty: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newProcess(t)
			g := &gate{}
			s := connect(t, p.url(), c.after)
			far := connect(t, p.url(), 0, nats.SetCustomDialer(g))
			x := newHost(t, far, red)
			y := newHost(t, s, red, blue)
			policy := []overlay.Change{subnet(5001, red), record(5001, 1, 1), subnet(6001, blue), record(6001, 1, 1)}
			put(t, s, policy...)
			for i := range byte(10) {
				put(t, s, record(5001, 1, i+1))
			}
			policy[1] = record(5001, 1, 10)
			inRed := func() []overlay.Change { return append(policy[:2:2], policy[4:]...) }
			x.until(t, inRed())
			whatIsLost := inRed()
			p.kill()
			dir := t.TempDir()
			if c.empty {
				policy = nil
				inRed = func() []overlay.Change { return policy }
			} else {
				p.copyTo(dir)
			}
			p.start()
			for i := range c.lost {
				put(t, s, record(5001, 100, byte(i+1)), record(6001, 100, byte(i+1)))
			}
			x.until(t, append(slices.Clone(whatIsLost), record(5001, 100, byte(c.lost))))
			w, err := far.Watch(t.Context(), red)
			require.NoError(t, err)
			_, err = w.Next(t.Context())
			require.NoError(t, err)

			g.shut.Store(true)
			p.kill()
			p.restore(dir)
			p.start()
			if c.empty {
				again := connect(t, p.url(), 0) // makes the stream anew
				require.NoError(t, again.Close())
			}
			for i := range c.commits {
				r := record(5001, 200, byte(i+1))
				put(t, s, r)
				policy = append(policy[:4:4], r)
			}
			y.until(t, policy)
			g.shut.Store(false)
			x.until(t, inRed())
			ctx, cancel := context.WithTimeout(t.Context(), long)
			defer cancel()
			e, err := w.Next(ctx)
			require.True(t, errors.Is(err, ErrRestored) || err == nil && e.Snapshot, "%v %+v", err, e)
			if c.commits < c.lost {
				require.ErrorIs(t, err, ErrRestored)
			}

			r := record(5001, 250, 1)
			if c.empty {
				put(t, s, subnet(5001, red))
				policy = []overlay.Change{subnet(5001, red)}
			}
			put(t, s, r)
			policy = append(policy, r)
			x.until(t, inRed())
			y.until(t, policy)
		})
	}
}

// The stream is restored from an older copy, the bucket is not: nothing is taken from such a store, and
// nothing is committed to it.
func TestHalfRestored(t *testing.T) {
	t.Parallel()
	p := newProcess(t)
	s := connect(t, p.url(), 4)
	x := newHost(t, s, red)
	put(t, s, subnet(5001, red), record(5001, 1, 1))
	p.kill()
	dir := t.TempDir()
	p.copyTo(dir)
	p.start()
	for i := range byte(20) {
		put(t, s, record(5001, 2, i+1))
	}
	policy := []overlay.Change{subnet(5001, red), record(5001, 1, 1), record(5001, 2, 20)}
	x.until(t, policy)
	require.Eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return !s.cutting }, long, time.Millisecond)
	p.kill()
	streams := p.dir + "/jetstream/$G/streams/"
	require.NoError(t, os.RemoveAll(streams+defaultName))
	require.NoError(t, os.CopyFS(streams+defaultName, os.DirFS(dir+"/jetstream/$G/streams/"+defaultName)))
	p.start()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := s.Commit(ctx, []overlay.Change{record(5001, 3, 1)})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, x.has(t, policy), "what is known stays")
}
