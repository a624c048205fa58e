package vhostuser

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

// ether returns a frame of n bytes, which count up from seed.
func ether(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) + seed
	}
	copy(b, []byte{0x02, 0xaa, 0, 0, 0, 1, 0x02, 0xaa, 0, 0, 0, 2, 0x88, 0xb5})
	return b
}

func frame(b []byte) *ports.Frame {
	f := new(ports.Frame)
	f.SetHead(append(make([]byte, ports.Headroom), b...), ports.Headroom, len(b))
	return f
}

// passes checks that frames pass in both directions on a pair.
func passes(t testing.TB, p *Port, g *vm, pair int) {
	t.Helper()
	for i := range 3 {
		want := ether(60+700*i, byte(i))
		require.NoError(t, g.Put(portstest.Packet{Bytes: want, Queue: pair}))
		require.Equal(t, [][]byte{want}, recv(t, p, pair, 1))

		n, err := p.Tx(pair).Send([]*ports.Frame{frame(want)})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		got, ok := g.Take(patience)
		require.True(t, ok, "no frame at the guest")
		require.Equal(t, want, got.Bytes)
	}
}

// recv receives n frames.
func recv(t testing.TB, p *Port, queue, n int) (all [][]byte) {
	t.Helper()
	b := ports.NewBatch(64)
	eventually(t, "frames do not arrive", func() bool {
		require.NoError(t, p.Rx(queue).Recv(b))
		for _, f := range b.Frames() {
			w := make([]byte, f.WireLen())
			f.CopyTo(w)
			all = append(all, w)
		}
		b.Reset()
		p.Rx(queue).Release()
		return len(all) >= n
	})
	return all
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		path string
		cfg  Config
		want string
	}{
		{"", Config{}, `vhost-user "": listen: invalid configuration: path of 0 bytes is out of 1–107`},
		{"/x", Config{MTU: 67}, `vhost-user "/x": listen: invalid configuration: MTU 67 is out of 68–65535`},
		{"/x", Config{MTU: 65536}, `vhost-user "/x": listen: invalid configuration: MTU 65536 is out of 68–65535`},
		{"/x", Config{Queues: 129}, `vhost-user "/x": listen: invalid configuration: Queues 129 is out of 1–128`},
		{"/x", Config{Queues: -1}, `vhost-user "/x": listen: invalid configuration: Queues -1 is out of 1–128`},
		{"/x", Config{MAC: ports.Broadcast}, `vhost-user "/x": listen: invalid configuration: MAC ff:ff:ff:ff:ff:ff is not that of a station`},
		{"/x", Config{BusyPoll: 2 * time.Second}, `vhost-user "/x": listen: invalid configuration: BusyPoll 2s is out of 0–1s`},
	} {
		p, err := Listen(c.path, &c.cfg)
		assert.Nil(t, p)
		assert.EqualError(t, err, c.want)
		assert.ErrorIs(t, err, ErrConfig)
		_, err = Dial(c.path, &c.cfg)
		assert.EqualError(t, err, strings.Replace(c.want, "listen", "dial", 1))
	}
}

func TestDefaults(t *testing.T) {
	path := socket(t)
	p := must(t, path, nil)
	assert.Equal(t, ports.Info{Name: "s", MTU: 1500, RxQueues: 1, TxQueues: 1, Offloads: ports.OffloadAll}, p.Info())
	assert.False(t, p.Link().Up)
	assert.NoError(t, p.Err())
	n, err := p.Tx(0).Send([]*ports.Frame{frame(ether(60, 0))})
	assert.Zero(t, n)
	assert.ErrorIs(t, err, ports.ErrLinkDown)
	require.NoError(t, p.Rx(0).Recv(ports.NewBatch(1)))
	require.NoError(t, p.Close())
	assert.NoFileExists(t, path)
}

func TestSocketThatIsThere(t *testing.T) {
	path := socket(t)
	must(t, path, nil)
	_, err := Listen(path, nil)
	assert.ErrorIs(t, err, unix.EADDRINUSE)

	path = socket(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	l.Close()
	must(t, path, nil)

	path = socket(t)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err = Listen(path, nil)
	assert.Error(t, err)
	assert.FileExists(t, path)

	_, err = Listen(socket(t)+"/none/s", nil)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

func TestFeatures(t *testing.T) {
	for _, c := range []struct {
		cfg    Config
		has    uint64
		hasNot uint64
	}{
		{Config{}, allFeatures | featPacked | featLogAll, featMQ | featMAC},
		{Config{Queues: 2, MAC: ports.MAC{2}}, featMQ | featMAC, 0},
		{Config{Disable: ports.OffloadTCP6}, featHostTSO4 | featGuestTSO4, featHostTSO6 | featGuestTSO6},
		{Config{Disable: ports.OffloadChecksum}, featVersion1, featCSum | featGuestCSum | featHostUSO | featGuestTSO4 | featGuestECN},
	} {
		path := socket(t)
		must(t, path, &c.cfg)
		g := newVM(t, vmConfig{features: featVersion1})
		g.dial(path)
		f := g.ask(reqGetFeatures, nil)
		assert.Zero(t, c.has&^f)
		assert.Zero(t, c.hasNot&f)
	}
}

// A front-end that restarts finds its port as it was, in both modes.
func TestReconnect(t *testing.T) {
	for _, mode := range []string{"server", "client"} {
		t.Run(mode, func(t *testing.T) {
			path := socket(t)
			var p *Port
			var l *net.UnixListener
			connect := func(g *vm) {
				if mode == "server" {
					g.dial(path)
					return
				}
				var err error
				if l == nil {
					l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
					require.NoError(t, err)
					t.Cleanup(func() { l.Close() })
				}
				g.conn, err = l.AcceptUnix()
				require.NoError(t, err)
			}
			if mode == "server" {
				p = must(t, path, nil)
			} else {
				var err error
				p, err = Dial(path, nil)
				require.NoError(t, err)
				t.Cleanup(func() { p.Close() })
			}
			for range 3 {
				g := newVM(t, vmConfig{features: allFeatures})
				connect(g)
				g.boot()
				eventually(t, "no link", func() bool { return p.Link().Up })
				passes(t, p, g, 0)
				g.disconnect()
				eventually(t, "the link stays up", func() bool { return !p.Link().Up })
				require.ErrorIs(t, p.Err(), errGone)
			}
			require.EqualValues(t, 3, p.Stats().Connections)
		})
	}
}

// The device goes away with frames that it has taken and not given back; the next one takes them again.
func TestBackendRestart(t *testing.T) {
	for _, f := range []uint64{allFeatures, allFeatures | featPacked} {
		path := socket(t)
		p, err := Listen(path, nil)
		require.NoError(t, err)
		g := newVM(t, vmConfig{features: f})
		g.dial(path)
		g.negotiate()
		inflight := g.track()
		g.goOn(inflight)
		g.fill(0)
		eventually(t, "no link", func() bool { return p.Link().Up })
		passes(t, p, g, 0)

		want := ether(200, 9)
		require.NoError(t, g.Put(portstest.Packet{Bytes: want}))
		b := ports.NewBatch(8)
		eventually(t, "no frame", func() bool {
			require.NoError(t, p.Rx(0).Recv(b))
			return b.Len() == 1
		})
		require.NoError(t, p.Close())
		g.disconnect()

		p = must(t, path, nil)
		g.dial(path)
		g.negotiate()
		g.goOn(inflight)
		eventually(t, "no link", func() bool { return p.Link().Up })
		require.Equal(t, [][]byte{want}, recv(t, p, 0, 1))
		passes(t, p, g, 0)
	}
}

// Another back-end gave chains of a split ring back out of order before it went. The next takes them again, and so does
// the one after it when the next dies with them.
func TestResendsWhatAnotherTook(t *testing.T) {
	for _, deaths := range []int{0, 1, 2} {
		path := socket(t)
		p, err := Listen(path, nil)
		require.NoError(t, err)
		g := newVM(t, vmConfig{features: allFeatures &^ featInOrder})
		g.dial(path)
		g.negotiate()
		f := g.track()
		r := g.notes(f).ring(1)

		// Chains 0 to 3 are available; 2 has been given back, 0 and 1 had been taken, 1 first.
		q := g.tx[0]
		s := g.slots[0][1]
		for i := range 4 {
			at := s.at + i*s.len
			clear(g.mem[at:][:12])
			copy(g.mem[at+12:], ether(60, byte(i)))
			require.True(t, q.put([]buffer{{at, 72}}, false, false, i))
		}
		q.store32(q.avail, 4<<16)
		le.PutUint32(g.mem[q.used+4:], 2)
		q.store32(q.used, 1<<16)
		*r.split() = inflightSplit{version: 1, size: 256, used: 1}
		*r.desc(0) = inflightDesc{inflight: 1, counter: 8}
		*r.desc(1) = inflightDesc{inflight: 1, counter: 7}

		g.goOn(f)
		for range deaths {
			b := ports.NewBatch(8)
			eventually(t, "frames do not arrive", func() bool {
				require.NoError(t, p.Rx(0).Recv(b))
				return b.Len() == 3
			})
			require.NoError(t, p.Close())
			g.disconnect()
			p, err = Listen(path, nil)
			require.NoError(t, err)
			g.dial(path)
			g.negotiate()
			g.goOn(f)
		}
		t.Cleanup(func() { p.Close() })
		require.Equal(t, [][]byte{ether(60, 1), ether(60, 0), ether(60, 3)}, recv(t, p, 0, 3))
		for _, want := range []int{2, 1, 0, 3} {
			tag, _, ok := q.get()
			require.True(t, ok)
			require.Equal(t, want, tag)
		}
		require.Zero(t, r.desc(0).inflight)
		require.Zero(t, r.desc(1).inflight)
	}
}

func TestGuestUsesFewerQueues(t *testing.T) {
	path := socket(t)
	p := must(t, path, &Config{Queues: 4})
	g := newVM(t, vmConfig{features: allFeatures | featMQ, queues: 2})
	g.dial(path)
	assert.EqualValues(t, 4, g.ask(reqGetQueueNum, nil))
	g.boot()
	eventually(t, "no link", func() bool { return p.Link().Up })
	on := map[int]int{}
	for i := range 4 {
		n, err := p.Tx(i).Send([]*ports.Frame{frame(ether(60, 0))})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		got, ok := g.Take(patience)
		require.True(t, ok)
		on[got.Queue]++
	}
	assert.Equal(t, map[int]int{0: 2, 1: 2}, on)

	g.enable(g.rx[0], 0)
	n, err := p.Tx(0).Send([]*ports.Frame{frame(ether(60, 0))})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	got, ok := g.Take(patience)
	require.True(t, ok)
	assert.Equal(t, 1, got.Queue)
	g.enable(g.tx[1], 0)
	assert.False(t, p.Link().Up)
}

func TestDisabledRingDiscards(t *testing.T) {
	p, g := plug(t, nil, vmConfig{features: allFeatures})
	g.enable(g.tx[0], 0)
	for range 3 {
		require.NoError(t, g.Put(portstest.Packet{Bytes: ether(60, 0)}))
	}
	b := ports.NewBatch(8)
	require.NoError(t, p.Rx(0).Recv(b))
	assert.Zero(t, b.Len())
	assert.EqualValues(t, 3, p.Stats().Discarded)
	g.reclaim(0)
	assert.Len(t, g.slots[0][1].free, 256)
	g.enable(g.tx[0], 1)
	passes(t, p, g, 0)
}

func TestGetVringBaseWaitsForLentFrames(t *testing.T) {
	for _, f := range []uint64{allFeatures, allFeatures | featPacked} {
		p, g := plug(t, nil, vmConfig{features: f})
		passes(t, p, g, 0)
		require.NoError(t, g.Put(portstest.Packet{Bytes: ether(1000, 3)}))
		b := ports.NewBatch(8)
		eventually(t, "no frame", func() bool {
			require.NoError(t, p.Rx(0).Recv(b))
			return b.Len() == 1
		})
		go func() {
			time.Sleep(20 * time.Millisecond)
			p.Rx(0).Release()
		}()
		base := g.stop(g.tx[0])
		if f&featPacked != 0 {
			assert.Equal(t, uint32(0x8004_8004), base)
		} else {
			assert.EqualValues(t, 4, base)
		}
		rxBase := g.stop(g.rx[0])
		eventually(t, "the link stays up", func() bool { return !p.Link().Up })
		g.start(g.tx[0], base)
		g.start(g.rx[0], rxBase)
		eventually(t, "the link stays down", func() bool { return p.Link().Up })
		passes(t, p, g, 0)
	}
}

// Memory that frames lie in stays until they are released.
func TestMemoryOfLentFramesStays(t *testing.T) {
	p, g := plug(t, nil, vmConfig{features: allFeatures})
	want := ether(1400, 3)
	require.NoError(t, g.Put(portstest.Packet{Bytes: want}))
	b := ports.NewBatch(8)
	eventually(t, "no frame", func() bool {
		require.NoError(t, p.Rx(0).Recv(b))
		return b.Len() == 1
	})
	g.disconnect()
	eventually(t, "the link stays up", func() bool { return !p.Link().Up })
	got := make([]byte, len(want))
	b.Frames()[0].CopyTo(got)
	assert.Equal(t, want, got)
	assert.NotZero(t, mappings(t))
	b.Reset()
	p.Rx(0).Release()
	eventually(t, "memory stays mapped", func() bool { return mappings(t) == 1 })
}

// mappings counts how often memory of guests is mapped.
func mappings(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Count(string(b), "memfd:guest")
}

func TestHotAddedMemory(t *testing.T) {
	p, g := plug(t, nil, vmConfig{features: allFeatures})
	assert.EqualValues(t, maxSlots, g.ask(reqGetMaxMemSlots, nil))
	passes(t, p, g, 0)

	extra := regionSpec{guest: 0x9_0000_0000, size: 1 << 20, user: 0x1234_0000}
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Ftruncate(fd, 1<<20))
	mem, err := unix.Mmap(fd, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	defer unix.Munmap(mem)

	g.must(reqAddMemReg, append(quads(0), extra.wire()...), fd)
	passes(t, p, g, 0)
	want := ether(1000, 5)
	copy(mem[0x800+12:], want)
	sendFrom(g, extra.guest+0x800, 1012)
	require.Equal(t, [][]byte{want}, recv(t, p, 0, 1))

	g.must(reqAddMemReg, append(quads(0), extra.wire()...), fd) // once more does no harm
	other := extra
	other.guest += 4096
	require.Error(t, g.do(reqAddMemReg, append(quads(0), other.wire()...), fd), "overlaps")
	require.Error(t, g.do(reqAddMemReg, append(quads(0), extra.wire()...), g.fd), "overlaps")
	g.must(reqRemMemReg, append(quads(0), extra.wire()...))
	g.must(reqRemMemReg, append(quads(0), extra.wire()...))
	passes(t, p, g, 0)
}

// sendFrom makes a chain of one buffer anywhere available.
func sendFrom(g *vm, guest uint64, n int) {
	q := g.tx[0]
	id := q.free[0]
	q.free = q.free[1:]
	d := g.mem[q.desc+int(id)*descLen:]
	le.PutUint64(d, guest)
	le.PutUint32(d[8:], uint32(n))
	le.PutUint32(d[12:], 0)
	q.tokens[id] = token{[]uint16{id}, 1, 0}
	le.PutUint16(g.mem[q.avail+4+2*(int(q.next)&(q.size-1)):], id)
	q.next++
	q.publish(1)
}

func TestRefusals(t *testing.T) {
	p, g := plug(t, nil, vmConfig{features: allFeatures, queues: 1})
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	file, err := os.Create(t.TempDir() + "/x")
	require.NoError(t, err)
	defer file.Close()
	whole := g.regions()
	bad := func(f func(*regionSpec)) []byte {
		r := whole[0]
		r.guest, r.user = 1<<40, 1<<50
		f(&r)
		return append(quads(0), r.wire()...)
	}
	for _, c := range []struct {
		name    string
		request request
		payload []byte
		fds     []int
	}{
		{"unknown request", 99, nil, nil},
		{"IOTLB", 22, nil, nil},
		{"feature", reqSetFeatures, quads(1 << 62), nil},
		{"feature of a running ring", reqSetFeatures, quads(g.features &^ featMergeable), nil},
		{"short", reqSetFeatures, nil, nil},
		{"long", reqSetFeatures, quads(0, 0), nil},
		{"protocol feature", reqSetProtocolFeatures, quads(1 << 63), nil},
		{"memory table too long", reqSetMemTable, words(9, 0), nil},
		{"memory table cut off", reqSetMemTable, words(1, 0), []int{g.fd}},
		{"memory without descriptor", reqSetMemTable, append(words(1, 0), whole[0].wire()...), nil},
		{"memory that overlaps", reqSetMemTable, append(append(words(2, 0), whole[0].wire()...), whole[0].wire()...), []int{g.fd, g.fd}},
		{"region without descriptor", reqAddMemReg, bad(func(*regionSpec) {}), nil},
		{"region of no size", reqAddMemReg, bad(func(r *regionSpec) { r.size = 0 }), []int{g.fd}},
		{"region behind the file", reqAddMemReg, bad(func(r *regionSpec) { r.offset = uint64(len(g.mem)) }), []int{g.fd}},
		{"region with overflow of size", reqAddMemReg, bad(func(r *regionSpec) { r.size = 1<<64 - 1 }), []int{g.fd}},
		{"region with overflow of offset", reqAddMemReg, bad(func(r *regionSpec) { r.offset = 1<<64 - 1 }), []int{g.fd}},
		{"region with overflow of address", reqAddMemReg, bad(func(r *regionSpec) { r.guest = 1<<64 - 1 }), []int{g.fd}},
		{"region with overflow in the front-end", reqAddMemReg, bad(func(r *regionSpec) { r.user = 1<<64 - 1 }), []int{g.fd}},
		{"region of a device", reqAddMemReg, bad(func(*regionSpec) {}), []int{int(null.Fd())}},
		{"region of an eventfd", reqAddMemReg, bad(func(*regionSpec) {}), []int{g.tx[0].kick}},
		{"ring number", reqSetVringNum, words(2, 256), nil},
		{"size of a running ring", reqSetVringNum, words(0, 256), nil},
		{"base of a running ring", reqSetVringBase, words(0, 0), nil},
		{"enable of no ring", reqSetVringEnable, words(9, 1), nil},
		{"kick without descriptor", reqSetVringKick, quads(1), nil},
		{"kick of two", reqSetVringKick, quads(1), []int{g.tx[0].kick, g.tx[0].kick}},
		{"kick by a file", reqSetVringKick, quads(1), []int{g.fd}},
		{"call to a file", reqSetVringCall, quads(1), []int{g.fd}},
		{"call to a socket of no ring", reqSetVringCall, quads(7), []int{g.tx[0].call}},
		{"MTU", reqNetSetMTU, quads(67), nil},
		{"MTU too long", reqNetSetMTU, quads(1 << 40), nil},
		{"RARP of a group", reqSendRARP, quads(1), nil},
		{"back-end channel that is none", reqSetBackendReqFD, nil, []int{g.fd}},
		{"in-flight buffer that is too short", reqSetInflightFD, append(quads(1<<40, 0), 2, 0, 0, 1), []int{g.fd}},
		{"in-flight buffer without file", reqSetInflightFD, append(quads(8320, 0), 2, 0, 0, 1), nil},
		{"in-flight description cut off", reqSetInflightFD, quads(8320, 0), []int{g.fd}},
		{"in-flight buffer under running rings", reqSetInflightFD, append(quads(16640, 0), 2, 0, 0, 1), []int{g.fd}},
		{"in-flight buffer of nothing", reqSetInflightFD, append(quads(0, 0), 0, 0, 0, 0), []int{g.fd}},
	} {
		before := openFiles(t)
		assert.Error(t, g.do(c.request, c.payload, c.fds...), c.name)
		assert.Equal(t, before, openFiles(t), "%s: descriptors are left", c.name)
	}
	passes(t, p, g, 0)
	assert.EqualValues(t, 1, p.Stats().Connections)
}

func TestDirtyLogRefusals(t *testing.T) {
	path := socket(t)
	must(t, path, nil)
	for _, c := range []struct {
		size, offset uint64
		fds          int
	}{{0, 0, 1}, {1 << 40, 0, 1}, {4096, 1, 1}, {4096, 1 << 40, 1}, {4096, 1<<64 - 4096, 1}, {4096, 0, 0}, {4096, 0, 2}} {
		g := newVM(t, vmConfig{features: allFeatures})
		g.dial(path)
		g.negotiate()
		var fds []int
		for range c.fds {
			fds = append(fds, g.fd)
		}
		require.NoError(t, g.send(reqSetLogBase, 0, quads(c.size, c.offset), fds...))
		_, _, err := g.receive()
		assert.Error(t, err)
		g.disconnect()
	}
}

// What breaks the protocol as such ends the connection, and frees the way for the next.
func TestBrokenProtocol(t *testing.T) {
	path := socket(t)
	p := must(t, path, nil)
	header := func(r, flags, size uint32) []byte { return words(r, flags, size) }
	for _, c := range []struct {
		name string
		wire []byte
		fds  int
	}{
		{"version 0", header(1, 0, 0), 0},
		{"version 3", header(1, 3, 0), 0},
		{"length", header(1, 1, 1<<31), 0},
		{"unknown request", header(77, 1, 0), 0},
		{"wrong length", header(2, 1, 0), 0},
		{"many descriptors", header(3, 1, 0), 9},
		{"too many descriptors", header(3, 1, 0), 60},
		{"cut off in the header", header(1, 1, 0)[:5], 0},
		{"cut off in the payload", append(header(2, 1, 8), 1, 2), 1},
	} {
		before := openFiles(t)
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		require.NoError(t, err)
		var fds []int
		for range c.fds {
			fds = append(fds, 1)
		}
		_, _, err = conn.WriteMsgUnix(c.wire, unix.UnixRights(fds...), nil)
		require.NoError(t, err)
		conn.CloseWrite()
		conn.SetReadDeadline(time.Now().Add(patience))
		n, err := conn.Read(make([]byte, 1))
		assert.Zero(t, n, c.name)
		assert.Error(t, err, c.name)
		assert.False(t, errors.Is(err, os.ErrDeadlineExceeded), c.name)
		conn.Close()
		eventually(t, c.name+": descriptors are left", func() bool { return openFiles(t) <= before })
		eventually(t, c.name+": no error is told", func() bool { return p.Err() != nil })
	}
	g := newVM(t, vmConfig{features: allFeatures})
	g.dial(path)
	g.boot()
	passes(t, p, g, 0)
}

func openFiles(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}

func TestNothingIsLeft(t *testing.T) {
	round := func() {
		path := socket(t)
		p, err := Listen(path, &Config{Queues: 2})
		require.NoError(t, err)
		g := newVM(t, vmConfig{features: allFeatures, queues: 2})
		g.dial(path)
		g.boot()
		passes(t, p, g, 1)
		g.setMemory()
		passes(t, p, g, 0)
		g.shutdown()
		g.fds, g.fd = nil, -1
		g.mem = nil
		require.NoError(t, p.Close())
	}
	round()
	files, maps, routines := openFiles(t), mappings(t), runtime.NumGoroutine()
	for range 5 {
		round()
	}
	assert.Equal(t, maps, mappings(t))
	eventually(t, "descriptors are left", func() bool { return openFiles(t) <= files })
	eventually(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= routines })
}

func TestConfigSpace(t *testing.T) {
	path := socket(t)
	p := must(t, path, &Config{ServeConfig: true, MAC: ports.MAC{2, 1, 2, 3, 4, 5}, MTU: 9000, Queues: 3})
	g := newVM(t, vmConfig{features: allFeatures, protocol: protoReplyAck | protoConfig | protoBackend})
	g.dial(path)
	g.negotiate()
	read := func(offset, size uint32) []byte {
		require.NoError(t, g.send(reqGetConfig, 0, append(words(offset, size, 0), make([]byte, size)...)))
		b, _, err := g.receive()
		require.NoError(t, err)
		return b
	}
	assert.Equal(t, append(words(0, 12, 0), 2, 1, 2, 3, 4, 5, 1, 0, 3, 0, 0x28, 0x23), read(0, 12))
	assert.Len(t, read(0, 256), 268)
	assert.Equal(t, append(words(6, 2, 0), 1, 0), read(6, 2))
	assert.Empty(t, read(256, 1))
	assert.Empty(t, read(1<<31, 4))

	// The channel in the other direction says when to read it again.
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	g.fds = append(g.fds, pair[0])
	g.must(reqSetBackendReqFD, nil, pair[1])
	unix.Close(pair[1])
	p.SetLink(false)
	got := make([]byte, 64)
	n, err := unix.Read(pair[0], got)
	require.NoError(t, err)
	assert.Equal(t, words(2, 1, 0), got[:n])
	assert.Equal(t, append(words(6, 2, 0), 0, 0), read(6, 2))
}

func TestConfigSpaceIsOfferedOnRequestOnly(t *testing.T) {
	for serve, want := range map[bool]uint64{false: 0, true: protoConfig | protoBackend} {
		path := socket(t)
		must(t, path, &Config{ServeConfig: serve})
		g := newVM(t, vmConfig{features: allFeatures})
		g.dial(path)
		require.Equal(t, want, g.ask(reqGetProtocolFeatures, nil)&(protoConfig|protoBackend))
		if !serve {
			require.NoError(t, g.send(reqSetProtocolFeatures, 0, quads(protoConfig)))
			_, _, err := g.receive()
			require.ErrorIs(t, err, io.EOF, "the connection goes on")
		}
	}
}

func TestMTUOfFrontEnd(t *testing.T) {
	p, g := plug(t, &Config{MTU: 1500}, vmConfig{features: allFeatures})
	send := func(n int) error {
		_, err := p.Tx(0).Send([]*ports.Frame{frame(ether(14+n, 0))})
		return err
	}
	require.NoError(t, send(1500))
	g.must(reqNetSetMTU, quads(1400))
	assert.ErrorIs(t, send(1500), ports.ErrFrameSize)
	assert.NoError(t, send(1400))
	g.must(reqNetSetMTU, quads(9000))
	assert.ErrorIs(t, send(1501), ports.ErrFrameSize)
}

func TestRARP(t *testing.T) {
	p, g := plug(t, nil, vmConfig{features: allFeatures})
	c := make(chan struct{}, 1)
	n := p.Rx(0).(ports.Notifier)
	n.SetBell(func() { c <- struct{}{} })
	require.False(t, n.Arm())
	g.must(reqSendRARP, []byte{2, 1, 2, 3, 4, 5, 0, 0})
	<-c
	require.True(t, n.Arm())
	f := recv(t, p, 0, 1)[0]
	assert.Equal(t, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 1, 2, 3, 4, 5, 0x80, 0x35}, f[:14])
	assert.Len(t, f, 60)
	require.False(t, n.Arm())
	passes(t, p, g, 0)
}

func TestFrontEndWithoutKicks(t *testing.T) {
	path := socket(t)
	p := must(t, path, nil)
	g := newVM(t, vmConfig{features: allFeatures})
	g.dial(path)
	g.boot()
	g.must(reqSetVringKick, quads(1<<8|1))
	c := make(chan struct{}, 1)
	n := p.Rx(0).(ports.Notifier)
	n.SetBell(func() {
		select {
		case c <- struct{}{}:
		default:
		}
	})
	eventually(t, "Arm never waits", func() bool { return !n.Arm() })
	<-c
	passes(t, p, g, 0)
}

func TestResetDevice(t *testing.T) {
	p, g := plug(t, nil, vmConfig{features: allFeatures})
	passes(t, p, g, 0)
	g.must(reqResetDevice, nil)
	assert.False(t, p.Link().Up)
	for _, q := range g.all() {
		q.reset()
		g.start(q, 0)
	}
	assert.False(t, p.Link().Up, "rings are disabled")
	g.fill(0)
	for _, q := range g.all() {
		g.enable(q, 1)
	}
	passes(t, p, g, 0)
}

func TestBusyPoll(t *testing.T) {
	p, g := plug(t, &Config{BusyPoll: 100 * time.Millisecond}, vmConfig{features: allFeatures})
	passes(t, p, g, 0)
	n := p.Rx(0).(ports.Notifier)
	assert.True(t, n.Arm(), "it asks to be polled")
	kicks := g.tx[0].kicks
	require.NoError(t, g.Put(portstest.Packet{Bytes: ether(60, 0)}))
	recv(t, p, 0, 1)
	assert.LessOrEqual(t, g.tx[0].kicks, kicks+1)
	start := time.Now()
	eventually(t, "it is polled for ever", func() bool { return !n.Arm() })
	assert.Greater(t, time.Since(start), 90*time.Millisecond)
	passes(t, p, g, 0)
}
