package portstest

import (
	"fmt"
	"testing"

	"github.com/hvswitch/hvswitch/ports"
)

// bursts names frames of changing length for send and receive in bursts of changing size.
func (r *Rig) bursts() [][]spec {
	mtu := min(r.Backend.Info().MTU, 9000)
	var all [][]spec
	seq := 0
	for size := 1; seq < 1000; size = size*2 + 1 {
		if size > min(r.Depth, 128) {
			size = 1
		}
		var burst []spec
		for range size {
			burst = append(burst, spec{seq: seq, len: 46 + seq*61%(mtu-45)})
			seq++
		}
		all = append(all, burst)
	}
	return all
}

func sendKeepsOrder(t *testing.T, r *Rig) {
	for _, burst := range r.bursts() {
		r.send(t, 0, frames(burst)...)
		r.expect(t, burst...)
	}
}

func recvKeepsOrder(t *testing.T, r *Rig) {
	in := r.all()
	for _, burst := range r.bursts() {
		r.put(t, burst...)
		in.expect(t, burst...)
	}
}

func sendLosesNothingBelowDepth(t *testing.T, r *Rig) {
	i := r.Backend.Info()
	for round := range 3 {
		for q := range i.TxQueues {
			s := series(q, round*r.Depth, r.Depth, i.MTU)
			r.send(t, q, frames(s)...)
			r.expect(t, s...)
		}
	}
}

func recvLosesNothingBelowDepth(t *testing.T, r *Rig) {
	i := r.Backend.Info()
	in := r.all()
	for round := range 3 {
		for q := range i.RxQueues {
			s := series(q, round*r.Depth, r.Depth, i.MTU)
			r.put(t, s...)
			in.expect(t, s...)
		}
	}
}

// tooMany is more than any cable holds.
const tooMany = 1 << 17

func sendComesUpShortWhenFull(t *testing.T, r *Rig) {
	r.need(t, Backpressure)
	tx := r.Backend.Tx(0)
	for round := range 3 {
		taken := 0
		promptly(t, "Send on a full cable", func() error {
			for taken < tooMany {
				n, err := tx.Send(frames(series(0, taken, 17, 0)))
				if err != nil || n < 0 || n > 17 {
					return fmt.Errorf("took %d of 17 frames, error %v; a full cable is no error", n, err)
				}
				if taken += n; n < 17 {
					return nil
				}
			}
			return fmt.Errorf("took %d frames that nobody takes off the cable", taken)
		})
		if taken < r.Depth {
			t.Fatalf("round %d: full after %d frames, the rig says that it holds %d", round, taken, r.Depth)
		}
		r.expect(t, series(0, 0, taken, 0)...)
	}
}

func sendNeverBlocks(t *testing.T, r *Rig) {
	const flood = 3000
	tx := r.Backend.Tx(0)
	promptly(t, "Send", func() error {
		for i := range flood {
			if n, err := tx.Send(frames(series(0, i, 4, 0))); err != nil {
				return fmt.Errorf("took %d of 4 frames, error %v; a full cable is no error", n, err)
			}
		}
		return nil
	})
	// The cable goes on working when it has been emptied, whatever was lost.
	r.empty()
	s := spec{seq: flood}
	r.send(t, 0, frames([]spec{s})...)
	r.expect(t, s)
}

func recvHeedsRoom(t *testing.T, r *Rig) {
	n := min(r.Depth, 7)
	s := series(0, 0, n, 0)
	var got []Packet
	r.put(t, s...)
	in := r.all()
	full, narrow := ports.NewBatch(0), ports.NewBatch(3)
	eventually(t, "frames are lost to a narrow batch", func() bool {
		for _, q := range in.queues {
			if err := q.Recv(full); err != nil || full.Len() != 0 {
				t.Fatalf("Recv added %d frames to a batch without room, error %v", full.Len(), err)
			}
			narrow.Reset()
			room := narrow.Room()
			for range 2 { // the second call finds the batch partly or wholly filled
				if err := q.Recv(narrow); err != nil {
					t.Fatalf("Recv: %v", err)
				}
			}
			if narrow.Len() > room {
				t.Fatalf("Recv added %d frames to a batch that had room for %d", narrow.Len(), room)
			}
			for _, f := range narrow.Frames() {
				if p := packetOf(f); ours(p.Bytes) {
					got = append(got, p)
				}
			}
			narrow.Reset()
			q.Release()
		}
		return len(got) >= n
	})
	for i, s := range s {
		if err := differ(got[i].Bytes, s.wire()); err != nil {
			t.Fatalf("received with little room: %v", err)
		}
	}
}
