package sock

import (
	"fmt"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// batchSize is how many frames go before the other side has its turn.
const batchSize = 32

// BenchmarkPair sends a batch on one socket and receives it on another, beside the least that could
// do: one call that writes so many bytes, or datagrams, and one that reads them. They take turns, and
// medians count, so that other work on the machine does not.
func BenchmarkPair(b *testing.B) {
	for _, c := range []struct {
		name string
		kind int
		bare func(b *testing.B, a, z, size int) func()
	}{
		{"stream", unix.SOCK_STREAM, bareStream},
		{"dgram", unix.SOCK_DGRAM, bareDatagrams},
	} {
		for _, size := range []int{64, 1514} {
			b.Run(fmt.Sprintf("%s/%d", c.name, size), func(b *testing.B) {
				fds, err := unix.Socketpair(unix.AF_UNIX, c.kind|unix.SOCK_CLOEXEC, 0)
				require.NoError(b, err)
				defer unix.Close(fds[0])
				defer unix.Close(fds[1])
				for _, fd := range fds {
					require.NoError(b, setSendBuffer(fd, defaultBuffer))
				}
				bare := c.bare(b, fds[0], fds[1], size)
				near, far := pair(b, c.kind, nil)
				frames := slices.Repeat(framesOf(ether(size)), batchSize)
				tx, rx, batch := near.Tx(0), far.Rx(0), ports.NewBatch(2*batchSize)
				ours := func() {
					if n, err := tx.Send(frames); n != batchSize || err != nil {
						b.Fatal(n, err)
					}
					if err := rx.Recv(batch); batch.Len() != batchSize || err != nil {
						b.Fatal(batch.Len(), err)
					}
					batch.Reset()
					rx.Release()
				}
				b.ReportAllocs()
				versus(b, ours, bare)
			})
		}
	}
}

func versus(b *testing.B, ours, bare func()) {
	var took [2][]time.Duration
	for n := 0; n < b.N; n += batchSize {
		for i, f := range []func(){ours, bare} {
			start := time.Now()
			f()
			took[i] = append(took[i], time.Since(start))
		}
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2]) / batchSize
	}
	us, it := median(took[0]), median(took[1])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(us, "ns/frame")
	b.ReportMetric(it, "ns/bare")
	b.ReportMetric(us/it, "ratio")
}

func bareStream(b *testing.B, a, z, size int) func() {
	out, in := make([]byte, batchSize*(lengthLen+size)), make([]byte, chunkSize)
	return func() {
		unix.RawSyscall(unix.SYS_WRITE, uintptr(a), uintptr(unsafe.Pointer(&out[0])), uintptr(len(out)))
		n, _, _ := unix.RawSyscall(unix.SYS_READ, uintptr(z), uintptr(unsafe.Pointer(&in[0])), uintptr(len(in)))
		if int(n) != len(out) {
			b.Fatal(n)
		}
	}
}

func bareDatagrams(b *testing.B, a, z, size int) func() {
	messages := func(n int) []mmsghdr {
		msgs, iov := make([]mmsghdr, batchSize), make([]unix.Iovec, batchSize)
		mem := make([]byte, batchSize*n)
		for i := range msgs {
			iov[i].Base = &mem[i*n]
			iov[i].SetLen(n)
			msgs[i].hdr.Iov = &iov[i]
			msgs[i].hdr.SetIovlen(1)
		}
		return msgs
	}
	out, in := messages(size), messages(2048)
	return func() {
		unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(a), uintptr(unsafe.Pointer(&out[0])), batchSize, 0, 0, 0)
		n, _, _ := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(z), uintptr(unsafe.Pointer(&in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		if n != batchSize {
			b.Fatal(n)
		}
	}
}
