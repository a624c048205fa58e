package sock

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// backlogSize is how much a socket keeps of what it sends while the queue of the peer is full, in
// bytes: some eighty frames of 1500.
const backlogSize = 128 << 10

// backlog is frames, each behind its length, that the kernel had no room for. The queue of a datagram
// socket is as short as ten, which a sender of TCP exceeds all the time.
type backlog struct {
	buf        [backlogSize]byte
	first, end int // the frames are buf[first:end]
}

var backlogs = shelf[backlog]{make: func() *backlog { return &backlog{} }}

func (b *backlog) empty() bool { return b.first == b.end }

// add copies a frame, if there is room for it.
func (b *backlog) add(f *ports.Frame) bool {
	size := f.WireLen()
	if b.end+lengthLen+size > len(b.buf) {
		b.end = copy(b.buf[:], b.buf[b.first:b.end])
		b.first = 0
	}
	at := b.end + lengthLen
	if at+size > len(b.buf) {
		return false
	}
	putLength(b.buf[b.end:], size)
	f.CopyTo(b.buf[at : at+size])
	b.end = at + size
	return true
}

// load makes datagrams of the frames at the front, as many as one call of sendmmsg may send.
func (b *backlog) load(o *outbox) (n int) {
	o.clear()
	for at := b.first; at < b.end && n < burst; n++ {
		size := int(binary.BigEndian.Uint32(b.buf[at:]))
		at += lengthLen
		o.iov = append(o.iov, unix.Iovec{Base: &b.buf[at]})
		o.iov[n].SetLen(size)
		at += size
	}
	for i := range n {
		o.msgs[i].hdr.Iov = &o.iov[i]
		o.msgs[i].hdr.SetIovlen(1)
	}
	o.loaded = n
	return n
}

// drop removes the first n frames.
func (b *backlog) drop(n int) {
	for range n {
		b.first += lengthLen + int(binary.BigEndian.Uint32(b.buf[b.first:]))
	}
}
