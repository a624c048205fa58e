package vhostuser

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// BenchmarkForward moves frames from one guest to another, 32 at a time, as a switch without tables
// would. The median time of that is ns/frame; what the guests do is not in it.
func BenchmarkForward(b *testing.B) {
	for _, packed := range []bool{false, true} {
		for _, n := range []int{60, 1500} {
			name, f := "split", uint64(allFeatures)
			if packed {
				name, f = "packed", f|featPacked
			}
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				from, g := plug(b, nil, vmConfig{features: f, layout: layout{rxLen: 2112}})
				to, h := plug(b, nil, vmConfig{features: f, layout: layout{rxLen: 2112}})
				batch := ports.NewBatch(64)
				const burst = 32
				q, s := g.tx[0], g.slots[0][1]
				var took []time.Duration
				for b.Loop() {
					for i := range burst {
						q.put([]buffer{{s.at + i*2112, 12 + n}}, false, false, i)
					}
					q.publish(burst)
					start := time.Now()
					if from.Rx(0).Recv(batch) != nil || batch.Len() != burst {
						b.Fatal("nothing received")
					}
					if k, err := to.Tx(0).Send(batch.Frames()); k != burst || err != nil {
						b.Fatal(k, err)
					}
					batch.Reset()
					from.Rx(0).Release()
					took = append(took, time.Since(start))
					for range burst {
						q.get()
						i, _, ok := h.rx[0].get()
						if !ok {
							b.Fatal("nothing sent")
						}
						r := h.slots[0][0]
						h.rx[0].put([]buffer{{r.at + i*r.len, r.len}}, true, false, i)
					}
					h.rx[0].publish(burst)
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/burst, "ns/frame")
			})
		}
	}
}
