package overlay

import (
	"fmt"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hvswitch/hvswitch/ports"
)

func BenchmarkEncapDecap(b *testing.B) {
	for _, e := range []Encapsulation{NVGRE, VXLAN, Geneve} {
		for _, size := range []int{64, 1450} {
			b.Run(fmt.Sprintf("%s/%d", e, size), func(b *testing.B) {
				p := inner4
				p.payload = size - 42
				f := p.frame(b)
				tun := tunnel(b, TunnelConfig{Encapsulation: e})
				var d Decoder
				var out Encapsulated
				b.ReportAllocs()
				for b.Loop() {
					if tun.Encap(f, 5001) != nil || d.Decap(f, &out) != 0 {
						b.Fatal("does not come back")
					}
				}
			})
		}
	}
	b.Run("NVGRE over IPv6/64", func(b *testing.B) {
		f := inner4.frame(b)
		tun := tunnel6(b, TunnelConfig{})
		var d Decoder
		var out Encapsulated
		for b.Loop() {
			if tun.Encap(f, 5001) != nil || d.Decap(f, &out) != 0 {
				b.Fatal("does not come back")
			}
		}
	})
}

// A TCP segment of 64 KiB, cut and encapsulated, checksums left to the device or not.
func BenchmarkSplit(b *testing.B) {
	for _, accept := range []ports.Offloads{ports.OffloadChecksum, 0} {
		b.Run(fmt.Sprintf("NVGRE/65535/checksum=%v", accept == 0), func(b *testing.B) {
			p := inner4
			p.proto, p.payload = layers.IPProtocolTCP, 65535-40
			f := p.asking(b, 1418)
			tun := tunnel(b, TunnelConfig{})
			var s Splitter
			var out []*ports.Frame
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if out, err = s.Append(out[:0], f, tun, 5001, accept, 1500); err != nil {
					b.Fatal(err)
				}
				s.Reset()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(out)), "ns/wireframe")
		})
	}
}
