package tap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/internal/vnethdr"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

// Two kernels exchange a stream through two TAPs: it must cross in segments longer than the MTU, and
// whole.
func TestKernelTCPCrossesInLargeSegments(t *testing.T) {
	const size = 8 << 20
	for _, queues := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d queues", queues), func(t *testing.T) {
			aside(t)
			a := must(t, &Config{Name: "a", Queues: queues})
			setAddr(t, "a", 1)
			l, err := net.Listen("tcp4", "10.0.0.1:7")
			require.NoError(t, err)
			defer l.Close()
			require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
			b := must(t, &Config{Name: "b", Queues: queues})
			setAddr(t, "b", 2)

			var longest atomic.Int64
			stop := make(chan struct{})
			var relays sync.WaitGroup
			defer relays.Wait()
			defer close(stop)
			for i := range queues {
				relays.Go(func() { relay(a.Rx(i), b.Tx(i), &longest, stop) })
				relays.Go(func() { relay(b.Rx(i), a.Tx(i), &longest, stop) })
			}

			want := bytes.Repeat([]byte("hvswitch"), size/8)
			got := make(chan []byte, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					got <- nil
					return
				}
				defer c.Close()
				all, _ := io.ReadAll(c)
				got <- all
			}()
			c, err := net.Dial("tcp4", "10.0.0.1:7")
			require.NoError(t, err)
			_, err = c.Write(want)
			require.NoError(t, err)
			require.NoError(t, c.Close())
			select {
			case all := <-got:
				assert.True(t, bytes.Equal(want, all), "the stream is damaged")
			case <-time.After(patience):
				t.Fatal("the stream does not end")
			}
			assert.Greater(t, longest.Load(), int64(20000), "no large segment was seen")
			assert.Zero(t, a.Dropped()+b.Dropped())
		})
	}
}

func relay(rx ports.RxQueue, tx ports.TxQueue, longest *atomic.Int64, stop chan struct{}) {
	b := ports.NewBatch(32)
	wait := []unix.PollFd{{Fd: int32(rx.(ports.Pollable).Descriptor()), Events: unix.POLLIN}}
	for {
		select {
		case <-stop:
			return
		default:
		}
		b.Reset()
		rx.Release()
		if rx.Recv(b) != nil {
			return
		}
		for _, f := range b.Frames() {
			longest.Store(max(longest.Load(), int64(f.Len())))
		}
		tx.Send(b.Frames())
		if b.Len() == 0 {
			unix.Poll(wait, 10)
		}
	}
}

func TestManySegmentsOfMemory(t *testing.T) {
	for _, c := range []struct {
		name    string
		disable ports.Offloads
	}{{"with offload header", 0}, {"without", ports.OffloadAll}} {
		t.Run(c.name, func(t *testing.T) {
			aside(t)
			p := must(t, &Config{Name: "vm1", MTU: 60000, Disable: c.disable})
			peer := portstest.Interface(t, "vm1")
			for _, pieces := range []int{1, maxVec - 2, maxVec - 1, maxVec, maxVec + 1, 5000} {
				want := ether(300 + 2*pieces + 5000)
				for i := range want[14:] {
					want[14+i] = byte(i * 7)
				}
				f := frame(want[:300], 300)
				for i := range pieces {
					f.AppendBody(want[300+2*i:][:2])
				}
				f.AppendBody(want[300+2*pieces:])
				n, err := p.Tx(0).Send([]*ports.Frame{f})
				require.NoError(t, err)
				require.Equal(t, 1, n)
				got, ok := peer.Take(patience)
				require.True(t, ok)
				require.True(t, bytes.Equal(want, got.Bytes), "%d pieces: the frame is damaged", pieces)
			}
		})
	}
}

func TestMemoryThatIsNotThere(t *testing.T) {
	aside(t)
	p := must(t, &Config{Name: "vm1", MTU: 9000})
	hole, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	defer unix.Munmap(hole)
	f := frame(ether(256), 256)
	f.AppendBody(hole[:5000])
	good := frame(ether(64), 64)
	n, err := p.Tx(0).Send([]*ports.Frame{good, f, good})
	assert.Equal(t, 1, n)
	require.ErrorIs(t, err, syscall.EFAULT)
	assert.EqualError(t, err, `tap "vm1": write: bad address`)
	assert.Zero(t, testing.AllocsPerRun(10, func() { p.Tx(0).Send([]*ports.Frame{f}) }))
}

func TestSendRefuses(t *testing.T) {
	aside(t)
	p := must(t, &Config{Name: "vm1", Disable: ports.OffloadTCP6})
	segment, request := tcpSegment(10000)
	with := func(b []byte, set func(*ports.Offload)) *ports.Frame {
		f := frame(b, 256)
		f.Offload = request
		set(&f.Offload)
		return f
	}
	tagged := append(ether(14), make([]byte, 1500)...)
	tagged = append(tagged[:12], append([]byte{0x81, 0, 0, 5}, tagged[12:]...)...)
	for _, c := range []struct {
		name string
		f    *ports.Frame
		want error
	}{
		{"13 bytes", frame(ether(14)[:13], 13), ports.ErrFrameSize},
		{"14 bytes", frame(ether(14), 14), nil},
		{"MTU", frame(ether(1514), 256), nil},
		{"MTU + 1", frame(ether(1515), 256), ports.ErrFrameSize},
		{"MTU with tag", frame(tagged, 256), nil},
		{"MTU + 1 with tag", frame(append(tagged, 0), 256), ports.ErrFrameSize},
		{"segment", with(segment, func(*ports.Offload) {}), nil},
		{"TCP6, which is disabled", with(segment, func(o *ports.Offload) { o.Segment = ports.SegmentTCP6 }), ports.ErrOffload},
		{"checksum behind the end", with(ether(60), func(o *ports.Offload) {
			*o = ports.Offload{NeedsChecksum: true, ChecksumStart: 60, ChecksumOffset: 16}
		}), ports.ErrOffload},
		{"header length behind the end", with(segment, func(o *ports.Offload) { o.HeaderLen = 65535 }), ports.ErrOffload},
		{"segments of 0 bytes", with(segment, func(o *ports.Offload) { o.SegmentSize = 0 }), ports.ErrOffload},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.f.Len() < 256 {
				c.f.Offload.HeaderLen = 0
			}
			good := frame(ether(64), 64)
			n, err := p.Tx(0).Send([]*ports.Frame{good, c.f})
			assert.Equal(t, c.want, err)
			if c.want == nil {
				assert.Equal(t, 2, n)
			} else {
				assert.Equal(t, 1, n)
			}
		})
	}
}

func TestRecvOfTheLongestFrames(t *testing.T) {
	aside(t)
	p := must(t, &Config{Name: "vm1", MTU: maxMTU})
	sock := packetSocket(t, "vm1")
	for _, c := range []struct {
		name string
		tag  bool
		n    int
		want int // 0: dropped
	}{
		{"longest", false, 14 + maxMTU, 14 + maxMTU},
		{"longest with tag", true, 18 + maxMTU, 18 + maxMTU},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := ether(c.n)
			if c.tag {
				binary.BigEndian.PutUint16(b[12:], ports.TPID8021Q)
			}
			_, err := unix.Write(sock, append(make([]byte, vnethdr.Size), b...))
			require.NoError(t, err)
			batch := ports.NewBatch(4)
			require.NoError(t, p.Rx(0).Recv(batch))
			require.Equal(t, 1, batch.Len())
			assert.Equal(t, c.want, batch.Frames()[0].WireLen())
		})
	}
}

// take is told what was read: what a kernel of tomorrow may do.
func TestTakeChecksWhatIsRead(t *testing.T) {
	segment, _ := tcpSegment(1000)
	hdr := []byte{1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0}
	tagged := ether(ports.MaxFrame + 4)
	binary.BigEndian.PutUint16(tagged[12:], ports.TPID8021Q)
	for _, c := range []struct {
		name  string
		hdr   []byte
		bytes []byte
		want  bool
	}{
		{"segment", hdr, segment, true},
		{"nothing", hdr, nil, false},
		{"runt", make([]byte, 10), ether(14)[:13], false},
		{"shortest", make([]byte, 10), ether(14), true},
		{"half a header", hdr[:5], nil, false},
		{"unknown segmentation", []byte{1, 9, 54, 0, 0xa8, 5, 34, 0, 16, 0}, segment, false},
		{"longest", make([]byte, 10), ether(ports.MaxFrame), true},
		{"too long", make([]byte, 10), ether(ports.MaxFrame + 1), false},
		{"longest with tag", make([]byte, 10), tagged, true},
		{"too long with tag", make([]byte, 10), append(tagged, 0), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := &rxQueue{dev: &device{hdr: vnethdr.Size}}
			b := ports.NewBatch(1)
			buf := b.Buffer(vnethdr.Size + ports.MaxFrame + tagLen + 1)
			n := copy(buf, c.hdr)
			n += copy(buf[n:], c.bytes)
			require.Equal(t, c.want, q.take(b, buf[:n]))
			if !c.want {
				assert.Zero(t, b.Len())
				return
			}
			f := b.Frames()[0]
			assert.LessOrEqual(t, f.Len(), ports.MaxFrame)
			got := make([]byte, f.WireLen())
			f.CopyTo(got)
			assert.True(t, bytes.Equal(c.bytes, got))
		})
	}
}

func TestNothingIsAllocatedPerFrame(t *testing.T) {
	aside(t)
	p := must(t, &Config{Name: "vm1", MTU: 9000})
	sock := packetSocket(t, "vm1")
	segment, request := tcpSegment(60000)
	large := frame(segment, 256)
	large.Offload = request
	tagged := frame(ether(5000), 256)
	tagged.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: 5}
	bad := frame(ether(64), 64)
	bad.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: 60, ChecksumOffset: 16}
	batch := ports.NewBatch(8)
	incoming := append(make([]byte, vnethdr.Size), ether(64)...)

	for name, send := range map[string][]*ports.Frame{
		"small":   {frame(ether(64), 64), frame(ether(1514), 256)},
		"large":   {large, tagged},
		"refused": {bad},
	} {
		t.Run("send "+name, func(t *testing.T) {
			assert.Zero(t, testing.AllocsPerRun(100, func() { p.Tx(0).Send(send) }))
		})
	}
	t.Run("receive", func(t *testing.T) {
		assert.Zero(t, testing.AllocsPerRun(100, func() {
			unix.Write(sock, incoming)
			batch.Reset()
			if err := p.Rx(0).Recv(batch); err != nil || batch.Len() != 1 {
				t.Errorf("received %d frames, error %v", batch.Len(), err)
			}
		}))
	})
}

func TestQueueOfTwoGoroutinesPanics(t *testing.T) {
	g := newGate()
	require.True(t, g.enter())
	assert.Panics(t, func() { g.enter() })
	g.leave()
	require.True(t, g.enter())
	done := make(chan struct{})
	go func() {
		g.shut()
		close(done)
	}()
	eventually(t, "the gate is not shut", func() bool { return g.state.Load()&gateShut != 0 })
	assert.False(t, g.enter(), "the gate is shut")
	select {
	case <-done:
		t.Fatal("shut does not wait")
	default:
	}
	g.leave()
	<-done
}
