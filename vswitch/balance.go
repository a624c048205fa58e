package vswitch

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// Receive queues are served by the workers that have the time for them. About once a second queues are moved from
// a worker that is overloaded to the one with the least load, or, when the load has been low for a while, to fewer
// workers, so that the processors of the others can rest.
//
// What a worker may be loaded with after the one (packBelow) lies well below what makes the other happen
// (spreadAbove), and after each move loads are measured anew, so a steady load moves nothing back and forth.
const (
	spreadAbove = 0.8  // load of a worker that is too much
	spreadGain  = 0.1  // least fall of it that is worth a move
	packBelow   = 0.5  // load of a worker that serves the queues of two
	packAfter   = 5    // passes in a row that these must have fitted
	atRest      = 0.01 // load of a worker that does nothing to speak of
	settleFor   = 2    // passes without a move after one
	mostMoves   = 256  // in a pass
)

// What it costs to serve a queue, in about nanoseconds; only the proportions matter.
const (
	turnWork  = 300
	frameWork = 50
	byteWork  = 8 // bytes for one
)

// naps is how long a worker has slept.
type naps struct {
	total atomic.Int64 // before the present nap
	since atomic.Int64 // host's clock + 1 at the beginning of the present nap; 0 while awake
}

// slept returns how long it has slept until now.
func (n *naps) slept(now time.Duration) time.Duration {
	for {
		total, since := n.total.Load(), n.since.Load()
		if n.total.Load() != total {
			continue // it has just woken up
		}
		if since == 0 {
			return time.Duration(total)
		}
		return time.Duration(total) + max(0, now-time.Duration(since-1))
	}
}

// nap is sleep, timed.
func (w *worker) nap() {
	w.clock = w.host.clock()
	start := w.clock
	w.naps.since.Store(int64(start) + 1)
	w.sleep(w.nextAlarm())
	w.clock = w.host.clock()
	w.naps.since.Store(0)
	w.naps.total.Add(int64(w.clock - start))
}

// worked notes what a burst has cost.
func (q *rxQueue) worked(b *burst) {
	q.work.Add(turnWork + frameWork*uint64(len(b.frames)) + b.bytes/byteWork)
}

// measure brings the loads of workers and queues up to date. Host.mu is held.
func (h *Host) measure() {
	now := h.clock()
	period := now - h.measured
	if period <= 0 {
		return
	}
	h.measured = now
	for _, w := range h.workers {
		slept := w.naps.slept(now)
		awake := 1 - min(1, max(0, float64(slept-w.slept)/float64(period)))
		w.slept = slept
		w.load = (w.load + awake) / 2
		all := 0.0
		for _, q := range w.queues {
			work := q.work.Load()
			q.recent = (q.recent + float64(work-q.workWas)) / 2
			q.workWas = work
			all += q.recent
		}
		for _, q := range w.queues { // whatever it does is for these
			q.load = 0
			if all > 0 {
				q.load = w.load * q.recent / all
			}
		}
	}
}

// balance moves queues between workers as their loads suggest.
func (h *Host) balance() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.measure()
	if len(h.workers) > 1 {
		h.rebalance()
	}
}

// rebalance is balance with the loads as they have been measured.
func (h *Host) rebalance() {
	if h.settling > 0 {
		h.settling--
		return
	}
	queues, to := spreadOut(h.workers)
	if queues != nil {
		h.calm = 0
	} else if queues, to = pack(h.workers); queues == nil {
		h.calm = 0
		return
	} else if h.calm++; h.calm < packAfter {
		return
	}
	h.calm, h.settling = 0, settleFor
	for _, q := range queues {
		from, load := q.worker, q.load
		if h.move(q, to) {
			from.load -= load
			to.load += load
			to.moved++
		}
	}
	h.log.Debug("queues moved", "queues", len(queues))
}

// spreadOut returns queues of the most loaded worker that the least loaded is to serve.
func spreadOut(workers []*worker) (queues []*rxQueue, to *worker) {
	byLoad := func(a, b *worker) int { return cmp.Compare(a.load, b.load) }
	from, to := slices.MaxFunc(workers, byLoad), slices.MinFunc(workers, byLoad)
	if from.load <= spreadAbove {
		return nil, nil
	}
	hot, cold := from.load, to.load
	for _, q := range from.busy() {
		if len(queues) < mostMoves && cold+q.load < hot {
			queues = append(queues, q)
			hot -= q.load
			cold += q.load
		}
	}
	if from.load-max(hot, cold) < spreadGain {
		return nil, nil
	}
	return queues, to
}

// pack returns the queues of a worker whose load another can take over: that of the least loaded one that does
// anything, to the most loaded one that has room.
func pack(workers []*worker) (queues []*rxQueue, to *worker) {
	var from *worker
	for _, w := range workers {
		if w.load > atRest && (from == nil || w.load < from.load) {
			from = w
		}
	}
	if from == nil {
		return nil, nil
	}
	for _, w := range workers {
		if w != from && w.load > atRest && w.load+from.load <= packBelow && (to == nil || w.load > to.load) {
			to = w
		}
	}
	if to == nil {
		return nil, nil
	}
	queues = from.busy()
	if len(queues) == 0 {
		return nil, nil
	}
	return queues[:min(len(queues), mostMoves)], to
}

// busy returns the queues of a worker that have a load, the heaviest first.
func (w *worker) busy() (queues []*rxQueue) {
	for _, q := range w.queues {
		if q.load > 0 {
			queues = append(queues, q)
		}
	}
	slices.SortStableFunc(queues, func(a, b *rxQueue) int { return cmp.Compare(b.load, a.load) })
	return queues
}

// move hands a queue over to another worker, who begins when the one before has let go of it, and reports whether
// it did. What may still come in the name of the old assignment (a bell, a descriptor, a timer) meets a queue that is
// removed; what happened between the two is found when the new worker polls the queue for the first time. Host.mu
// is held.
func (h *Host) move(q *rxQueue, to *worker) bool {
	from := q.worker
	if q.removed.Load() || from == to || !from.detach(q) {
		return false // or it is dead
	}
	from.quiesce()
	if err := to.attach(q.renew()); err != nil {
		next := q.port.rx[q.index]
		to.detach(next)
		if err = from.attach(next.renew()); err != nil {
			h.queueFailed(q.port.rx[q.index], err)
		}
		return false
	}
	return true
}

// renew puts a new queue, which no worker serves yet, in the place of one that is removed.
func (q *rxQueue) renew() *rxQueue {
	next := &rxQueue{rx: q.rx, port: q.port, index: q.index, number: q.number, recent: q.recent, load: q.load}
	q.port.rx[q.index] = next
	return next
}

// idlest returns the worker with the fewest queues of those that are not overloaded.
func (h *Host) idlest() *worker {
	return slices.MinFunc(h.workers, func(a, b *worker) int {
		if x, y := a.load > spreadAbove, b.load > spreadAbove; x != y {
			if x {
				return 1
			}
			return -1
		}
		return len(a.queues) - len(b.queues)
	})
}

// WorkerStats says what a worker of a host does.
type WorkerStats struct {
	// Load is the part of the last few seconds that it was awake, 0 to 1.
	Load float64

	// Queues are the receive queues that it serves, by their names.
	Queues []QueueLoad

	// Moved is how many queues have been moved to it to balance the load.
	Moved uint64
}

// QueueLoad is the part that a receive queue has in the load of its worker.
type QueueLoad struct {
	Switch string
	Port   string // name of the vNIC or NIC, or of the extension that injects frames
	Queue  int    // of the port, from 0
	Load   float64
}

// Workers returns what each worker serves now. Which one that is changes with the load: see QueueLoad.
func (h *Host) Workers() []WorkerStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]WorkerStats, len(h.workers))
	for i, w := range h.workers {
		s := &all[i]
		s.Load, s.Moved = w.load, w.moved
		for _, q := range w.queues {
			s.Queues = append(s.Queues, QueueLoad{q.port.sw.name, q.port.name, q.index, q.load})
		}
		slices.SortFunc(s.Queues, func(a, b QueueLoad) int {
			return cmp.Or(cmp.Compare(a.Switch, b.Switch), cmp.Compare(a.Port, b.Port), a.Queue-b.Queue)
		})
	}
	return all
}
