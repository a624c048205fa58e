package overlay_test

import (
	"context"
	"encoding/binary"
	"errors"
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
	"github.com/hvswitch/hvswitch/ports"
)

// fabric is many hosts on one provider network, each with an engine that follows the policy of one store,
// and a VM that moves among them.
type fabric struct {
	t     *testing.T
	start time.Time
	store *switchedStore
	hosts []*fabricHost
	rover *overlay.Port
	at    int // host of the rover
	wg    sync.WaitGroup
}

type fabricHost struct {
	f      *fabric
	number int
	engine *overlay.Engine
	policy *store.Follower
	port   *overlay.Port // of the VM that sends

	mu     sync.Mutex
	worker *overlay.Worker
	sent   uint64
	seen   map[[2]uint64]int // sender and number of a frame that the rover got here: how often

	reached chan int // tells each arrival at the rover: of whom
}

const (
	fabricVSID = 5001
	fabricSize = 100
)

var (
	fabricNet = overlay.RDID{0xfa}
	roverMAC  = ports.MAC{2, 0, 0, 0, 0xff, 0xff}
	roverCA   = netip.MustParseAddr("10.0.255.254")
)

func (h *fabricHost) pa() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 200, byte(h.number >> 8), byte(h.number + 1)})
}
func (h *fabricHost) mac() ports.MAC {
	return ports.MAC{2, 0xaa, 0, 0, byte(h.number >> 8), byte(h.number)}
}
func (h *fabricHost) vm() ports.MAC {
	return ports.MAC{2, 0, 0, 0, byte(h.number >> 8), byte(h.number)}
}
func (h *fabricHost) ca() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(h.number >> 8), byte(h.number + 2)})
}

// switchedStore is a store that can be taken away.
type switchedStore struct{ s atomic.Pointer[store.Memory] }

var errAway = errors.New("the store is away")

func (s *switchedStore) Commit(ctx context.Context, c []overlay.Change) (uint64, error) {
	if m := s.s.Load(); m != nil {
		return m.Commit(ctx, c)
	}
	return 0, errAway
}

func (s *switchedStore) Watch(ctx context.Context, scope ...overlay.RDID) (store.Watcher, error) {
	if m := s.s.Load(); m != nil {
		return m.Watch(ctx, scope...)
	}
	return nil, errAway
}

func (s *switchedStore) stop() {
	if m := s.s.Swap(nil); m != nil {
		_ = m.Close()
	}
}

func newFabric(t *testing.T) *fabric {
	f := &fabric{t: t, start: time.Now(), store: &switchedStore{}}
	f.store.s.Store(store.NewMemory())
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		f.wg.Wait()
	})
	for i := range fabricSize {
		h := &fabricHost{f: f, number: i, seen: map[[2]uint64]int{}, reached: make(chan int, 1<<16)}
		var err error
		h.engine, err = overlay.NewEngine(&overlay.Config{Addresses: []overlay.ProviderAddress{{Address: netip.PrefixFrom(h.pa(), 16), MAC: h.mac()}}})
		require.NoError(t, err)
		h.worker = h.engine.NewWorker()
		h.port, err = h.engine.AddPort(overlay.PortConfig{ID: i, VSID: fabricVSID, MAC: h.vm()})
		require.NoError(t, err)
		h.policy = store.NewFollower(f.store, h.engine)
		h.policy.SetScope(fabricNet)
		f.hosts = append(f.hosts, h)
	}
	var err error
	f.rover, err = f.hosts[0].engine.AddPort(overlay.PortConfig{ID: fabricSize, VSID: fabricVSID, MAC: roverMAC})
	require.NoError(t, err)
	_, err = f.store.Commit(ctx, f.policy())
	require.NoError(t, err)
	for _, h := range f.hosts {
		f.wg.Go(func() { _ = h.policy.Run(ctx, nil) })
	}
	return f
}

// policy is all of it as it is now.
func (f *fabric) policy() []overlay.Change {
	all := []overlay.Change{
		{Subnet: &overlay.Subnet{VSID: fabricVSID, RDID: fabricNet}},
		{Route: &overlay.CustomerRoute{RDID: fabricNet, VSID: fabricVSID, Destination: netip.MustParsePrefix("10.0.0.0/16")}},
		f.roverAt(f.at),
	}
	for _, h := range f.hosts {
		all = append(all, overlay.Change{Record: &overlay.LookupRecord{VSID: fabricVSID, CA: h.ca(), MAC: h.vm(), PA: h.pa()}})
	}
	return all
}

func (f *fabric) roverAt(host int) overlay.Change {
	return overlay.Change{Record: &overlay.LookupRecord{VSID: fabricVSID, CA: roverCA, MAC: roverMAC, PA: f.hosts[host].pa()}}
}

// move moves the rover and calls tell, which makes it known, when it is there.
func (f *fabric) move(to int, tell func(c overlay.Change)) {
	port, err := f.hosts[to].engine.AddPort(overlay.PortConfig{ID: fabricSize, VSID: fabricVSID, MAC: roverMAC})
	require.NoError(f.t, err)
	f.rover.Close()
	f.rover, f.at = port, to
	tell(f.roverAt(to))
}

// send sends one frame of a host's VM to the rover, and carries what comes of it to its end.
func (h *fabricHost) send() {
	b := make([]byte, ports.Headroom+64)
	p := b[ports.Headroom:]
	vm := h.vm()
	copy(p, roverMAC[:])
	copy(p[6:], vm[:])
	copy(p[12:], []byte{0x08, 0x00, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 253}) // a protocol for experiments (RFC 3692)
	copy(p[26:], h.ca().AsSlice())
	copy(p[30:], roverCA.AsSlice())
	var sum uint32
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	binary.BigEndian.PutUint16(p[24:], ^uint16(sum+sum>>16))
	h.mu.Lock()
	h.sent++
	binary.BigEndian.PutUint64(p[34:], uint64(h.number))
	binary.BigEndian.PutUint64(p[42:], h.sent)
	frame := new(ports.Frame)
	frame.SetHead(b, ports.Headroom, 64)
	out := h.take(h.worker.Outbound(time.Since(h.f.start), h.port, []*ports.Frame{frame}))
	h.mu.Unlock()
	h.f.carry(h, out)
}

// take notes what the rover gets, and returns copies of what goes to the provider network.
func (h *fabricHost) take(out []overlay.Output) (crossing []*ports.Frame) {
	for _, o := range out {
		switch {
		case o.Drop != 0:
		case o.Port == nil:
			c := new(ports.Frame)
			c.CopyFrom(o.Frame)
			crossing = append(crossing, c)
		case o.Port.ID == fabricSize:
			b := o.Frame.Head()
			from := binary.BigEndian.Uint64(b[34:])
			h.seen[[2]uint64{from, binary.BigEndian.Uint64(b[42:])}]++
			select {
			case h.reached <- int(from):
			default:
			}
		}
	}
	return crossing
}

func (f *fabric) carry(from *fabricHost, frames []*ports.Frame) {
	for _, c := range frames {
		dst := ports.MAC(c.Head())
		for _, h := range f.hosts {
			if h == from || !dst.IsGroup() && dst != h.mac() {
				continue
			}
			g := new(ports.Frame)
			g.CopyFrom(c)
			h.mu.Lock()
			out := h.take(h.worker.Inbound(time.Since(f.start), []*ports.Frame{g}))
			h.mu.Unlock()
			f.carry(h, out)
		}
	}
}

// got returns how many frames the rover has got in all, each once.
func (f *fabric) got() (n int) {
	f.t.Helper()
	all := map[[2]uint64]int{}
	for _, h := range f.hosts {
		h.mu.Lock()
		for frame, times := range h.seen {
			all[frame] += times
			n += times
		}
		h.mu.Unlock()
	}
	for frame, times := range all {
		require.Equal(f.t, 1, times, "frame %d of host %d", frame[1], frame[0])
	}
	return n
}

// empty forgets arrivals.
func (h *fabricHost) empty() {
	for len(h.reached) > 0 {
		<-h.reached
	}
}

// A push of policy reaches every host at once, and what a host has sent wrongly until then is no worse than
// lost. Without the store, redirects do it with the loss of one frame.
func TestVMMovesUnderTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		synctest.Wait()
		// round sends a frame of every VM, and says how many arrived.
		round := func() (n int) {
			before := f.got()
			for _, h := range f.hosts {
				h.send()
			}
			return f.got() - before
		}
		round()
		require.Equal(t, fabricSize, round(), "next hops are known")
		for _, to := range []int{7, 8, 99, 0} {
			f.move(to, func(c overlay.Change) {
				_, err := f.store.Commit(t.Context(), []overlay.Change{c})
				require.NoError(t, err)
			})
			synctest.Wait()
			round() // asks for the next hop
			require.Equal(t, fabricSize, round())
		}
		require.Zero(t, time.Since(f.start), "in no time")

		f.store.stop()
		synctest.Wait()
		old := f.at
		for _, to := range []int{42, 43} {
			from := f.at
			f.move(to, func(c overlay.Change) { // the two hosts that move it know
				require.NoError(t, f.hosts[from].engine.Apply([]overlay.Change{c}))
				require.NoError(t, f.hosts[to].engine.Apply([]overlay.Change{c}))
			})
			time.Sleep(time.Second)
			require.LessOrEqual(t, round(), 2, "the others send to the old place")
			round()
			require.Equal(t, fabricSize, round())
		}
		lookup, ok := f.hosts[50].engine.Lookup(fabricVSID, roverCA)
		require.True(t, ok)
		require.Equal(t, f.hosts[43].pa(), lookup.PA)

		// The store comes back, with what is right.
		require.NotEqual(t, old, f.at)
		m := store.NewMemory()
		_, err := m.Commit(t.Context(), f.policy())
		require.NoError(t, err)
		f.store.s.Store(m)
		time.Sleep(2 * time.Second)
		for _, h := range f.hosts {
			h.engine.Expire(time.Since(f.start) + time.Hour)
		}
		require.Equal(t, fabricSize, round())
	})
}

// How long it takes, by the clock.
func TestMoveLatency(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	f := newFabric(t)
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(f.hosts, func(h *fabricHost) bool { return h.policy.Revision() == 0 })
	}, 10*time.Second, time.Millisecond)
	stop := make(chan struct{})
	var senders sync.WaitGroup
	for _, h := range f.hosts {
		senders.Go(func() {
			for tick := time.NewTicker(2 * time.Millisecond); ; {
				select {
				case <-tick.C:
					h.send()
				case <-stop:
					tick.Stop()
					return
				}
			}
		})
	}
	// all waits for a frame of every host but those that know at the rover's place.
	all := func(since time.Time, late []time.Duration) []time.Duration {
		t.Helper()
		seen := map[int]bool{}
		deadline := time.After(20 * time.Second)
		for len(seen) < fabricSize {
			select {
			case from := <-f.hosts[f.at].reached:
				if !seen[from] {
					seen[from] = true
					late = append(late, time.Since(since))
				}
			case <-deadline:
				require.Fail(t, "hosts do not find the VM", "%d do", len(seen))
			}
		}
		return late
	}
	all(time.Now(), nil)
	measure := func(name string, tell func(from, to int, c overlay.Change)) {
		var late []time.Duration
		for _, to := range []int{11, 23, 5, 77, 34} {
			from := f.at
			f.hosts[to].empty()
			var since time.Time
			f.move(to, func(c overlay.Change) {
				since = time.Now()
				tell(from, to, c)
			})
			late = all(since, late)
			time.Sleep(detourPause)
		}
		slices.Sort(late)
		p50, p99 := late[len(late)/2], late[len(late)*99/100]
		t.Logf("%s: %d hosts, to the first frame at the new place: p50 %v, p99 %v, at most %v", name, fabricSize, p50, p99, late[len(late)-1])
		require.Less(t, p99, 5*time.Second)
	}
	measure("policy", func(_, _ int, c overlay.Change) {
		_, err := f.store.Commit(t.Context(), []overlay.Change{c})
		require.NoError(t, err)
	})
	f.store.stop()
	measure("redirects, without the store", func(from, to int, c overlay.Change) {
		require.NoError(t, f.hosts[from].engine.Apply([]overlay.Change{c}))
		require.NoError(t, f.hosts[to].engine.Apply([]overlay.Change{c}))
	})
	close(stop)
	senders.Wait()
	t.Logf("%d frames arrived, none twice", f.got())
}

// detourPause is how soon after another a redirect is obeyed, and more.
const detourPause = 150 * time.Millisecond
