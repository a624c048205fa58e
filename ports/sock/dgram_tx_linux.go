package sock

import (
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// txDgram sends with sendmmsg(2).
type txDgram struct {
	name string
	mtu  int
	lost func(unix.Errno) // the peer

	mu      sync.Mutex // held by Send, which does not wait, and by whoever changes the peer
	closed  bool
	fd      int      // -1 while there is no peer; the socket's
	watch   *watch   // of fd
	backlog *backlog // goes before what is sent; nil while it is empty
}

var _ ports.TxQueue = &txDgram{}

// Send implements ports.TxQueue.
func (q *txDgram) Send(frames []*ports.Frame) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return 0, ports.ErrClosed
	case q.fd < 0:
		return 0, ports.ErrLinkDown
	}
	o := outboxes.take()
	defer func() {
		o.clear()
		outboxes.put(o)
	}()
	if q.backlog != nil {
		if errno := q.drain(o); errno != 0 {
			return q.meaning(errno, frames)
		}
	}
	for sent := 0; ; {
		n, refused := o.loadDatagrams(frames[sent:], q.mtu)
		if n > 0 {
			took, errno := o.sendmmsg(q.fd, n)
			sent += took
			switch {
			case errno != 0:
				k, err := q.meaning(errno, frames[sent:])
				return sent + k, err
			case took < n: // the next call says why
				continue
			}
		}
		if refused != nil || sent == len(frames) {
			return sent, refused
		}
	}
}

// drain sends the backlog. It returns the error that keeps some of it from being sent.
func (q *txDgram) drain(o *outbox) unix.Errno {
	b := q.backlog
	for !b.empty() {
		n, errno := o.sendmmsg(q.fd, b.load(o))
		b.drop(n)
		switch {
		case errno == 0:
		case isFull(errno) || isGone(errno):
			return errno
		default: // has to do with the first frame
			b.drop(1)
		}
	}
	q.forget()
	return 0
}

// forget gives up the backlog.
func (q *txDgram) forget() {
	if b := q.backlog; b != nil {
		b.first, b.end = 0, 0
		backlogs.put(b)
		q.backlog = nil
	}
}

// resume goes on where the kernel had no room. It is called by the monitor.
func (q *txDgram) resume() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fd < 0 || q.backlog == nil {
		return
	}
	o := outboxes.take()
	if errno := q.drain(o); errno != 0 {
		_, _ = q.meaning(errno, nil)
	}
	o.clear()
	outboxes.put(o)
}

// meaning does what an error of sendmmsg on the first of the frames asks for, and returns what Send
// returns of them.
func (q *txDgram) meaning(errno unix.Errno, frames []*ports.Frame) (int, error) {
	switch {
	case isFull(errno):
		return q.keep(frames)
	case isGone(errno):
		q.fd = -1
		q.forget()
		go q.lost(errno)
		return 0, ports.ErrLinkDown
	case errno == unix.EMSGSIZE: // longer than the send buffer
		return 0, ports.ErrFrameSize
	}
	return 0, fmt.Errorf("sock %q: send: %w", q.name, errno)
}

// keep adds frames to the backlog, and waits for room.
func (q *txDgram) keep(frames []*ports.Frame) (int, error) {
	if q.backlog == nil {
		q.backlog = backlogs.take()
	}
	q.watch.arm(unix.EPOLLOUT)
	for n, f := range frames {
		if err := check(f, q.mtu); err != nil {
			return n, err
		}
		if !q.backlog.add(f) {
			return n, nil
		}
	}
	return len(frames), nil
}

// attach makes fd, which has a peer and on which w watches, the socket to send on.
func (q *txDgram) attach(fd int, w *watch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fd, q.watch = fd, w
}

// detach ends that.
func (q *txDgram) detach() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fd = -1
	q.forget()
}

func (q *txDgram) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.fd = true, -1
	q.forget()
}

// sendmmsg sends n datagrams and returns how many went. An error is that of the first.
func (o *outbox) sendmmsg(fd, n int) (int, unix.Errno) {
	for {
		r, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd),
			uintptr(unsafe.Pointer(&o.msgs[0])), uintptr(n), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(r), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
