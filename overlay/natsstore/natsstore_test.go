package natsstore

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/overlay/store"
	"github.com/hvswitch/hvswitch/overlay/store/storetest"
)

// logTo is where stores of a test log, as long as it runs.
func logTo(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func open(t *testing.T, o *Options) *Store {
	t.Helper()
	if o == nil {
		o = &Options{}
	}
	if o.Logger == nil {
		o.Logger = logTo(t)
	}
	s, err := Open(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name string
		open func(t *testing.T) store.Store
	}{
		{"InMemory", func(t *testing.T) store.Store { return open(t, nil) }},
		{"InFiles", func(t *testing.T) store.Store { return open(t, &Options{Dir: t.TempDir()}) }},
		{"CutOften", func(t *testing.T) store.Store { return open(t, &Options{SnapshotAfter: 5}) }},
		{"TwoProcesses", func(t *testing.T) store.Store { return openPair(t, &Options{Listen: "127.0.0.1:0"}) }},
		{"TwoProcessesCutOften", func(t *testing.T) store.Store {
			return openPair(t, &Options{Listen: "127.0.0.1:0", SnapshotAfter: 5})
		}},
	} {
		t.Run(c.name, func(t *testing.T) { storetest.Run(t, c.open) })
	}
}

// pair is a store whose watchers are those of another process, which follows a few networks only.
type pair struct {
	*Store
	hosts *Store
}

func openPair(t *testing.T, o *Options) *pair {
	s := open(t, o)
	return &pair{s, open(t, &Options{URL: s.ClientURL()})}
}

// Watch waits until the other process is as far.
func (p *pair) Watch(ctx context.Context, scope ...overlay.RDID) (store.Watcher, error) {
	deadline := time.Now().Add(long)
	for !p.level() && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	return p.hosts.Watch(ctx, scope...)
}

// level reports whether the networks that the other process has are as they are here.
func (p *pair) level() bool {
	p.hosts.mu.Lock()
	at := map[overlay.RDID]mark{}
	for id, d := range p.hosts.r.domains {
		at[id] = d.at
	}
	p.hosts.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, m := range at {
		if d := p.r.domains[id]; d != nil && d.at != m {
			return false
		}
	}
	return true
}
