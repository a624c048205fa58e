package sock

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

const (
	// burst is how many frames one system call sends. The scheduler of Go does not see the call,
	// so it bounds how long the collector may have to wait.
	burst = 64

	maxVec = 1024 // UIO_MAXIOV

	// copyLen is the longest frame of a stream that is copied behind others, to be sent in one
	// piece with them. A piece costs more than copying so many bytes.
	copyLen = 2048
)

// outbox is what a burst of frames is made of for the kernel.
type outbox struct {
	tags [burst][tagLen]byte
	iov  []unix.Iovec
	vec  [][]byte

	// Of datagrams.
	msgs   [burst]mmsghdr
	loaded int // of msgs

	// Of a stream.
	sizes    [burst]int // of the frames, their lengths included
	copies   [burst * (lengthLen + copyLen)]byte
	used     int  // of copies
	together bool // the last of iov ends where copies go on
}

var outboxes = shelf[outbox]{make: func() *outbox { return &outbox{} }}

// check refuses what the peer could not take.
func check(f *ports.Frame, mtu int) error {
	switch {
	case !f.Offload.IsZero():
		return ports.ErrOffload
	case len(f.Head()) < etherLen || !f.Fits(mtu):
		return ports.ErrFrameSize
	}
	return nil
}

// loadStream takes as many of the frames as one call of sendmsg may send, limit at most, each behind its
// length. It stops at one that is refused, and says why.
func (o *outbox) loadStream(frames []*ports.Frame, mtu, limit int) (n int, refused error) {
	o.clear()
	for n < min(len(frames), limit) {
		f := frames[n]
		if err := check(f, mtu); err != nil {
			return n, err
		}
		size := f.WireLen()
		if size <= copyLen {
			f.CopyTo(o.copied(size, size))
		} else {
			const others = 4 // length, tag, and the head around it
			if n > 0 && len(o.iov)+others+len(f.Body()) > maxVec {
				break
			}
			o.copied(size, 0)
			o.addFrame(f, &o.tags[n])
		}
		o.sizes[n] = lengthLen + size
		n++
	}
	return n, nil
}

// copied adds the length of a frame, and memory for the first n bytes of it, which it returns. What
// follows other such memory is sent as one piece with it.
func (o *outbox) copied(length, n int) []byte {
	b := o.copies[o.used : o.used+lengthLen+n]
	putLength(b, length)
	if o.together {
		last := &o.iov[len(o.iov)-1]
		last.SetLen(int(last.Len) + len(b))
	} else {
		o.add(b)
	}
	o.used += len(b)
	o.together = true
	return b[lengthLen:]
}

// loadDatagrams makes datagrams of as many of the frames as one call of sendmmsg may send. It stops at
// one that is refused, and says why.
func (o *outbox) loadDatagrams(frames []*ports.Frame, mtu int) (n int, refused error) {
	o.clear()
	for n < min(len(frames), burst) {
		f, m, first := frames[n], &o.msgs[n].hdr, len(o.iov)
		if err := check(f, mtu); err != nil {
			return n, err
		}
		o.addFrame(f, &o.tags[n])
		m.Iov = &o.iov[first]
		m.SetIovlen(len(o.iov) - first)
		n++
		o.loaded = n
	}
	return n, nil
}

func (o *outbox) addFrame(f *ports.Frame, tag *[tagLen]byte) {
	o.together = false
	clear(o.vec)
	o.vec = f.AppendVec(o.vec[:0], tag)
	if len(o.vec) >= maxVec { // too many segments, so they become one
		flat := make([]byte, f.WireLen())
		f.CopyTo(flat)
		o.vec = append(o.vec[:0], flat)
	}
	for _, s := range o.vec {
		o.add(s)
	}
}

func (o *outbox) add(s []byte) {
	v := unix.Iovec{Base: unsafe.SliceData(s)}
	v.SetLen(len(s))
	o.iov = append(o.iov, v)
}

// clear drops all references to frames.
func (o *outbox) clear() {
	for i := range o.loaded {
		o.msgs[i].hdr.Iov = nil
	}
	o.loaded, o.used, o.together = 0, 0, false
	clear(o.iov)
	clear(o.vec)
	o.iov, o.vec = o.iov[:0], o.vec[:0]
}

// isFull tells whether an error of sending says that there is no room now.
func isFull(errno unix.Errno) bool {
	return errno == unix.EAGAIN || errno == unix.ENOBUFS || errno == unix.ENOMEM
}

// isGone tells whether an error of sending says that there is no peer any more.
func isGone(errno unix.Errno) bool {
	switch errno {
	case unix.EPIPE, unix.ECONNRESET, unix.ECONNREFUSED, unix.ENOTCONN, unix.EPERM, unix.ETIMEDOUT:
		return true
	}
	return false
}

// putLength writes what is in front of a frame of n bytes.
func putLength(b []byte, n int) { binary.BigEndian.PutUint32(b, uint32(n)) }
