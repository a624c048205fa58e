package ports

import (
	"context"
	"io"
	"sync"
)

// frameReader and frameWriter are the blocking, frame by frame face of a PipeEnd: queue 0 of each
// direction. They take turns with a channel, not a mutex, so that a context ends that wait too.
type frameReader struct {
	once    sync.Once
	turn    chan struct{}
	batch   *Batch
	arrived chan struct{}
}

type frameWriter struct {
	once sync.Once
	turn chan struct{}
	out  Frame
	one  [1]*Frame
	room chan struct{}
}

// ReadFrame waits for the next frame, copies it to buf as it looks on the wire and returns its
// length; io.ErrShortBuffer when buf is too short, which loses the frame. It uses receive queue 0
// and its bell, which must not be used otherwise then. Several goroutines may call it.
func (e *PipeEnd) ReadFrame(ctx context.Context, buf []byte) (int, error) {
	c := &e.reader
	q := pipeRx{e.rx[0]}
	c.once.Do(func() {
		c.turn, c.arrived = make(chan struct{}, 1), make(chan struct{}, 1)
		c.batch = NewBatch(1) // a frame that has been read is off the cable
		q.SetBell(func() { wake(c.arrived) })
	})
	if err := await(ctx, c.turn); err != nil {
		return 0, err
	}
	defer func() { <-c.turn }()
	for {
		err := q.Recv(c.batch)
		if c.batch.Len() == 1 {
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
	defer q.Release()
	defer c.batch.Reset()
	f := c.batch.Frames()[0]
	if f.WireLen() > len(buf) {
		return 0, io.ErrShortBuffer
	}
	return f.CopyTo(buf), nil
}

// WriteFrame sends frame, which begins with its Ethernet header, and waits while there is no room
// for it. It uses transmit queue 0 and its bell, which must not be used otherwise then. Several
// goroutines may call it.
func (e *PipeEnd) WriteFrame(ctx context.Context, frame []byte) error {
	c := &e.writer
	q := pipeTx{e.tx[0]}
	c.once.Do(func() {
		c.turn, c.room = make(chan struct{}, 1), make(chan struct{}, 1)
		c.one[0] = &c.out
		q.SetBell(func() { wake(c.room) })
	})
	if err := await(ctx, c.turn); err != nil {
		return err
	}
	defer func() { <-c.turn }()
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

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// await takes the turn; what can be done at once is done even when ctx has ended.
func await(ctx context.Context, turn chan struct{}) error {
	select {
	case turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
