package vswitch

import (
	"errors"
	"sync"

	"github.com/hvswitch/hvswitch/ports"
)

// delivery groups the frames of a burst by destination, so that each port is sent to once.
type delivery struct {
	groups  []group
	groupOf []int32 // by port index: position in groups + 1, or 0
	flooded group   // frames that go to the same members
}

type group struct {
	to     *portView
	frames []*ports.Frame
	index  []uint16 // of frames in the burst
	bytes  uint64
}

func (g *group) clear() { g.frames, g.index, g.bytes = g.frames[:0], g.index[:0], 0 }

func (g *group) add(b *burst, i int) {
	g.frames = append(g.frames, b.frames[i])
	g.index = append(g.index, uint16(i))
	g.bytes += uint64(b.meta[i].len)
}

// groupFor returns the group of port index, or nil when there is no such port.
func (d *delivery) groupFor(b *burst, index int) *group {
	if index < len(d.groupOf) {
		if g := d.groupOf[index]; g != 0 {
			return &d.groups[g-1]
		}
	}
	to := b.snap.ports.at(index)
	if to == nil {
		return nil
	}
	if index >= len(d.groupOf) {
		d.groupOf = append(d.groupOf, make([]int32, index+1-len(d.groupOf))...)
	}
	if len(d.groups) < cap(d.groups) {
		d.groups = d.groups[:len(d.groups)+1]
	} else {
		d.groups = append(d.groups, group{})
	}
	g := &d.groups[len(d.groups)-1]
	g.to = to
	g.clear()
	d.groupOf[index] = int32(len(d.groups))
	return g
}

// deliver sends the frames of a burst on their way.
func (w *worker) deliver(b *burst) {
	if b.in.mirror == MirrorSource {
		w.mirrorSent(b)
	}
	d := &w.delivery
	d.groups = d.groups[:0]
	var g *group
	last := int32(outNone)
	for i := range b.meta {
		m := &b.meta[i]
		if m.drop != 0 || m.out < 0 {
			continue
		}
		if m.out != last {
			g, last = d.groupFor(b, int(m.out)), m.out
		}
		if g == nil { // the port has gone since it was learned
			m.out = outUnknown
			b.floods, last = true, outNone
			continue
		}
		g.add(b, i)
	}
	if b.floods {
		w.flood(b)
	}
	w.transmitGroups(b)
	if b.chosen {
		w.deliverChosen(b)
	}
	if b.overlaid {
		w.deliverOverlay(b)
	}
}

// transmitGroups sends each group to its port.
func (w *worker) transmitGroups(b *burst) {
	d := &w.delivery
	for i := range d.groups {
		g := &d.groups[i]
		d.groupOf[g.to.index] = 0
		if len(g.frames) > 0 {
			w.transmit(b, g.to, g)
		}
	}
}

// deliverChosen sends frames where an extension wants them.
func (w *worker) deliverChosen(b *burst) {
	w.delivery.groups = w.delivery.groups[:0]
	for i, port := range b.in.program.Targets(&b.entering) {
		if b.meta[i].drop != 0 {
			continue
		}
		if g := w.delivery.groupFor(b, port); g != nil {
			g.add(b, i)
		}
	}
	w.transmitGroups(b)
}

// transmit copies the frames of a group to a port and counts what became of them.
func (w *worker) transmit(b *burst, to *portView, g *group) {
	if b.virtual != (to.vsid != 0) {
		w.keepApart(b, to, g)
		return
	}
	if to.program != nil || to.mirror == MirrorSource || b.trace != nil {
		w.pass(b, to, g)
		return
	}
	frames, index, bytes := g.frames, g.index, g.bytes
	if b.tagged {
		frames, index, bytes = w.leave(b, to, frames, index)
	} else if !to.vlan.Receives(0) { // it was in the untagged VLAN when its address was noted
		to.count.drop(DropNotMember, len(frames))
		return
	}
	if to.judgedIn { // what does not leave here must not become a connection
		frames = receivedByVM(b, to, frames, index)
		bytes = lenOf(frames)
	}
	if len(frames) == 0 {
		return
	}
	if !to.up.Load() {
		to.count.drop(DropLinkDown, len(frames))
		return
	}
	w.send(b, to, frames, bytes, !b.offloads && b.longest <= to.maxLen, nil)
}

// send sends frames, bytes long in all, to a port: as they are if it takes them whole. lost may be nil. Memory of a frame
// may be gone, so the queue is given back whatever happens.
func (w *worker) send(b *burst, to *portView, frames []*ports.Frame, bytes uint64, whole bool, lost *losses) {
	switch {
	case to.rss != nil:
		w.spread(b, to, frames, bytes, whole, lost)
	case to.scheduler != nil:
		w.sendOn(b, to.tx[0], to, frames, bytes, whole, lost)
	default:
		w.sendOn(b, to.tx[b.queue%len(to.tx)], to, frames, bytes, whole, lost)
	}
}

// sendOn is send on a queue of the port.
func (w *worker) sendOn(b *burst, q *txQueue, to *portView, frames []*ports.Frame, bytes uint64, whole bool, lost *losses) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if whole {
		w.sendWhole(b, q, to, frames, bytes, lost)
	} else {
		w.adapt(b, q, to, frames, lost)
	}
}

// sendWhole sends frames as they are, by a queue that is locked.
func (w *worker) sendWhole(b *burst, q *txQueue, to *portView, frames []*ports.Frame, bytes uint64, lost *losses) {
	if to.scheduler == nil {
		q.send(to.port, frames, bytes, lost)
	} else {
		to.scheduler.send(w, q, b.in, frames, lost)
	}
}

// txQueue is a transmit queue with the lock that makes it one worker's at a time.
type txQueue struct {
	mu    sync.Mutex
	tx    ports.TxQueue
	count QueueStats
}

// send sends frames, bytes long in all, to the port whose queue it is and counts what became of them. Somebody may
// want to know of each that was lost.
func (q *txQueue) send(p *port, frames []*ports.Frame, bytes uint64, told *losses) {
	if rest := q.offer(p, frames, bytes, told); len(rest) > 0 {
		refuse(p, rest, DropQueueFull, told, len(frames)-len(rest))
	}
}

// offer is send, but that it returns the frames that there was no room for.
func (q *txQueue) offer(p *port, frames []*ports.Frame, bytes uint64, told *losses) (rest []*ports.Frame) {
	total, sent := len(frames), 0
	for len(frames) > 0 {
		n, err := q.tx.Send(frames)
		n = max(0, min(n, len(frames))) // whatever the backend says
		sent += n
		if n == len(frames) {
			break
		}
		reason := dropReasonOf(err)
		if reason == DropQueueFull {
			rest = frames[n:]
			bytes -= lenOf(rest)
			break
		}
		lost := frames[n:]
		if reason != DropLinkDown {
			lost = lost[:1]
		}
		bytes -= lenOf(lost)
		refuse(p, lost, reason, told, total-len(frames)+n)
		if reason == DropBackendError {
			p.sendFailed(err)
		}
		frames = frames[n+len(lost):]
	}
	q.count.Frames += uint64(sent)
	q.count.Bytes += bytes
	p.count.txFrames.Add(uint64(sent))
	p.count.txBytes.Add(bytes)
	return rest
}

// refuse drops frames of a batch, from number at on.
func refuse(p *port, frames []*ports.Frame, reason DropReason, told *losses, at int) {
	p.count.drop(reason, len(frames))
	told.add(at, len(frames), reason)
}

// dropReasonOf says why Send did not take a frame.
func dropReasonOf(err error) DropReason {
	switch {
	case err == nil:
		return DropQueueFull
	case errors.Is(err, ports.ErrFrameSize):
		return DropTooBig
	case errors.Is(err, ports.ErrOffload):
		return DropUnsupportedOffload
	case errors.Is(err, ports.ErrLinkDown), errors.Is(err, ports.ErrClosed):
		return DropLinkDown
	}
	return DropBackendError
}

// sendFailed logs errors of a backend that have no drop reason of their own: the first, and then one
// in a thousand, as they may come with every frame.
func (p *port) sendFailed(err error) {
	if p.errors.Add(1)%1000 == 1 {
		p.sw.host.log.Warn("backend refuses frames", "switch", p.sw.name, "port", p.name, "error", err)
	}
}
