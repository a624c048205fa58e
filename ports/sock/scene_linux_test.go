package sock

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

// patience is how long something that must happen may take, on a busy machine too.
const patience = 10 * time.Second

func TestMain(m *testing.M) {
	lastPause = 100 * time.Millisecond
	os.Exit(m.Run())
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := deadline(); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// open makes sure that a socket opened, and closes it when the test ends.
func open(t testing.TB) func(*Socket, error) *Socket {
	return func(s *Socket, err error) *Socket {
		t.Helper()
		require.NoError(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
}

func isUp(s *Socket) func() bool   { return func() bool { return s.Link().Up } }
func isDown(s *Socket) func() bool { return func() bool { return !s.Link().Up } }

// place returns the path of a socket that is not there yet.
func place(t testing.TB, name string) string {
	dir, err := os.MkdirTemp("", "sock") // t.TempDir may be longer than a path of a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, name)
}

func openFiles(t testing.TB) int {
	files, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(files)
}

func frameOf(b []byte) *ports.Frame {
	f := &ports.Frame{}
	head := min(len(b), ports.HeadLen)
	f.SetHead(b[:head:head], 0, head)
	f.AppendBody(b[head:])
	return f
}

func framesOf(all ...[]byte) (fs []*ports.Frame) {
	for _, b := range all {
		fs = append(fs, frameOf(b))
	}
	return fs
}

// receive receives n frames.
func receive(t testing.TB, s *Socket, n int) (got [][]byte) {
	t.Helper()
	b := ports.NewBatch(7)
	eventually(t, "frames do not arrive", func() bool {
		b.Reset()
		require.NoError(t, s.Rx(0).Recv(b))
		for _, f := range b.Frames() {
			c := make([]byte, f.WireLen())
			f.CopyTo(c)
			got = append(got, c)
		}
		b.Reset()
		s.Rx(0).Release()
		return len(got) >= n
	})
	require.Len(t, got, n)
	return got
}

// streamPeer is the far end of a stream, such as QEMU.
type streamPeer struct {
	mu   sync.Mutex
	conn net.Conn
	in   []byte // that has been read and not been taken
	buf  [64 << 10]byte
}

func (p *streamPeer) use(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		p.conn.Close()
	}
	if c != nil {
		c.(*net.UnixConn).SetWriteBuffer(1 << 20)
	}
	p.conn, p.in = c, nil
}

func (p *streamPeer) now() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

func (p *streamPeer) hangUp() { p.use(nil) }

func (p *streamPeer) Put(k portstest.Packet) error {
	c := p.now()
	if c == nil {
		return net.ErrClosed
	}
	c.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.Write(wire(k.Bytes))
	return err
}

func (p *streamPeer) Take(wait time.Duration) (portstest.Packet, bool) {
	c := p.now()
	if c == nil {
		return portstest.Packet{}, false
	}
	c.SetReadDeadline(time.Now().Add(wait))
	for {
		if len(p.in) >= lengthLen {
			if n := lengthLen + int(binary.BigEndian.Uint32(p.in)); len(p.in) >= n {
				frame := p.in[lengthLen:n]
				p.in = p.in[n:]
				return portstest.Packet{Bytes: frame}, true
			}
		}
		n, err := c.Read(p.buf[:])
		p.in = append(p.in, p.buf[:n]...)
		if err != nil && n == 0 {
			return portstest.Packet{}, false
		}
	}
}

// dgramPeer is the far end of a datagram socket that does not connect, such as QEMU.
type dgramPeer struct {
	at, to string
	mu     sync.Mutex
	conn   *net.UnixConn
	buf    [128 << 10]byte
}

func newDgramPeer(t testing.TB, at, to string) *dgramPeer {
	p := &dgramPeer{at: at, to: to}
	p.start(t)
	t.Cleanup(p.stop)
	return p
}

func (p *dgramPeer) start(t testing.TB) {
	if p.at[0] != '@' {
		os.Remove(p.at) // as QEMU does
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: p.at, Net: "unixgram"})
	require.NoError(t, err)
	c.SetWriteBuffer(1 << 20)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = c
}

// stop ends it as a crash does: its file stays.
func (p *dgramPeer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		os.Rename(p.at, p.at+".kept")
		p.conn.Close()
		os.Rename(p.at+".kept", p.at)
	}
	p.conn = nil
}

func (p *dgramPeer) now() *net.UnixConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn
}

var errNotThere = errors.New("the peer is not there")

func (p *dgramPeer) Put(k portstest.Packet) error { return p.send(k.Bytes) }

func (p *dgramPeer) send(b []byte) error {
	c := p.now()
	if c == nil {
		return errNotThere
	}
	c.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.WriteToUnix(b, &net.UnixAddr{Name: p.to, Net: "unixgram"})
	return err
}

func (p *dgramPeer) Take(wait time.Duration) (portstest.Packet, bool) {
	c := p.now()
	if c == nil {
		return portstest.Packet{}, false
	}
	c.SetReadDeadline(time.Now().Add(wait))
	n, err := c.Read(p.buf[:])
	return portstest.Packet{Bytes: p.buf[:n]}, err == nil
}

func deadline() time.Time { return time.Now().Add(patience) }
