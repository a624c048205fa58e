package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// guest is a backend in the manner of a virtual machine's memory. Its transmit ring holds frames
// prepared once, of which a batch is ready at a time; its receive ring takes one copy of each frame.
// So generator and sink cost next to nothing, and what is measured is the switch.
type guest struct {
	info ports.Info
	rx   guestRx
	tx   guestTx
}

var (
	_ ports.Backend  = &guest{}
	_ ports.Notifier = &guestRx{}
)

func newGuest(name string, l load, t *talker, s *stopwatch) *guest {
	g := &guest{info: ports.Info{Name: name, MTU: 1500, RxQueues: 1, TxQueues: 1, Offloads: ports.OffloadAll}}
	g.rx.batch, g.rx.watch = l.batch, s
	n := 1 // for introductions
	pair := pairOf(addr(0), addr(1))
	if t != nil {
		n = l.ring()
		g.rx.pairs, g.rx.rewrite = t.pairs, l.rewrite
	}
	stride := l.stride()
	slab := make([]byte, n*stride)
	g.rx.frames = make([]ports.Frame, n)
	for i := range g.rx.frames {
		if t != nil {
			pair = t.pairs[i]
		}
		m := slab[i*stride:][:stride:stride]
		copy(m[ports.Headroom:], l.frame(pair))
		f := &g.rx.frames[i]
		head := min(l.size, max(ports.HeadLen, 2048))
		f.SetHead(m, ports.Headroom, head)
		f.AppendBody(m[ports.Headroom+head:][:l.size-head])
		f.Offload = l.offload()
	}
	g.tx.stride, g.tx.size = stride, l.ring()
	return g
}

func (g *guest) Info() ports.Info     { return g.info }
func (g *guest) Rx(int) ports.RxQueue { return &g.rx }
func (g *guest) Tx(int) ports.TxQueue { return &g.tx }
func (g *guest) Close() error {
	g.rx.closed.Store(true)
	g.rx.ring()
	return nil
}

// stopwatch stops when every sender has got its last frame back.
type stopwatch struct {
	busy atomic.Int64
	done chan time.Time
}

func newStopwatch() *stopwatch { return &stopwatch{done: make(chan time.Time, 1)} }

func (s *stopwatch) finish() {
	if s.busy.Add(-1) == 0 {
		s.done <- time.Now()
	}
}

var errStuck = errors.New("no progress for 20 seconds")

func (s *stopwatch) wait(start time.Time) (time.Duration, error) {
	select {
	case end := <-s.done:
		return end.Sub(start), nil
	case <-time.After(20 * time.Second):
		return 0, errStuck
	}
}

type guestRx struct {
	_       [cacheLine]byte // a queue's state is its worker's
	frames  []ports.Frame
	pairs   []macPair
	patches []patch // with rewrite, instead of pairs
	rewrite bool
	batch   int
	pos     int // next frame
	pair    int // next pair or patch, with rewrite
	lent    int
	watch   *stopwatch

	left   atomic.Int64 // frames to be sent
	closed atomic.Bool
	armed  atomic.Bool
	bell   atomic.Pointer[func()]
	_      [cacheLine]byte
}

// Recv lends one batch; the next is there when it has been released.
func (q *guestRx) Recv(b *ports.Batch) error {
	if q.lent > 0 {
		return nil
	}
	left := q.left.Load()
	if left == 0 {
		if q.closed.Load() {
			return ports.ErrClosed
		}
		return nil
	}
	n := min(q.batch, int(left), b.Room(), len(q.frames)-q.pos)
	for i := range n {
		f := &q.frames[q.pos+i]
		if q.rewrite {
			q.rewriteNext(f.Head())
		}
		b.Lend(f)
	}
	if q.pos += n; q.pos == len(q.frames) {
		q.pos = 0
	}
	q.lent = n
	q.left.Store(left - int64(n))
	return nil
}

func (q *guestRx) rewriteNext(head []byte) {
	n := len(q.patches)
	if n > 0 {
		copy(head[patchStart:], q.patches[q.pair][:])
	} else {
		n = len(q.pairs)
		copy(head, q.pairs[q.pair][:])
	}
	if q.pair++; q.pair == n {
		q.pair = 0
	}
}

func (q *guestRx) Release() {
	if q.lent == 0 {
		return
	}
	q.lent = 0
	if q.left.Load() == 0 {
		q.watch.finish()
	}
}

func (q *guestRx) SetBell(ring func()) {
	if ring == nil {
		q.bell.Store(nil)
		return
	}
	q.bell.Store(&ring)
}

func (q *guestRx) Arm() bool {
	q.armed.Store(true)
	if q.left.Load() > 0 && q.lent == 0 || q.closed.Load() {
		q.armed.Store(false)
		return true
	}
	return false
}

func (q *guestRx) ring() {
	if q.armed.CompareAndSwap(true, false) {
		if f := q.bell.Load(); f != nil {
			(*f)()
		}
	}
}

// send has n frames sent.
func (q *guestRx) send(n int) {
	q.left.Store(int64(n))
	q.ring()
}

type guestTx struct {
	_      [cacheLine]byte
	slab   []byte // made on first use: of 10,000 guests few may receive
	lens   []uint32
	stride int
	size   int
	pos    int
	count  uint64
	_      [cacheLine]byte
}

func (q *guestTx) Send(frames []*ports.Frame) (int, error) {
	if q.slab == nil {
		q.slab, q.lens = make([]byte, q.size*q.stride), make([]uint32, q.size)
	}
	for i, f := range frames {
		if f.WireLen() > q.stride {
			return i, ports.ErrFrameSize
		}
		q.lens[q.pos] = uint32(f.CopyTo(q.slab[q.pos*q.stride:][:q.stride]))
		if q.pos++; q.pos == q.size {
			q.pos = 0
		}
	}
	q.count += uint64(len(frames))
	return len(frames), nil
}

// guests drives all guests of a scene.
type guests struct {
	load    load
	watch   *stopwatch
	all     []*guest
	talkers int
}

func newGuests(l load) *guests {
	g := &guests{load: l, watch: newStopwatch()}
	ts := l.talkers()
	g.talkers = len(ts)
	for i := range l.ports {
		var t *talker
		if i < len(ts) {
			t = &ts[i]
		}
		g.all = append(g.all, newGuest(portName(i), l, t, g.watch))
	}
	return g
}

func portName(i int) string { return fmt.Sprintf("vm%d", i) }

// introduce lets every address send one frame, so that the switch knows it.
func (g *guests) introduce() error {
	order := [][]int{{1}, {0}, nil}
	for i := 2; i < len(g.all); i++ {
		order[2] = append(order[2], i)
	}
	for _, set := range order {
		if len(set) == 0 {
			continue
		}
		var undo []func()
		g.watch.busy.Store(int64(len(set)))
		start := time.Now()
		for _, i := range set {
			undo = append(undo, g.all[i].rx.introduce(g.load.introductions(i)))
		}
		if _, err := g.watch.wait(start); err != nil {
			return err
		}
		for _, f := range undo {
			f()
		}
	}
	return nil
}

func (q *guestRx) introduce(pairs []macPair) (undo func()) {
	was, rewrite := q.pairs, q.rewrite
	q.pairs, q.rewrite = pairs, true
	q.send(len(pairs))
	return func() {
		q.pairs, q.rewrite, q.pair, q.pos = was, rewrite, 0, 0
		for i := range min(len(was), len(q.frames)) {
			copy(q.frames[i].Head(), was[i][:])
		}
	}
}

func (g *guests) received() (n uint64) {
	for _, one := range g.all {
		n += one.tx.count
	}
	return n
}

// move implements mover.
func (g *guests) move(n int) (int, time.Duration, error) {
	each := g.load.share(n, g.talkers)
	before := g.received()
	g.watch.busy.Store(int64(g.talkers))
	start := time.Now()
	for _, t := range g.all[:g.talkers] {
		t.rx.send(each)
	}
	d, err := g.watch.wait(start)
	if err != nil {
		return 0, 0, err
	}
	n = each * g.talkers
	if got := g.received() - before; got != uint64(n) {
		return 0, 0, fmt.Errorf("%d frames were sent and %d received", n, got)
	}
	return n, d, nil
}
