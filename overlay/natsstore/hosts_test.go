package natsstore

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
)

// sizeVariable is how many hosts TestHosts has; 500 without.
const sizeVariable = "HVSWITCH_NATSSTORE_HOSTS"

func size(t testing.TB, variable string, otherwise int) int {
	v := os.Getenv(variable)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	require.NoError(t, err)
	return n
}

// Ten hosts follow each network. Each gets all that is committed there, in order, and nothing else.
func TestHosts(t *testing.T) {
	n := size(t, sizeVariable, 500)
	if testing.Short() {
		n = min(n, 100)
	}
	const perNetwork, moves = 10, 1000
	s := open(t, nil)
	ids := n / perNetwork
	id := func(i int) overlay.RDID { return overlay.RDID{1, byte(i >> 8), byte(i)} }
	vsid := func(i int) overlay.VSID { return overlay.VSID(5001 + i) }
	for i := range ids {
		put(t, s, subnet(vsid(i), id(i)), record(vsid(i), 1, 1))
	}
	sent := make([]time.Time, moves)
	var mu sync.Mutex
	var latencies []time.Duration
	ctx, cancel := context.WithTimeout(t.Context(), 3*long)
	defer cancel()
	var wg, ready sync.WaitGroup
	expected := make([][]int, ids) // moves of each network
	for m := range moves {
		expected[m%ids] = append(expected[m%ids], m)
	}
	start := time.Now()
	for h := range n {
		i := h % ids
		w, err := s.Watch(ctx, id(i))
		require.NoError(t, err)
		defer w.Close()
		ready.Add(1)
		wg.Go(func() {
			e, err := w.Next(ctx)
			ready.Done()
			if err != nil || !e.Snapshot || len(e.Changes) != 2 {
				t.Errorf("host %d: %v, %+v", h, err, e)
				return
			}
			for _, m := range expected[i] {
				e, err := w.Next(ctx)
				if err != nil || len(e.Changes) != 1 || *e.Changes[0].Record != *moved(vsid(i), m).Record {
					t.Errorf("host %d, move %d: %v, %+v", h, m, err, e)
					return
				}
				mu.Lock()
				latencies = append(latencies, time.Since(sent[m]))
				mu.Unlock()
			}
		})
	}
	ready.Wait()
	t.Logf("%d hosts have their snapshot after %v", n, time.Since(start))
	start = time.Now()
	for m := range moves {
		mu.Lock()
		sent[m] = time.Now()
		mu.Unlock()
		put(t, s, moved(vsid(m%ids), m))
	}
	took := time.Since(start)
	wg.Wait()
	require.Len(t, latencies, moves*perNetwork)
	slices.Sort(latencies)
	t.Logf("%d moves in %v; from before the commit to each of %d hosts: p50 %v, p99 %v, most %v", moves, took, perNetwork,
		latencies[len(latencies)/2], latencies[len(latencies)*99/100], latencies[len(latencies)-1])
}

// moved is the move of a VM to another host.
func moved(v overlay.VSID, m int) overlay.Change {
	c := record(v, 1, 1)
	c.Record.PA = netip.AddrFrom4([4]byte{192, 1, byte(m >> 8), byte(m)})
	return c
}

// A process of its own for each host, which takes one network: it has that network and no other.
func TestProcessesHaveTheirNetworksOnly(t *testing.T) {
	s := open(t, &Options{Listen: "127.0.0.1:0"})
	const n = 20
	for i := range n {
		put(t, s, subnet(overlay.VSID(5001+i), overlay.RDID{byte(i + 1)}), record(overlay.VSID(5001+i), 1, 1))
	}
	for i := range n {
		far := open(t, &Options{URL: s.ClientURL()})
		v := overlay.VSID(5001 + i)
		newHost(t, far, overlay.RDID{byte(i + 1)}).until(t, []overlay.Change{subnet(v, overlay.RDID{byte(i + 1)}), record(v, 1, 1)})
		put(t, s, record(v, 2, 1))
		require.Eventually(t, func() bool {
			far.mu.Lock()
			defer far.mu.Unlock()
			d := far.r.domains[overlay.RDID{byte(i + 1)}]
			return d != nil && len(d.records[v]) == 2
		}, long, time.Millisecond)
		far.mu.Lock()
		require.Len(t, far.r.domains, 1)
		require.False(t, far.r.whole)
		far.mu.Unlock()
		require.NoError(t, far.Close())
	}
}

// recordsVariable is how many records TestLargeSnapshot has; 50,000 without.
const recordsVariable = "HVSWITCH_NATSSTORE_RECORDS"

// many returns n records of one subnet.
func many(n int) (changes []overlay.Change) {
	for i := range n {
		c := record(5001, 0, 1)
		c.Record.CA = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		c.Record.MAC = ports.MAC{2, 1, 0, byte(i >> 16), byte(i >> 8), byte(i)}
		changes = append(changes, c)
	}
	return changes
}

// A network that needs many messages reaches a process that starts.
func TestLargeSnapshot(t *testing.T) {
	n := size(t, recordsVariable, 50_000)
	s := open(t, &Options{Listen: "127.0.0.1:0", SnapshotAfter: 1})
	require.Equal(t, largest, s.maxMessage())
	changes := append([]overlay.Change{subnet(5001, red)}, many(n)...)
	start := time.Now()
	put(t, s, changes...)
	committed := time.Since(start)
	var log uint64
	for i := byte(0); i < 2 || log > 10; i++ { // until it has been cut twice
		require.Less(t, i, byte(250))
		put(t, s, record(5001, 0, i))
		require.Eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return !s.cutting }, 3*long, time.Millisecond)
		stream, err := s.js.Stream(t.Context(), s.o.Name)
		require.NoError(t, err)
		log = stream.CachedInfo().State.Msgs
	}
	bucket, err := s.js.Stream(t.Context(), s.bucket)
	require.NoError(t, err)
	chunks := bucket.CachedInfo().State.Msgs - 1
	s.mu.Lock()
	want := (len(s.r.domains[red].encode()) + largest - 1) / largest
	s.mu.Unlock()
	require.Greater(t, want, 1)
	require.EqualValues(t, want, chunks, "no chunk of an older snapshot is left")

	far := open(t, &Options{URL: s.ClientURL()})
	start = time.Now()
	w, err := far.Watch(t.Context(), red)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*long)
	defer cancel()
	e, err := w.Next(ctx)
	require.NoError(t, err)
	require.True(t, e.Snapshot)
	require.InDelta(t, n+1, len(e.Changes), 1)
	require.NoError(t, w.Close())
	t.Logf("%d records: committed in %v, read by another process in %v, %d chunks", n, committed, time.Since(start), chunks)
}
