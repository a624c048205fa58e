package overlay

import (
	"errors"
	"sync"

	"github.com/hvswitch/hvswitch/internal/arrival"
	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// courier brings what a worker puts out to the device and the vNICs.
type courier struct {
	u    *Underlay
	tx   *sharedTx
	run  []*ports.Frame // that go to the same place
	h    header.Header
	work *Worker
}

// sharedTx is a transmit queue of the device.
type sharedTx struct {
	mu sync.Mutex
	q  ports.TxQueue
}

// carry counts drops at drops.
func (c *courier) carry(out []Output, drops *dropCounters) {
	for i := 0; i < len(out); {
		o := &out[i]
		switch {
		case o.Drop != 0:
			drops[o.Drop].Add(1)
			i++
		case o.Port == nil:
			c.run = c.run[:0]
			for ; i < len(out) && out[i].Drop == 0 && out[i].Port == nil; i++ {
				c.run = append(c.run, out[i].Frame)
			}
			c.toDevice(drops)
		case o.Port.vnic == nil: // a port of somebody else
			drops[DropNotHere].Add(1)
			i++
		default:
			v, q := o.Port.vnic, c.queueOf(o)
			c.run = c.run[:0]
			for ; i < len(out) && out[i].Drop == 0 && out[i].Port == o.Port && c.queueOf(&out[i]) == q; i++ {
				c.run = append(c.run, out[i].Frame)
			}
			v.deliver(q, c.run)
		}
	}
	clear(c.run)
}

// queueOf returns the receive queue of the vNIC that a flow is on.
func (c *courier) queueOf(o *Output) int {
	n := len(o.Port.vnic.rings)
	if n == 1 {
		return 0
	}
	b := o.Frame.Head()
	c.h.Parse(b, o.Frame.Len())
	return int(c.h.Hash(b) % uint32(n))
}

func (c *courier) toDevice(drops *dropCounters) {
	c.tx.mu.Lock()
	defer c.tx.mu.Unlock()
	c.u.count.tx.Add(sendAll(c.tx.q, c.run, drops))
}

// sendAll sends what a queue takes now. It counts what it does not take, and returns how many it took.
func sendAll(q ports.TxQueue, frames []*ports.Frame, drops *dropCounters) (sent uint64) {
	for len(frames) > 0 {
		n, err := q.Send(frames)
		sent += uint64(n)
		frames = frames[n:]
		switch {
		case len(frames) == 0:
		case err == nil:
			drops[DropNoRoom].Add(uint64(len(frames)))
			return sent
		case errors.Is(err, ports.ErrLinkDown) || errors.Is(err, ports.ErrClosed):
			drops[DropLinkDown].Add(uint64(len(frames)))
			return sent
		default:
			drops[DropRefused].Add(1)
			frames = frames[1:]
		}
	}
	return sent
}

// lane sends what vNICs send.
type lane struct {
	mu sync.Mutex
	courier
	heads []ports.Frame
	batch []*ports.Frame
}

const burst = 64 // frames at a time

func newLane(u *Underlay, q ports.TxQueue) *lane {
	l := &lane{courier: courier{u: u, tx: &sharedTx{q: q}, work: u.engine.NewWorker()}, heads: make([]ports.Frame, burst)}
	for i := range l.heads {
		l.batch = append(l.batch, &l.heads[i])
	}
	return l
}

// send sends at most burst frames of a vNIC. Their heads are copied, as their owner keeps them.
func (l *lane) send(v *VNIC, frames []*ports.Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range frames {
		l.heads[i].Fork(f)
	}
	l.carry(l.work.Outbound(l.u.now(), v.port, l.batch[:len(frames)]), &v.drops)
}

// pump receives from a queue of the device.
type pump struct {
	courier
	rx   ports.RxQueue
	wait *arrival.Waiter
}

func newPump(u *Underlay, rx ports.RxQueue, wait *arrival.Waiter, tx *sharedTx) *pump {
	return &pump{courier: courier{u: u, tx: tx, work: u.engine.NewWorker()}, rx: rx, wait: wait}
}

func (p *pump) serve() {
	b := ports.NewBatch(burst)
	for {
		select {
		case <-p.u.stop:
			return
		default:
		}
		err := p.rx.Recv(b)
		n := b.Len()
		if n > 0 {
			p.u.count.rx.Add(uint64(n))
			p.carry(p.work.Inbound(p.u.now(), b.Frames()), &p.u.count.drops)
			b.Reset()
			p.rx.Release()
		}
		switch {
		case err != nil:
			p.u.fail(err)
			return
		case n == 0:
			p.wait.Wait()
		}
	}
}
