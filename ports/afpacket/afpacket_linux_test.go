package afpacket

import (
	"bytes"
	"errors"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

func TestInterfaceConforms(t *testing.T) {
	for name, c := range map[string]struct {
		cfg *Config
		mtu string
	}{
		"default":                {mtu: "1500"},
		"queues, bypass":         {mtu: "1500", cfg: &Config{Queues: 3, BypassQdisc: true}},
		"small ring, Linux 4.19": {mtu: "1500", cfg: &Config{Ring: 256, filterOutgoing: true}},
		"frames beyond the ring": {mtu: "9000"},
	} {
		t.Run(name, func(t *testing.T) {
			portstest.Run(t, func(t *testing.T) portstest.Rig {
				newCable(t)
				ip(t, "link set "+near+" mtu "+c.mtu)
				ip(t, "link set "+far+" mtu "+c.mtu)
				return rig(t, c.cfg)
			})
		})
	}
}

func TestTagRidesBesideReceivedFrame(t *testing.T) {
	s := newScene(t, nil)
	for _, tag := range []ports.Tag{{TPID: ports.TPID8021Q, TCI: 5<<13 | 42}, {TPID: ports.TPID8021AD, TCI: 7}} {
		// Short ones come through the ring, the long one beside it.
		long, o := tcpSegment(9000)
		for _, untagged := range [][]byte{frameTo(ports.Broadcast, 46), long} {
			wire, wireOffload := tagged(untagged, tag), ports.Offload{}
			if len(untagged) == len(long) {
				wireOffload = o
				wireOffload.ChecksumStart += 4
				wireOffload.HeaderLen += 4
			}
			s.put(wire, wireOffload)
			f := s.recv(1)[0]
			require.Equal(t, tag, f.VLAN)
			require.Equal(t, untagged, slices.Concat(append([][]byte{f.Head()}, f.Body()...)...))
			if len(untagged) == len(long) {
				require.Equal(t, o, f.Offload)
			}
		}
	}
}

func tagged(untagged []byte, tag ports.Tag) []byte {
	f := frameOf(untagged)
	f.VLAN = tag
	b := make([]byte, f.WireLen())
	f.CopyTo(b)
	return b
}

func TestTagIsInsertedIntoSentFrame(t *testing.T) {
	s := newScene(t, nil)
	f := frameOf(frameTo(ports.Broadcast, 46))
	f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: 42}
	s.send(f)
	require.Equal(t, tagged(frameTo(ports.Broadcast, 46), f.VLAN), s.take().Bytes)
}

// The longest segment that there is crosses in one piece, both ways, and allocates nothing.
func TestLongestSegmentCrosses(t *testing.T) {
	s := newScene(t, nil)
	// Of 64 KiB and more, the kernel makes segments itself.
	wire, o := tcpSegment(1<<16 - 1)

	f := frameOf(wire)
	f.Offload = o
	s.send(f)
	p := s.take()
	require.True(t, bytes.Equal(wire, p.Bytes))
	p.Offload.HeaderLen = o.HeaderLen // a hint, of which the kernel has its own idea
	require.Equal(t, o, p.Offload)

	s.put(wire, o)
	got := s.recv(1)[0]
	require.True(t, bytes.Equal(wire, got.Head()))
	require.Equal(t, o, got.Offload)
	require.Zero(t, s.i.Stats())

	require.Zero(t, testing.AllocsPerRun(20, func() { s.send(f) }))
	for range 20 {
		s.put(wire, o)
	}
	q, n := s.i.Rx(0), 0
	require.Zero(t, testing.AllocsPerRun(20, func() {
		s.release()
		if err := q.Recv(s.batch); err != nil {
			t.Fatal(err)
		}
		n += s.batch.Len()
	}))
	require.Equal(t, 20, n)
}

func TestSegmentsBeyondTheMTUAreRefused(t *testing.T) {
	s := newScene(t, nil)
	wire, o := tcpSegment(20000)
	f := frameOf(wire)
	f.Offload = o
	f.Offload.SegmentSize = 1500
	n, err := s.i.Tx(0).Send([]*ports.Frame{f, frameOf(frameTo(ports.Broadcast, 46))})
	require.Zero(t, n)
	require.ErrorIs(t, err, ports.ErrFrameSize)

	// The limit follows the interface.
	ip(t, "link set "+near+" mtu 2000")
	eventually(t, "the larger MTU is not heard of", func() bool {
		n, err := s.i.Tx(0).Send([]*ports.Frame{f})
		return n == 1 && err == nil
	})
}

// The kernel refuses a request that its headers do not bear out, and what comes behind goes on.
func TestOffloadThatTheKernelRefuses(t *testing.T) {
	s := newScene(t, nil)
	good, bad := frameOf(frameTo(ports.Broadcast, 46)), frameOf(frameTo(ports.Broadcast, 46))
	bad.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: 50, ChecksumOffset: 16}
	n, err := s.i.Tx(0).Send([]*ports.Frame{good, bad, good})
	require.Equal(t, 1, n)
	require.ErrorIs(t, err, ports.ErrOffload)
	s.send(good)
}

func TestOwnFramesAreNotReceived(t *testing.T) {
	for name, cfg := range map[string]*Config{
		"default":           nil,
		"queues":            {Queues: 2},
		"before Linux 4.20": {filterOutgoing: true},
		"bypass":            {BypassQdisc: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, cfg)
			for range 10 {
				s.send(frameOf(frameTo(ports.Broadcast, 46)))
				s.take()
			}
			for n := range s.i.Info().RxQueues {
				require.NoError(t, s.i.Rx(n).Recv(s.batch))
			}
			require.Empty(t, s.batch.Frames())
		})
	}
}

func TestWhatIsReceived(t *testing.T) {
	group, otherGroup := ports.MAC{1, 0, 0x5e, 0, 0, 5}, ports.MAC{1, 0, 0x5e, 0, 0, 6}
	station := ports.MAC{2, 0, 0, 0, 0, 9}
	for name, c := range map[string]struct {
		cfg      *Config
		own      bool
		station  bool
		group    bool
		otherOne bool
	}{
		"promiscuous":        {cfg: nil, own: true, station: true, group: true, otherOne: true},
		"not promiscuous":    {cfg: &Config{NoPromiscuous: true}, own: true},
		"with a group":       {cfg: &Config{NoPromiscuous: true, Groups: []ports.MAC{{1, 2, 3, 4, 5, 6}, group}}, own: true, group: true},
		"several queues":     {cfg: &Config{NoPromiscuous: true, Groups: []ports.MAC{group}, Queues: 2}, own: true, group: true},
		"promiscuous, group": {cfg: &Config{Groups: []ports.MAC{group}}, own: true, station: true, group: true, otherOne: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, c.cfg)
			for _, f := range []struct {
				to   ports.MAC
				want bool
			}{{s.i.Info().MAC, c.own}, {ports.Broadcast, true}, {station, c.station}, {group, c.group}, {otherGroup, c.otherOne}} {
				s.put(frameTo(f.to, 46), ports.Offload{})
				s.batch.Reset()
				for n := range s.i.Info().RxQueues {
					s.i.Rx(n).Release()
					require.NoError(t, s.i.Rx(n).Recv(s.batch)) // a veth delivers at once
				}
				require.Equal(t, f.want, s.batch.Len() == 1, "to %v", f.to)
			}
		})
	}
}

func TestInfo(t *testing.T) {
	newCable(t)
	ip(t, "link set "+near+" mtu 1400")
	i := open(t, &Config{Queues: 2})
	got := i.Info()
	require.Equal(t, near, got.Name)
	require.Equal(t, macOf(t, near), got.MAC)
	require.Equal(t, 1400, got.MTU)
	require.Equal(t, 2, got.RxQueues)
	require.Equal(t, 2, got.TxQueues)
	require.Equal(t, uint64(10e9), i.Link().Speed, "a veth says that it is as fast")
}

func TestInterfaceRemoved(t *testing.T) {
	s := newScene(t, nil)
	events := make(chan ports.Link, 8)
	s.i.WatchLink(func(l ports.Link) { events <- l })
	s.put(frameTo(ports.Broadcast, 46), ports.Offload{})
	ip(t, "link del "+near)
	eventually(t, "no event says that the link is down", func() bool { return len(events) > 0 && !(<-events).Up })
	require.False(t, s.i.Link().Up)

	n, err := s.i.Tx(0).Send([]*ports.Frame{frameOf(frameTo(ports.Broadcast, 46))})
	require.Zero(t, n)
	require.ErrorIs(t, err, ports.ErrLinkDown)

	q := s.i.Rx(0)
	require.NoError(t, q.Recv(s.batch))
	require.Equal(t, 1, s.batch.Len(), "what has arrived is received first")
	s.release()
	eventually(t, "Recv does not say that the interface is gone", func() bool {
		err = q.Recv(s.batch)
		return err != nil
	})
	require.ErrorIs(t, err, unix.ENODEV)
	require.EqualError(t, err, `packet socket on "near": receive: the interface was removed: no such device`)
	var e *Error
	require.ErrorAs(t, err, &e)

	// Another one of the same name is another one.
	ip(t, "link add "+near+" type veth peer name "+far)
	require.ErrorIs(t, q.Recv(s.batch), unix.ENODEV)
	require.NoError(t, s.i.Close())
	require.ErrorIs(t, q.Recv(s.batch), ports.ErrClosed)
}

func TestInterfaceMovedToAnotherNamespace(t *testing.T) {
	s := newScene(t, nil)
	there := make(chan int)
	done := make(chan struct{})
	defer close(done)
	go func() {
		newNamespace(t)
		there <- unix.Gettid()
		<-done
	}()
	ip(t, "link set "+near+" netns "+strconv.Itoa(<-there))
	eventually(t, "Recv does not say that the interface is gone", func() bool {
		return errors.Is(s.i.Rx(0).Recv(s.batch), unix.ENODEV)
	})
}

// While the interface is set down nothing fails for good, and its descriptor does not keep a worker busy.
func TestInterfaceSetDown(t *testing.T) {
	s := newScene(t, nil)
	q := s.i.Rx(0)
	fd := []unix.PollFd{{Fd: int32(q.(ports.Pollable).Descriptor()), Events: unix.POLLIN}}
	for range 3 {
		ip(t, "link set "+near+" down")
		eventually(t, "the link is not down", func() bool { return !s.i.Link().Up })
		calls := 0
		for ; ; calls++ {
			n, err := unix.Poll(fd, 0)
			require.NoError(t, err)
			if n == 0 {
				break
			}
			require.NoError(t, q.Recv(s.batch))
			require.Less(t, calls, 100, "the descriptor stays readable")
		}
		require.Positive(t, calls, "the descriptor is not readable when the interface was set down")

		ip(t, "link set "+near+" up")
		eventually(t, "the link is not up", func() bool { return s.i.Link().Up })
		s.put(frameTo(ports.Broadcast, 46), ports.Offload{})
		s.recv(1)
		s.release()
		s.send(frameOf(frameTo(ports.Broadcast, 46)))
		s.take()
	}
}

func TestOpenOfInterfaceThatIsDown(t *testing.T) {
	newNamespace(t)
	ip(t, "link add "+near+" type veth peer name "+far)
	i := open(t, nil)
	require.False(t, i.Link().Up)
	require.NoError(t, i.Rx(0).Recv(ports.NewBatch(1)))
	_, err := i.Tx(0).Send([]*ports.Frame{frameOf(frameTo(ports.Broadcast, 46))})
	require.ErrorIs(t, err, ports.ErrLinkDown)
	ip(t, "link set "+near+" up")
	ip(t, "link set "+far+" up")
	eventually(t, "the link does not come up", func() bool { return i.Link().Up })
}

// To leave a bridge is announced like a removal.
func TestInterfaceLeavesBridge(t *testing.T) {
	s := newScene(t, nil)
	ip(t, "link add name br type bridge")
	ip(t, "link set "+near+" master br")
	ip(t, "link set "+near+" nomaster")
	ip(t, "link set "+near+" mtu 1400") // the event behind the others
	eventually(t, "no event arrives", func() bool { return s.i.mtu.Load() == 1400 })
	require.True(t, s.i.Link().Up)
	require.NoError(t, s.i.Rx(0).Recv(s.batch))
}

func TestRenamedInterface(t *testing.T) {
	s := newScene(t, nil)
	ip(t, "link set "+near+" down")
	ip(t, "link set "+near+" name other")
	ip(t, "link set other up")
	eventually(t, "the link is not up", func() bool { return s.i.Link().Up && s.i.Link().Speed != 0 })
	s.put(frameTo(ports.Broadcast, 46), ports.Offload{})
	s.recv(1)
	require.Equal(t, near, s.i.Info().Name)
}

// Whatever there is no room for is lost and counted, and nothing else.
func TestFullRing(t *testing.T) {
	s := newScene(t, &Config{Ring: 64})
	for range 100 {
		s.put(frameTo(ports.Broadcast, 46), ports.Offload{})
	}
	s.recv(64)
	require.Equal(t, Stats{Dropped: 36}, s.i.Stats())
	require.Equal(t, Stats{Dropped: 36}, s.i.Stats(), "asked again")
	s.release()
	s.put(frameTo(ports.Broadcast, 46), ports.Offload{})
	s.recv(1)
}

func TestFullReceiveBuffer(t *testing.T) {
	s := newScene(t, &Config{ReceiveBuffer: 128 << 10})
	wire, o := tcpSegment(60000)
	const put = 30
	for range put {
		s.put(wire, o)
		s.put(frameTo(ports.Broadcast, 46), ports.Offload{})
	}
	long, short := 0, 0
	for long+short < put || s.batch.Len() > 0 {
		s.release()
		require.NoError(t, s.i.Rx(0).Recv(s.batch))
		for _, f := range s.batch.Frames() {
			if f.Len() == len(wire) {
				long++
			} else {
				short++
			}
		}
	}
	require.Equal(t, put, short, "the ring has room for short ones")
	require.Positive(t, long)
	require.Less(t, long, put)
	require.Equal(t, Stats{Dropped: uint64(put - long)}, s.i.Stats())
}

// The batch, not the queue, has memory for long frames.
func TestBatchWithoutMemory(t *testing.T) {
	s := newScene(t, nil)
	wire, o := tcpSegment(60000)
	const put = 20
	for range put {
		s.put(wire, o)
	}
	got, calls := 0, 0
	for ; got < put; calls++ {
		s.release()
		require.NoError(t, s.i.Rx(0).Recv(s.batch))
		require.NotEmpty(t, s.batch.Frames())
		got += s.batch.Len()
	}
	require.Greater(t, calls, 1)
	require.Zero(t, s.i.Stats())
}

func TestErrorsOfOpen(t *testing.T) {
	newCable(t)
	ip(t, "link add name dummy type veth peer name other")
	for name, c := range map[string]struct {
		iface string
		cfg   *Config
		is    error
		says  string
	}{
		"absent":         {"eth9", nil, unix.ENODEV, `packet socket on "eth9": open: no such device`},
		"no name":        {"", nil, unix.ENODEV, `packet socket on "": open: no such device`},
		"long name":      {"an-interface-name-that-cannot-be", nil, unix.ENODEV, ""},
		"not Ethernet":   {"lo", nil, nil, `packet socket on "lo": open: it is not an Ethernet interface`},
		"queues":         {near, &Config{Queues: 257}, ErrConfig, `packet socket on "near": open: invalid configuration: Queues 257 is out of 1–256`},
		"less than none": {near, &Config{Queues: -1}, ErrConfig, ""},
		"ring":           {near, &Config{Ring: 1 << 20}, ErrConfig, ""},
		"receive buffer": {near, &Config{ReceiveBuffer: -1}, ErrConfig, ""},
		"send buffer":    {near, &Config{SendBuffer: math.MaxInt32}, ErrConfig, ""},
		"group":          {near, &Config{Groups: []ports.MAC{{2}}}, ErrConfig, `packet socket on "near": open: invalid configuration: 02:00:00:00:00:00 among Groups is no multicast address`},
		"groups":         {near, &Config{Groups: slices.Repeat([]ports.MAC{{1}}, 513)}, ErrConfig, ""},
	} {
		files := openFiles(t)
		i, err := Open(c.iface, c.cfg)
		require.Nil(t, i, name)
		require.Error(t, err, name)
		if c.is != nil {
			require.ErrorIs(t, err, c.is, name)
		}
		if c.says != "" {
			require.EqualError(t, err, c.says, name)
		}
		var e *Error
		require.ErrorAs(t, err, &e, name)
		require.Equal(t, c.iface, e.Interface)
		require.Equal(t, files, openFiles(t), "%s: descriptors are left", name)
	}
}

func TestOpenWithoutRight(t *testing.T) {
	newCable(t)
	setCapabilities(t, 0)
	files := openFiles(t)
	_, err := Open(near, nil)
	require.ErrorIs(t, err, unix.EPERM)
	require.ErrorIs(t, err, os.ErrPermission)
	require.Equal(t, files, openFiles(t), "descriptors are left")
}

// With CAP_NET_RAW alone, buffers are as large as the system allows.
func TestOpenWithoutNetAdmin(t *testing.T) {
	newCable(t)
	setCapabilities(t, 1<<unix.CAP_NET_RAW)
	i := open(t, &Config{Queues: 2})
	require.True(t, i.Link().Up)
}

// setCapabilities leaves the thread, which ends with the test, these only.
func setCapabilities(t *testing.T, these uint32) {
	t.Helper()
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	d := [2]unix.CapUserData{{Effective: these, Permitted: these}}
	require.NoError(t, unix.Capset(&h, &d[0]))
}

// However far Open gets before descriptors run out, it leaves none.
func TestOpenRunsOutOfDescriptors(t *testing.T) {
	newCable(t)
	var was unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was)) }()
	files := openFiles(t)
	failures := 0
	for room := 0; ; room++ {
		limit := was
		limit.Cur = uint64(firstFree(t) + room)
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		i, err := Open(near, &Config{Queues: 3})
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &was))
		if err == nil {
			require.NoError(t, i.Close())
			break
		}
		failures++
		require.ErrorIs(t, err, unix.EMFILE)
		require.Equal(t, files, openFiles(t), "descriptors are left")
		require.Less(t, room, 50)
	}
	require.Equal(t, files, openFiles(t))
	require.Greater(t, failures, 3)
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(files)
}

// firstFree returns the descriptor that the next file gets.
func firstFree(t *testing.T) int {
	t.Helper()
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	return int(f.Fd())
}
