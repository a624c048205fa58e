package capture

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// What a capture adds to the worker for each frame of 64 bytes (60 without FCS) that it sees at one port,
// in batches.
func BenchmarkFrame(b *testing.B) {
	for _, c := range []struct {
		name string
		cfg  Config
	}{
		{"all", Config{}},
		{"vlan", Config{Filter: Filter{Untagged: true}}},
		{"l4port", Config{Filter: Filter{TransportPorts: []uint16{53}}}},
		{"l4port-none", Config{Filter: Filter{TransportPorts: []uint16{54}}}},
		{"dropped", Config{Filter: Filter{Dropped: true}}},
	} {
		for _, size := range []int{1, 32, 64} {
			b.Run(fmt.Sprintf("%s/batch=%d", c.name, size), func(b *testing.B) {
				capture, err := newCapture(io.Discard, &c.cfg)
				if err != nil {
					b.Fatal(err)
				}
				s := &scene{t: b}
				s.attach(capture, "web")
				// Frames take turns, as those of a pipe do.
				const rounds = 4
				var batches [rounds]*extension.Batch
				for i := range batches {
					frames := make([]*ports.Frame, size)
					for k := range frames {
						frames[k] = udp("10.0.0.1", "10.0.0.2", 53, 4000)
						whole := make([]byte, 60)
						copy(whole, frames[k].Head())
						frames[k].SetHead(whole, 0, 60)
					}
					batches[i] = s.batch(in, "web", frames...)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					batch := batches[i%rounds]
					capture.Capture(batch)
					capture.Fate(batch)
					if r := &capture.ring; r.used() > len(r.buf)/4 {
						r.release(r.used()) // what the writer does, on its own time
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/frame")
				if st := capture.Stats(); st.Lost > 0 {
					b.Fatal("frames are lost")
				}
			})
		}
	}
}

// What the writing goroutine needs for each frame.
func BenchmarkWriter(b *testing.B) {
	c, err := newCapture(io.Discard, nil)
	if err != nil {
		b.Fatal(err)
	}
	s := &scene{t: b}
	s.attach(c, "web")
	frames := make([]*ports.Frame, 64)
	for k := range frames {
		frames[k] = numbered(60, k)
	}
	batch := s.batch(in, "web", frames...)
	var spent time.Duration
	for b.Loop() {
		for range 100 {
			c.Capture(batch)
			c.Fate(batch)
		}
		start := time.Now()
		if err := c.drain(); err != nil {
			b.Fatal(err)
		}
		spent += time.Since(start)
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*100*64), "ns/frame")
}
