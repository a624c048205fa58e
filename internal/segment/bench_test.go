package segment

import (
	"math/rand/v2"
	"testing"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

var sink int

func BenchmarkCheck(b *testing.B) {
	for _, c := range []struct {
		name string
		p    packet
		size int
	}{
		{"tcp4 segments", tcp4(60000), 1448},
		{"tcp4 checksum", tcp4(1000), 0},
		{"tcp6 segments", tcp6(60000), 1448},
	} {
		bytes, o := c.p.asking(b, c.size)
		f := frame(rand.New(rand.NewPCG(1, 1)), bytes, o)
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if Check(f) != nil {
					b.Fatal()
				}
			}
		})
		b.Run(c.name+", parsed", func(b *testing.B) {
			var h header.Header
			h.Parse(f.Head(), f.Len())
			for b.Loop() {
				if CheckParsed(f, &h) != nil {
					b.Fatal()
				}
			}
		})
	}
}

// body64K returns a frame of a head and a few large pieces of body, as a virtio guest sends it.
func body64K(b *testing.B, p packet, size int) *ports.Frame {
	bytes, o := p.asking(b, size)
	f := new(ports.Frame)
	f.SetHead(append(make([]byte, ports.Headroom), bytes[:ports.HeadLen]...), ports.Headroom, ports.HeadLen)
	for rest := bytes[ports.HeadLen:]; len(rest) > 0; {
		k := min(len(rest), 32<<10)
		f.AppendBody(rest[:k:k])
		rest = rest[k:]
	}
	f.Offload = o
	return f
}

func BenchmarkSplit(b *testing.B) {
	for _, c := range []struct {
		name   string
		p      packet
		size   int
		accept ports.Offloads
	}{
		{"tcp4 64 KiB, checksum left", tcp4(65160), 1448, ports.OffloadChecksum},
		{"tcp4 64 KiB, checksum done", tcp4(65160), 1448, 0},
		{"tcp6 64 KiB, checksum left", tcp6(64260), 1428, ports.OffloadChecksum},
		{"tcp6 64 KiB, checksum done", tcp6(64260), 1428, 0},
		{"udp4 64 KiB, checksum done", udp4(64800), 1200, 0},
		{"tcp4 64 KiB in 1,018", tcp4(65160), 64, 0},
	} {
		f := body64K(b, c.p, c.size)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(f.Len()))
			var s Segmenter
			n := 0
			for b.Loop() {
				out, err := s.Split(f, c.accept)
				if err != nil {
					b.Fatal(err)
				}
				n += len(out)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/frame")
		})
	}
	for _, n := range []int{0, 1448} {
		bytes, o := tcp4(n).asking(b, 0)
		f := frame(rand.New(rand.NewPCG(1, 1)), bytes, o)
		b.Run("complete tcp4 "+map[int]string{0: "ack", 1448: "full"}[n], func(b *testing.B) {
			var s Segmenter
			for b.Loop() {
				out, _ := s.Split(f, 0)
				sink += len(out)
			}
		})
	}
}
