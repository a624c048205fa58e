package natsstore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The log is cut after a process has asked for it and before it has read it: messages that the server
// has announced do not come. The process sees that at once and does not wait for them.
func TestCutBeforeItIsRead(t *testing.T) {
	s := open(t, &Options{Listen: "127.0.0.1:0", SnapshotAfter: 1 << 20})
	online := func() (ctx context.Context) {
		require.Eventually(t, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			ctx = s.online
			return ctx != nil && s.r.loaded
		}, long, time.Millisecond)
		return ctx
	}
	newest := func() uint64 { s.mu.Lock(); defer s.mu.Unlock(); return s.r.cut }
	cut := func() {
		before := newest()
		require.NoError(t, s.cut(online()))
		require.Eventually(t, func() bool { return newest() > before }, long, time.Millisecond)
	}
	put(t, s, subnet(5001, red), subnet(6001, blue))
	cut()
	for i := range byte(5) {
		put(t, s, record(6001, i+1, 1))
	}
	cut()

	url := open(t, &Options{URL: s.ClientURL()})
	x := &Store{o: url.o, log: url.log, bucket: url.bucket, nc: url.nc, js: url.js, r: newReplica(false),
		all: map[*watcher]struct{}{}, waiting: map[*watcher]struct{}{}, progress: make(chan struct{})}
	begin := func() (*session, func() error, context.CancelFunc) {
		ctx, cancel := context.WithCancel(t.Context())
		x.online, x.again = nil, nil
		x.r.session++
		x.r.forget()
		n := &session{Store: x, ctx: ctx}
		require.NoError(t, n.open())
		c, err := n.consume()
		require.NoError(t, err)
		return n, func() error { return n.read(c, cancel) }, cancel
	}
	w, err := x.Watch(t.Context(), red)
	require.NoError(t, err)
	_, read, cancel := begin()
	ended := make(chan error)
	go func() { ended <- read() }()
	_, err = w.Next(t.Context())
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, <-ended, errLost)

	require.NoError(t, w.SetScope(red, blue))
	n, read, _ := begin()
	require.Greater(t, n.pending, uint64(5))
	put(t, s, record(5001, 1, 1))
	cut()
	require.ErrorIs(t, read(), errMissed)
}
