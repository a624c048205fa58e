package vswitch

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/hvswitch/hvswitch/internal/toeplitz"
	"github.com/hvswitch/hvswitch/ports"
)

// nowhere takes all frames.
type nowhere struct{}

func (nowhere) Send(frames []*ports.Frame) (int, error) { return len(frames), nil }

// What it costs beside the sending itself to find the queues of 64 UDP frames of so many flows.
func BenchmarkSpread(b *testing.B) {
	for _, flows := range []int{0, 1, 64} {
		b.Run(fmt.Sprintf("%d flows", flows), func(b *testing.B) {
			w := &worker{}
			to := &portView{port: &port{count: new(counters)}}
			for range 4 {
				to.tx = append(to.tx, &txQueue{tx: nowhere{}})
			}
			if flows > 0 { // else there is no RSS
				to.rss = &rss{hash: toeplitz.New(toeplitz.DefaultKey), table: *toeplitz.Spread(4), types: RSSAll}
			}
			var frames []*ports.Frame
			for i := range burstSize {
				wire := make([]byte, 60)
				wire[12], wire[14], wire[17], wire[22], wire[23], wire[39] = 8, 0x45, 46, 64, 17, 26
				binary.BigEndian.PutUint16(wire[34:], uint16(i%max(flows, 1)))
				f := new(ports.Frame)
				f.SetHead(wire, 0, len(wire))
				frames = append(frames, f)
			}
			burst := &burst{}
			b.ReportAllocs()
			for b.Loop() {
				w.send(burst, to, frames, 60*burstSize, true, nil)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burstSize, "ns/frame")
			used := 0
			for _, q := range to.tx {
				if q.count.Frames > 0 {
					used++
				}
			}
			if used != max(1, min(flows, 4)) {
				b.Fatalf("%d flows went to %d queues", flows, used)
			}
		})
	}
}
