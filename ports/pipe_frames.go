package ports

import (
	"context"
	"io"
	"sync"
)

// frameIO is the blocking, frame by frame face of a PipeEnd: queue 0 of each direction.
type frameIO struct {
	rd      sync.Mutex
	batch   *Batch
	next    int // of batch
	arrived chan struct{}

	wr   sync.Mutex
	out  Frame
	one  [1]*Frame
	room chan struct{}
}

func (e *PipeEnd) frames() *frameIO {
	e.ioOnce.Do(func() {
		e.io = &frameIO{batch: NewBatch(64), arrived: make(chan struct{}, 1), room: make(chan struct{}, 1)}
		e.io.one[0] = &e.io.out
		ring := func(c chan struct{}) func() {
			return func() {
				select {
				case c <- struct{}{}:
				default:
				}
			}
		}
		pipeRx{e.rx[0]}.SetBell(ring(e.io.arrived))
		pipeTx{e.tx[0]}.SetBell(ring(e.io.room))
	})
	return e.io
}

// ReadFrame waits for the next frame, copies it to buf as it looks on the wire and returns its
// length; io.ErrShortBuffer when buf is too short, which loses the frame. It uses receive queue 0,
// which must not be used otherwise then. Several goroutines may call it.
func (e *PipeEnd) ReadFrame(ctx context.Context, buf []byte) (int, error) {
	c := e.frames()
	c.rd.Lock()
	defer c.rd.Unlock()
	q := pipeRx{e.rx[0]}
	for c.next == c.batch.Len() {
		c.batch.Reset()
		c.next = 0
		q.Release()
		err := q.Recv(c.batch)
		if c.batch.Len() > 0 {
			break
		}
		if err != nil {
			return 0, err
		}
		if q.Arm() {
			continue
		}
		select {
		case <-c.arrived:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	f := c.batch.Frames()[c.next]
	c.next++
	if f.WireLen() > len(buf) {
		return 0, io.ErrShortBuffer
	}
	return f.CopyTo(buf), nil
}

// WriteFrame sends frame, which begins with its Ethernet header, and waits while there is no room
// for it. It uses transmit queue 0, which must not be used otherwise then. Several goroutines may
// call it.
func (e *PipeEnd) WriteFrame(ctx context.Context, frame []byte) error {
	c := e.frames()
	c.wr.Lock()
	defer c.wr.Unlock()
	q := pipeTx{e.tx[0]}
	c.out.SetHead(frame, 0, len(frame))
	defer c.out.SetHead(nil, 0, 0)
	for {
		n, err := q.Send(c.one[:])
		if n == 1 || err != nil {
			return err
		}
		if q.Arm() {
			continue
		}
		select {
		case <-c.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
