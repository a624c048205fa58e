package afpacket

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// The frames of the benchmarks: the shortest, the longest that a ring place holds of a common MTU, and
// a segment that the kernel takes in one piece.
var benchFrames = []struct {
	name string
	make func() *ports.Frame
}{
	{"64B", func() *ports.Frame { return frameOf(frameTo(ports.MAC{2, 0, 0, 0, 0, 2}, 50)) }},
	{"1514B", func() *ports.Frame { return frameOf(frameTo(ports.MAC{2, 0, 0, 0, 0, 2}, 1500)) }},
	{"64KiB", func() *ports.Frame {
		wire, o := tcpSegment(54 + 44*1448)
		f := frameOf(wire)
		f.Offload = o
		return f
	}},
}

func repeat(f *ports.Frame, n int) []*ports.Frame {
	fs := make([]*ports.Frame, n)
	for i := range fs {
		fs[i] = f
	}
	return fs
}

func openEnd(b *testing.B, name string) *Interface {
	i, err := Open(name, nil)
	require.NoError(b, err)
	b.Cleanup(func() { i.Close() })
	return i
}

// sendAll sends n frames in batches of fs.
func sendAll(b *testing.B, i *Interface, fs []*ports.Frame, n int) {
	for n > 0 {
		k, err := i.Tx(0).Send(fs[:min(n, len(fs))])
		if err != nil || k == 0 {
			b.Fatalf("Send took %d frames, error %v", k, err)
		}
		n -= k
	}
}

// recvAll receives and releases n frames.
func recvAll(b *testing.B, i *Interface, batch *ports.Batch, n int, each func([]*ports.Frame)) {
	for n > 0 {
		if err := i.Rx(0).Recv(batch); err != nil || batch.Len() == 0 {
			b.Fatalf("%d frames did not arrive, error %v; %+v", n, err, i.Stats())
		}
		n -= batch.Len()
		if each != nil {
			each(batch.Frames())
		}
		batch.Reset()
		i.Rx(0).Release()
	}
}

// BenchmarkSend sends into a veth pair at whose far end nobody listens.
func BenchmarkSend(b *testing.B) {
	for _, c := range benchFrames {
		b.Run(c.name, func(b *testing.B) {
			newCable(b)
			i, f := openEnd(b, near), c.make()
			fs := repeat(f, 64)
			b.SetBytes(int64(f.Len()))
			b.ReportAllocs()
			b.ResetTimer()
			sendAll(b, i, fs, b.N)
		})
	}
}

// BenchmarkRecv receives what is there already.
func BenchmarkRecv(b *testing.B) {
	for _, c := range benchFrames {
		b.Run(c.name, func(b *testing.B) {
			newCable(b)
			from, to, f := openEnd(b, far), openEnd(b, near), c.make()
			fs, batch, fill := repeat(f, 64), ports.NewBatch(64), 64
			b.SetBytes(int64(f.Len()))
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= fill {
				n := min(left, fill)
				b.StopTimer()
				sendAll(b, from, fs, n)
				b.StartTimer()
				recvAll(b, to, batch, n, nil)
			}
		})
	}
}

// BenchmarkRelay takes frames from one cable to another: the whole of the kernel's and our work for a
// frame, that of its sender included.
func BenchmarkRelay(b *testing.B) {
	for _, c := range benchFrames {
		b.Run(c.name, func(b *testing.B) {
			newCable(b)
			ip(b, "link add name near2 type veth peer name far2")
			ip(b, "link set near2 up")
			ip(b, "link set far2 up")
			from, in, out, f := openEnd(b, far), openEnd(b, near), openEnd(b, "near2"), c.make()
			fs, batch := repeat(f, 64), ports.NewBatch(64)
			b.SetBytes(int64(f.Len()))
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= len(fs) {
				n := min(left, len(fs))
				sendAll(b, from, fs, n)
				recvAll(b, in, batch, n, func(fs []*ports.Frame) { sendAll(b, out, fs, len(fs)) })
			}
		})
	}
}
