package vhostuser

import (
	"encoding/binary"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/internal/vnethdr"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

const (
	patience = 10 * time.Second

	// Where guest memory is for the guest, in two regions, and for the front-end.
	lowBase  = 0x1000
	highBase = 0x1_0000_0000
	userBase = 0x7f00_0000_0000
)

// allFeatures is what a capable driver takes of a split ring.
const allFeatures = featCSum | featGuestCSum | featMTU | featGuestTSO4 | featGuestTSO6 | featGuestECN |
	featHostTSO4 | featHostTSO6 | featHostECN | featMergeable | featStatus | featIndirect | featEventIdx |
	featProtocol | featVersion1 | featInOrder | featGuestUSO4 | featGuestUSO6 | featHostUSO

// vm is a front-end and its guest in one: a VMM on the test bench.
type vm struct {
	t        testing.TB
	features uint64
	protocol uint64
	layout   layout
	size     int // of rings
	queues   int

	fd   int
	mem  []byte
	used int // of mem
	fds  []int

	conn   *net.UnixConn
	rx, tx []*virtqueue
	slots  [][]slots // for buffers, by pair: receive, send
	next   int       // queue to take from

	putMu, takeMu sync.Mutex
}

// layout is how the driver cuts frames into buffers.
type layout struct {
	cuts     []int // lengths of the buffers before the last; nil for one buffer
	indirect bool
	rxLen    int // bytes of a receive buffer
	txLen    int // and of one to send from
}

// slots are places for frames in guest memory.
type slots struct {
	at, len int
	free    []int
}

type vmConfig struct {
	features uint64
	protocol uint64 // default all but none
	layout   layout
	size     int
	queues   int
	mem      int
}

func newVM(t testing.TB, c vmConfig) *vm {
	t.Helper()
	if c.size == 0 {
		c.size = 256
	}
	if c.queues == 0 {
		c.queues = 1
	}
	if c.layout.rxLen == 0 {
		c.layout.rxLen = 12 + 18 + 1500
	}
	if c.layout.txLen == 0 {
		c.layout.txLen = 12 + ports.MaxFrame + 16
	}
	if c.mem == 0 {
		c.mem = 1<<20 + 2*c.queues*c.size*(c.layout.rxLen+c.layout.txLen+2*16*128+1024)
	}
	c.mem = (c.mem + 0x1fff) &^ 0x1fff
	g := &vm{t: t, features: c.features, protocol: c.protocol, layout: c.layout, size: c.size, queues: c.queues}
	if g.features&featProtocol != 0 && g.protocol == 0 {
		g.protocol = protoMQ | protoReplyAck | protoMemSlots | protoMTU | protoRARP | protoLogShmFD | protoInflight
	}
	var err error
	g.fd, err = unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	require.NoError(t, unix.Ftruncate(g.fd, int64(c.mem)))
	g.mem, err = unix.Mmap(g.fd, 0, c.mem, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(g.shutdown)
	for i := range c.queues {
		g.rx = append(g.rx, newVirtqueue(g, 2*i, c.size))
		g.tx = append(g.tx, newVirtqueue(g, 2*i+1, c.size))
		rx := slots{at: g.alloc(c.size*c.layout.rxLen, 64), len: c.layout.rxLen}
		tx := slots{at: g.alloc(c.size*c.layout.txLen, 64), len: c.layout.txLen}
		for j := range c.size {
			tx.free = append(tx.free, j)
		}
		g.slots = append(g.slots, []slots{rx, tx})
	}
	return g
}

func (g *vm) shutdown() {
	g.disconnect()
	unix.Munmap(g.mem)
	unix.Close(g.fd)
	for _, fd := range g.fds {
		unix.Close(fd)
	}
}

func (g *vm) disconnect() {
	if g.conn != nil {
		g.conn.Close()
		g.conn = nil
	}
}

// alloc returns n bytes of guest memory.
func (g *vm) alloc(n, align int) int {
	at := (g.used + align - 1) &^ (align - 1)
	if half := len(g.mem) / 2; at < half && at+n > half {
		at = half // in one region
	}
	if at+n > len(g.mem) {
		panic("the test needs more guest memory")
	}
	g.used = at + n
	return at
}

func (g *vm) eventfd() int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(g.t, err)
	g.fds = append(g.fds, fd)
	return fd
}

// physical returns the guest address of a place in memory.
func (g *vm) physical(off int) uint64 {
	if half := len(g.mem) / 2; off >= half {
		return highBase + uint64(off-half)
	}
	return lowBase + uint64(off)
}

func (g *vm) user(off int) uint64 { return userBase + uint64(off) }

// regions describes guest memory.
func (g *vm) regions() []regionSpec {
	half := uint64(len(g.mem) / 2)
	return []regionSpec{
		{guest: lowBase, size: half, user: userBase, offset: 0},
		{guest: highBase, size: half, user: userBase + half, offset: half},
	}
}

// dial connects to a port that listens.
func (g *vm) dial(path string) {
	g.t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(g.t, err)
	g.conn = c
}

// send sends a message.
func (g *vm) send(r request, flags uint32, payload []byte, fds ...int) error {
	b := append(appendHeader(nil, r, flags, len(payload)), payload...)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err := g.conn.WriteMsgUnix(b, oob, nil)
	return err
}

// receive reads an answer.
func (g *vm) receive() ([]byte, []int, error) {
	g.conn.SetReadDeadline(time.Now().Add(patience))
	c := channel{conn: g.conn}
	var m message
	err := c.read(&m)
	return append([]byte(nil), m.payload...), m.fds, err
}

// do sends a message and, if acknowledgements were negotiated, waits for one.
func (g *vm) do(r request, payload []byte, fds ...int) error {
	if g.protocol&protoReplyAck == 0 {
		return g.send(r, 0, payload, fds...)
	}
	if err := g.send(r, flagNeedReply, payload, fds...); err != nil {
		return err
	}
	b, _, err := g.receive()
	if err == nil && (len(b) != 8 || le.Uint64(b) != 0) {
		err = errors.New("refused")
	}
	return err
}

// ask sends a message and returns the number that is the answer.
func (g *vm) ask(r request, payload []byte) uint64 {
	g.t.Helper()
	require.NoError(g.t, g.send(r, 0, payload))
	b, _, err := g.receive()
	require.NoError(g.t, err)
	require.Len(g.t, b, 8)
	return le.Uint64(b)
}

func (g *vm) must(r request, payload []byte, fds ...int) {
	g.t.Helper()
	require.NoError(g.t, g.do(r, payload, fds...), "request %d", r)
}

func words(v ...uint32) (b []byte) {
	for _, w := range v {
		b = le.AppendUint32(b, w)
	}
	return b
}

func quads(v ...uint64) (b []byte) {
	for _, w := range v {
		b = le.AppendUint64(b, w)
	}
	return b
}

func (s *regionSpec) wire() []byte { return quads(s.guest, s.size, s.user, s.offset) }

// negotiate agrees on features.
func (g *vm) negotiate() {
	g.t.Helper()
	offered := g.ask(reqGetFeatures, nil)
	require.Zero(g.t, g.features&^offered, "features that are not offered")
	if g.features&featProtocol != 0 {
		require.Zero(g.t, g.protocol&^g.ask(reqGetProtocolFeatures, nil))
		want := g.protocol
		g.protocol = 0
		g.must(reqSetProtocolFeatures, quads(want))
		g.protocol = want
	}
	g.must(reqSetOwner, nil)
	g.must(reqSetFeatures, quads(g.features))
}

// setMemory tells the device where guest memory is.
func (g *vm) setMemory() {
	g.t.Helper()
	rs := g.regions()
	b, fds := words(uint32(len(rs)), 0), []int{}
	for i := range rs {
		b = append(b, rs[i].wire()...)
		fds = append(fds, g.fd)
	}
	g.must(reqSetMemTable, b, fds...)
}

func (g *vm) all() (qs []*virtqueue) {
	for i := range g.rx {
		qs = append(qs, g.rx[i], g.tx[i])
	}
	return qs
}

func (q *virtqueue) address(flags uint32) []byte {
	g := q.vm
	return append(words(uint32(q.index), flags), quads(g.user(q.desc), g.user(q.used), g.user(q.avail), g.physical(q.used))...)
}

// start sets a ring up from where base says.
func (g *vm) start(q *virtqueue, base uint32) {
	g.t.Helper()
	i := uint32(q.index)
	g.must(reqSetVringNum, words(i, uint32(q.size)))
	g.must(reqSetVringBase, words(i, base))
	g.must(reqSetVringAddr, q.address(0))
	g.must(reqSetVringCall, quads(uint64(i)), q.call)
	g.must(reqSetVringKick, quads(uint64(i)), q.kick)
}

func (g *vm) enable(q *virtqueue, on uint32) {
	g.t.Helper()
	if g.features&featProtocol != 0 {
		g.must(reqSetVringEnable, words(uint32(q.index), on))
	}
}

// firstBase is where a new ring begins.
func (q *virtqueue) firstBase() uint32 {
	if q.packed {
		return 0x8000_8000
	}
	return 0
}

// boot does what a front-end does until its driver is up.
func (g *vm) boot() {
	g.t.Helper()
	g.negotiate()
	g.setMemory()
	for _, q := range g.all() {
		g.start(q, q.firstBase())
	}
	for i := range g.rx {
		g.fill(i)
	}
	for _, q := range g.all() {
		g.enable(q, 1)
	}
}

// stop stops a ring and returns its base.
func (g *vm) stop(q *virtqueue) uint32 {
	g.t.Helper()
	require.NoError(g.t, g.send(reqGetVringBase, 0, words(uint32(q.index), 0)))
	b, _, err := g.receive()
	require.NoError(g.t, err)
	require.Len(g.t, b, 8)
	require.Equal(g.t, uint32(q.index), le.Uint32(b))
	return le.Uint32(b[4:])
}

// cut returns the buffers for n bytes at a place, with the cuts of the layout.
func (g *vm) cut(at, n int) (bufs []buffer) {
	for _, c := range g.layout.cuts {
		if c >= n {
			break
		}
		bufs = append(bufs, buffer{at, c})
		at, n = at+c, n-c
	}
	return append(bufs, buffer{at, n})
}

// fill gives the device all receive buffers that are free.
func (g *vm) fill(pair int) {
	s := &g.slots[pair][0]
	for i := range g.size {
		if !g.rx[pair].add(g.cut(s.at+i*s.len, s.len), true, g.layout.indirect, i) {
			return
		}
	}
}

func (g *vm) hdrLen() int {
	if g.features&(featMergeable|featVersion1) != 0 {
		return 12
	}
	return 10
}

// reclaim takes back what the device has sent on a transmit queue.
func (g *vm) reclaim(pair int) {
	for {
		i, _, ok := g.tx[pair].get()
		if !ok {
			return
		}
		s := &g.slots[pair][1]
		s.free = append(s.free, i)
	}
}

// Put implements portstest.Peer.
func (g *vm) Put(p portstest.Packet) error {
	g.putMu.Lock()
	defer g.putMu.Unlock()
	pair := p.Queue % g.queues
	for end := time.Now().Add(patience); !g.tryPut(pair, p); {
		if time.Now().After(end) || g.hungUp() {
			return errors.New("no room in the ring")
		}
		time.Sleep(20 * time.Microsecond)
	}
	return nil
}

// hungUp reports whether the device has closed the connection.
func (g *vm) hungUp() (yes bool) {
	raw, err := g.conn.SyscallConn()
	if err != nil {
		return true
	}
	_ = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		yes = n == 0 && err == nil || err == unix.ECONNRESET
	})
	return yes
}

func (g *vm) tryPut(pair int, p portstest.Packet) bool {
	g.reclaim(pair)
	s := &g.slots[pair][1]
	if len(s.free) == 0 {
		return false
	}
	i := s.free[0]
	at := s.at + i*s.len
	hdr := g.hdrLen()
	vnethdr.Put(g.mem[at:], p.Offload)
	if hdr == 12 {
		le.PutUint16(g.mem[at+10:], 0)
	}
	n := copy(g.mem[at+hdr:], p.Bytes)
	if !g.tx[pair].add(g.cut(at, hdr+n), false, g.layout.indirect, i) {
		return false
	}
	s.free = s.free[1:]
	return true
}

// Take implements portstest.Peer. It sleeps until the device notifies it.
func (g *vm) Take(wait time.Duration) (portstest.Packet, bool) {
	g.takeMu.Lock()
	defer g.takeMu.Unlock()
	for end := time.Now().Add(wait); ; {
		for range g.queues {
			pair := g.next % g.queues
			g.next++
			if p, ok := g.takeFrom(pair); ok {
				return p, true
			}
		}
		var fds []unix.PollFd
		for _, q := range g.rx {
			q.called()
			q.enableCalls()
			fds = append(fds, unix.PollFd{Fd: int32(q.call), Events: unix.POLLIN})
		}
		ready := false
		for _, q := range g.rx {
			ready = ready || q.more()
		}
		left := time.Until(end)
		if !ready && left <= 0 {
			return portstest.Packet{}, false
		}
		if !ready {
			unix.Poll(fds, int(left/time.Millisecond)+1)
		}
		for _, q := range g.rx {
			q.disableCalls()
		}
	}
}

// more reports whether there is a used chain.
func (q *virtqueue) more() bool {
	if q.packed {
		flags := uint16(q.load32(q.desc+int(q.seen)*descLen+12) >> 16)
		return flags&descAvail != 0 == q.seenW && flags&descUsed != 0 == q.seenW
	}
	return uint16(q.load32(q.used)>>16) != q.seen
}

// takeFrom takes the next frame of a receive queue, and gives its buffers back to the device.
func (g *vm) takeFrom(pair int) (p portstest.Packet, ok bool) {
	q, s := g.rx[pair], &g.slots[pair][0]
	i, n, ok := q.get()
	if !ok {
		return p, false
	}
	hdr := g.hdrLen()
	at := s.at + i*s.len
	if n < hdr || n > s.len {
		panic("the device used an impossible length")
	}
	o, err := vnethdr.Parse(g.mem[at:])
	if err != nil {
		panic(err)
	}
	buffers := 1
	if g.features&featMergeable != 0 {
		buffers = int(binary.LittleEndian.Uint16(g.mem[at+10:]))
	}
	p.Offload, p.Queue = o, pair
	p.Bytes = append([]byte(nil), g.mem[at+hdr:at+n]...)
	scribble(g.mem[at : at+s.len])
	q.add(g.cut(at, s.len), true, g.layout.indirect, i)
	for range buffers - 1 {
		i, n, ok := q.get()
		if !ok {
			panic("a frame without its last buffers")
		}
		at := s.at + i*s.len
		p.Bytes = append(p.Bytes, g.mem[at:at+n]...)
		scribble(g.mem[at : at+s.len])
		q.add(g.cut(at, s.len), true, g.layout.indirect, i)
	}
	return p, true
}

func scribble(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}

// socket returns a path for a unix socket.
func socket(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "s")
}

// must makes a port that is closed after the test.
func must(t testing.TB, path string, cfg *Config) *Port {
	t.Helper()
	p, err := Listen(path, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// plug makes a port and boots a guest at it.
func plug(t testing.TB, cfg *Config, c vmConfig) (*Port, *vm) {
	t.Helper()
	path := socket(t)
	p := must(t, path, cfg)
	g := newVM(t, c)
	g.dial(path)
	g.boot()
	eventually(t, "the link does not come up", func() bool { return p.Link().Up })
	return p, g
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}
