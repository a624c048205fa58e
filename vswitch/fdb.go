package vswitch

import (
	"container/heap"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// fdb is the forwarding database, IEEE 802.1Q 8.8: (VLAN, address) → port.
//
// Look-ups take no lock: the table is an array of cache-line buckets of atomic words. Changes are
// made under mu; a worker that finds mu taken hardly waits but learns from a later frame.
type fdb struct {
	table atomic.Pointer[fdbTable]

	learned, moved, damped, evicted, aged atomic.Uint64

	mu       sync.Mutex
	mult     uint64     // odd and random, so that no guest can choose colliding addresses
	links    []fdbLink  // beside table, by slot
	holders  []*holder  // by port index
	ranking  holderHeap // holders of learned addresses, the largest first
	count    int        // learned addresses
	statics  int
	limit    int           // of learned addresses
	ageing   atomic.Uint32 // in units of fdbTick
	sweepPos int
}

// fdbKey is the address as loaded from the frame in its low 48 bits, the VLAN above them, and a bit
// that makes it differ from 0, which is no key.
type fdbKey uint64

func makeKey(mac uint64, vid uint16) fdbKey { return fdbKey(mac | uint64(vid)<<48 | 1<<60) }

func (k fdbKey) mac() uint64 { return uint64(k) & macMask }
func (k fdbKey) vid() uint16 { return uint16(k>>48) & 0xfff }

// fdbVal is what is known of a key: when it was seen, its port, and flags. It is never 0.
type fdbVal uint64

const (
	valPortShift = 32
	valPortMask  = 1<<24 - 1
	valUsed      = 1 << 62
	valStatic    = 1 << 63
)

func learnedVal(port int, now uint32) fdbVal {
	return valUsed | fdbVal(port)<<valPortShift | fdbVal(now)
}

func (v fdbVal) port() int     { return int(v >> valPortShift & valPortMask) }
func (v fdbVal) stamp() uint32 { return uint32(v) }
func (v fdbVal) static() bool  { return v&valStatic != 0 }

// expired reports whether a learned address was not seen for longer than ageing.
func (v fdbVal) expired(now, ageing uint32) bool {
	return v&valStatic == 0 && now-v.stamp() > ageing && now > v.stamp()
}

// fdbTick is the unit of time stamps.
const fdbTick = 100 * time.Millisecond

const (
	bucketSlots = 4
	minBuckets  = 64
	maxProbe    = 16 // buckets an entry may lie behind its own
)

// fdbBucket is a cache line. The last key also says, by passedBit, that an entry which belongs here
// lies in a bucket behind.
type fdbBucket struct {
	key [bucketSlots]atomic.Uint64
	val [bucketSlots]atomic.Uint64
}

const passedBit = 1 << 63

type fdbTable struct {
	buckets []fdbBucket
	shift   uint
	mult    uint64
	passed  int // buckets with passedBit; the writer's
}

func newFDBTable(buckets int, mult uint64) *fdbTable {
	return &fdbTable{
		buckets: make([]fdbBucket, buckets),
		shift:   uint(64 - bits.Len(uint(buckets-1))),
		mult:    mult,
	}
}

// home returns the bucket that k belongs in. One multiplication alone would crowd addresses that
// follow one another.
func (t *fdbTable) home(k fdbKey) uint64 {
	x := uint64(k) * t.mult
	x ^= x >> 32
	return x * 0x9e3779b97f4a7c15 >> t.shift
}

// find returns the value of k, or 0.
func (t *fdbTable) find(k fdbKey) fdbVal {
	v, _ := t.slot(k)
	return v
}

// slot returns the value of k and its place, or 0 and -1.
func (t *fdbTable) slot(k fdbKey) (fdbVal, int) {
	home := t.home(k)
	mask := uint64(len(t.buckets) - 1)
	for d := uint64(0); ; d++ {
		i := (home + d) & mask
		b := &t.buckets[i]
		for j := range b.key {
			if b.key[j].Load()&^passedBit == uint64(k) {
				v := b.val[j].Load()
				// The slot may have changed hands between the two loads.
				if b.key[j].Load()&^passedBit == uint64(k) {
					return fdbVal(v), int(i)*bucketSlots + j
				}
			}
		}
		if b.key[bucketSlots-1].Load()&passedBit == 0 || d == maxProbe {
			return 0, -1
		}
	}
}

// at returns the key in a slot, 0 when it is free, and its value.
func (t *fdbTable) at(slot int) (fdbKey, *atomic.Uint64) {
	b := &t.buckets[slot/bucketSlots]
	return fdbKey(b.key[slot%bucketSlots].Load() &^ passedBit), &b.val[slot%bucketSlots]
}

// setKey changes the key in a slot; 0 frees it.
func (t *fdbTable) setKey(slot int, k fdbKey) {
	key := &t.buckets[slot/bucketSlots].key[slot%bucketSlots]
	key.Store(key.Load()&passedBit | uint64(k))
}

// insert puts a key that is not there into a free slot and returns it, or -1 when there is none
// near enough.
func (t *fdbTable) insert(k fdbKey, v fdbVal) int {
	home := t.home(k)
	mask := uint64(len(t.buckets) - 1)
	for d := uint64(0); d <= maxProbe; d++ {
		i := int((home+d)&mask) * bucketSlots
		for slot := i; slot < i+bucketSlots; slot++ {
			if key, val := t.at(slot); key == 0 {
				val.Store(uint64(v))
				t.setKey(slot, k)
				return slot
			}
		}
		last := &t.buckets[(home+d)&mask].key[bucketSlots-1]
		if k := last.Load(); k&passedBit == 0 {
			last.Store(k | passedBit)
			t.passed++
		}
	}
	return -1
}

// touch brings the bucket of k into the cache.
func (t *fdbTable) touch(k fdbKey) uint64 { return t.buckets[t.home(k)].key[0].Load() }

// fdbLink chains the slots of one holder and counts the moves of a station.
type fdbLink struct {
	prev, next int32  // slot+1
	moves      uint32 // since learned
	window     uint32 // time stamp of the first move of the current window
	recent     uint32 // moves in it
}

// holder is a port as the owner of addresses.
type holder struct {
	port        int
	count       int // learned
	limit       int
	first, last int32 // slot+1; learned and static, in the order of learning
	rank        int   // in ranking
}

type holderHeap []*holder

func (h holderHeap) Len() int           { return len(h) }
func (h holderHeap) Less(i, j int) bool { return h[i].count > h[j].count }
func (h holderHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].rank, h[j].rank = i, j
}
func (h *holderHeap) Push(x any) {
	p := x.(*holder)
	p.rank = len(*h)
	*h = append(*h, p)
}
func (h *holderHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return p
}

func newFDB(limit int, ageing time.Duration) *fdb {
	f := &fdb{mult: rand.Uint64() | 1}
	f.setLimits(limit, ageing)
	f.rebuild(minBuckets)
	return f
}

func ticks(d time.Duration) uint32 { return uint32(max(1, d/fdbTick)) }

// setLimits changes the bounds; what is above the new limit is evicted.
func (f *fdb) setLimits(limit int, ageing time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = limit
	f.ageing.Store(ticks(ageing))
	for f.count > f.limit {
		f.evict(f.ranking[0])
	}
}

// addPort makes room for the addresses of a port, at most limit learned ones.
func (f *fdb) addPort(port, limit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.holders) <= port {
		f.holders = append(f.holders, nil)
	}
	h := f.holders[port]
	if h == nil {
		h = &holder{port: port}
		f.holders[port] = h
		heap.Push(&f.ranking, h)
	}
	h.limit = limit
	for h.count > h.limit {
		f.evict(h)
	}
}

// removePort forgets the port and all its addresses. No worker may learn on the port any more.
func (f *fdb) removePort(port int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.holders[port]
	for h.first != 0 {
		f.remove(h.first - 1)
	}
	heap.Remove(&f.ranking, h.rank)
	f.holders[port] = nil
}

// Moves of one station within moveWindow beyond maxMoves do not change the table: two ports that
// claim the same address cannot make the switch work at their pace.
const (
	moveWindow = uint32(time.Second / fdbTick)
	maxMoves   = 5
)

// learn notes that k was seen at port. It is the slow path of the data path: for a key that is new
// or elsewhere. It reports whether the frame may pass: not when the address is configured for
// another port.
func (f *fdb) learn(k fdbKey, port int, now uint32) bool {
	if !f.lockSoon() {
		return true
	}
	defer f.mu.Unlock()
	t := f.table.Load()
	h := f.holders[port]
	v, slot := t.slot(k)
	if slot >= 0 {
		if v.static() {
			return v.port() == port
		}
		if v.port() == port && !v.expired(now, f.ageing.Load()) {
			return true
		}
		if v.expired(now, f.ageing.Load()) {
			f.aged.Add(1)
			f.remove(int32(slot))
		} else {
			f.move(int32(slot), h, now)
			return true
		}
	}
	if h.limit == 0 || f.limit == 0 {
		return true
	}
	if h.count >= h.limit {
		f.evict(h)
	}
	if f.count >= f.limit {
		f.evict(f.ranking[0])
	}
	f.add(k, learnedVal(port, now), h)
	f.learned.Add(1)
	return true
}

// move gives a learned entry to another port, unless the station moves too often.
func (f *fdb) move(slot int32, to *holder, now uint32) {
	l := &f.links[slot]
	if l.recent == 0 || now-l.window > moveWindow {
		l.window, l.recent = now, 0
	}
	if l.recent >= maxMoves || to.limit == 0 {
		f.damped.Add(1)
		return
	}
	l.recent++
	l.moves++
	f.moved.Add(1)
	if to.count >= to.limit {
		f.evict(to)
	}
	_, v := f.table.Load().at(int(slot))
	f.unchain(f.holders[fdbVal(v.Load()).port()], slot)
	f.changeCount(f.holders[fdbVal(v.Load()).port()], -1)
	v.Store(uint64(learnedVal(to.port, now)))
	f.chain(to, slot)
	f.changeCount(to, 1)
}

// add puts a new entry into the table, which grows at half its capacity.
func (f *fdb) add(k fdbKey, v fdbVal, h *holder) {
	t := f.table.Load()
	switch {
	case 2*(f.count+f.statics+1) > len(t.buckets)*bucketSlots:
		f.rebuild(2 * len(t.buckets))
	case 4*t.passed > len(t.buckets): // left by entries that have gone
		f.rebuild(len(t.buckets))
	}
	t = f.table.Load()
	slot := t.insert(k, v)
	for slot < 0 { // crowded by chance
		f.mult = rand.Uint64() | 1
		f.rebuild(len(t.buckets))
		t = f.table.Load()
		slot = t.insert(k, v)
	}
	f.links[slot] = fdbLink{}
	f.chain(h, int32(slot))
	if v.static() {
		f.statics++
	} else {
		f.changeCount(h, 1)
	}
}

// rebuild publishes a table of so many buckets with the entries of the present one. Readers go on in
// the old table, which is whole.
func (f *fdb) rebuild(buckets int) {
	for ; ; buckets *= 2 {
		t := newFDBTable(buckets, f.mult)
		links := make([]fdbLink, buckets*bucketSlots)
		if f.refill(t, links) {
			f.links = links
			f.table.Store(t)
			f.sweepPos = 0
			return
		}
		f.mult = rand.Uint64() | 1
	}
}

func (f *fdb) refill(t *fdbTable, links []fdbLink) bool {
	old := f.table.Load()
	type chain struct{ first, last int32 }
	chains := make([]chain, len(f.holders))
	for p, h := range f.holders {
		if h == nil {
			continue
		}
		c := &chains[p]
		for s := h.first; s != 0; s = f.links[s-1].next {
			k, v := old.at(int(s - 1))
			n := t.insert(k, fdbVal(v.Load()))
			if n < 0 {
				return false
			}
			l := f.links[s-1]
			l.prev, l.next = c.last, 0
			links[n] = l
			if c.last != 0 {
				links[c.last-1].next = int32(n + 1)
			} else {
				c.first = int32(n + 1)
			}
			c.last = int32(n + 1)
		}
	}
	for p, h := range f.holders {
		if h != nil {
			h.first, h.last = chains[p].first, chains[p].last
		}
	}
	return true
}

func (f *fdb) chain(h *holder, slot int32) {
	l := &f.links[slot]
	l.prev, l.next = h.last, 0
	if h.last != 0 {
		f.links[h.last-1].next = slot + 1
	} else {
		h.first = slot + 1
	}
	h.last = slot + 1
}

func (f *fdb) unchain(h *holder, slot int32) {
	l := &f.links[slot]
	if l.prev != 0 {
		f.links[l.prev-1].next = l.next
	} else {
		h.first = l.next
	}
	if l.next != 0 {
		f.links[l.next-1].prev = l.prev
	} else {
		h.last = l.prev
	}
}

func (f *fdb) changeCount(h *holder, n int) {
	h.count += n
	f.count += n
	heap.Fix(&f.ranking, h.rank)
}

// remove takes an entry out of the table.
func (f *fdb) remove(slot int32) {
	t := f.table.Load()
	_, v := t.at(int(slot))
	val := fdbVal(v.Load())
	h := f.holders[val.port()]
	f.unchain(h, slot)
	t.setKey(int(slot), 0)
	if val.static() {
		f.statics--
	} else {
		f.changeCount(h, -1)
	}
}

// evict removes a learned address of h: among those learned first, the one not seen for longest.
func (f *fdb) evict(h *holder) {
	const look = 8
	t := f.table.Load()
	victim, oldest := int32(-1), uint32(0)
	n := 0
	for s := h.first; s != 0 && n < look; s = f.links[s-1].next {
		_, v := t.at(int(s - 1))
		val := fdbVal(v.Load())
		if val.static() {
			continue
		}
		if victim < 0 || val.stamp() < oldest {
			victim, oldest = s-1, val.stamp()
		}
		n++
	}
	f.evicted.Add(1)
	f.remove(victim)
}

// owner returns the port that k is configured for.
func (f *fdb) owner(k fdbKey) (port int, ok bool) {
	v := f.table.Load().find(k)
	return v.port(), v.static()
}

// addStatic makes k an address of port that is neither aged nor moved, whatever was known of it.
func (f *fdb) addStatic(k fdbKey, port int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v, slot := f.table.Load().slot(k); slot >= 0 {
		if v&valStatic != 0 && v.port() == port {
			return // without a moment in which frames for it are flooded
		}
		f.remove(int32(slot))
	}
	f.add(k, learnedVal(port, 0)|valStatic, f.holders[port])
}

// removeKey removes the entry of k and reports whether there was one.
func (f *fdb) removeKey(k fdbKey) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, slot := f.table.Load().slot(k)
	if slot >= 0 {
		f.remove(int32(slot))
	}
	return slot >= 0
}

// flush removes the learned entries that match.
func (f *fdb) flush(match func(fdbKey, fdbVal) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.table.Load()
	for slot := range len(t.buckets) * bucketSlots {
		k, v := t.at(slot)
		val := fdbVal(v.Load())
		if k != 0 && !val.static() && match(k, val) {
			f.remove(int32(slot))
		}
	}
}

// sweep removes aged entries from a part of the table, so that all of it is visited in sixteen calls.
// It holds the lock for moments only, as workers that learn need it.
func (f *fdb) sweep(now uint32) {
	const step = 256
	slots := len(f.table.Load().buckets) * bucketSlots
	for swept := 0; swept < max(slots/16, 4096) && f.sweepSome(now, step); swept += step {
	}
}

// sweepSome looks at the next n slots. It reports false at the end of the table.
func (f *fdb) sweepSome(now uint32, n int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.table.Load()
	for range n {
		if f.sweepPos >= len(t.buckets)*bucketSlots {
			f.sweepPos = 0
			return false
		}
		k, v := t.at(f.sweepPos)
		if k != 0 && fdbVal(v.Load()).expired(now, f.ageing.Load()) {
			f.aged.Add(1)
			f.remove(int32(f.sweepPos))
		}
		f.sweepPos++
	}
	return true
}

// lockSoon takes the lock unless it stays taken, and reports whether it did: a worker does not wait.
func (f *fdb) lockSoon() bool {
	for range 64 {
		if f.mu.TryLock() {
			return true
		}
		runtime.Gosched()
	}
	return false
}

// each calls visit for every entry that has not aged.
func (f *fdb) each(now uint32, visit func(k fdbKey, v fdbVal, moves uint32)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.table.Load()
	for slot := range len(t.buckets) * bucketSlots {
		k, v := t.at(slot)
		if val := fdbVal(v.Load()); k != 0 && !val.expired(now, f.ageing.Load()) {
			visit(k, val, f.links[slot].moves)
		}
	}
}

func (f *fdb) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count + f.statics
}
