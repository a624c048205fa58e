package tap

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/internal/vnethdr"
	"github.com/hvswitch/hvswitch/ports"
)

const (
	etherLen  = 14
	tagLen    = 4
	macsLen   = 12 // in front of the EtherType
	cacheLine = 64

	// copyLen is the longest frame that is copied behind its offload header and written in one
	// piece. writev costs 100 ns more than write for any frame, the copy 25 ns for 1,500 bytes.
	copyLen = 2048

	maxVec = 1024 // UIO_MAXIOV
)

// queue is one descriptor, for both directions.
//
// System calls on it are raw: they do not block, so there is no need to tell the scheduler, which
// saves 4 % of a small write and, more, does not take the processor away from a worker in the middle
// of a batch.
type queue struct {
	fd int
	rx rxQueue
	_  [cacheLine]byte
	tx txQueue
	_  [cacheLine]byte
}

func newQueue(d *device, fd int) *queue {
	q := &queue{fd: fd}
	q.rx = rxQueue{dev: d, fd: fd, gate: newGate()}
	q.tx = txQueue{dev: d, fd: fd, gate: newGate()}
	return q
}

var (
	_ ports.RxQueue  = &rxQueue{}
	_ ports.Pollable = &rxQueue{}
	_ ports.TxQueue  = &txQueue{}
)

type rxQueue struct {
	dev     *device
	fd      int
	gate    gate
	dropped atomic.Uint64
}

// Recv reads until there is nothing or b is full.
//
// While the interface is down a read says EAGAIN, or EIO on old kernels, and poll does not report
// the descriptor readable, so nobody spins. When the interface is deleted, poll reports an error and a
// read says EBADFD for good.
func (q *rxQueue) Recv(b *ports.Batch) error {
	if !q.gate.enter() {
		return ports.ErrClosed
	}
	defer q.gate.leave()
	for {
		buf := b.Buffer(q.dev.hdr + ports.MaxFrame + tagLen + 1)
		if buf == nil {
			return nil
		}
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(q.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		switch errno {
		case 0:
			if !q.take(b, buf[:n]) {
				q.dropped.Add(1)
			}
		case unix.EAGAIN, unix.EIO:
			return nil
		case unix.EBADFD:
			return q.dev.gone
		case unix.EINTR:
		default:
			// The kernel took a frame off its queue and could not express it, EINVAL. Come
			// back for the next: poll knows whether there is one.
			q.dropped.Add(1)
			return nil
		}
	}
}

// Discarded implements ports.Discarder.
func (q *rxQueue) Discarded() uint64 { return q.dropped.Load() }

// take makes a frame of what was read into the buffer of b.
func (q *rxQueue) take(b *ports.Batch, buf []byte) bool {
	hdr := q.dev.hdr
	n := len(buf) - hdr
	if n < etherLen || n > ports.MaxFrame && (n > ports.MaxFrame+tagLen || !tagged(buf[hdr:])) {
		return false
	}
	var o ports.Offload
	if hdr != 0 {
		var err error
		if o, err = vnethdr.Parse(buf); err != nil {
			return false
		}
	}
	f := b.Commit(len(buf))
	f.TrimFront(hdr)
	f.Offload = o
	if n > ports.MaxFrame {
		f.PopTag()
	}
	return true
}

// Release does nothing: the frames are in memory of the batch.
func (q *rxQueue) Release() {}

// Descriptor implements ports.Pollable.
func (q *rxQueue) Descriptor() int { return q.fd }

type txQueue struct {
	dev  *device
	fd   int
	gate gate

	flat []byte   // offload header and a frame of copyLen
	long []byte   // the same of any frame, for one with more segments than maxVec
	vec  [][]byte // what iov is made of
	iov  []unix.Iovec
	hdr  [vnethdr.Size]byte
	tag  [tagLen]byte
}

// Send writes frame by frame.
func (q *txQueue) Send(frames []*ports.Frame) (int, error) {
	if !q.gate.enter() {
		return 0, ports.ErrClosed
	}
	defer q.gate.leave()
	for n, f := range frames {
		if err := q.dev.check(f); err != nil {
			return n, err
		}
		switch errno := q.write(f); errno {
		case 0:
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			return n, nil
		case unix.EIO:
			return n, ports.ErrLinkDown
		case unix.EBADFD:
			return n, q.dev.gone
		case unix.EINVAL:
			return n, ports.ErrOffload
		case unix.EFAULT:
			return n, q.dev.fault
		default:
			return n, fmt.Errorf("tap %q: write: %w", q.dev.info.Name, errno)
		}
	}
	return len(frames), nil
}

// check tells whether the interface takes such frames; the kernel would take longer ones.
func (d *device) check(f *ports.Frame) error {
	h, n := f.Head(), f.Len()
	if len(h) < etherLen {
		return ports.ErrFrameSize
	}
	longest := etherLen + d.info.MTU
	if !f.Offload.IsZero() {
		if f.Offload.Needs()&^d.info.Offloads != 0 {
			return ports.ErrOffload
		}
		if f.Offload.Segment != ports.SegmentNone {
			longest = ports.MaxFrame
		}
	}
	if n > longest && !(n <= longest+tagLen && tagged(h)) {
		return ports.ErrFrameSize
	}
	return nil
}

// tagged tells whether the bytes of a frame, etherLen at least, have a VLAN tag among them.
func tagged(h []byte) bool {
	t := binary.BigEndian.Uint16(h[macsLen:])
	return t == ports.TPID8021Q || t == ports.TPID8021AD
}

func (q *txQueue) write(f *ports.Frame) unix.Errno {
	hdr, n := q.dev.hdr, f.WireLen()
	if n > copyLen {
		return q.writeVec(f)
	}
	if q.flat == nil {
		q.flat = make([]byte, hdr+copyLen)
	}
	return q.writeFlat(f, q.flat[:hdr+n])
}

func (q *txQueue) writeFlat(f *ports.Frame, buf []byte) unix.Errno {
	hdr := q.dev.hdr
	if hdr != 0 {
		vnethdr.Put(buf, f.WireOffload())
	}
	f.CopyTo(buf[hdr:])
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(q.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	return errno
}

func (q *txQueue) writeVec(f *ports.Frame) unix.Errno {
	if q.dev.hdr != 0 {
		vnethdr.Put(q.hdr[:], f.WireOffload())
		q.vec = append(q.vec, q.hdr[:])
	}
	q.vec = f.AppendVec(q.vec, &q.tag)
	defer q.forget()
	if len(q.vec) > maxVec {
		if q.long == nil {
			q.long = make([]byte, q.dev.hdr+ports.MaxFrame+2*tagLen)
		}
		return q.writeFlat(f, q.long[:q.dev.hdr+f.WireLen()])
	}
	for _, s := range q.vec {
		v := unix.Iovec{Base: unsafe.SliceData(s)}
		v.SetLen(len(s))
		q.iov = append(q.iov, v)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(q.fd), uintptr(unsafe.Pointer(&q.iov[0])), uintptr(len(q.iov)))
	return errno
}

// forget drops the references to the frame.
func (q *txQueue) forget() {
	clear(q.vec)
	clear(q.iov)
	q.vec, q.iov = q.vec[:0], q.iov[:0]
}

// gate lets the one goroutine that uses a queue in, until it is shut. It keeps Close from closing a
// descriptor, whose number would be used again at once, under a running system call.
type gate struct {
	state atomic.Uint32
	left  chan struct{} // closed by the user who finds the gate shut on leaving
}

const (
	gateUsed = 1 << iota
	gateShut
)

func newGate() gate { return gate{left: make(chan struct{})} }

// enter reports whether the gate is open.
func (g *gate) enter() bool {
	if g.state.CompareAndSwap(0, gateUsed) {
		return true
	}
	if g.state.Load()&gateShut == 0 {
		panic("tap: a queue is used by two goroutines at once")
	}
	return false
}

func (g *gate) leave() {
	if !g.state.CompareAndSwap(gateUsed, 0) {
		close(g.left)
	}
}

// shut waits until nobody is inside.
func (g *gate) shut() {
	if g.state.Or(gateShut)&gateUsed != 0 {
		<-g.left
	}
}
