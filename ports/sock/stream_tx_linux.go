package sock

import (
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// txStream sends on one connection after another, many frames with one system call: a write to a unix
// stream costs 1,476 ns with one frame, 40 ns a frame with 64 (measured).
type txStream struct {
	name string
	mtu  int

	mu     sync.Mutex // held by Send, which does not wait, and by whoever changes the connection
	closed bool
	fd     int    // -1 when there is none; the receive queue's
	watch  *watch // of fd
	begun  []byte // rest of a frame that the kernel had room for a part of, to be sent before others
}

var _ ports.TxQueue = &txStream{}

// Send implements ports.TxQueue.
func (q *txStream) Send(frames []*ports.Frame) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return 0, ports.ErrClosed
	case q.fd < 0:
		return 0, ports.ErrLinkDown
	case len(q.begun) > 0 && !q.finish():
		if q.fd < 0 {
			return 0, ports.ErrLinkDown
		}
		return 0, nil
	}
	o := outboxes.take()
	defer func() {
		o.clear()
		outboxes.put(o)
	}()
	for sent, limit := 0, burst; ; {
		n, refused := o.loadStream(frames[sent:], q.mtu, limit)
		if n > 0 {
			k, part, errno := o.sendmsg(q.fd, n)
			sent += k
			switch {
			case part > 0:
				q.begin(frames[sent], part)
				return sent + 1, nil
			case isFull(errno):
				return sent, nil
			case isGone(errno):
				q.lose()
				return sent, ports.ErrLinkDown
			case errno != 0 && n > 1: // find out which frame it is
				limit = 1
				continue
			case errno != 0:
				return sent, fmt.Errorf("sock %q: send: %w", q.name, errno)
			case k < n:
				return sent, nil
			}
		}
		if refused != nil || sent == len(frames) {
			return sent, refused
		}
	}
}

// sendmsg sends n frames. It returns how many went as a whole, and how many bytes of the next one.
func (o *outbox) sendmsg(fd, n int) (whole, part int, errno unix.Errno) {
	msg := &o.msgs[0].hdr
	o.loaded = 1
	msg.Iov = &o.iov[0]
	msg.SetIovlen(len(o.iov))
	for {
		r, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			part = int(r)
			for whole < n && part >= o.sizes[whole] {
				part -= o.sizes[whole]
				whole++
			}
			return whole, part, 0
		case unix.EINTR:
		default:
			return 0, 0, errno
		}
	}
}

// begin keeps what is left of a frame when part of it, its length in front, has been sent. The monitor
// sends it if no other frame comes first.
func (q *txStream) begin(f *ports.Frame, part int) {
	size := f.WireLen()
	if cap(q.begun) < lengthLen+size {
		q.begun = make([]byte, max(lengthLen+size, keepSize))
	}
	buf := q.begun[:lengthLen+size]
	putLength(buf, size)
	f.CopyTo(buf[lengthLen:])
	q.begun = buf[:copy(buf, buf[part:])]
	q.watch.arm(unix.EPOLLRDHUP | unix.EPOLLOUT)
}

// finish sends the rest of the frame that was begun, and reports whether all of it went.
func (q *txStream) finish() bool {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(q.fd),
		uintptr(unsafe.Pointer(&q.begun[0])), uintptr(len(q.begun)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	switch {
	case errno == 0:
		q.begun = q.begun[:copy(q.begun, q.begun[n:])]
	case isGone(errno):
		q.lose()
	}
	if len(q.begun) > 0 {
		return false
	}
	if cap(q.begun) > keepSize {
		q.begun = nil
	}
	return true
}

// lose takes note that the connection is gone. What else there is to do, the socket does when the
// monitor tells it of the shutdown.
func (q *txStream) lose() {
	_ = unix.Shutdown(q.fd, unix.SHUT_RDWR)
	q.fd = -1
	q.begun = nil
}

// resume goes on where the kernel had no room, and waits for what comes next.
func (q *txStream) resume() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.watch == nil {
		return
	}
	events := uint32(unix.EPOLLRDHUP)
	if q.fd >= 0 && len(q.begun) > 0 && !q.finish() {
		events |= unix.EPOLLOUT
	}
	q.watch.arm(events)
}

// attach makes fd, on which w watches, the connection to send on.
func (q *txStream) attach(fd int, w *watch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fd, q.watch, q.begun = fd, w, nil
}

// detach ends the use of the connection.
func (q *txStream) detach() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fd, q.watch, q.begun = -1, nil, nil
}

func (q *txStream) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.fd, q.watch, q.begun = -1, nil, nil
}
