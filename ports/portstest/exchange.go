package portstest

import (
	"runtime"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// send sends frames that the cable has room for.
func (r *Rig) send(t *testing.T, queue int, fs ...*ports.Frame) {
	t.Helper()
	n, err := r.Backend.Tx(queue).Send(fs)
	if n != len(fs) || err != nil {
		t.Fatalf("Send took %d of %d frames, error %v, though the cable has room", n, len(fs), err)
	}
}

// put puts frames on the far end of the cable.
func (r *Rig) put(t *testing.T, specs ...spec) {
	t.Helper()
	for _, s := range specs {
		r.putPacket(t, Packet{Bytes: s.wire(), Queue: s.flow})
	}
}

func (r *Rig) putPacket(t *testing.T, p Packet) {
	t.Helper()
	if err := r.Peer.Put(p); err != nil {
		t.Fatalf("the peer cannot put %d bytes on the cable: %v", len(p.Bytes), err)
	}
}

// take takes the next frame of the suite at the far end, or fails.
func (r *Rig) take(t *testing.T) Packet {
	t.Helper()
	for {
		p, ok := r.Peer.Take(patience)
		if !ok {
			t.Fatal("a frame that was sent did not arrive at the peer")
		}
		if ours(p.Bytes) {
			return p
		}
	}
}

// expect takes the frames that are next at the far end, which must be these.
func (r *Rig) expect(t *testing.T, specs ...spec) {
	t.Helper()
	for _, s := range specs {
		if err := differ(r.take(t).Bytes, s.wire()); err != nil {
			t.Fatalf("sent frame at the peer: %v", err)
		}
	}
}

// empty takes whatever is on the cable at the far end.
func (r *Rig) empty() {
	for {
		if _, ok := r.Peer.Take(silence); !ok {
			return
		}
	}
}

// inbox receives at the backend.
type inbox struct {
	queues []ports.RxQueue
	batch  *ports.Batch
	wake   *waker
}

func (r *Rig) inbox(queues ...int) *inbox {
	in := &inbox{batch: ports.NewBatch(32)}
	for _, i := range queues {
		in.queues = append(in.queues, r.Backend.Rx(i))
	}
	in.wake = newWaker(in.queues...)
	return in
}

// all is the inbox of every receive queue.
func (r *Rig) all() *inbox {
	var queues []int
	for i := range r.Backend.Info().RxQueues {
		queues = append(queues, i)
	}
	return r.inbox(queues...)
}

// poll receives what is there from every queue, and copies the frames of the suite.
func (in *inbox) poll() ([]Packet, error) {
	var got []Packet
	for i, q := range in.queues {
		in.batch.Reset()
		err := q.Recv(in.batch)
		for _, f := range in.batch.Frames() {
			if bad := sound(f); bad != nil {
				return got, bad
			}
			if p := packetOf(f); ours(p.Bytes) {
				p.Queue = i
				got = append(got, p)
			}
		}
		in.batch.Reset()
		q.Release()
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

// collect receives n frames, or fails.
func (in *inbox) collect(t *testing.T, n int) []Packet {
	t.Helper()
	var all []Packet
	for end := time.Now().Add(patience); len(all) < n; {
		got, err := in.poll()
		all = append(all, got...)
		if err != nil {
			t.Fatalf("Recv: %v", err)
		}
		if len(got) == 0 && !in.wake.wait(time.Until(end)) {
			t.Fatalf("%d of %d frames did not arrive at the backend", n-len(all), n)
		}
	}
	return all
}

// expect receives the frames that are next, which must be these.
func (in *inbox) expect(t *testing.T, specs ...spec) {
	t.Helper()
	got := in.collect(t, len(specs))
	for i, s := range specs {
		if err := differ(got[i].Bytes, s.wire()); err != nil {
			t.Fatalf("received frame: %v", err)
		}
	}
	if len(got) > len(specs) {
		t.Fatalf("%d frames too many arrived at the backend", len(got)-len(specs))
	}
}

// eventually calls done until it reports true, and fails if that takes too long.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// promptly runs f, which must not hang. When it does, it goes on after the test, so it must not use t.
func promptly(t *testing.T, what string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(patience):
		stacks := make([]byte, 64<<10)
		t.Fatalf("%s hangs\n%s", what, stacks[:runtime.Stack(stacks, true)])
	}
}
