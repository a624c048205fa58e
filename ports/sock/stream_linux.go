package sock

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// Pauses between tries to connect begin with firstPause, double, and end at lastPause, which is also
// how often a datagram socket looks whether its peer is still there. Tests make it shorter.
const firstPause = 10 * time.Millisecond

var lastPause = time.Second

// callers is how many peers may wait for the one that is connected to go away.
const callers = 8

// stream is a stream socket: it sees to it that there is a connection.
type stream struct {
	mon    *monitor
	link   *link
	buffer int // SendBuffer
	rx     rxStream
	tx     txStream

	mu     sync.Mutex // taken before those of the queues
	closed bool
	conn   *watch // nil when there is no peer
	last   error  // why there is none

	// Of one that listens.
	listener int // -1 when it does not
	file     *socketFile
	incoming *watch

	// Of one that dials.
	path  string // empty when it does not
	timer *time.Timer
	pause time.Duration
	since time.Time // of the connection
}

func newStream(c *Config, l *link) (*stream, error) {
	m, err := useMonitor()
	if err != nil {
		return nil, err
	}
	p, err := newPollSet(m)
	if err != nil {
		m.leave()
		return nil, err
	}
	s := &stream{mon: m, link: l, buffer: c.SendBuffer, listener: -1, pause: firstPause}
	s.rx.poll, s.rx.name, s.rx.fd = p, c.Name, -1
	s.tx.name, s.tx.mtu, s.tx.fd = c.Name, c.MTU, -1
	return s, nil
}

func listenStream(path string, c *Config, l *link) (device, error) {
	s, err := newStream(c, l)
	if err != nil {
		return nil, err
	}
	if err := s.listen(path); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stream) listen(path string) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener, err = newSocket(unix.SOCK_STREAM); err != nil {
		return err
	}
	if s.file, err = bind(s.listener, path); err != nil {
		return err
	}
	if err := unix.Listen(s.listener, callers); err != nil {
		return os.NewSyscallError("listen", err)
	}
	s.incoming, err = s.mon.watch(s.listener, unix.EPOLLIN, func(*watch, uint32) { s.accept() })
	return err
}

// accept connects who has come, if there is no peer.
func (s *stream) accept() {
	defer s.link.tell()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.conn != nil {
		return
	}
	fd, _, err := unix.Accept4(s.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	switch err {
	case nil:
		if s.last = s.attach(fd); s.last == nil {
			return
		}
	case unix.EAGAIN, unix.ECONNABORTED, unix.EINTR:
	default: // no descriptors, say: it would be told of the same peer again at once
		s.last = os.NewSyscallError("accept", err)
		s.timer = time.AfterFunc(lastPause, s.accept)
		return
	}
	s.incoming.arm(unix.EPOLLIN)
}

func dialStream(path string, c *Config, l *link) (device, error) {
	s, err := newStream(c, l)
	if err != nil {
		return nil, err
	}
	s.path = path
	s.dial()
	return s, nil
}

// dial connects to whoever listens, or tries again later.
func (s *stream) dial() {
	defer s.link.tell()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.conn != nil {
		return
	}
	if s.last = s.connect(); s.last != nil {
		s.redial()
	}
}

func (s *stream) connect() error {
	fd, err := newSocket(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: s.path}); err != nil {
		unix.Close(fd)
		return os.NewSyscallError("connect", err)
	}
	s.since = time.Now()
	return s.attach(fd)
}

func (s *stream) redial() {
	s.timer = time.AfterFunc(s.pause, s.dial)
	s.pause = min(2*s.pause, lastPause)
}

// attach makes fd, which it takes over, the connection.
func (s *stream) attach(fd int) error {
	if err := setSendBuffer(fd, s.buffer); err != nil {
		unix.Close(fd)
		return err
	}
	if err := s.rx.attach(fd); err != nil {
		unix.Close(fd)
		return err
	}
	w, err := s.mon.watch(fd, 0, s.event)
	if err != nil {
		s.rx.detach()
		return err
	}
	s.tx.attach(fd, w)
	s.conn, s.last = w, nil
	s.link.set(true)
	w.arm(unix.EPOLLRDHUP)
	return nil
}

// event is called by the monitor.
func (s *stream) event(w *watch, events uint32) {
	defer s.link.tell()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.conn != w: // no more
	case events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0:
		s.tx.resume()
	default:
		s.hangup()
	}
}

// hangup is called when the connection has ended, and makes way for the next.
func (s *stream) hangup() {
	s.conn.stop()
	s.conn = nil
	s.tx.detach()
	if s.last = s.rx.orphan(); s.last == nil {
		s.last = fmt.Errorf("the peer went away: %w", io.EOF)
	}
	s.link.set(false)
	switch {
	case s.incoming != nil:
		s.incoming.arm(unix.EPOLLIN)
	case s.path != "":
		if time.Since(s.since) >= lastPause {
			s.pause = firstPause
		}
		s.redial()
	}
}

func (s *stream) rxQueue() ports.RxQueue { return &s.rx }
func (s *stream) txQueue() ports.TxQueue { return &s.tx }
func (s *stream) stats() Stats           { return s.rx.stats() }

func (s *stream) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ports.ErrClosed
	}
	return s.last
}

func (s *stream) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.incoming != nil {
		s.incoming.stop()
	}
	if s.file != nil {
		s.file.remove()
	}
	if s.listener >= 0 {
		unix.Close(s.listener)
	}
	if s.conn != nil {
		s.conn.stop()
		s.conn = nil
	}
	s.tx.close()
	s.rx.close()
	s.mon.leave()
	return nil
}
