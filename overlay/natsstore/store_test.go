package natsstore

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/overlay/store"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o     Options
		wants string
	}{
		{Options{Name: "a.b"}, "Name"},
		{Options{Replicas: 6}, "Replicas"},
		{Options{SnapshotAfter: -1}, "SnapshotAfter"},
		{Options{URL: "nats://a", Dir: "b"}, "URL"},
		{Options{Listen: "nonsense"}, "Listen"},
		{Options{Listen: "127.0.0.1:99999"}, "Listen"},
		{Options{URL: "nats://127.0.0.1:1"}, "policy store"},
	} {
		_, err := Open(t.Context(), &c.o)
		require.ErrorContains(t, err, c.wants)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestClose(t *testing.T) {
	s := open(t, nil)
	w, err := s.Watch(t.Context(), red)
	require.NoError(t, err)
	got := make(chan error)
	go func() {
		for {
			if _, err := w.Next(context.Background()); err != nil {
				got <- err
				return
			}
		}
	}()
	put(t, s, subnet(5001, red))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-got, store.ErrClosed)
	require.ErrorIs(t, w.SetScope(red), store.ErrClosed)
	_, err = s.Commit(t.Context(), nil)
	require.ErrorIs(t, err, store.ErrClosed)
	_, err = s.Watch(t.Context())
	require.ErrorIs(t, err, store.ErrClosed)
	require.NoError(t, w.Close())
}

// Close leaves no goroutine behind, whatever was going on.
func TestNothingIsLeftRunning(t *testing.T) {
	run := func() {
		s, err := Open(t.Context(), &Options{Listen: "127.0.0.1:0", SnapshotAfter: 3})
		require.NoError(t, err)
		far, err := Open(t.Context(), &Options{URL: s.ClientURL()})
		require.NoError(t, err)
		w, err := far.Watch(t.Context(), red)
		require.NoError(t, err)
		_, err = w.Next(t.Context())
		require.NoError(t, err)
		for i := range byte(10) {
			put(t, s, record(5001, 1, i+1))
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := byte(1); ; i++ {
				if _, err := far.Commit(context.Background(), []overlay.Change{record(5001, 2, i|1)}); err != nil {
					return
				}
			}
		})
		require.NoError(t, far.Close())
		wg.Wait()
		require.NoError(t, s.Close())
	}
	run() // some are started once for a process
	before := stacks()
	for range 3 {
		run()
	}
	require.Eventually(t, func() bool { return len(stacks()) <= len(before) }, long, 10*time.Millisecond, "%s", strings.Join(stacks(), "\n\n"))
}

// stacks returns those of goroutines that are of this package or of NATS.
func stacks() (list []string) {
	b := make([]byte, 4<<20)
	for _, s := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(s, "nats-io") || strings.Contains(s, "natsstore.(*") {
			list = append(list, s)
		}
	}
	return list
}

// Large transactions of one process and small ones of another get in each other's way, and all are made.
func TestLargeTransactionsAmongSmallOnes(t *testing.T) {
	s := open(t, &Options{Listen: "127.0.0.1:0", SnapshotAfter: 20})
	far := open(t, &Options{URL: s.ClientURL()})
	x := newHost(t, far, red, blue)
	large := many(40_000)
	put(t, s, subnet(5001, red), subnet(6001, blue))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := byte(1); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := far.Commit(t.Context(), []overlay.Change{record(6001, 1, i|1)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	put(t, s, large...)
	put(t, s, subnet(5001, blue)) // with all its records
	close(stop)
	wg.Wait()
	put(t, s, record(6001, 1, 200))
	x.until(t, append(large, subnet(5001, blue), subnet(6001, blue), record(6001, 1, 200)))
	require.Zero(t, s.Refused()+far.Refused())
}

// Waiting for a store that is away ends with the context.
func TestCommitWhileTheServerIsAway(t *testing.T) {
	p := newProcess(t)
	s := connect(t, p.url(), 0)
	put(t, s, subnet(5001, red))
	p.kill()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.Commit(ctx, []overlay.Change{record(5001, 1, 1)})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	w, err := s.Watch(t.Context(), red)
	require.NoError(t, err)
	e, err := w.Next(t.Context())
	require.NoError(t, err, "what this process has can be had")
	require.Len(t, e.Changes, 1)
	p.start()
	put(t, s, record(5001, 2, 1))
	e, err = w.Next(t.Context())
	require.NoError(t, err)
	require.False(t, e.Snapshot)
}
