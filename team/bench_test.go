package team_test

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
)

// udpFrame is a frame of a flow of 64 bytes, or more.
func udpFrame(src, dst ports.MAC, flow, n int) *ports.Frame {
	b := make([]byte, ports.Headroom, ports.Headroom+max(n, 60))
	b = append(b, dst[:]...)
	b = append(b, src[:]...)
	b = append(b, 8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 19, 0, 2)
	b = binary.BigEndian.AppendUint16(b, uint16(1024+flow))
	b = binary.BigEndian.AppendUint16(b, uint16(flow>>16)+4789)
	b = append(b, make([]byte, cap(b)-len(b))...)
	h := b[ports.Headroom:]
	binary.BigEndian.PutUint16(h[16:], uint16(len(h)-14))
	binary.BigEndian.PutUint16(h[38:], uint16(len(h)-34))
	f := new(ports.Frame)
	f.SetHead(b, ports.Headroom, len(h))
	return f
}

// drain takes everything off the cables.
func drain(b *ports.Batch, queues ...ports.RxQueue) (n int) {
	for _, q := range queues {
		b.Reset()
		_ = q.Recv(b)
		n += b.Len()
		b.Reset()
		q.Release()
	}
	return n
}

const batch = 32

func benchFrames() []*ports.Frame {
	var frames []*ports.Frame
	for i := range batch {
		frames = append(frames, udpFrame(ports.MAC{2, 0, 0, 0, 2, byte(i % 8)}, ports.MAC{2, 0, 0, 0, 3, byte(i)}, i*977, 60))
	}
	return frames
}

type benchTeam struct {
	name    string
	members int
	cfg     *team.Config // nil is a bare pipe
}

var benchTeams = []benchTeam{
	{"static hash 1", 1, &team.Config{Mode: team.Static, Distribution: team.AddressHash}},
	{"static hash 2", 2, &team.Config{Mode: team.Static, Distribution: team.AddressHash}},
	{"static hash 4", 4, &team.Config{Mode: team.Static, Distribution: team.AddressHash}},
	{"hyperv 2", 2, &team.Config{Distribution: team.HyperVPort}},
	{"independent hash 2", 2, &team.Config{Distribution: team.AddressHash}},
	{"dynamic 2", 2, &team.Config{}},
	{"static dynamic 2", 2, &team.Config{Mode: team.Static}},
}

func (c *benchTeam) build(b testing.TB) (near ports.Backend, far []*ports.PipeEnd) {
	var members []team.Member
	for i := range c.members {
		x, y, err := ports.Pipe(nil)
		require.NoError(b, err)
		far = append(far, y)
		if c.cfg == nil {
			return x, far
		}
		members = append(members, team.Member{Backend: x, MAC: macOf(i)})
	}
	t, err := team.New(members, c.cfg)
	require.NoError(b, err)
	b.Cleanup(func() { t.Close() })
	return t, far
}

// turnOf is one batch through a backend and its cables, in one direction.
type turnOf func() int

func sender(near ports.Backend, far []*ports.PipeEnd) turnOf {
	frames := benchFrames()
	var queues []ports.RxQueue
	for _, f := range far {
		queues = append(queues, f.Rx(0))
	}
	tx, got := near.Tx(0), ports.NewBatch(64)
	return func() int {
		if k, err := tx.Send(frames); k != batch || err != nil {
			panic(err)
		}
		return drain(got, queues...)
	}
}

func receiver(near ports.Backend, far []*ports.PipeEnd) turnOf {
	var queues []ports.RxQueue
	for i := range near.Info().RxQueues {
		queues = append(queues, near.Rx(i))
	}
	parts := make([][]*ports.Frame, len(far)) // each frame where it is taken from
	for i, f := range benchFrames() {
		at := i % len(far)
		if t, ok := near.(*team.Team); ok && t.Independent() {
			at = t.PinOf(ports.MAC(f.Head()))
		}
		parts[at] = append(parts[at], f)
	}
	got := ports.NewBatch(64)
	return func() int {
		for i, p := range parts {
			if k, err := far[i].Tx(0).Send(p); k != len(p) || err != nil {
				panic(err)
			}
		}
		return drain(got, queues...)
	}
}

// BenchmarkCost takes turns with a bare pipe, so that whatever else the machine does meets both. A batch is
// 32 frames of 60 bytes; what is reported is the median of the pipe, and of the difference.
func BenchmarkCost(b *testing.B) {
	for _, c := range benchTeams {
		for name, way := range map[string]func(ports.Backend, []*ports.PipeEnd) turnOf{"send": sender, "recv": receiver} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				bare, ends := (&benchTeam{members: c.members}).build(b)
				plain := way(bare, ends)
				teamed := way(c.build(b))
				const turns = 50
				var pipe, extra []float64
				timed := func(f turnOf) float64 {
					start := time.Now()
					for range turns {
						if n := f(); n != batch {
							b.Fatalf("%d frames of %d", n, batch)
						}
					}
					return float64(time.Since(start).Nanoseconds()) / turns / batch
				}
				b.ReportAllocs()
				for b.Loop() {
					p := timed(plain)
					pipe = append(pipe, p)
					extra = append(extra, timed(teamed)-p)
				}
				slices.Sort(pipe)
				slices.Sort(extra)
				b.ReportMetric(pipe[len(pipe)/2], "pipe-ns/frame")
				b.ReportMetric(extra[len(extra)/2], "extra-ns/frame")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
