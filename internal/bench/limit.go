package main

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// The limits: what is left of a frame's cost when the switch does only the unavoidable part, and
// nothing for generality.

// table is an open-addressing hash table of addresses, at most half full.
type table struct {
	shift   uint
	mask    uint64
	entries []entry
}

type entry struct {
	key   atomic.Uint64 // address | occupied
	value atomic.Uint64 // port<<32 | epoch
}

const (
	macMask  = 1<<48 - 1
	occupied = 1 << 48
	epoch    = 7
)

func newTable(n int) *table {
	size := 1 << bits.Len(uint(2*n-1))
	return &table{uint(64 - bits.Len(uint(size-1))), uint64(size - 1), make([]entry, size)}
}

func (t *table) slot(k uint64) uint64 { return k * 0x9e3779b97f4a7c15 >> t.shift }

func (t *table) get(k uint64) uint64 {
	for i := t.slot(k); ; i++ {
		e := &t.entries[i&t.mask]
		if q := e.key.Load(); q == k {
			return e.value.Load()
		} else if q == 0 {
			return 0
		}
	}
}

func (t *table) put(k, v uint64) {
	for i := t.slot(k); ; i++ {
		e := &t.entries[i&t.mask]
		if q := e.key.Load(); q == k || q == 0 {
			e.value.Store(v)
			e.key.Store(k)
			return
		}
	}
}

// desc describes a frame in a ring: offset<<32 | length.
type desc uint64

func (d desc) in(slab []byte) []byte { return slab[d>>32:][:uint32(d)] }

// ring has one producer and one consumer, each of whom keeps a copy of the other's index.
type ring struct {
	_       [2 * cacheLine]byte
	head    atomic.Uint64
	tailWas uint64
	_       [2 * cacheLine]byte
	tail    atomic.Uint64
	headWas uint64
	_       [2 * cacheLine]byte
	mask    uint64
	buf     []desc
	_       [2 * cacheLine]byte
}

func newRing(n int) *ring {
	n = 1 << bits.Len(uint(n-1))
	return &ring{mask: uint64(n - 1), buf: make([]desc, n)}
}

func (r *ring) push(b []desc) int {
	t := r.tail.Load()
	if free := uint64(len(r.buf)) - (t - r.headWas); free < uint64(len(b)) {
		r.headWas = r.head.Load()
		b = b[:min(uint64(len(b)), uint64(len(r.buf))-(t-r.headWas))]
	}
	k := copy(r.buf[t&r.mask:], b)
	copy(r.buf, b[k:])
	r.tail.Store(t + uint64(len(b)))
	return len(b)
}

func (r *ring) pop(b []desc) int {
	h := r.head.Load()
	if r.tailWas-h < uint64(len(b)) {
		r.tailWas = r.tail.Load()
		b = b[:min(uint64(len(b)), r.tailWas-h)]
	}
	k := copy(b, r.buf[h&r.mask:])
	copy(b[k:], r.buf)
	r.head.Store(h + uint64(len(b)))
	return len(b)
}

// loop is the bare switch: a burst from a ring, parse, learn, look up, copy, group by port, out.
type loop struct {
	_        [2 * cacheLine]byte
	table    *table
	in, out  []*ring // by talker, by port
	from, to []byte  // memory of the senders, of the receivers
	stride   int
	slots    int   // of each receiver
	next     []int // slot of each receiver
	burst    []desc
	stage    [][]desc
	touched  []int
	_        [2 * cacheLine]byte
}

// apart makes a slice that shares no cache line with what another core writes.
func apart[T any](n int) []T {
	const pad = 2 * cacheLine // more elements than that are harmless
	return make([]T, n+2*pad)[pad:][:n:n]
}

func (w *loop) poll(talker, port int) {
	n := w.in[talker].pop(w.burst)
	for _, d := range w.burst[:n] {
		f := d.in(w.from)
		dst := binary.LittleEndian.Uint64(f)&macMask | occupied
		src := binary.LittleEndian.Uint64(f[6:])&macMask | occupied
		if v := w.table.get(src); uint32(v) != epoch || int(v>>32) != port {
			w.table.put(src, uint64(port)<<32|epoch)
		}
		o := int(w.table.get(dst) >> 32)
		k := w.next[o]
		if w.next[o]++; w.next[o] == w.slots {
			w.next[o] = 0
		}
		to := desc((o*w.slots+k)*w.stride)<<32 | desc(len(f))
		copy(to.in(w.to), f)
		if len(w.stage[o]) == 0 {
			w.touched = append(w.touched, o)
		}
		w.stage[o] = append(w.stage[o], to)
	}
	for _, o := range w.touched {
		w.out[o].push(w.stage[o])
		w.stage[o] = w.stage[o][:0]
	}
}

func (w *loop) drain(b []desc) {
	for _, o := range w.touched {
		w.out[o].pop(b)
	}
	w.touched = w.touched[:0]
}

// bareLoop is generator, loop and sink.
type bareLoop struct {
	load    load
	talkers []talker
	frames  [][]desc // prepared, of each talker
	pos     []int    // next frame of each talker
	pair    []int    // next pair, with rewrite
	loop    *loop
	got     []desc
}

// newBareLoop makes one for some of the talkers of a load; several may share the table.
func newBareLoop(l load, ts []talker, t *table) *bareLoop {
	stride, slots := l.stride(), l.ring()
	depth := max(2*l.batch, min(1024, 2*l.ring()))
	b := &bareLoop{load: l, talkers: ts, pos: apart[int](len(ts)), pair: apart[int](len(ts)), got: apart[desc](2 * l.batch)}
	w := &loop{table: t, stride: stride, slots: slots, next: apart[int](l.ports), burst: apart[desc](l.batch), touched: apart[int](l.batch)[:0],
		from: make([]byte, len(ts)*slots*stride), to: make([]byte, l.ports*slots*stride), stage: apart[[]desc](l.ports)}
	for i, t := range ts {
		w.in = append(w.in, newRing(depth))
		var ds []desc
		for k := range slots {
			d := desc((i*slots+k)*stride)<<32 | desc(l.size)
			copy(d.in(w.from), l.frame(t.pairs[k]))
			ds = append(ds, d)
		}
		b.frames = append(b.frames, ds)
	}
	for i := range w.stage {
		w.out = append(w.out, newRing(depth))
		w.stage[i] = make([]desc, 0, max(8, min(l.batch, 1024/l.ports)))
	}
	b.loop = w
	return b
}

// generate hands the next batch of a talker to the loop.
func (b *bareLoop) generate(i int) int {
	ds := b.frames[i][b.pos[i]:][:b.load.batch]
	if b.pos[i] += len(ds); b.pos[i] == len(b.frames[i]) {
		b.pos[i] = 0
	}
	if b.load.rewrite {
		pairs := b.talkers[i].pairs
		for _, d := range ds {
			copy(d.in(b.loop.from), pairs[b.pair[i]][:])
			if b.pair[i]++; b.pair[i] == len(pairs) {
				b.pair[i] = 0
			}
		}
	}
	return b.loop.in[i].push(ds)
}

func (b *bareLoop) move(n int) (int, time.Duration, error) {
	each := b.load.share(n, len(b.talkers))
	start := time.Now()
	for range each / b.load.batch {
		for i := range b.talkers {
			b.generate(i)
			b.loop.poll(i, b.talkers[i].port)
			b.loop.drain(b.got)
		}
	}
	return each * len(b.talkers), time.Since(start), nil
}

func fullTable(l load) *table {
	t := newTable(l.addresses)
	for i := range l.addresses {
		m := addr(i)
		var b [8]byte
		copy(b[:], m[:])
		t.put(binary.LittleEndian.Uint64(b[:])|occupied, uint64(i%l.ports)<<32|epoch)
	}
	return t
}

// limitLoop is the limit of the guests' rows: on one core one loop, on two one on each.
func limitLoop(l load) mover {
	ts, t := l.talkers(), fullTable(l)
	if l.cores == 1 {
		return newBareLoop(l, ts, t).move
	}
	var loops []*bareLoop
	for c := range l.cores {
		loops = append(loops, newBareLoop(l, ts[len(ts)*c/l.cores:len(ts)*(c+1)/l.cores], t))
	}
	return func(n int) (int, time.Duration, error) {
		var wg sync.WaitGroup
		var total atomic.Int64
		start := time.Now()
		for c, w := range loops {
			wg.Go(func() {
				defer pinThread(c)()
				k, _, _ := w.move(n / l.cores)
				total.Add(int64(k))
			})
		}
		wg.Wait()
		return int(total.Load()), time.Since(start), nil
	}
}

// limitHandOff is the limit of the pipe rows on two cores: generator and sink on one, the loop on
// the other, between them rings that pass on descriptors.
func limitHandOff(l load) mover {
	b := newBareLoop(l, l.talkers(), fullTable(l))
	w := b.loop
	window := l.ring() / 4 * 3 // a slot is not used again while its frame is on its way
	return func(n int) (int, time.Duration, error) {
		n = l.share(n, 1)
		var stop atomic.Bool
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer pinThread(1)()
			for !stop.Load() {
				w.poll(0, 0)
				w.touched = w.touched[:0]
			}
		}()
		defer pinThread(0)()
		start := time.Now()
		for sent, got := 0, 0; got < n; {
			if sent < n && sent-got+l.batch <= window {
				sent += b.generate(0)
			}
			got += w.out[1].pop(b.got)
		}
		d := time.Since(start)
		stop.Store(true)
		<-done
		return n, d, nil
	}
}

// bareCopy copies the frames of a talker's ring to a receiver's ring, and does nothing else.
func bareCopy(l load) mover {
	stride, slots := l.stride(), l.ring()
	from, to := make([]byte, slots*stride), make([]byte, slots*stride)
	for i := range from {
		from[i] = byte(i) // pages of their own, not the zero page
	}
	size := l.size
	return func(n int) (int, time.Duration, error) {
		rounds := max(1, n/slots)
		start := time.Now()
		for range rounds {
			for o := 0; o < len(from); o += stride {
				copy(to[o:o+size], from[o:o+size])
			}
		}
		return rounds * slots, time.Since(start), nil
	}
}

// handOffTime is the time in which a cache line goes to another core and back, in ns: the median of
// many short measurements, so that one during which a thread had to wait does not count. It tells
// whether the two share a cache at the moment; ring rates depend on it.
func handOffTime() float64 {
	const bursts, rounds = 101, 100
	var ping, pong atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer pinThread(1)()
		for i := int64(1); i <= bursts*rounds; i++ {
			for ping.Load() != i {
			}
			pong.Store(i)
		}
	}()
	defer pinThread(0)()
	trips := make([]float64, bursts)
	i := int64(0)
	for b := range trips {
		start := time.Now()
		for range rounds {
			i++
			ping.Store(i)
			for pong.Load() != i {
			}
		}
		trips[b] = float64(time.Since(start).Nanoseconds()) / rounds
	}
	<-done
	return median(trips)
}
