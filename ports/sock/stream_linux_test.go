package sock

import (
	"bytes"
	"encoding/binary"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

func dial(t testing.TB, path string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn)
}

// listening makes a socket with a peer.
func listening(t testing.TB, cfg *Config) (*Socket, *net.UnixConn) {
	path := place(t, "s")
	s := open(t)(ListenStream(path, cfg))
	c := dial(t, path)
	eventually(t, "no link", isUp(s))
	return s, c
}

// expect reads frames at the far end of a stream.
func expect(t testing.TB, c net.Conn, frames ...[]byte) {
	t.Helper()
	c.SetReadDeadline(deadline())
	for i, want := range frames {
		got := make([]byte, lengthLen+len(want))
		_, err := io.ReadFull(c, got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(wire(want), got), "frame %d", i)
	}
}

func sendAll(t testing.TB, s *Socket, frames ...[]byte) {
	t.Helper()
	n, err := s.Tx(0).Send(framesOf(frames...))
	require.NoError(t, err)
	require.Equal(t, len(frames), n)
}

func TestNextPeerIsConnectedWhenTheFirstGoes(t *testing.T) {
	path := place(t, "s")
	s := open(t)(ListenStream(path, nil))
	require.False(t, s.Link().Up)
	require.NoError(t, s.Err())
	n, err := s.Tx(0).Send(framesOf(ether(60)))
	require.Zero(t, n)
	require.ErrorIs(t, err, ports.ErrLinkDown)

	first := dial(t, path)
	eventually(t, "no link", isUp(s))
	second := dial(t, path)
	_, err = second.Write(wire(ether(61)))
	require.NoError(t, err)
	_, err = first.Write(wire(ether(60)))
	require.NoError(t, err)
	require.Equal(t, [][]byte{ether(60)}, receive(t, s, 1), "the second one has to wait")
	sendAll(t, s, ether(70))
	expect(t, first, ether(70))

	first.Close()
	require.Equal(t, [][]byte{ether(61)}, receive(t, s, 1))
	eventually(t, "no link", isUp(s))
	sendAll(t, s, ether(71))
	expect(t, second, ether(71))
	require.NoError(t, s.Err())

	second.Close()
	eventually(t, "the link stays up", isDown(s))
	require.ErrorIs(t, s.Err(), io.EOF)
}

func TestLastWordsAreReceived(t *testing.T) {
	s, c := listening(t, nil)
	_, err := c.Write(wire(ether(60), ether(1514)))
	require.NoError(t, err)
	c.Close()
	eventually(t, "the link stays up", isDown(s))
	require.Equal(t, [][]byte{ether(60), ether(1514)}, receive(t, s, 2))
	fds := []unix.PollFd{{Fd: int32(s.Rx(0).(ports.Pollable).Descriptor()), Events: unix.POLLIN}}
	b := ports.NewBatch(1)
	eventually(t, "the descriptor of nobody stays readable", func() bool {
		require.NoError(t, s.Rx(0).Recv(b))
		n, err := unix.Poll(fds, 0)
		return err == nil && n == 0
	})
}

func TestDialWaitsForAListener(t *testing.T) {
	path := place(t, "s")
	s := open(t)(DialStream(path, nil))
	require.ErrorIs(t, s.Err(), fs.ErrNotExist)
	for range 3 {
		l, err := net.Listen("unix", path)
		require.NoError(t, err)
		c, err := l.Accept()
		require.NoError(t, err)
		l.Close()
		eventually(t, "no link", isUp(s))
		require.NoError(t, s.Err())
		sendAll(t, s, ether(60))
		expect(t, c, ether(60))
		_, err = c.Write(wire(ether(70)))
		require.NoError(t, err)
		require.Equal(t, [][]byte{ether(70)}, receive(t, s, 1))
		c.Close()
		eventually(t, "the link stays up", isDown(s))
	}
}

// A peer that hangs up at once is not dialled without a pause.
func TestDialPausesForOneWhoHangsUp(t *testing.T) {
	path := place(t, "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	start := time.Now()
	open(t)(DialStream(path, nil))
	for range 5 {
		c, err := l.Accept()
		require.NoError(t, err)
		c.Close()
	}
	require.GreaterOrEqual(t, time.Since(start), (1+2+4+8)*firstPause)
}

func TestDialConnectsAtOnce(t *testing.T) {
	path := place(t, "s")
	open(t)(ListenStream(path, nil))
	require.True(t, open(t)(DialStream(path, nil)).Link().Up)
}

func TestFramesInPieces(t *testing.T) {
	s, c := listening(t, nil)
	want := [][]byte{ether(60), ether(14), ether(99)}
	whole := wire(want...)
	for at := range len(whole) {
		_, err := c.Write(whole[:at])
		require.NoError(t, err)
		b := ports.NewBatch(8)
		var got [][]byte
		take := func() {
			require.NoError(t, s.Rx(0).Recv(b))
			for _, f := range b.Frames() {
				got = append(got, bytes.Clone(f.Head()))
			}
			b.Reset()
			s.Rx(0).Release()
		}
		take()
		_, err = c.Write(whole[at:])
		require.NoError(t, err)
		take()
		require.Equal(t, want, got, "in two pieces at byte %d", at)
	}
}

func TestStreamOfManyFrames(t *testing.T) {
	s, c := listening(t, nil)
	var want [][]byte
	for i := range 3000 {
		want = append(want, ether(14+i*i%4000))
	}
	want = append(want, ether(ports.MaxFrame), ether(60), ether(ports.MaxFrame))
	var writer sync.WaitGroup
	writer.Go(func() { c.Write(wire(want...)) })
	got := receive(t, s, len(want))
	for i := range want {
		require.True(t, bytes.Equal(want[i], got[i]), "frame %d", i)
	}
	writer.Wait()
}

func TestGuestMayTryAnyLength(t *testing.T) {
	s, c := listening(t, nil)
	go c.Write(wire(ether(0), ether(13), ether(60), ether(ports.MaxFrame+1), ether(maxLength), ether(61)))
	require.Equal(t, [][]byte{ether(60), ether(61)}, receive(t, s, 2))
	require.Equal(t, Stats{Runts: 2, TooLong: 2}, s.Stats())
	require.True(t, s.Link().Up)
}

func TestHostileLength(t *testing.T) {
	path := place(t, "s")
	s := open(t)(ListenStream(path, nil))
	for i, n := range []uint32{maxLength + 1, math.MaxInt32, math.MaxUint32} {
		c := dial(t, path)
		eventually(t, "no link", isUp(s))
		_, err := c.Write(binary.BigEndian.AppendUint32(wire(ether(60)), n))
		require.NoError(t, err)
		require.Equal(t, [][]byte{ether(60)}, receive(t, s, 1))
		c.SetReadDeadline(deadline())
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		eventually(t, "the link stays up", isDown(s))
		require.ErrorContains(t, s.Err(), "of length")
		require.EqualValues(t, i+1, s.Stats().Violations)
	}
	c := dial(t, path)
	_, err := c.Write(wire(ether(62)))
	require.NoError(t, err)
	require.Equal(t, [][]byte{ether(62)}, receive(t, s, 1), "the next peer is none the worse")
}

// A peer that sends a part of a frame and waits holds no more than that part.
func TestPartOfAFrameHoldsNoSlab(t *testing.T) {
	s, c := listening(t, nil)
	_, err := c.Write(wire(ether(1514))[:700])
	require.NoError(t, err)
	q := s.Rx(0).(*rxStream)
	b := ports.NewBatch(1)
	eventually(t, "nothing is read", func() bool {
		require.NoError(t, q.Recv(b))
		return len(q.rest) == 700
	})
	require.Nil(t, q.chunk)
	require.Empty(t, q.loan)
	require.Less(t, cap(q.rest), 2048)
}

// The kernel takes part of a frame when its buffer is full. The rest must go before anything else, and
// go though nothing else is sent.
func TestSlowReader(t *testing.T) {
	s, c := listening(t, &Config{SendBuffer: 8192, MTU: maxMTU})
	c.SetReadBuffer(4096)
	for round := range 30 {
		var want [][]byte
		for full := false; !full; {
			frames := [][]byte{ether(1400 + round*997), ether(60 + len(want)), ether(40000 + round)}
			fs := framesOf(bytes.Clone(frames[0]), bytes.Clone(frames[1]), bytes.Clone(frames[2]))
			n, err := s.Tx(0).Send(fs)
			require.NoError(t, err)
			for _, f := range fs { // they are ours again
				clear(f.Head())
			}
			want = append(want, frames[:n]...)
			full = n < len(frames)
		}
		require.NotEmpty(t, want)
		expect(t, c, want...)
	}
	sendAll(t, s, ether(60))
	expect(t, c, ether(60))
}

func TestPeerThatGoesInTheMiddleOfAFrame(t *testing.T) {
	path := place(t, "s")
	s := open(t)(ListenStream(path, &Config{SendBuffer: 8192, MTU: maxMTU}))
	for range 3 {
		c := dial(t, path)
		eventually(t, "no link", isUp(s))
		for n := 1; n == 1; {
			var err error
			n, err = s.Tx(0).Send(framesOf(ether(30000)))
			require.NoError(t, err)
		}
		_, err := c.Write(wire(ether(60))[:30])
		require.NoError(t, err)
		require.NoError(t, s.Rx(0).Recv(ports.NewBatch(1)))
		c.Close()
		eventually(t, "the link stays up", isDown(s))
		_, err = s.Tx(0).Send(framesOf(ether(60)))
		require.ErrorIs(t, err, ports.ErrLinkDown)
	}
	c := dial(t, path)
	eventually(t, "no link", isUp(s))
	sendAll(t, s, ether(60))
	expect(t, c, ether(60))
	_, err := c.Write(wire(ether(61)))
	require.NoError(t, err)
	require.Equal(t, [][]byte{ether(61)}, receive(t, s, 1), "nothing is left of the peers before")
}

// More segments than the kernel takes in one message.
func TestFrameOfManySegments(t *testing.T) {
	s, c := listening(t, nil)
	f := &ports.Frame{}
	b := ether(1514)
	f.SetHead(b[:14:14], 0, 14)
	for i := 14; i < len(b); i++ {
		f.AppendBody(b[i : i+1 : i+1])
	}
	n, err := s.Tx(0).Send([]*ports.Frame{f, frameOf(ether(60)), f, f})
	require.NoError(t, err)
	require.Equal(t, 4, n)
	expect(t, c, b, ether(60), b, b)
}

func TestFromConnEndsWithItsPeer(t *testing.T) {
	a, b := pair(t, unix.SOCK_STREAM, nil)
	sendAll(t, b, ether(60))
	require.NoError(t, b.Close())
	require.Equal(t, [][]byte{ether(60)}, receive(t, a, 1))
	eventually(t, "the queue does not die", func() bool { return a.Rx(0).Recv(ports.NewBatch(1)) != nil })
	require.ErrorIs(t, a.Rx(0).Recv(ports.NewBatch(1)), io.EOF)
	eventually(t, "the link stays up", isDown(a))
	require.ErrorIs(t, a.Err(), io.EOF)
	require.NoError(t, a.Close())
	require.ErrorIs(t, a.Err(), ports.ErrClosed)
}

func TestFromConnOfTCP(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	far, err := l.Accept()
	require.NoError(t, err)
	defer far.Close()
	s := open(t)(FromConn(c.(syscall.Conn), nil))
	require.NoError(t, c.Close())
	sendAll(t, s, ether(60), ether(1514))
	expect(t, far, ether(60), ether(1514))
	_, err = far.Write(wire(ether(61)))
	require.NoError(t, err)
	require.Equal(t, [][]byte{ether(61)}, receive(t, s, 1))
	far.Close()
	eventually(t, "the link stays up", isDown(s))
}

func TestFromConnRefuses(t *testing.T) {
	file, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer file.Close()
	udp, err := net.Dial("udp", "127.0.0.1:9")
	require.NoError(t, err)
	defer udp.Close()
	alone, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: place(t, "s"), Net: "unixgram"})
	require.NoError(t, err)
	defer alone.Close()
	before := openFiles(t)
	for says, c := range map[string]syscall.Conn{
		`sock "": getsockopt: socket operation on non-socket`:       file,
		`sock "": a datagram socket that is not of the unix family`: udp.(*net.UDPConn),
		`sock "": getpeername: transport endpoint is not connected`: alone,
	} {
		s, err := FromConn(c, nil)
		require.EqualError(t, err, says)
		require.Nil(t, s)
	}
	require.Equal(t, before, openFiles(t))
}

func TestSocketFiles(t *testing.T) {
	path := place(t, "s")
	for _, make := range []func() (*Socket, error){
		func() (*Socket, error) { return ListenStream(path, nil) },
		func() (*Socket, error) { return Dgram(path, "", nil) },
	} {
		s := open(t)(make())
		before := openFiles(t)
		_, err := ListenStream(path, nil)
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.ErrorContains(t, err, path)
		_, err = Dgram(path, "", nil)
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.Equal(t, before, openFiles(t), "descriptors are left")
		require.False(t, s.Link().Up, "looking whether it is in use is no connection")

		// As a process that dies leaves it.
		require.NoError(t, os.Rename(path, path+".old"))
		require.NoError(t, s.Close())
		require.FileExists(t, path+".old")
		require.NoError(t, os.Rename(path+".old", path))
		s = open(t)(make())
		require.NoError(t, s.Close())
		require.NoFileExists(t, path)

		require.NoError(t, os.WriteFile(path, nil, 0o600))
		_, err = make()
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.ErrorContains(t, err, "no socket")
		require.FileExists(t, path)
		require.NoError(t, os.Remove(path))
	}
	_, err := ListenStream(path+"/s", nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestCloseRemovesItsOwnFileOnly(t *testing.T) {
	path := place(t, "s")
	s := open(t)(ListenStream(path, nil))
	require.NoError(t, os.Remove(path))
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, s.Close())
	require.FileExists(t, path)
}

func TestAbstractPath(t *testing.T) {
	path := "@" + place(t, "s")
	s := open(t)(ListenStream(path, nil))
	_, err := ListenStream(path, nil)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.True(t, open(t)(DialStream(path, nil)).Link().Up)
	eventually(t, "no link", isUp(s))
}

func TestWatcherMayUseTheSocket(t *testing.T) {
	s, c := listening(t, nil)
	done := make(chan struct{})
	s.WatchLink(func(l ports.Link) {
		if l.Up || s.Link().Up {
			t.Error("the link is down")
		}
		s.WatchLink(nil)
		s.Close()
		close(done)
	})
	c.Close()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("it is not told, or hangs")
	}
}

func TestCloseTellsTheWatcher(t *testing.T) {
	s, _ := listening(t, nil)
	var told []bool
	s.WatchLink(func(l ports.Link) { told = append(told, l.Up) })
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.Equal(t, []bool{false}, told)
}

func TestNothingIsLeft(t *testing.T) {
	use := func() {
		s, c := listening(t, nil)
		d := open(t)(DialStream(place(t, "s"), nil))
		g := open(t)(Dgram(place(t, "a"), place(t, "b"), nil))
		w := open(t)(Dgram(place(t, "a"), "", nil))
		c.Write(wire(ether(60), ether(61)))
		receive(t, s, 2)
		c.Close()
		for _, s := range []*Socket{s, d, g, w} {
			require.NoError(t, s.Close())
		}
	}
	use()
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 10 {
		use()
	}
	eventually(t, "descriptors are left", func() bool { return openFiles(t) <= files })
	eventually(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// Peers come and go while both queues are busy.
func TestPeersComeAndGoUnderTraffic(t *testing.T) {
	path := place(t, "s")
	s := open(t)(ListenStream(path, nil))
	var workers sync.WaitGroup
	stop := make(chan struct{})
	work := func(turn func() error) {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := turn(); err != nil {
						t.Error(err)
						return
					}
					runtime.Gosched()
				}
			}
		})
	}
	fs := framesOf(ether(60), ether(1514), ether(300))
	work(func() error {
		if _, err := s.Tx(0).Send(fs); err != nil && err != ports.ErrLinkDown {
			return err
		}
		return nil
	})
	b := ports.NewBatch(5)
	work(func() error {
		err := s.Rx(0).Recv(b)
		b.Reset()
		s.Rx(0).Release()
		return err
	})
	for i := range 100 {
		c := dial(t, path)
		c.SetDeadline(deadline())
		for range i % 7 {
			_, err := c.Write(wire(ether(60+i), ether(1000))[:500+i])
			if err != nil {
				break // it ended by what looked like a length
			}
			c.Read(make([]byte, 5000))
		}
		c.Close()
	}
	close(stop)
	workers.Wait()
}
