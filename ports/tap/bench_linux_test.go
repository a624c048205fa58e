package tap

import (
	"fmt"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/internal/vnethdr"
	"github.com/hvswitch/hvswitch/ports"
)

// burst is how many frames go before the other side has its turn; less than an interface holds.
const burst = 256

// versus tells what a frame costs with a TAP, and with nothing but the system call that no TAP can do
// without, on the same interface. They take turns, and medians count, so that other work on the
// machine does not.
func versus(b *testing.B, tap, syscall func() time.Duration) {
	var ours, bare []time.Duration
	for n := 0; n < b.N; n += burst {
		ours = append(ours, tap())
		bare = append(bare, syscall())
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2]) / burst
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ours), "ns/frame")
	b.ReportMetric(median(bare), "ns/syscall")
	b.ReportMetric(median(ours)/median(bare), "ratio")
}

// sample returns a frame of n bytes, as one when that is longer than the MTU with a request, and in
// the form in which it is written.
func sample(n int) (f *ports.Frame, raw []byte) {
	bytes := ether(n)
	var request ports.Offload
	if n > 1514 {
		bytes, request = tcpSegment(n)
	}
	f = frame(bytes, ports.HeadLen)
	f.Offload = request
	raw = make([]byte, vnethdr.Size, vnethdr.Size+n)
	vnethdr.Put(raw, request)
	return f, append(raw, bytes...)
}

// BenchmarkSend sends what the kernel drops at once, so that its part is as small as it gets.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{64, 1514, 64000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			aside(b)
			p := must(b, nil)
			f, raw := sample(size)
			frames := slices.Repeat([]*ports.Frame{f}, burst)
			fd := uintptr(p.Rx(0).(ports.Pollable).Descriptor())
			versus(b, func() time.Duration {
				start := time.Now()
				if _, err := p.Tx(0).Send(frames); err != nil {
					b.Fatal(err)
				}
				return time.Since(start)
			}, func() time.Duration {
				start := time.Now()
				for range burst {
					unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&raw[0])), uintptr(len(raw)))
				}
				return time.Since(start)
			})
		})
	}
}

func BenchmarkRecv(b *testing.B) {
	for _, size := range []int{64, 1514, 64000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			aside(b)
			p := must(b, nil)
			_, raw := sample(size)
			sock := packetSocket(b, p.Info().Name)
			fill := func() {
				for range burst {
					_, err := unix.Write(sock, raw)
					require.NoError(b, err)
				}
			}
			rx := p.Rx(0)
			batch := ports.NewBatch(64)
			buf := make([]byte, vnethdr.Size+ports.MaxFrame)
			fd := uintptr(rx.(ports.Pollable).Descriptor())
			versus(b, func() time.Duration {
				fill()
				start := time.Now()
				for n := 0; n < burst; n += batch.Len() {
					rx.Release()
					batch.Reset()
					if err := rx.Recv(batch); err != nil || batch.Len() == 0 {
						b.Fatalf("received %d frames, then %d, error %v", n, batch.Len(), err)
					}
				}
				return time.Since(start)
			}, func() time.Duration {
				fill()
				start := time.Now()
				for range burst {
					unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
				}
				return time.Since(start)
			})
		})
	}
}
