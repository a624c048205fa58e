package portstest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// closed checks that everything is as it must be after Close.
func closed(t *testing.T, r *Rig) {
	t.Helper()
	i := r.Backend.Info()
	for q := range i.TxQueues {
		if n, err := r.Backend.Tx(q).Send(frames(series(0, 0, 1, 0))); n != 0 || !errors.Is(err, ports.ErrClosed) {
			t.Errorf("Send on queue %d after Close took %d, error %v; want 0, %v", q, n, err, ports.ErrClosed)
		}
	}
	b := ports.NewBatch(16)
	for q := range i.RxQueues {
		rx := r.Backend.Rx(q)
		eventually(t, "Recv does not return ErrClosed after Close", func() bool {
			b.Reset()
			err := rx.Recv(b)
			b.Reset()
			rx.Release()
			if err != nil && !errors.Is(err, ports.ErrClosed) {
				t.Fatalf("Recv on queue %d after Close: %v, want %v", q, err, ports.ErrClosed)
			}
			return err != nil
		})
		if n, ok := rx.(ports.Notifier); ok && !n.Arm() {
			t.Errorf("Arm of receive queue %d asks to wait after Close", q)
		}
	}
	ports.LinkOf(r.Backend)
}

func closeUnused(t *testing.T, r *Rig) {
	if err := r.Backend.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	closed(t, r)
}

func closeTwice(t *testing.T, r *Rig) {
	s := spec{}
	r.send(t, 0, frames([]spec{s})...)
	r.expect(t, s)
	r.put(t, s)
	r.all().expect(t, s)
	c := newCrew()
	for range 4 {
		c.add("Close at once with others", r.Backend.Close)
	}
	c.work(t)
	if err := r.Backend.Close(); err != nil {
		t.Errorf("Close after Close: %v", err)
	}
	closed(t, r)
}

// closeWakesReceiver closes while a worker sleeps. A descriptor cannot wake it, as it is gone, so
// whoever waits for descriptors does so in slices.
func closeWakesReceiver(t *testing.T, r *Rig) {
	_, pollable := r.Backend.Rx(0).(ports.Pollable)
	c := newCrew()
	asleep := make(chan struct{}, r.Backend.Info().RxQueues)
	for q := range r.Backend.Info().RxQueues {
		c.add(fmt.Sprintf("receiver on queue %d", q), func() error {
			in := r.inbox(q)
			for tries := 0; ; tries++ {
				if _, err := in.poll(); err != nil {
					if errors.Is(err, ports.ErrClosed) {
						return nil
					}
					return err
				}
				if tries == 0 {
					asleep <- struct{}{}
				}
				d := patience
				if pollable {
					d = silence
				}
				if !in.wake.wait(d) && (!pollable || c.stopped()) {
					return errors.New("not woken by Close")
				}
			}
		})
	}
	c.add("closer", func() error {
		for range cap(asleep) {
			<-asleep
		}
		// Most of them sleep by now; if not, the race between Arm and Close is tested.
		for range 100 {
			runtime.Gosched()
		}
		return r.Backend.Close()
	})
	c.work(t)
	closed(t, r)
}

// closeUnderTraffic closes while every queue and the peer are busy.
func closeUnderTraffic(t *testing.T, r *Rig) {
	i := r.Backend.Info()
	c := newCrew()
	var sent, received atomic.Int64
	var over atomic.Bool
	for q := range i.TxQueues {
		c.add(fmt.Sprintf("sender on queue %d", q), func() error {
			tx, fs := r.Backend.Tx(q), frames(series(q, 0, 8, 0))
			for !c.stopped() {
				n, err := tx.Send(fs)
				if sent.Add(int64(n)); errors.Is(err, ports.ErrClosed) {
					return nil
				} else if err != nil {
					return err
				}
				runtime.Gosched()
			}
			return errors.New("no ErrClosed from Send")
		})
	}
	for q := range i.RxQueues {
		c.add(fmt.Sprintf("receiver on queue %d", q), func() error {
			rx, b := r.Backend.Rx(q), ports.NewBatch(8)
			for !c.stopped() {
				// What has been lent must not be looked at: Close may take it away.
				b.Reset()
				err := rx.Recv(b)
				received.Add(int64(b.Len()))
				b.Reset()
				rx.Release()
				if errors.Is(err, ports.ErrClosed) {
					return nil
				} else if err != nil {
					return err
				}
				runtime.Gosched()
			}
			return errors.New("no ErrClosed from Recv")
		})
	}
	c.add("asker", func() error {
		for !over.Load() && !c.stopped() {
			r.Backend.Info()
			ports.LinkOf(r.Backend)
			r.Backend.Rx(0)
			r.Backend.Tx(0)
			runtime.Gosched()
		}
		return nil
	})
	c.add("putter", func() error {
		for flow := 0; !over.Load() && !c.stopped(); flow++ {
			if r.Peer.Put(Packet{Bytes: spec{flow: flow % 64, udp: true}.wire(), Queue: flow}) != nil {
				return nil // the cable is gone
			}
		}
		return nil
	})
	c.add("taker", func() error {
		for !over.Load() && !c.stopped() {
			r.Peer.Take(time.Millisecond)
		}
		return nil
	})
	c.add("closer", func() error {
		defer over.Store(true)
		for sent.Load() < 500 || received.Load() < 500 {
			if c.stopped() {
				return fmt.Errorf("only %d frames sent and %d received", sent.Load(), received.Load())
			}
			runtime.Gosched()
		}
		return r.Backend.Close()
	})
	c.work(t)
	closed(t, r)
}

// closeFreesEverything opens and closes rigs and looks for what is left of them.
func closeFreesEverything(t *testing.T, make func(t *testing.T) Rig) {
	goroutines, descriptors := 0, 0
	for n := range 4 {
		t.Run("rig "+strconv.Itoa(n), func(t *testing.T) {
			r := build(t, make)
			s := spec{}
			r.send(t, 0, frames([]spec{s})...)
			r.expect(t, s)
			r.put(t, s)
			r.all().expect(t, s)
			if err := r.Backend.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		if n == 0 { // whatever the first one left is there only once
			goroutines, descriptors = runtime.NumGoroutine(), openFiles()
		}
	}
	eventually(t, "goroutines are left after Close", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "file descriptors are left after Close", func() bool { return openFiles() <= descriptors })
}

// openFiles counts the open files of this process, where the system tells.
func openFiles() int {
	files, _ := os.ReadDir("/proc/self/fd")
	return len(files)
}
