package sock

import (
	"fmt"
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// keepSize is the longest buffer that a queue without traffic keeps.
const keepSize = 4096

// rxStream receives from one connection after another. It owns their descriptors.
//
// The descriptor to wait for is an epoll instance: the connection is in it, and monitor.readable while
// frames wait in memory.
type rxStream struct {
	poll  pollSet
	name  string
	final bool // there is one connection only

	mu     sync.Mutex // held by Recv, which does not wait, and by whoever changes the connection
	closed bool
	fd     int   // -1 when there is none
	alone  bool  // the socket has given fd up, and leaves what is in it to the queue
	ended  bool  // nothing comes from fd any more
	why    error // it ended
	dead   error // what Recv returns then, if final
	cutter cutter
	rest   []byte // of the stream, less than a frame: what is in front of the next chunk
	chunk  *slab  // nil when all of it has been cut
	data   []byte // of chunk, not cut yet
	full   bool   // the chunk was read to its end, so there may be more to read
	loan   loan
}

var (
	_ ports.RxQueue  = &rxStream{}
	_ ports.Pollable = &rxStream{}
)

// Descriptor implements ports.Pollable.
func (q *rxStream) Descriptor() int { return q.poll.epoll }

// Recv implements ports.RxQueue.
func (q *rxStream) Recv(b *ports.Batch) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ports.ErrClosed
	}
	for b.Room() > 0 && (q.chunk != nil || q.read()) {
		q.cut(b)
		if q.chunk == nil && !q.full {
			break
		}
	}
	q.poll.ring(q.chunk != nil)
	if q.chunk == nil {
		return q.dead
	}
	return nil
}

// read reads a chunk. It reports false when there is nothing to read.
func (q *rxStream) read() bool {
	if q.fd < 0 || q.ended {
		return false
	}
	s := slabs.take()
	had := copy(s.mem, q.rest)
	n, errno := recv(q.fd, s.mem[had:chunkSize])
	if n > 0 {
		q.chunk, q.data, q.rest = s, s.mem[:had+n], q.rest[:0]
		q.full = had+n == chunkSize
		return true
	}
	slabs.put(s)
	switch errno {
	case unix.EAGAIN:
		if len(q.rest) == 0 && cap(q.rest) > keepSize {
			q.rest = nil
		}
	case 0:
		q.end(fmt.Errorf("the peer went away: %w", io.EOF))
	default:
		q.end(os.NewSyscallError("recv", errno))
	}
	return false
}

func recv(fd int, buf []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM,
			uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// cut lends frames of the chunk until there is none, or b is full.
func (q *rxStream) cut(b *ports.Batch) {
	for b.Room() > 0 {
		frame, rest, err := q.cutter.cut(q.data)
		switch {
		case err != nil:
			q.leaveChunk()
			q.full = false
			q.end(err)
			return
		case frame == nil:
			q.rest = append(q.rest[:0], rest...)
			q.leaveChunk()
			return
		case q.chunk.lent == slots: // since the last Release
			s := slabs.take()
			n := copy(s.mem, frame)
			n += copy(s.mem[n:], rest)
			q.loan.put(q.chunk)
			q.chunk, q.data = s, s.mem[:n]
		default:
			q.chunk.lend(b, frame, lengthLen)
			q.data = rest
		}
	}
}

func (q *rxStream) leaveChunk() {
	q.loan.put(q.chunk)
	q.chunk, q.data = nil, nil
}

// end is called when nothing comes from the connection any more. What else there is to do, the socket
// does when the monitor tells it of the shutdown.
func (q *rxStream) end(why error) {
	q.ended, q.why, q.rest = true, why, nil
	if q.final {
		q.dead = wrap(q.name, why)
	}
	q.poll.remove(q.fd)
	if q.alone {
		unix.Close(q.fd)
		q.fd = -1
		return
	}
	_ = unix.Shutdown(q.fd, unix.SHUT_RDWR)
}

// Release implements ports.RxQueue.
func (q *rxStream) Release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.loan.end()
	if q.chunk != nil {
		q.chunk.lent = 0
	}
}

// attach makes fd, which it takes over, the connection to receive from.
func (q *rxStream) attach(fd int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop()
	if err := q.poll.add(fd); err != nil {
		return err
	}
	q.fd = fd
	return nil
}

// drop ends the connection, and forgets what has come from it and not been received.
func (q *rxStream) drop() {
	if q.chunk != nil {
		q.leaveChunk()
		q.poll.ring(false)
	}
	if q.fd >= 0 {
		q.poll.remove(q.fd)
		unix.Close(q.fd)
	}
	q.fd, q.alone, q.ended, q.why, q.rest = -1, false, false, nil, nil
	q.cutter.skip = 0
}

// orphan tells the queue that nobody else uses the connection any more, and returns why it has ended
// if that is known.
func (q *rxStream) orphan() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.alone = true
	if q.ended && q.fd >= 0 {
		unix.Close(q.fd)
		q.fd = -1
	}
	return q.why
}

// detach ends the connection.
func (q *rxStream) detach() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop()
}

func (q *rxStream) stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.cutter.count
}

func (q *rxStream) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.chunk, q.data, q.loan = nil, nil, nil // slabs may still be looked at
	if q.fd >= 0 && !q.ended {
		_ = unix.Shutdown(q.fd, unix.SHUT_RDWR) // which a copy of the descriptor does not prevent
	}
	q.drop()
	q.poll.close()
}
