package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

const transferPort = 9

// transfer is a TCP connection over which one VM sends random data to another until it is told to end.
type transfer struct {
	ended chan struct{} // closed to end it
	end   sync.Once
	both  sync.WaitGroup
	stop  func() bool // no longer looks at the context

	sent, received       int64
	sentSum, receivedSum [sha256.Size]byte
	sendErr, receiveErr  error

	mu       sync.Mutex
	arrived  int64         // so far
	last     time.Time     // when something arrived
	longest  time.Duration // without anything, since the last call of gap
	progress chan struct{} // gets a token when something has arrived
}

// startTransfer connects a VM to another one and begins.
func startTransfer(ctx context.Context, from, to *machine) (*transfer, error) {
	t := &transfer{ended: make(chan struct{}), progress: make(chan struct{}, 1)}
	at := netip.AddrPortFrom(to.vm.cas[0].Addr(), transferPort)
	l, err := to.ListenAt(at)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	out, err := from.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	in, err := l.Accept()
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	t.stop = context.AfterFunc(ctx, func() { // ends both directions when there is no patience left
		_ = out.SetDeadline(time.Now())
		_ = in.SetDeadline(time.Now())
	})
	t.last = time.Now()
	t.both.Go(func() { t.sendErr = t.send(out) })
	t.both.Go(func() { t.receiveErr = t.receive(in) })
	return t, nil
}

func (t *transfer) send(c net.Conn) error {
	defer c.Close()
	var seed [32]byte
	binary.NativeEndian.PutUint64(seed[:], uint64(time.Now().UnixNano()))
	data, sum := rand.NewChaCha8(seed), sha256.New()
	block := make([]byte, 64<<10)
	for {
		select {
		case <-t.ended:
			t.sentSum = [sha256.Size]byte(sum.Sum(nil))
			return c.(interface{ CloseWrite() error }).CloseWrite()
		default:
		}
		_, _ = data.Read(block) // never fails
		n, err := c.Write(block)
		sum.Write(block[:n])
		t.sent += int64(n)
		if err != nil {
			return err
		}
	}
}

func (t *transfer) receive(c net.Conn) error {
	defer c.Close()
	sum := sha256.New()
	block := make([]byte, 64<<10)
	for {
		n, err := c.Read(block)
		sum.Write(block[:n])
		t.received += int64(n)
		t.note(int64(n))
		if err != nil {
			t.receivedSum = [sha256.Size]byte(sum.Sum(nil))
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

func (t *transfer) note(n int64) {
	t.mu.Lock()
	now := time.Now()
	t.longest = max(t.longest, now.Sub(t.last))
	t.arrived, t.last = t.arrived+n, now
	t.mu.Unlock()
	select {
	case t.progress <- struct{}{}:
	default:
	}
}

// gap returns how long nothing arrived at most since the last call.
func (t *transfer) gap() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.longest
	t.longest = 0
	return d
}

// await waits until that many more bytes have arrived.
func (t *transfer) await(ctx context.Context, more int64) error {
	t.mu.Lock()
	before := t.arrived
	t.mu.Unlock()
	for {
		t.mu.Lock()
		n := t.arrived - before
		t.mu.Unlock()
		if n >= more {
			return nil
		}
		select {
		case <-t.progress:
		case <-ctx.Done():
			return fmt.Errorf("only %d of %d bytes have arrived: %w", n, more, ctx.Err())
		}
	}
}

// finish ends the transfer and returns an error unless all that was sent has arrived, as it was sent.
func (t *transfer) finish() error {
	t.end.Do(func() { close(t.ended) })
	t.both.Wait()
	t.stop()
	switch {
	case t.sendErr != nil || t.receiveErr != nil:
		return errors.Join(t.sendErr, t.receiveErr)
	case t.sent != t.received:
		return fmt.Errorf("%d of %d bytes have arrived", t.received, t.sent)
	case t.sentSum != t.receivedSum:
		return fmt.Errorf("%d bytes have arrived, and they are not what was sent", t.received)
	}
	return nil
}
