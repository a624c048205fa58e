package coalesce

import (
	"testing"

	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// A segment of 1,448 bytes that is joined, and one that is joined and cut off again for a destination that
// leaves nothing to be done but the checksum.
func BenchmarkSegment(b *testing.B) {
	for _, k := range kinds {
		for _, cut := range []bool{false, true} {
			name := k.name
			if cut {
				name += ", and cut"
			}
			b.Run(name, func(b *testing.B) {
				const n = 45
				s := newStream(443)
				s.v6, s.state = k.v6, k.state
				var frames []*ports.Frame
				var heads [n][]byte
				var bufs [n][]byte
				for i := range n {
					f := s.next(1448).frame(b)
					frames = append(frames, f)
					heads[i] = append([]byte(nil), f.Head()[:86]...)
					bufs[i] = append(make([]byte, ports.Headroom), f.Head()...)
				}
				o := frames[0].Offload
				var c Coalescer
				var sg segment.Segmenter
				b.ReportAllocs()
				for b.Loop() {
					copy(bufs[0][ports.Headroom:], heads[0])
					for i, f := range frames {
						f.SetHead(bufs[i], ports.Headroom, len(bufs[i])-ports.Headroom)
						f.Offload = o
						if c.Join(f) != (i > 0) {
							b.Fatal("not joined")
						}
					}
					c.Finish()
					if cut {
						if out, err := sg.Split(frames[0], ports.OffloadChecksum); err != nil || len(out) != n {
							b.Fatal(len(out), err)
						}
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/segment")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
