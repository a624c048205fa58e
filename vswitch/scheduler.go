package vswitch

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/memfault"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/qos"
)

// scheduler divides the bandwidth of an uplink. Frames pass it as they are while nothing waits and the link has room;
// then they are copied and wait for their turn. All of it is used by who has the lock of the uplink's first transmit
// queue, by which all frames leave, but for cfg, which is under Host.mu.
type scheduler struct {
	cfg     QoSConfig
	port    *port
	queue   *qos.Scheduler[*waiting]
	classes map[string]*qos.Class[*waiting] // by name of the vNIC, which has a minimum
	speed   uint64                          // that the link reported last; 0 when it has not
	closed  bool

	newSpeed atomic.Bool // of the link; set by whoever is told

	turn   []*waiting     // whose turn it was, and which the backend has not taken
	frames []*ports.Frame // of turn
	free   [2][]*waiting  // short ones, and long ones
	alarm  alarm
	set    bool // the alarm
}

// waiting is a frame that waits for its turn.
type waiting struct {
	frame ports.Frame
	from  string // name of the port
	flow  uint32
	size  int
	whole bool // the copy is complete
	long  bool // has or had a frame longer than shortFrame
}

const (
	shortFrame = 2048

	// keptShort and keptLong bound the frames whose memory is kept for others.
	keptShort = 4096
	keptLong  = 64

	// leastWait is after how long a worker comes back at the earliest, so that several frames are sent at once, and a
	// backend that took no more has had time.
	leastWait = 50 * time.Microsecond
)

// newScheduler makes the scheduler for an uplink, which nothing passes before the port is in a snapshot.
func newScheduler(cfg QoSConfig, p *port) (*scheduler, error) {
	d := &scheduler{cfg: cfg, port: p, classes: map[string]*qos.Class[*waiting]{}, turn: make([]*waiting, 0, burstSize)}
	d.alarm.ring = d.wake
	var err error
	d.queue, err = d.newQueue(cfg)
	return d, err
}

func (d *scheduler) newQueue(cfg QoSConfig) (*qos.Scheduler[*waiting], error) {
	return qos.New(&qos.Config{Mode: cfg.Mode, LinkRate: d.linkRate(cfg), Default: cfg.rest()}, d.refuse)
}

func (d *scheduler) linkRate(cfg QoSConfig) uint64 {
	if cfg.LinkRate != 0 {
		return cfg.LinkRate
	}
	if speed := ports.LinkOf(d.port.backend).Speed; speed >= qos.LowestRate && speed <= qos.HighestRate {
		d.speed = speed
	}
	return d.speed // of before, when the link is down
}

// wireBytes returns what a frame takes of a wire.
func wireBytes(f *ports.Frame) int {
	if f.Offload.Segment == ports.SegmentNone {
		return qos.WireBytes(f.WireLen(), 0, 0)
	}
	var h header.Header
	h.Parse(f.Head(), f.Len())
	return qos.WireBytes(f.WireLen(), int(h.Payload), int(f.Offload.SegmentSize))
}

// send is txQueue.send for frames whose turn it may not be yet. q is locked.
func (d *scheduler) send(w *worker, q *txQueue, from *portView, frames []*ports.Frame, told *losses) {
	if d.closed {
		q.send(d.port, frames, lenOf(frames), told)
		return
	}
	d.follow(w.clock)
	c := d.classes[from.name] // nil for the default one
	n := 0
	if len(d.turn) == 0 {
		for n < len(frames) && d.queue.Pass(c, wireBytes(frames[n]), w.clock) {
			n++
		}
	}
	if n > 0 {
		taken := n - len(q.offer(d.port, frames[:n], lenOf(frames[:n]), told))
		for _, f := range frames[taken:n] {
			d.queue.Repay(c, wireBytes(f))
		}
		n = taken
	}
	for i, f := range frames[n:] {
		if !d.wait(c, from.name, f, w.clock) {
			d.port.count.drop(DropQueueFull, 1)
			told.add(n+i, 1, DropQueueFull)
		}
	}
	d.schedule(w)
}

// wait queues a copy of a frame, and reports whether there is room for it.
func (d *scheduler) wait(c *qos.Class[*waiting], from string, f *ports.Frame, now time.Duration) bool {
	var h header.Header
	h.Parse(f.Head(), f.Len())
	long := f.Len() > shortFrame
	x := d.take(long)
	x.from, x.flow, x.size = from, h.Hash(f.Head()), qos.WireBytes(f.WireLen(), int(h.Payload), int(f.Offload.SegmentSize))
	x.whole = false // the memory of the frame may be gone
	if !d.queue.Enqueue(c, x.flow, x.size, x, now) {
		d.release(x)
		return false
	}
	x.frame.CopyFrom(f)
	x.whole = true
	return true
}

// take returns a frame whose memory suits.
func (d *scheduler) take(long bool) *waiting {
	list := &d.free[0]
	if long {
		list = &d.free[1]
	}
	if n := len(*list); n > 0 {
		x := (*list)[n-1]
		*list = (*list)[:n-1]
		return x
	}
	return &waiting{long: long}
}

func (d *scheduler) release(x *waiting) {
	if x.long {
		if len(d.free[1]) < keptLong {
			d.free[1] = append(d.free[1], x)
		}
	} else if len(d.free[0]) < keptShort {
		d.free[0] = append(d.free[0], x)
	}
}

// refuse counts a frame that had to make room for another.
func (d *scheduler) refuse(x *waiting) {
	d.port.count.drop(DropQueueFull, 1)
	d.release(x)
}

// schedule sees to it that a worker comes back when it is the turn of the next frame.
func (d *scheduler) schedule(w *worker) {
	if d.set {
		return
	}
	after, any := d.queue.Next(w.clock)
	if len(d.turn) > 0 {
		after, any = 0, true
	}
	if any {
		d.set = true
		w.set(&d.alarm, max(after, leastWait))
	}
}

// wake sends the frames whose turn it is.
func (d *scheduler) wake(w *worker) {
	q := d.port.tx[0]
	q.mu.Lock()
	defer q.mu.Unlock()
	d.set = false
	if d.closed {
		return
	}
	d.follow(w.clock)
	defer d.schedule(w)
	defer d.survive()
	for range burstSize { // no turn of a worker is without end
		if len(d.turn) == 0 {
			d.next(w.clock)
		}
		if len(d.turn) == 0 || !d.sendTurn(q) {
			break
		}
	}
}

// survive goes on without the frames whose turn it was when the memory that they should go to is gone.
func (d *scheduler) survive() {
	r := recover()
	if r == nil {
		return
	}
	if _, ok := memfault.Of(r); !ok {
		panic(r)
	}
	d.port.count.drop(DropBackendError, len(d.turn))
	for _, x := range d.turn {
		d.release(x)
	}
	d.turn = d.turn[:0]
}

// next takes the frames whose turn it is.
func (d *scheduler) next(now time.Duration) {
	all := d.turn[:cap(d.turn)]
	n := d.queue.Dequeue(all, now)
	d.turn = d.turn[:0]
	for _, x := range all[:n] {
		if x.whole {
			d.turn = append(d.turn, x)
		} else {
			d.port.count.drop(DropBackendError, 1)
			d.release(x)
		}
	}
}

// sendTurn sends the frames whose turn it was and reports whether all were taken.
func (d *scheduler) sendTurn(q *txQueue) bool {
	d.frames = d.frames[:0]
	for _, x := range d.turn {
		d.frames = append(d.frames, &x.frame)
	}
	done := len(d.frames)
	if d.port.up.Load() {
		done -= len(q.offer(d.port, d.frames, lenOf(d.frames), nil))
	} else {
		refuse(d.port, d.frames, DropLinkDown, nil, 0)
	}
	for _, x := range d.turn[:done] {
		d.release(x)
	}
	d.turn = slices.Delete(d.turn, 0, done)
	return len(d.turn) == 0
}

// close ends the division: what waits is sent, as far as the backend takes it, and what still comes after it.
func (d *scheduler) close() {
	q := d.port.tx[0]
	q.mu.Lock()
	defer q.mu.Unlock()
	d.closed = true
	defer d.survive()
	for later := time.Duration(math.MaxInt64 / 2); ; later += time.Second {
		if len(d.turn) == 0 {
			d.next(later)
		}
		if len(d.turn) == 0 && d.queue.Len() == 0 || len(d.turn) > 0 && !d.sendTurn(q) {
			break
		}
	}
	d.port.count.drop(DropLinkDown, d.queue.Len()+len(d.turn))
	d.turn, d.free = nil, [2][]*waiting{}
}

// follow makes the rate that of the link after the speed of that has changed.
func (d *scheduler) follow(now time.Duration) {
	if d.newSpeed.Swap(false) {
		d.queue.SetLink(d.linkRate(d.cfg), now)
	}
}

// admit gives a vNIC a class, or changes the one it has; without a minimum it has none.
func (d *scheduler) admit(name string, b Bandwidth, now time.Duration) error {
	q := d.port.tx[0]
	q.mu.Lock()
	defer q.mu.Unlock()
	c := d.classes[name]
	switch {
	case !b.hasMinimum():
		if c != nil {
			c.Move(nil, func(*waiting) bool { return true }, now)
			c.Remove()
			delete(d.classes, name)
		}
		return nil
	case c != nil:
		return c.Set(d.cfg.class(name, b), now)
	}
	c, err := d.queue.Add(d.cfg.class(name, b))
	if err != nil {
		return err
	}
	d.queue.Default().Move(c, func(x *waiting) bool { return x.from == name }, now)
	d.classes[name] = c
	return nil
}

// configure changes the scheduler, or with an error nothing.
func (d *scheduler) configure(cfg QoSConfig, now time.Duration) error {
	q := d.port.tx[0]
	q.mu.Lock()
	defer q.mu.Unlock()
	next, err := d.newQueue(cfg)
	if err != nil {
		return err
	}
	all := map[*qos.Class[*waiting]]qos.ClassConfig{}
	for name, c := range d.classes {
		is := c.Config()
		is.QueueBytes, is.QueueFrames = cfg.QueueBytes, cfg.QueueFrames
		all[c] = is
		if _, err := next.Add(all[c]); err != nil {
			return fmt.Errorf("vNIC %q: %w", name, err)
		}
	}
	if cfg.Mode == d.cfg.Mode { // what has just been possible cannot fail
		d.queue.SetLink(d.linkRate(cfg), now)
		d.queue.Default().Set(cfg.rest(), now)
		for c, is := range all {
			c.Set(is, now)
		}
	} else { // nobody has a minimum, which would be in the other mode
		was := d.queue
		d.queue = next
		d.move(was, now)
	}
	d.cfg = cfg
	return nil
}

// move queues anew what waited in a queue that is not used any more.
func (d *scheduler) move(was *qos.Scheduler[*waiting], now time.Duration) {
	var some [burstSize]*waiting
	for later := now; was.Len() > 0; later += time.Second {
		for _, x := range some[:was.Dequeue(some[:], later)] {
			if !d.queue.Enqueue(nil, x.flow, x.size, x, now) {
				d.refuse(x)
			}
		}
	}
}

// stats returns how the classes do, by name, the default one last.
func (d *scheduler) stats() (all []ClassStats) {
	q := d.port.tx[0]
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, c := range d.classes {
		all = append(all, ClassStats{name, c.Stats()})
	}
	slices.SortFunc(all, func(a, b ClassStats) int { return cmp.Compare(a.Name, b.Name) })
	return append(all, ClassStats{"default", d.queue.Default().Stats()})
}
