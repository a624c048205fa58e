package vswitch

import (
	"errors"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/internal/memfault"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

const (
	burstSize = 64 // frames; more fit the cache less well, fewer cost more a frame

	// A queue is found empty a number of times before the worker stops polling it and waits to be
	// told: more often when frames come meanwhile, less often when they do not.
	leastPatience   = 4
	leastPatienceFD = 1 // a descriptor that is asked in vain costs a system call
	mostPatience    = 16

	// pollTurns is how many turns a busy worker takes before it asks for the descriptors that have become
	// readable.
	pollTurns = 8

	// yieldTurns is how many turns a busy worker takes before it lets other goroutines run.
	yieldTurns = 32

	// clockTurns is how many turns a reading of the clock, which costs as much as a frame or
	// two, serves.
	clockTurns = 8

	// maxQuiet is how often in a row a descriptor may be readable without a frame, be it one that is
	// discarded, as that of an interface that is down can be, before it is left alone for pauseTime.
	maxQuiet  = 8
	pauseTime = 20 * time.Millisecond
)

// worker moves frames. It owns a set of receive queues, polls those that have work, runs each batch
// through the pipeline to its end, and sleeps in one wait when there is none.
type worker struct {
	host         *Host
	batch        *ports.Batch
	burst        burst
	meta         [burstSize]meta
	delivery     delivery
	clock        time.Duration // since the host was made
	scratch      scratch
	segmenter    segment.Segmenter
	adapted      []*ports.Frame
	leaving      []*ports.Frame
	leavingIndex []uint16
	passage      passage
	pieces       losses
	mirroring    group
	spreading    spreading
	toVMs        overlayBurst
	toProvider   overlayBurst

	// turns is odd while the worker has a queue, its frames or a snapshot in its hands.
	turns atomic.Uint64

	active []*rxQueue
	alarms alarms
	naps   naps

	queues []*rxQueue    // attached; under Host.mu, as what follows
	slept  time.Duration // when it was measured last
	load   float64       // part of the time that it is awake
	moved  uint64        // queues that have been moved to it

	mu       sync.Mutex
	ready    []*rxQueue // have something, or may have
	hasReady atomic.Bool
	sleeping atomic.Bool
	wake     chan struct{}
	timer    *time.Timer           // of the next alarm
	fds      atomic.Pointer[fdSet] // nil until a queue is waited for by its descriptor
	stopping atomic.Bool
	done     chan struct{}
}

// rxQueue is a receive queue of a port, polled by one worker.
type rxQueue struct {
	rx       ports.RxQueue
	port     *port
	worker   *worker
	index    int // in port.rx
	number   int // differs from that of other queues
	fd       int // -1 when it has a bell
	fdID     int32
	idle     int         // turns without a frame
	patience int         // how many of them until it is not polled any more
	quiet    int         // times its descriptor was readable in vain
	thrown   uint64      // frames that it had discarded by then
	queued   atomic.Bool // in worker.ready or worker.active
	removed  atomic.Bool
	resume   alarm // after a pause

	work    atomic.Uint64 // that it has caused
	place   int           // in worker.queues, or -1; under Host.mu, as what follows
	workWas uint64        // work when it was measured last
	recent  float64       // work between two measurements, older ones counting less
	load    float64       // part in that of the worker
}

func newWorker(h *Host) *worker {
	w := &worker{
		host:  h,
		batch: ports.NewBatch(burstSize),
		wake:  make(chan struct{}, 1),
		timer: time.NewTimer(time.Hour),
		done:  make(chan struct{}),
	}
	w.timer.Stop()
	w.burst.scratch = &w.scratch
	w.scratch.overlay.worker = len(h.workers)
	return w
}

// attach makes the worker serve a queue.
func (w *worker) attach(q *rxQueue) error {
	q.worker, q.fd, q.patience = w, -1, leastPatience
	q.place = len(w.queues)
	w.queues = append(w.queues, q)
	switch n := q.rx.(type) {
	case ports.Notifier:
		n.SetBell(func() { w.ring(q) })
	case ports.Pollable:
		fds := w.fds.Load()
		if fds == nil {
			var err error
			if fds, err = newFDSet(w); err != nil {
				return err
			}
			w.fds.Store(fds)
			w.notify() // from now on it waits there
		}
		q.fd = n.Descriptor()
		if err := fds.add(q); err != nil {
			return err
		}
	default:
		return errors.New("receive queue is neither a Notifier nor Pollable")
	}
	w.ring(q)
	return nil
}

// detach makes the worker let go of a queue. When it returns, and after Host.synchronize, no worker
// uses the queue. It reports whether the queue was alive.
func (w *worker) detach(q *rxQueue) bool {
	if q.place < 0 { // it has been already
		return false
	}
	n := len(w.queues) - 1
	w.queues[q.place] = w.queues[n]
	w.queues[q.place].place = q.place
	w.queues[n] = nil
	w.queues = w.queues[:n]
	q.place = -1
	dead := q.removed.Swap(true)
	if n, ok := q.rx.(ports.Notifier); ok {
		n.SetBell(nil)
	}
	if q.fd >= 0 {
		w.fds.Load().remove(q)
	}
	w.ring(q) // so that it leaves the lists
	return !dead
}

// ring puts a queue on the list of those to be polled and wakes the worker.
func (w *worker) ring(q *rxQueue) {
	if w.list(q) && w.sleeping.Load() && w.sleeping.CompareAndSwap(true, false) {
		w.notify()
	}
}

// list puts a queue on the list of those to be polled, and reports whether it was not there.
func (w *worker) list(q *rxQueue) bool {
	if q.queued.Swap(true) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = append(w.ready, q)
	w.hasReady.Store(true)
	return true
}

func (w *worker) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
	if fds := w.fds.Load(); fds != nil {
		fds.wake()
	}
}

func (w *worker) run() {
	defer close(w.done)
	debug.SetPanicOnFault(true) // see processLent
	for turn := 0; !w.stopping.Load(); turn++ {
		w.takeReady(turn)
		w.ringAlarms()
		if len(w.active) == 0 {
			w.nap()
			continue
		}
		if turn%clockTurns == 0 {
			w.clock = w.host.clock()
		}
		busy := false
		for i := 0; i < len(w.active); {
			served, parked := w.visit(w.active[i])
			busy = busy || served
			if parked {
				w.active = slices.Delete(w.active, i, i+1)
			} else {
				i++
			}
		}
		if !busy && len(w.active) > 0 || turn%yieldTurns == 0 {
			runtime.Gosched()
		}
	}
}

// visit serves a queue once. It reports whether there were frames, and whether the queue has been
// idle for so long that it is polled no more.
func (w *worker) visit(q *rxQueue) (served, parked bool) {
	w.turns.Add(1)
	defer w.turns.Add(1)
	if q.removed.Load() {
		q.queued.Store(false)
		return false, true
	}
	served, paused := w.serve(q)
	if paused {
		return false, true
	}
	if served {
		if q.idle > 0 { // it was worth it
			q.patience = min(2*q.patience, mostPatience)
		}
		q.idle, q.quiet = 0, 0
		if q.fd >= 0 && q.patience == leastPatienceFD && w.fds.Load().lingering() { // or it reads once more in vain
			return true, w.park(q)
		}
		return true, false
	}
	if q.idle++; q.idle < q.patience {
		return false, false
	}
	q.patience = max(q.patience/2, leastPatienceFD)
	if q.fd < 0 {
		q.patience = max(q.patience, leastPatience)
	}
	q.idle = 0
	return false, w.park(q)
}

// takeReady moves queues that have become ready to the active ones.
func (w *worker) takeReady(turn int) {
	if fds := w.fds.Load(); fds != nil && len(w.active) > 0 && turn%pollTurns == 0 {
		fds.poll()
	}
	if !w.hasReady.Load() {
		return
	}
	w.mu.Lock()
	w.active = append(w.active, w.ready...)
	clear(w.ready)
	w.ready = w.ready[:0]
	w.hasReady.Store(false)
	w.mu.Unlock()
}

// sleep waits until a queue is ready, or until a time unless that is 0. w.clock is up to date.
func (w *worker) sleep(until time.Duration) {
	w.sleeping.Store(true)
	if w.hasReady.Load() || w.stopping.Load() {
		w.sleeping.Store(false)
		return
	}
	switch fds := w.fds.Load(); {
	case fds != nil:
		fds.wait(until)
	case until == 0:
		<-w.wake
	default:
		w.timer.Reset(until - w.clock)
		select {
		case <-w.wake:
			w.timer.Stop()
		case <-w.timer.C:
		}
	}
	w.sleeping.Store(false)
}

// pause leaves a queue alone for a while, whatever comes.
func (w *worker) pause(q *rxQueue, d time.Duration) {
	if q.resume.ring == nil {
		q.resume.ring = func(w *worker) { w.active = append(w.active, q) }
	}
	q.port.count.paused.Add(1)
	w.set(&q.resume, d)
}

// park stops polling a queue until it is rung for, and reports whether it did: not when frames have
// arrived meanwhile.
func (w *worker) park(q *rxQueue) bool {
	q.queued.Store(false)
	if n, ok := q.rx.(ports.Notifier); ok {
		if n.Arm() && !q.queued.Swap(true) {
			return false
		}
		return true
	}
	w.fds.Load().arm(q, q.pause())
	return true
}

// pause returns for how long a descriptor that was readable without a frame is to be left alone.
func (q *rxQueue) pause() time.Duration {
	if d, ok := q.rx.(ports.Discarder); ok {
		if n := d.Discarded(); n != q.thrown { // not in vain
			q.thrown, q.quiet = n, 0
			return 0
		}
	}
	if q.quiet++; q.quiet >= maxQuiet {
		q.quiet = 0
		return pauseTime
	}
	return 0
}

// serve receives one batch from a queue and runs it through the switch. It reports whether there
// were frames, and whether the queue is not to be served for a while.
func (w *worker) serve(q *rxQueue) (busy, paused bool) {
	b := &w.burst
	b.sw = q.port.sw
	b.snap = b.sw.snap.Load()
	b.in = b.snap.source(q.port.index)
	if b.in == nil {
		return false, false // not yet in the configuration
	}
	if m := b.in.maximum; m != nil {
		frames, pause := m.frames(w.clock)
		if pause > 0 {
			w.pause(q, pause)
			return false, true
		}
		w.batch.Limit(frames)
	}
	err := q.rx.Recv(w.batch)
	b.frames = w.batch.Frames()
	busy = len(b.frames) > 0
	if busy {
		b.clock, b.now, b.queue = w.clock, fdbTime(w.clock), q.number
		if b.in.maximum != nil {
			b.in.maximum.charge(b)
		}
		w.processLent(b)
		q.worked(b)
		w.batch.Reset()
		q.rx.Release()
	}
	if b.in.maximum != nil {
		w.batch.Limit(burstSize)
	}
	*b = burst{scratch: &w.scratch} // keep nothing alive
	if err != nil {
		w.host.queueFailed(q, err)
	}
	return busy, false
}

// processLent is process for frames in memory of others, who may take it away: a VMM that truncates the file which
// is the memory of its guest. Then what is left of the burst is lost, and nothing else.
func (w *worker) processLent(b *burst) {
	defer func() {
		if r := recover(); r != nil {
			w.fault(b, r)
		}
	}()
	w.process(b)
}

// fault ends a burst in the midst of which a panic has happened. Any but that of memory that is not there is
// passed on.
func (w *worker) fault(b *burst, r any) {
	if _, ok := memfault.Of(r); !ok {
		panic(r)
	}
	for i := range w.delivery.groups {
		w.delivery.groupOf[w.delivery.groups[i].to.index] = 0
	}
	w.segmenter.Reset()
	b.untake()
	w.passage.lose(b)
	if b.in.program != nil {
		b.fate()
	}
	b.in.count.received(b)
	if b.in.errors.Add(1)%1000 == 1 {
		w.host.log.Warn("memory of frames is gone", "switch", b.sw.name, "port", b.in.name, "error", r)
	}
}

// process runs frames through the pipeline of the port they came from and sends them on.
func (w *worker) process(b *burst) {
	b.meta = w.meta[:len(b.frames)]
	for i := range b.in.ingress {
		b.in.ingress[i].run(b)
	}
	if b.overlaid {
		b.untake()
	}
	w.deliver(b)
	if b.in.program != nil {
		b.fate()
	}
	b.in.count.received(b)
}

// quiesce waits until the worker has let go of whatever it held when the call began.
func (w *worker) quiesce() {
	t := w.turns.Load()
	if t%2 == 0 {
		return
	}
	for w.turns.Load() == t { // a turn is a matter of microseconds
		runtime.Gosched()
	}
}

// stop ends the worker.
func (w *worker) stop() {
	w.stopping.Store(true)
	w.notify()
	<-w.done
	if fds := w.fds.Load(); fds != nil {
		fds.close()
	}
}
