package portstest

import (
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// socket is the least backend on a file descriptor: one queue each way, a datagram a frame.
type socket struct {
	mu     sync.RWMutex // held for writing by Close, so that the descriptor stays ours while used
	fd     int
	closed bool

	out [socketMTU + 18]byte
}

const socketMTU = 1500

func (s *socket) Info() ports.Info     { return ports.Info{MTU: socketMTU, RxQueues: 1, TxQueues: 1} }
func (s *socket) Rx(int) ports.RxQueue { return s }
func (s *socket) Tx(int) ports.TxQueue { return s }
func (s *socket) Descriptor() int      { return s.fd }
func (s *socket) Release()             {}

func (s *socket) Recv(b *ports.Batch) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for !s.closed {
		buf := b.Buffer(2048)
		if buf == nil {
			return nil
		}
		n, err := unix.Read(s.fd, buf)
		if err == unix.EAGAIN {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		b.Commit(n)
	}
	return ports.ErrClosed
}

func (s *socket) Send(frames []*ports.Frame) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i, f := range frames {
		switch {
		case s.closed:
			return i, ports.ErrClosed
		case !f.Offload.IsZero():
			return i, ports.ErrOffload
		case !f.Fits(socketMTU):
			return i, ports.ErrFrameSize
		}
		_, err := unix.Write(s.fd, s.out[:f.CopyTo(s.out[:])])
		if err == unix.EAGAIN {
			return i, nil
		}
		if err != nil {
			return i, os.NewSyscallError("write", err)
		}
	}
	return len(frames), nil
}

func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return unix.Close(s.fd)
}

func socketPair(t *testing.T) (a, b *socket) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	return &socket{fd: fds[0]}, &socket{fd: fds[1]}
}

// The suite passes on descriptors too, and Far reads them.
func TestSocketConforms(t *testing.T) {
	Run(t, func(t *testing.T) Rig {
		a, b := socketPair(t)
		t.Cleanup(func() { b.Close() })
		return Rig{Backend: a, Peer: Far(b), Depth: 8} // net.unix.max_dgram_qlen may be 10
	})
}
