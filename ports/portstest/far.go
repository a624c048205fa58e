package portstest

import (
	"errors"
	"runtime"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// Far makes a Peer of the backend at the far end of the cable, such as the other end of a Pipe. It
// uses all its queues.
func Far(b ports.Backend) Peer {
	p := &far{b: b, batch: ports.NewBatch(64), one: []*ports.Frame{new(ports.Frame)}}
	for i := range b.Info().RxQueues {
		p.rx = append(p.rx, b.Rx(i))
	}
	p.wake = newWaker(p.rx...)
	return p
}

type far struct {
	b     ports.Backend
	rx    []ports.RxQueue
	wake  *waker
	batch *ports.Batch
	taken []Packet // copies of frames that have been released already
	next  int      // of taken
	one   []*ports.Frame
}

func (p *far) Put(k Packet) error {
	var bytes ports.Frame
	bytes.SetHead(k.Bytes, 0, len(k.Bytes))
	bytes.Offload = k.Offload
	f := p.one[0]
	f.CopyFrom(&bytes)
	f.PopTag()
	tx := p.b.Tx(k.Queue % p.b.Info().TxQueues)
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		if n, err := tx.Send(p.one); n == 1 || err != nil {
			return err
		}
	}
	return errors.New("no room on the cable")
}

func (p *far) Take(wait time.Duration) (Packet, bool) {
	for end := time.Now().Add(wait); p.next == len(p.taken); {
		dead, err := p.receive()
		if len(p.taken) > 0 {
			break
		}
		if dead || err != nil || !p.wake.wait(time.Until(end)) {
			return Packet{}, false
		}
	}
	k := p.taken[p.next]
	p.next++
	return k, true
}

// receive copies what has arrived and gives it back at once: a frame that has been taken is off the
// cable.
func (p *far) receive() (dead bool, err error) {
	p.taken, p.next = p.taken[:0], 0
	for i, q := range p.rx {
		p.batch.Reset()
		err = q.Recv(p.batch)
		for _, f := range p.batch.Frames() {
			k := packetOf(f)
			k.Queue = i
			p.taken = append(p.taken, k)
		}
		p.batch.Reset()
		q.Release()
		dead = dead || errors.Is(err, ports.ErrClosed)
	}
	return dead, err
}

// packetOf copies a frame as it looks on the wire.
func packetOf(f *ports.Frame) Packet {
	b := make([]byte, f.WireLen())
	return Packet{Bytes: b[:f.CopyTo(b)], Offload: f.WireOffload()}
}
