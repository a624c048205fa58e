package vswitch

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// see is what the data path does with the source of a frame: it reports whether the frame may pass.
func see(f *fdb, k fdbKey, at int, now uint32) bool {
	b := &burst{
		scratch: new(scratch),
		sw:      &Switch{fdb: f},
		snap:    &snapshot{},
		in:      &portView{port: &port{index: at}},
		now:     now,
		meta:    []meta{{src: uint64(k) & macMask, fid: uint16(k >> 48)}},
	}
	learn(b)
	return b.meta[0].drop == 0
}

// look is what the data path does with the destination of a frame: it returns a port or -1.
func look(f *fdb, k fdbKey, now uint32) int {
	v := f.table.Load().find(k)
	if v == 0 || v.expired(now, f.ageing.Load()) {
		return -1
	}
	return v.port()
}

// testKey returns the n-th of many keys. Addresses and VLANs differ little, as those of one maker do.
func testKey(n int) fdbKey {
	return makeKey(0x02|uint64(n>>8&0xff)<<32|uint64(n&0xff)<<40|uint64(n>>16)<<24, uint16(n%3))
}

func newTestFDB(limit int, ageing time.Duration, ports ...int) *fdb {
	f := newFDB(limit, ageing)
	for i, l := range ports {
		f.addPort(i, l)
	}
	return f
}

// requireSound checks that the parts of a database fit each other.
func (f *fdb) requireSound(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	table := f.table.Load()
	learned, statics := 0, 0
	for slot := range len(table.buckets) * bucketSlots {
		k, v := table.at(slot)
		if k == 0 {
			continue
		}
		got, at := table.slot(k)
		require.Equal(t, slot, at, "a key is there twice, or not where it is looked for")
		require.Equal(t, v.Load(), uint64(got))
		if got.static() {
			statics++
		} else {
			learned++
		}
	}
	require.Equal(t, learned, f.count, "learned")
	require.Equal(t, statics, f.statics, "static")
	require.LessOrEqual(t, f.count, f.limit)
	chained := 0
	for p, h := range f.holders {
		if h == nil {
			continue
		}
		require.Equal(t, p, h.port)
		require.LessOrEqual(t, h.count, h.limit, "of port %d", p)
		require.Same(t, h, f.ranking[h.rank])
		require.LessOrEqual(t, h.count, f.ranking[0].count, "the largest holder is not the first")
		own, last := 0, int32(0)
		for s := h.first; s != 0; s = f.links[s-1].next {
			k, v := table.at(int(s - 1))
			require.NotZero(t, k, "a free slot is in the chain of port %d", p)
			require.Equal(t, p, fdbVal(v.Load()).port())
			require.Equal(t, last, f.links[s-1].prev)
			if !fdbVal(v.Load()).static() {
				own++
			}
			chained++
			last = s
		}
		require.Equal(t, h.last, last)
		require.Equal(t, h.count, own, "of port %d", p)
	}
	require.Equal(t, learned+statics, chained)
}

// fdbModel is what a database should be.
type fdbModel struct {
	entries map[fdbKey]*fdbModelEntry
	limit   int
	limits  []int // by port; -1 when removed
	ageing  uint32
}

type fdbModelEntry struct {
	port   int
	static bool
	seen   uint32
	moves  uint32
	window uint32
	recent int
}

func (m *fdbModel) learned(port int) (n int) {
	for _, e := range m.entries {
		if !e.static && (port < 0 || e.port == port) {
			n++
		}
	}
	return n
}

func (m *fdbModel) aged(e *fdbModelEntry, now uint32) bool { return !e.static && now-e.seen > m.ageing }

// evict removes the one entry that is gone from f, which must be one of port, or one of the port with
// the most when port is -1.
func (m *fdbModel) evict(t *testing.T, f *fdb, port int) {
	var gone []fdbKey
	for k, e := range m.entries {
		if !e.static && f.table.Load().find(k) == 0 {
			gone = append(gone, k)
		}
	}
	require.NotEmpty(t, gone, "nothing was evicted")
	var fit []fdbKey
	for _, k := range gone {
		p := m.entries[k].port
		most := true
		for q := range m.limits {
			most = most && m.learned(p) >= m.learned(q)
		}
		if p == port || port < 0 && most {
			fit = append(fit, k)
		}
	}
	require.NotEmpty(t, fit, "the victim's port does not hold most addresses")
	delete(m.entries, fit[0])
}

func (m *fdbModel) see(t *testing.T, f *fdb, k fdbKey, port int, now uint32) bool {
	e := m.entries[k]
	switch {
	case e != nil && e.static:
		return e.port == port
	case e != nil && m.aged(e, now):
		delete(m.entries, k)
		e = nil
	}
	if e != nil {
		if e.port == port {
			e.seen = now
			return true
		}
		if e.recent == 0 || now-e.window > moveWindow {
			e.window, e.recent = now, 0
		}
		if e.recent == maxMoves {
			return true
		}
		e.recent++
		if m.learned(port) >= m.limits[port] {
			m.evict(t, f, port)
		}
		e.port, e.seen = port, now
		e.moves++
		return true
	}
	if m.learned(port) >= m.limits[port] {
		m.evict(t, f, port)
	}
	if m.learned(-1) >= m.limit {
		m.evict(t, f, -1)
	}
	m.entries[k] = &fdbModelEntry{port: port, seen: now}
	return true
}

// requireLike checks that f and m know the same.
func (m *fdbModel) requireLike(t *testing.T, f *fdb, keys int, now uint32) {
	t.Helper()
	got := map[fdbKey]fdbModelEntry{}
	f.each(now, func(k fdbKey, v fdbVal, moves uint32) {
		got[k] = fdbModelEntry{port: v.port(), static: v.static(), moves: moves}
	})
	want := map[fdbKey]fdbModelEntry{}
	for k, e := range m.entries {
		if !m.aged(e, now) {
			want[k] = fdbModelEntry{port: e.port, static: e.static, moves: e.moves}
		}
	}
	if !maps.Equal(want, got) {
		require.Equal(t, want, got)
	}
	for n := range keys {
		k := testKey(n)
		p := -1
		if e, ok := want[k]; ok {
			p = e.port
		}
		if q := look(f, k, now); p != q {
			require.Equal(t, p, q, "port of %x", k)
		}
	}
}

func TestTheDatabaseIsAMap(t *testing.T) {
	for seed := range uint64(25) {
		compareWithMap(t, seed)
	}
}

func compareWithMap(t *testing.T, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Log("seed", seed)
		}
	}()
	const nPorts = 5
	r := rand.New(rand.NewPCG(seed, 0))
	keys := []int{10, 40, 400}[r.IntN(3)] // the last makes the table grow
	m := &fdbModel{entries: map[fdbKey]*fdbModelEntry{}, limit: []int{1, 5, 20, 1000}[r.IntN(4)]}
	ageing := time.Duration(1+r.IntN(30)) * time.Second
	m.ageing = uint32(ageing / fdbTick)
	f := newFDB(m.limit, ageing)
	portLimit := func() int { return []int{1, 3, 10, 1000}[r.IntN(4)] }
	for p := range nPorts {
		m.limits = append(m.limits, portLimit())
		f.addPort(p, m.limits[p])
	}
	now := uint32(1)
	for range 1500 {
		k, p := testKey(r.IntN(keys)), r.IntN(nPorts)
		there := m.limits[p] >= 0
		switch n := r.IntN(1000); {
		case n < 800:
			if there {
				passes := see(f, k, p, now)
				require.Equal(t, m.see(t, f, k, p, now), passes, "%x at %d", k, p)
			}
		case n < 880:
			now += uint32([]int{1, 2, 5, 10, 11, 50, 300}[r.IntN(7)])
			// What has aged takes no part in evictions from here on.
			for range 20 {
				f.sweep(now)
			}
			maps.DeleteFunc(m.entries, func(_ fdbKey, e *fdbModelEntry) bool { return m.aged(e, now) })
		case n < 910:
			if there {
				f.addStatic(k, p)
				m.entries[k] = &fdbModelEntry{port: p, static: true}
			}
		case n < 940:
			require.Equal(t, m.entries[k] != nil, f.removeKey(k))
			delete(m.entries, k)
		case n < 950:
			f.flush(func(_ fdbKey, v fdbVal) bool { return v.port() == p })
			maps.DeleteFunc(m.entries, func(_ fdbKey, e *fdbModelEntry) bool { return !e.static && e.port == p })
		case n < 960:
			vid := r.IntN(3)
			f.flush(func(k fdbKey, _ fdbVal) bool { return int(k>>48) == vid })
			maps.DeleteFunc(m.entries, func(k fdbKey, e *fdbModelEntry) bool { return !e.static && int(k>>48) == vid })
		case n < 970:
			if there {
				f.removePort(p)
				m.limits[p] = -1
				maps.DeleteFunc(m.entries, func(_ fdbKey, e *fdbModelEntry) bool { return e.port == p })
				break
			}
			fallthrough
		case n < 985:
			m.limits[p] = portLimit()
			f.addPort(p, m.limits[p])
			for m.learned(p) > m.limits[p] {
				m.evict(t, f, p)
			}
		case n < 992:
			m.limit = []int{1, 5, 20, 1000}[r.IntN(4)]
			f.setLimits(m.limit, ageing)
			for m.learned(-1) > m.limit {
				m.evict(t, f, -1)
			}
		default:
			f.mu.Lock()
			f.rebuild(len(f.table.Load().buckets))
			f.mu.Unlock()
		}
		m.requireLike(t, f, keys, now)
		owner, ok := f.owner(k)
		e := m.entries[k]
		require.Equal(t, e != nil && e.static, ok)
		if ok {
			require.Equal(t, e.port, owner)
		}
	}
	f.requireSound(t)
	require.Equal(t, len(m.entries), f.len())
}

func TestAnAddressAges(t *testing.T) {
	f := newTestFDB(10, 2*time.Second, 10, 10)
	k := testKey(1)
	see(f, k, 0, 100)
	require.Equal(t, 0, look(f, k, 120), "at the ageing time")
	require.Equal(t, -1, look(f, k, 121), "and behind it")
	require.Equal(t, 0, look(f, k, 99), "seen by a worker whose clock is ahead")
	see(f, k, 0, 115)
	require.Equal(t, 0, look(f, k, 135))
	f.sweep(135)
	require.Equal(t, 1, f.len())
	f.sweep(136)
	require.Equal(t, 0, f.len())
	require.EqualValues(t, 1, f.aged.Load())
}

func TestAnAgedAddressIsLearnedAnew(t *testing.T) {
	for at := range 2 {
		f := newTestFDB(10, 2*time.Second, 10, 10)
		k := testKey(1)
		see(f, k, 0, 100)
		see(f, k, at, 150)
		require.Equal(t, at, look(f, k, 170))
		require.EqualValues(t, 0, f.moved.Load())
		require.EqualValues(t, 2, f.learned.Load())
		require.EqualValues(t, 1, f.aged.Load())
		f.requireSound(t)
	}
}

func TestMovesAreDampedPerStation(t *testing.T) {
	for _, start := range []uint32{1, 10, 1000} {
		f := newTestFDB(10, time.Hour, 10, 10)
		restless, calm := testKey(1), testKey(2)
		see(f, restless, 0, start)
		see(f, calm, 0, start)
		for i := range uint32(20) {
			see(f, restless, 1-int(i)%2, start+i/2) // two moves a tick
		}
		require.EqualValues(t, maxMoves, f.moved.Load(), "from %d", start)
		require.EqualValues(t, (20-maxMoves)/2+1, f.damped.Load(), "every other time it was where it is known, from %d", start)
		see(f, calm, 1, start+9)
		require.Equal(t, 1, look(f, calm, start+9))
		at := look(f, restless, start+9)
		see(f, restless, 1-at, start+moveWindow+1)
		require.Equal(t, 1-at, look(f, restless, start+moveWindow+1), "when it has calmed down")
	}
}

func TestSweepGoesThroughTheWholeTable(t *testing.T) {
	f := newTestFDB(limitMaxAddresses, time.Second, limitMaxAddresses)
	for n := range 100_000 {
		see(f, testKey(n), 0, 1)
	}
	require.Equal(t, 100_000, f.len())
	for range 17 {
		f.sweep(100)
	}
	require.Equal(t, 0, f.len())
	require.EqualValues(t, 100_000, f.aged.Load())
	f.requireSound(t)
}

func TestTheTableGrowsAndKeepsEverything(t *testing.T) {
	const n = 50_000
	f := newTestFDB(limitMaxAddresses, time.Hour, limitMaxAddresses, limitMaxAddresses, limitMaxAddresses)
	want := func(i int) int { return i % 3 }
	for i := range n {
		if i%10 == 0 {
			f.addStatic(testKey(i), want(i))
		} else {
			see(f, testKey(i), want(i), 1)
		}
		if i%4999 == 0 {
			for j := range i {
				if at := look(f, testKey(j), 1); at != want(j) {
					require.Equal(t, want(j), at, "key %d of %d", j, i)
				}
			}
		}
	}
	require.Equal(t, n, f.len())
	f.requireSound(t)
	f.removePort(1)
	f.requireSound(t)
	for i := range n {
		p := want(i)
		if p == 1 {
			p = -1
		}
		require.Equal(t, p, look(f, testKey(i), 1))
	}
}

func TestAGuestCannotMakeAddressesCollide(t *testing.T) {
	// Keys that differ in the high or low bits only, or by a stride.
	for name, key := range map[string]func(i int) fdbKey{
		"low bits":   func(i int) fdbKey { return fdbKey(0x0200_0000_0000 + i) },
		"high bits":  func(i int) fdbKey { return makeKey(0x02|uint64(i)<<32, 0) },
		"VLANs":      func(i int) fdbKey { return makeKey(0x02, uint16(i%4000)) | fdbKey(i/4000)<<32 },
		"wide steps": func(i int) fdbKey { return fdbKey(2 + uint64(i)<<20) },
	} {
		f := newTestFDB(limitMaxAddresses, time.Hour, limitMaxAddresses)
		for i := range 20_000 {
			see(f, key(i), 0, 1)
		}
		require.Equal(t, 20_000, f.len(), name)
		require.LessOrEqual(t, len(f.table.Load().buckets), 1<<15, name)
	}
}

// Addresses of one maker follow each other. Whatever a database's random multiplier is, all of them
// must find a place: one that does not would be flooded for ever.
func TestEveryAddressFindsAPlace(t *testing.T) {
	const keys = 250
	for n := range 1000 {
		f := newTestFDB(limitMaxAddresses, time.Hour, limitMaxAddresses)
		for i := range keys {
			see(f, testKey(i), 0, 1)
		}
		require.Equal(t, keys, f.len(), "in database %d", n)
	}
}

func TestEvictionTakesFromTheLargestHolder(t *testing.T) {
	f := newTestFDB(100, time.Hour, 1000, 1000, 1000)
	for i := range 10 {
		see(f, testKey(i), 1, 1)
	}
	for i := range 5000 { // a flood of addresses
		see(f, testKey(1000+i), 0, 2)
		require.LessOrEqual(t, f.len(), 100)
	}
	for i := range 10 {
		require.Equal(t, 1, look(f, testKey(i), 2), "an address of another port was pushed out")
	}
	see(f, testKey(100), 2, 3)
	require.Equal(t, 2, look(f, testKey(100), 3), "a port with few gets a place")
	require.EqualValues(t, 5000-90+1, f.evicted.Load())
	f.requireSound(t)
}

func TestStaticAddressesAreNoPrey(t *testing.T) {
	f := newTestFDB(3, time.Hour, 2, 1000)
	for i := range 20 {
		f.addStatic(testKey(i), i%2)
	}
	for i := range 100 {
		see(f, testKey(100+i), i%2, 2)
	}
	f.flush(func(fdbKey, fdbVal) bool { return true })
	for range 20 {
		f.sweep(1 << 30)
	}
	for i := range 20 {
		require.Equal(t, i%2, look(f, testKey(i), 1<<30))
		require.False(t, see(f, testKey(i), 1-i%2, 1<<30), "and passes nowhere else")
		require.True(t, see(f, testKey(i), i%2, 1<<30))
	}
	require.Equal(t, 20, f.len())
	f.requireSound(t)
}

// A worker that finds the database busy does not wait for it, but that must not open a way past what
// is configured.
func TestAConfiguredAddressIsDefendedWhileTheDatabaseIsBusy(t *testing.T) {
	f := newTestFDB(10, time.Hour, 10, 10)
	f.addStatic(testKey(1), 0)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.True(t, see(f, testKey(1), 0, 1))
	require.True(t, see(f, testKey(2), 1, 1), "passes, and is learned another time")
	require.False(t, see(f, testKey(1), 1, 1), "a frame with the address of another vNIC passed")
}

// Each key has ports of its own, and no reader may ever see another one, whatever goes on.
func TestReadersNeverSeeAWrongPort(t *testing.T) {
	const (
		nPorts = 64
		fixed  = 500    // keys that are always there
		nKeys  = 20_000 // the rest comes and goes
		movers = 100    // have two ports
	)
	f := newFDB(limitMaxAddresses, time.Hour)
	for p := range nPorts {
		f.addPort(p, limitMaxAddresses)
	}
	home := func(n int) int { return n % (nPorts - 1) }
	for n := range fixed {
		f.addStatic(testKey(n), home(n))
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	fail := make(chan string, 16)
	report := func(format string, args ...any) {
		select {
		case fail <- fmt.Sprintf(format, args...):
		default:
		}
		stop.Store(true)
	}
	for id := range 2 {
		wg.Go(func() { // a worker that learns
			r := rand.New(rand.NewPCG(uint64(id), 1))
			for i := uint32(0); !stop.Load(); i++ {
				n := fixed + r.IntN(nKeys)
				at := home(n)
				if n < fixed+movers {
					at += r.IntN(2)
				}
				see(f, testKey(n), at, 1+i>>8)
			}
		})
	}
	wg.Go(func() { // changes of configuration
		r := rand.New(rand.NewPCG(9, 9))
		for i := 0; !stop.Load(); i++ {
			switch n := fixed + r.IntN(nKeys); r.IntN(200) {
			case 0:
				f.flush(func(_ fdbKey, v fdbVal) bool { return v.port() == home(n) })
			case 1:
				f.mu.Lock()
				f.rebuild(len(f.table.Load().buckets))
				f.mu.Unlock()
			case 2:
				f.sweep(uint32(i))
			default:
				f.removeKey(testKey(n))
			}
		}
	})
	var found atomic.Int64
	for id := range 2 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(id), 2))
			for !stop.Load() {
				n := r.IntN(fixed + nKeys)
				if r.IntN(2) == 0 {
					n = r.IntN(2 * fixed)
				}
				v := f.table.Load().find(testKey(n))
				switch {
				case v == 0 && n < fixed:
					report("key %d was not found", n)
				case v == 0:
				case v.port() == home(n):
					found.Add(1)
				case n < fixed || n >= fixed+movers || v.port() != home(n)+1:
					report("key %d of port %d was found at %d", n, home(n), v.port())
				}
			}
		})
	}
	timer := time.AfterFunc(300*time.Millisecond, func() { stop.Store(true) })
	defer timer.Stop()
	wg.Wait()
	select {
	case s := <-fail:
		t.Fatal(s)
	default:
	}
	require.NotZero(t, found.Load())
	f.requireSound(t)
}

func TestLookUpsAndRefreshesDoNotAllocate(t *testing.T) {
	f := newTestFDB(limitMaxAddresses, time.Hour, limitMaxAddresses, limitMaxAddresses)
	for n := range 10_000 {
		see(f, testKey(n), n%2, 1)
	}
	n := 0
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		n++
		f.table.Load().find(testKey(n % 20_000))
	}))
	b := &burst{scratch: new(scratch), sw: &Switch{fdb: f}, in: &portView{port: &port{}}, meta: make([]meta, 64)}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		b.now++
		for i := range b.meta {
			n += 2
			b.meta[i] = meta{src: uint64(testKey(n%10_000)) & macMask, fid: uint16(testKey(n%10_000) >> 48)}
		}
		learn(b)
	}), "refreshes")
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		n++
		b.in.index = n / 10_000 % 2
		see := &b.meta[n%64]
		*see = meta{src: uint64(testKey(n%10_000)) & macMask, fid: uint16(testKey(n%10_000) >> 48)}
		b.now += 100
		learn(b)
	}), "moves")
}

var benchmarkSink fdbVal

func BenchmarkFDB(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 16, 1 << 20} {
		f := newTestFDB(limitMaxAddresses, time.Hour, limitMaxAddresses)
		for n := range size {
			see(f, testKey(n), 0, 1)
		}
		r := rand.New(rand.NewPCG(1, 1))
		order := make([]fdbKey, min(size, 1<<18))
		for i, n := range r.Perm(size)[:len(order)] {
			order[i] = testKey(n)
		}
		for _, c := range []struct {
			name string
			of   func(i int) fdbKey
		}{
			{"found", func(i int) fdbKey { return order[i%len(order)] }},
			{"absent", func(i int) fdbKey { return order[i%len(order)] | 0x800<<48 }},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, size), func(b *testing.B) {
				b.ReportAllocs()
				t := f.table.Load()
				for i := range b.N {
					benchmarkSink = t.find(c.of(i))
				}
			})
		}
		b.Run(fmt.Sprintf("refreshed/%d", size), func(b *testing.B) {
			b.ReportAllocs()
			u := &burst{sw: &Switch{fdb: f}, in: &portView{port: &port{}}, meta: make([]meta, 64)}
			for i := 0; i < b.N; i += len(u.meta) {
				u.now = 2 + uint32(i>>10)
				for j := range u.meta {
					k := order[(i+j)%len(order)]
					u.meta[j] = meta{src: uint64(k) & macMask, fid: uint16(k >> 48)}
				}
				learn(u)
			}
		})
	}
}
