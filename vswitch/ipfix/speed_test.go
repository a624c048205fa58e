package ipfix

import (
	"io"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

const batchLen = 32

// frames returns a batch of frames of the given number of flows.
func frames(t testing.TB, flows int) []*ports.Frame {
	var fs []*ports.Frame
	for i := range batchLen {
		fs = append(fs, udp4(t, i%flows, 2))
	}
	return fs
}

func TestKnownFlowsTakeNoMemory(t *testing.T) {
	e := newExporter(t, Config{}, io.Discard)
	s := e.plug(t, "vm", 0)
	v6 := frame(t, ip6(layers.IPProtocolTCP), &layers.TCP{}, gopacket.Payload("x"))
	arp := frame(t, &layers.ARP{AddrType: 1, Protocol: 0x800, SourceHwAddress: macA, SourceProtAddress: make([]byte, 4),
		DstHwAddress: macB, DstProtAddress: make([]byte, 4)})
	b := extension.NewBatch(extension.Ingress, s.port, s.port, s.state, append(frames(t, 5), v6, arp)...)
	e.Capture(b)
	require.Zero(t, testing.AllocsPerRun(100, func() { e.Capture(b) }))
}

func BenchmarkKnownFlow(b *testing.B) {
	for _, c := range []struct {
		name  string
		flows int
	}{{"1 flow", 1}, {"32 flows", batchLen}} {
		b.Run(c.name, func(b *testing.B) {
			e := newExporter(b, Config{}, io.Discard)
			s := e.plug(b, "vm", 0)
			batch := extension.NewBatch(extension.Ingress, s.port, s.port, s.state, frames(b, c.flows)...)
			b.ReportAllocs()
			for i := 0; i < b.N; i += batchLen {
				e.Capture(batch)
			}
		})
	}
	b.Run("8192 flows", func(b *testing.B) {
		e := newExporter(b, Config{}, io.Discard)
		s := e.plug(b, "vm", 0)
		var batches []*extension.Batch
		for i := 0; i < 8192; i += batchLen {
			var fs []*ports.Frame
			for j := range batchLen {
				fs = append(fs, udp4(b, i+j, 2))
			}
			batches = append(batches, extension.NewBatch(extension.Ingress, s.port, s.port, s.state, fs...))
		}
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; i < b.N; i += batchLen {
			e.Capture(batches[i/batchLen%len(batches)])
		}
	})
}

// A guest whose every packet is a new flow.
func BenchmarkNewFlow(b *testing.B) {
	e := newExporter(b, Config{}, io.Discard)
	require.NoError(b, e.Start(network{}))
	defer e.Stop(network{})
	s := e.plug(b, "vm", 0)
	fs := frames(b, batchLen)
	batch := extension.NewBatch(extension.Ingress, s.port, s.port, s.state, fs...)
	b.ReportAllocs()
	for i := 0; i < b.N; i += batchLen {
		for _, f := range fs {
			src := f.Head()[26:30]
			src[0], src[1], src[2], src[3] = byte(i>>29), byte(i>>21), byte(i>>13), byte(i>>5)
		}
		e.Capture(batch)
	}
}
