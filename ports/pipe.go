package ports

import (
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
)

// PipeConfig describes a Pipe. A nil *PipeConfig or zero fields mean the defaults.
type PipeConfig struct {
	Name     string   // for logs
	MAC      MAC      // reported by both ends
	MTU      int      // bytes; default 1500, at most 65535
	Queues   int      // in each direction; default 1
	Depth    int      // frames a queue holds, rounded up to a power of two; default 256
	Offloads Offloads // what both ends accept; default none
	Speed    uint64   // bit/s, reported as the speed of the link

	// Drop makes a full queue drop what is sent, and count it. The default loses nothing: Send
	// takes only what there is room for, and the sender decides.
	Drop bool
}

// Pipe is a cable in memory: what is sent at one end is received at the other, in order, each frame
// copied once. Memory for frames is made on first use and used again; a pipe that carries nothing
// holds none. Queues implement Notifier in both directions.
func Pipe(cfg *PipeConfig) (a, b *PipeEnd, err error) {
	c := PipeConfig{}
	if cfg != nil {
		c = *cfg
	}
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.Queues == 0 {
		c.Queues = 1
	}
	if c.Depth == 0 {
		c.Depth = 256
	}
	switch {
	case c.MTU < 68 || c.MTU > 65535: // RFC 791: every host forwards 68 bytes
		return nil, nil, fmt.Errorf("pipe %q: MTU %d is out of 68–65535", c.Name, c.MTU)
	case c.Queues < 1 || c.Queues > 256:
		return nil, nil, fmt.Errorf("pipe %q: %d queues are out of 1–256", c.Name, c.Queues)
	case c.Depth < 1 || c.Depth > 1<<16:
		return nil, nil, fmt.Errorf("pipe %q: depth %d is out of 1–65536", c.Name, c.Depth)
	}
	c.Depth = 1 << bits.Len(uint(c.Depth-1))
	p := &pipe{cfg: c}
	p.up.Store(true)
	for i := range 2 {
		for range c.Queues {
			p.end[i].tx = append(p.end[i].tx, &pipeRing{pipe: p, depth: uint64(c.Depth)})
		}
		p.end[i].pipe = p
	}
	p.end[0].rx, p.end[1].rx = p.end[1].tx, p.end[0].tx
	return &p.end[0], &p.end[1], nil
}

type pipe struct {
	cfg    PipeConfig
	end    [2]PipeEnd
	up     atomic.Bool
	closed atomic.Bool
	mu     sync.Mutex // orders changes of link and closed with their events
}

// PipeEnd is one end of a Pipe.
type PipeEnd struct {
	pipe  *pipe
	rx    []*pipeRing // filled by the other end
	tx    []*pipeRing
	watch atomic.Pointer[func(Link)]

	reader frameReader
	writer frameWriter
}

var (
	_ Backend     = &PipeEnd{}
	_ LinkWatcher = &PipeEnd{}
	_ Notifier    = pipeRx{}
	_ Notifier    = pipeTx{}
)

// Info implements Backend.
func (e *PipeEnd) Info() Info {
	c := &e.pipe.cfg
	return Info{Name: c.Name, MAC: c.MAC, MTU: c.MTU, RxQueues: c.Queues, TxQueues: c.Queues, Offloads: c.Offloads}
}

// Rx implements Backend.
func (e *PipeEnd) Rx(i int) RxQueue { return pipeRx{e.rx[i]} }

// Tx implements Backend.
func (e *PipeEnd) Tx(i int) TxQueue { return pipeTx{e.tx[i]} }

// Link implements LinkWatcher.
func (e *PipeEnd) Link() Link {
	return Link{Up: e.pipe.up.Load() && !e.pipe.closed.Load(), Speed: e.pipe.cfg.Speed}
}

// WatchLink implements LinkWatcher.
func (e *PipeEnd) WatchLink(changed func(Link)) {
	if changed == nil {
		e.watch.Store(nil)
		return
	}
	e.watch.Store(&changed)
}

// SetLink pulls the cable, or plugs it in again, for both ends. While it is out, Send returns
// ErrLinkDown; what was sent before still arrives.
func (e *PipeEnd) SetLink(up bool) {
	p := e.pipe
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up.Swap(up) != up && !p.closed.Load() {
		p.linkChanged()
	}
}

func (p *pipe) linkChanged() {
	for i := range p.end {
		if f := p.end[i].watch.Load(); f != nil {
			(*f)(p.end[i].Link())
		}
	}
}

// Dropped returns how many frames sent at this end were dropped because the queue was full; always
// 0 unless PipeConfig.Drop is set.
func (e *PipeEnd) Dropped() uint64 {
	var n uint64
	for _, r := range e.tx {
		n += r.dropped.Load()
	}
	return n
}

// Close closes both ends. What has been sent can still be received, then Recv returns ErrClosed.
func (e *PipeEnd) Close() error {
	p := e.pipe
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Swap(true) {
		return nil
	}
	if p.up.Load() {
		p.linkChanged()
	}
	for i := range p.end {
		for _, r := range p.end[i].tx {
			r.arrived.ring()
			r.room.ring()
		}
	}
	return nil
}

// pipeRing is one queue in one direction: a ring with one producer and one consumer, each of whom
// keeps a copy of the other's index and looks at the real one only when it has run out.
type pipeRing struct {
	pipe  *pipe
	depth uint64
	slots []Frame // made by the first Send; published by tail

	_       [64]byte
	head    atomic.Uint64 // first slot not yet released
	lent    uint64        // first slot not yet lent; the consumer's
	tailWas uint64        // the consumer's copy of tail
	room    bell

	_       [64]byte
	tail    atomic.Uint64 // first free slot
	headWas uint64        // the producer's copy of head
	dropped atomic.Uint64
	arrived bell
	_       [64]byte
}

// bell is rung once each time it has been armed.
type bell struct {
	armed atomic.Bool
	fn    atomic.Pointer[func()]
}

func (b *bell) set(ring func()) {
	if ring == nil {
		b.fn.Store(nil)
		return
	}
	b.fn.Store(&ring)
}

func (b *bell) ring() {
	if b.armed.Load() && b.armed.CompareAndSwap(true, false) {
		if f := b.fn.Load(); f != nil {
			(*f)()
		}
	}
}

type pipeRx struct{ r *pipeRing }

func (q pipeRx) Recv(b *Batch) error {
	r := q.r
	have := r.tailWas - r.lent
	if have < uint64(b.Room()) {
		closed := r.pipe.closed.Load() // before tail, so that nothing sent before Close is missed
		r.tailWas = r.tail.Load()
		if have = r.tailWas - r.lent; have == 0 {
			if closed {
				return ErrClosed
			}
			return nil
		}
	}
	n := min(have, uint64(b.Room()))
	mask := r.depth - 1
	for i := r.lent; i != r.lent+n; i++ {
		b.frames = append(b.frames, &r.slots[i&mask])
	}
	r.lent += n
	return nil
}

func (q pipeRx) Release() {
	r := q.r
	if r.lent == r.head.Load() {
		return
	}
	r.head.Store(r.lent)
	r.room.ring()
}

func (q pipeRx) SetBell(ring func()) { q.r.arrived.set(ring) }

func (q pipeRx) Arm() bool {
	r := q.r
	r.arrived.armed.Store(true)
	if r.tail.Load() != r.lent || r.pipe.closed.Load() {
		r.arrived.armed.Store(false)
		return true
	}
	return false
}

type pipeTx struct{ r *pipeRing }

func (q pipeTx) Send(frames []*Frame) (int, error) {
	r := q.r
	p := r.pipe
	if p.closed.Load() {
		return 0, ErrClosed
	}
	if !p.up.Load() {
		return 0, ErrLinkDown
	}
	t := r.tail.Load()
	room := r.depth - (t - r.headWas)
	if room < uint64(len(frames)) {
		r.headWas = r.head.Load()
		room = r.depth - (t - r.headWas)
	}
	if r.slots == nil {
		r.slots = make([]Frame, r.depth)
	}
	var refused error
	n := 0
	mask := r.depth - 1
	for _, f := range frames {
		if uint64(n) == room {
			break
		}
		if refused = p.check(f); refused != nil {
			break
		}
		r.slots[(t+uint64(n))&mask].CopyFrom(f)
		n++
	}
	if n > 0 {
		r.tail.Store(t + uint64(n))
		r.arrived.ring()
	}
	if p.cfg.Drop && refused == nil && n < len(frames) {
		r.dropped.Add(uint64(len(frames) - n))
		n = len(frames)
	}
	return n, refused
}

func (p *pipe) check(f *Frame) error {
	if !f.Offload.IsZero() && f.Offload.Needs()&^p.cfg.Offloads != 0 {
		return ErrOffload
	}
	if f.Len() > MaxFrame || f.Offload.Segment == SegmentNone && !f.Fits(p.cfg.MTU) {
		return ErrFrameSize
	}
	return nil
}

func (q pipeTx) SetBell(ring func()) { q.r.room.set(ring) }

func (q pipeTx) Arm() bool {
	r := q.r
	r.room.armed.Store(true)
	if r.tail.Load()-r.head.Load() < r.depth || r.pipe.closed.Load() {
		r.room.armed.Store(false)
		return true
	}
	return false
}
