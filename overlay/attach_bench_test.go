package overlay

import (
	"fmt"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// What a vNIC sends, 32 frames at a time, to a device in memory.
func BenchmarkVNICSend(b *testing.B) {
	for _, c := range []struct {
		name string
		p    packet
		ask  uint16
		room int
	}{
		{"64", packet{payload: 22}, 0, 64},
		{"1450", packet{payload: 1450 - 42}, 0, 64},
		{"64K", packet{proto: layers.IPProtocolTCP, payload: 65000}, 1400, 2048},
	} {
		b.Run(c.name, func(b *testing.B) {
			_, v, far := attached(b, &ports.PipeConfig{Depth: c.room}, &Config{}, VNICConfig{})
			c.p.src, c.p.dst, c.p.from, c.p.to = mac(1), mac(2), addr("10.0.0.11"), addr("10.0.0.12")
			var frames []*ports.Frame
			for range 32 {
				f := c.p.frame(b)
				if c.ask != 0 {
					f = c.p.asking(b, c.ask)
				}
				frames = append(frames, f)
			}
			tx, rx, batch := v.Tx(0), far.Rx(0), ports.NewBatch(4096)
			b.ReportAllocs()
			for b.Loop() {
				if n, err := tx.Send(frames); n != len(frames) || err != nil {
					b.Fatal(n, err)
				}
				batch.Reset()
				if err := rx.Recv(batch); err != nil || batch.Len() < len(frames) {
					b.Fatal(fmt.Sprint(batch.Len(), " frames: ", err))
				}
				batch.Reset()
				rx.Release()
			}
			require.Empty(b, v.Stats().Drops)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/32, "ns/frame")
		})
	}
}
