package sflow

import (
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

const batchLen = 32

func newBatch(t testing.TB, a *Agent) *extension.Batch {
	s := a.plug(t, "vm", 0)
	return extension.NewBatch(extension.Ingress, s.port, s.port, s.state, repeat(udp(t, 1, 22), batchLen)...)
}

func TestFramesTakeNoMemory(t *testing.T) {
	for _, rate := range []int{1, 100} {
		a := newAgent(t, Config{Rate: rate}, io.Discard)
		b := newBatch(t, a)
		a.Capture(b)
		empty := make([]sample, 0, queueSamples)
		require.Zero(t, testing.AllocsPerRun(200, func() {
			a.Capture(b)
			empty = a.queue.swap(empty)
		}))
	}
}

func BenchmarkCapture(b *testing.B) {
	for _, rate := range []int{1000, 1} {
		b.Run(fmt.Sprintf("1:%d", rate), func(b *testing.B) {
			a := newAgent(b, Config{Rate: rate, MaxRate: 1e9}, io.Discard)
			require.NoError(b, a.Start(network{}))
			defer a.Stop(network{})
			batch := newBatch(b, a)
			b.ReportAllocs()
			for i := 0; i < b.N; i += batchLen {
				a.Capture(batch)
			}
			s := a.Stats()
			b.ReportMetric(100*float64(s.Dropped)/float64(s.Dropped+s.FlowSamples+1), "%dropped")
		})
	}
	b.Run("over MaxRate", func(b *testing.B) {
		a := newAgent(b, Config{Rate: 1, MaxRate: 1}, io.Discard)
		batch := newBatch(b, a)
		for i := 0; i < b.N; i += batchLen {
			a.Capture(batch)
		}
	})
}
