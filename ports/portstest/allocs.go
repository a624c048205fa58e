package portstest

import (
	"fmt"
	"testing"

	"github.com/hvswitch/hvswitch/ports"
)

// warm fills the cable once in both directions, so that what is allocated on first use is there.
func (r *Rig) warm(t *testing.T, in *inbox) {
	mtu := r.Backend.Info().MTU
	for range 3 {
		s := series(0, 0, r.Depth, mtu)
		r.send(t, 0, frames(s)...)
		r.expect(t, s...)
		r.put(t, s...)
		in.expect(t, s...)
	}
}

func sendAllocatesNothing(t *testing.T, r *Rig) {
	r.needDepth(t, 2) // one to warm up, one to measure
	r.warm(t, r.all())
	specs, layouts := r.sampler()
	var batch []*ports.Frame
	for i, s := range specs[:min(len(specs), max(1, r.Depth/4))] {
		batch = append(batch, layouts[i].frame(s.wire()))
	}
	tx := r.Backend.Tx(0)
	rounds := r.Depth / len(batch)
	leastAllocs(t, fmt.Sprintf("Send of %d frames", len(batch)), func() float64 {
		allocs := testing.AllocsPerRun(rounds-1, func() { // it calls once more to warm up
			if n, err := tx.Send(batch); n != len(batch) || err != nil {
				t.Fatalf("Send took %d of %d frames, error %v", n, len(batch), err)
			}
		})
		for range rounds {
			r.expect(t, specs[:len(batch)]...)
		}
		return allocs
	})
}

// leastAllocs fails when something allocates however often it is measured: of a single time others may be the cause.
func leastAllocs(t *testing.T, what string, measure func() float64) {
	least := measure()
	for range 4 {
		if least == 0 {
			return
		}
		least = min(least, measure())
	}
	if least != 0 {
		t.Errorf("%s allocates %v times", what, least)
	}
}

func recvAllocatesNothing(t *testing.T, r *Rig) {
	in := r.all()
	r.warm(t, in)
	specs, _ := r.sampler()
	b := ports.NewBatch(8)
	got, put := 0, 0
	receive := func() {
		for _, q := range in.queues {
			b.Reset()
			if err := q.Recv(b); err != nil {
				t.Fatalf("Recv: %v", err)
			}
			for _, f := range b.Frames() {
				if ours(f.Head()) {
					got++
				}
			}
			b.Reset()
			q.Release()
		}
	}
	leastAllocs(t, "Recv in a batch of 8", func() float64 {
		for i := range r.Depth {
			r.put(t, specs[i%len(specs)])
		}
		put += r.Depth
		receive() // the first use of a batch allocates its memory
		allocs := testing.AllocsPerRun(max(1, r.Depth/8), receive)
		eventually(t, "frames are missing", func() bool { receive(); return got == put })
		return allocs
	})
}
