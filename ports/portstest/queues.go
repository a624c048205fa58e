package portstest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/hvswitch/hvswitch/ports"
)

func allQueues(t *testing.T, r *Rig) {
	i := r.Backend.Info()
	for q := range i.TxQueues {
		s := spec{seq: q, flow: q}
		r.send(t, q, frames([]spec{s})...)
		r.expect(t, s)
	}

	// Every queue receives alone, whatever the others do.
	const flowsOfQueue = 16
	in := r.all()
	hit := make([]bool, i.RxQueues)
	queueOf := map[int]int{}
	for round := range 2 {
		for flow := range flowsOfQueue * i.RxQueues {
			s := spec{seq: round, flow: flow, udp: true}
			r.put(t, s)
			p := in.collect(t, 1)[0]
			if err := differ(p.Bytes, s.wire()); err != nil {
				t.Fatal(err)
			}
			if q, known := queueOf[flow]; known && q != p.Queue {
				t.Errorf("flow %d arrived on queue %d, later on queue %d", flow, q, p.Queue)
			}
			queueOf[flow] = p.Queue
			hit[p.Queue] = true
		}
	}
	r.need(t, Spread)
	for q, hit := range hit {
		if !hit {
			t.Errorf("%d flows, but none reached receive queue %d", len(queueOf), q)
		}
	}
}

// oneBatch receives from all queues into one batch, as a worker does.
func oneBatch(t *testing.T, r *Rig) {
	in := r.all()
	b := ports.NewBatch(256)
	for round := range 4 {
		flows := min(2*len(in.queues), r.Depth)
		missing := map[int]bool{}
		for flow := range flows {
			r.put(t, spec{seq: round, flow: flow, udp: true})
			missing[flow] = true
		}
		eventually(t, "frames are lost when one batch serves all queues", func() bool {
			b.Reset()
			for _, q := range in.queues {
				if err := q.Recv(b); err != nil {
					t.Fatalf("Recv: %v", err)
				}
			}
			for _, f := range b.Frames() {
				p := packetOf(f)
				s, ok := read(p.Bytes)
				if !ok {
					continue
				}
				if err := differ(p.Bytes, spec{seq: round, flow: s.flow, udp: true}.wire()); err != nil {
					t.Fatal(err)
				}
				if !missing[s.flow] {
					t.Fatalf("%v arrived twice", s)
				}
				delete(missing, s.flow)
			}
			b.Reset()
			for _, q := range in.queues {
				q.Release()
			}
			return len(missing) == 0
		})
	}
}

// allAtOnce sends and receives on all queues at once, with a worker for each, and checks that every
// flow arrives complete and in order.
func allAtOnce(t *testing.T, r *Rig) {
	const each = 1500
	i := r.Backend.Info()
	c := newCrew()

	sent := make([]window, i.TxQueues)
	for q := range i.TxQueues {
		sent[q] = newWindow(r.Depth)
		c.add(fmt.Sprintf("sender on queue %d", q), func() error {
			return r.sendSeries(c, q, each, sent[q])
		})
	}
	c.add("taker", func() error {
		next := make([]int, i.TxQueues)
		for left := each * i.TxQueues; left > 0; {
			p, ok := r.Peer.Take(silence)
			if c.stopped() {
				return fmt.Errorf("%d frames did not arrive", left)
			}
			if !ok || !ours(p.Bytes) {
				continue
			}
			flow, err := follow(next, p)
			if err != nil {
				return err
			}
			sent[flow].release(1)
			left--
		}
		return nil
	})

	flows := 2 * i.RxQueues
	put := newWindow(r.Depth)
	c.add("putter", func() error {
		for n := range each {
			for flow := range flows {
				if !put.acquire(c) {
					return errors.New("stuck")
				}
				s := spec{seq: n, flow: flow, udp: true}
				if err := r.Peer.Put(Packet{Bytes: s.wire(), Queue: flow}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	var mu sync.Mutex // orders the queues' use of next: a flow stays on its queue
	next, left := make([]int, flows), each*flows
	for q := range i.RxQueues {
		c.add(fmt.Sprintf("receiver on queue %d", q), func() error {
			in := r.inbox(q)
			for {
				got, err := in.poll()
				if err != nil {
					return err
				}
				mu.Lock()
				for _, p := range got {
					if _, err = follow(next, p); err != nil {
						break
					}
				}
				left -= len(got)
				done, missing := left <= 0, left
				mu.Unlock()
				put.release(len(got))
				switch {
				case err != nil:
					return err
				case done:
					return nil
				case c.stopped():
					return fmt.Errorf("%d frames did not arrive", missing)
				}
				if len(got) == 0 {
					in.wake.wait(silence)
				}
			}
		})
	}
	c.work(t)
}

// sendSeries sends n frames of flow queue on that queue in bursts of any size.
func (r *Rig) sendSeries(c *crew, queue, n int, w window) error {
	tx := r.Backend.Tx(queue)
	rnd := rand.New(rand.NewPCG(uint64(queue), 1))
	for first := 0; first < n; {
		size := min(1+rnd.IntN(8), n-first, cap(w))
		for range size {
			if !w.acquire(c) {
				return errors.New("stuck")
			}
		}
		fs := frames(series(queue, first, size, 46+rnd.IntN(20)))
		first += size
		for len(fs) > 0 {
			k, err := tx.Send(fs)
			if err != nil || k < 0 || k > len(fs) {
				return fmt.Errorf("%d of %d frames taken by Send, error %v", k, len(fs), err)
			}
			if fs = fs[k:]; len(fs) > 0 {
				if c.stopped() {
					return errors.New("stuck")
				}
				runtime.Gosched()
			}
		}
	}
	return nil
}

// follow checks that p is the next frame of its flow, and counts it.
func follow(next []int, p Packet) (flow int, err error) {
	s, ok := read(p.Bytes)
	if !ok || s.flow >= len(next) {
		return 0, fmt.Errorf("no frame that was sent: %x", clip(p.Bytes))
	}
	if s.seq != next[s.flow] {
		return 0, fmt.Errorf("flow %d: got frame %d, want %d", s.flow, s.seq, next[s.flow])
	}
	if err := differ(p.Bytes, s.wire()); err != nil {
		return 0, err
	}
	next[s.flow]++
	return s.flow, nil
}

// window bounds the frames that are on the way.
type window chan struct{}

func newWindow(n int) window { return make(window, n) }

func (w window) acquire(c *crew) bool {
	select {
	case w <- struct{}{}:
		return true
	case <-c.stop:
		return false
	}
}

func (w window) release(n int) {
	for range n {
		<-w
	}
}
