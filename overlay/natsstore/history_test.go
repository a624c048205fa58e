package natsstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/overlay/store"
	"github.com/hvswitch/hvswitch/ports"
)

const long = time.Minute

// connect opens the store of a process that reconnects quickly.
func connect(t *testing.T, url string, after int, more ...nats.Option) *Store {
	return open(t, &Options{URL: url, SnapshotAfter: after,
		Connect: append([]nats.Option{nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0)}, more...)})
}

// history is what has been committed, to be put in the order of revisions.
type history struct {
	uncertain atomic.Int32 // commits of which it is not known whether they were made

	mu  sync.Mutex
	all map[uint64][]overlay.Change
}

func (h *history) add(revision uint64, changes []overlay.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[revision] = changes
}

// in returns the policy of a scope.
func (h *history) in(ids []overlay.RDID) (want []overlay.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var revisions []uint64
	for r := range h.all {
		revisions = append(revisions, r)
	}
	slices.Sort(revisions)
	all := map[overlay.Key]overlay.Change{}
	for _, r := range revisions {
		for _, c := range h.all[r] {
			if c.Delete {
				delete(all, c.Key())
			} else {
				all[c.Key()] = c
			}
		}
	}
	for _, c := range all {
		var id overlay.RDID
		switch {
		case c.Subnet != nil:
			id = c.Subnet.RDID
		case c.Route != nil:
			id = c.Route.RDID
		default:
			s := overlay.Change{Subnet: &overlay.Subnet{VSID: c.Record.VSID}}
			if o, ok := all[s.Key()]; ok {
				id = o.Subnet.RDID
			}
		}
		if slices.Contains(ids, id) {
			want = append(want, c)
		}
	}
	return want
}

func record(v overlay.VSID, n, host byte) overlay.Change {
	return overlay.Change{Record: &overlay.LookupRecord{VSID: v, CA: netip.AddrFrom4([4]byte{10, 0, 0, n}),
		MAC: ports.MAC{2, 0, 0, 0, 0, n}, PA: netip.AddrFrom4([4]byte{192, 0, 2, host})}}
}

func subnet(v overlay.VSID, id overlay.RDID) overlay.Change {
	return overlay.Change{Subnet: &overlay.Subnet{VSID: v, RDID: id}}
}

var networks = []overlay.RDID{{1}, {2}, {3}}

func randomChanges(r *rand.Rand) (changes []overlay.Change) {
	for range 1 + r.IntN(5) {
		v, id := overlay.VSID(5001+r.IntN(5)), networks[r.IntN(len(networks))]
		c := record(v, byte(1+r.IntN(20)), byte(1+r.IntN(3)))
		switch r.IntN(6) {
		case 0:
			c = subnet(v, id)
		case 1:
			c = overlay.Change{Route: &overlay.CustomerRoute{RDID: id, VSID: v, Destination: netip.MustParsePrefix("10.0.0.0/24")}}
		}
		c.Delete = r.IntN(4) == 0
		changes = append(changes, c)
	}
	return changes
}

func randomScope(r *rand.Rand) (scope []overlay.RDID) {
	for _, id := range networks {
		if r.IntN(2) == 0 {
			scope = append(scope, id)
		}
	}
	return scope
}

// host is an engine that follows a store.
type host struct {
	*store.Follower
	e *overlay.Engine
}

func newHost(t *testing.T, s *Store, scope ...overlay.RDID) *host {
	e, err := overlay.NewEngine(nil)
	require.NoError(t, err)
	h := &host{store.NewFollower(s, e), e}
	h.SetScope(scope...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil { // a follower that waits after a failure is begun anew
			once, stop := context.WithCancel(ctx)
			_ = h.Run(once, func(error) { time.AfterFunc(20*time.Millisecond, stop) })
			stop()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return h
}

// has reports whether the engine has exactly a policy.
func (h *host) has(t *testing.T, policy []overlay.Change) bool {
	return len(h.differs(t, policy)) == 0
}

// differs returns what the engine lacks or should not have.
func (h *host) differs(t *testing.T, policy []overlay.Change) (list []string) {
	want, err := overlay.NewEngine(nil)
	require.NoError(t, err)
	require.NoError(t, want.Replace(policy))
	list = difference(list, want.Records(), h.e.Records())
	list = difference(list, want.Subnets(), h.e.Subnets())
	return difference(list, want.CustomerRoutes(), h.e.CustomerRoutes())
}

func difference[T comparable](list []string, want, got iter.Seq[T]) []string {
	count := map[T]int{}
	for x := range want {
		count[x]++
	}
	for x := range got {
		count[x]--
	}
	for x, n := range count {
		switch {
		case n > 0:
			list = append(list, fmt.Sprintf("lacks %+v", x))
		case n < 0:
			list = append(list, fmt.Sprintf("has %+v", x))
		}
	}
	return list
}

func (h *host) until(t *testing.T, policy []overlay.Change) {
	t.Helper()
	for deadline := time.Now().Add(long); !h.has(t, policy); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.Empty(t, h.differs(t, policy), "at revision %d", h.Revision())
		}
	}
}

// Three processes commit, four follow, the server is killed again and again: each host ends with exactly
// what was committed in its scope.
func TestHistoriesWithAServerThatIsKilled(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { killed(t, seed) })
	}
}

func killed(t *testing.T, seed uint64) {
	t.Parallel()
	p := newProcess(t)
	h := &history{all: map[uint64][]overlay.Change{}}
	r := rand.New(rand.NewPCG(5, seed))
	var hosts []*host
	scopes := make([][]overlay.RDID, 4)
	for i := range scopes {
		scopes[i] = randomScope(r)
		hosts = append(hosts, newHost(t, connect(t, p.url(), 0), scopes[i]...))
	}
	const commits = 60
	after := []int{1000, 20, 1000, 7}[seed] // with few, messages that hosts and committers have missed are gone
	turn := make(chan struct{}, 3*commits)
	var wg sync.WaitGroup
	for n := range 3 {
		s := connect(t, p.url(), after)
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(n)))
			for range commits {
				changes := randomChanges(r)
				ctx, cancel := context.WithTimeout(context.Background(), long)
				revision, err := s.Commit(ctx, changes)
				cancel()
				switch {
				case err == nil:
					h.add(revision, changes)
				case errors.Is(err, ErrUncertain) && seed%2 == 1:
					h.uncertain.Add(1)
				default:
					t.Error(err)
					return
				}
				turn <- struct{}{}
			}
		})
	}
	go func() { wg.Wait(); close(turn) }()
	done := 0
	for range turn {
		done++
		i := r.IntN(len(hosts))
		if r.IntN(5) == 0 {
			scopes[i] = randomScope(r)
			hosts[i].SetScope(scopes[i]...)
		}
		if done%45 == 0 && done < 3*commits-10 {
			p.kill()
			p.start()
		}
	}
	require.Equal(t, 3*commits, done)
	require.Len(t, h.all, 3*commits-int(h.uncertain.Load()), "no revision is there twice")
	policy := h.in
	fresh := connect(t, p.url(), 0)
	if h.uncertain.Load() > 0 { // only the store knows
		policy = func(ids []overlay.RDID) []overlay.Change {
			w, err := fresh.Watch(t.Context(), ids...)
			require.NoError(t, err)
			defer w.Close()
			e, err := w.Next(t.Context())
			require.NoError(t, err)
			return e.Changes
		}
	}
	for i, x := range hosts {
		x.until(t, policy(scopes[i]))
	}
	newHost(t, fresh, networks...).until(t, policy(networks))
}
