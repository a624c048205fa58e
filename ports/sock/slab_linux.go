package sock

import (
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

const (
	// slots is how many datagrams a slab holds, and how many frames it lends.
	slots = 64

	// slotSize is that of headroom and the longest frame, in whole cache lines. It is no multiple
	// of 4 KiB, so that the heads of frames do not compete for the same lines of the cache.
	slotSize = (ports.Headroom + ports.MaxFrame + 63) &^ 63

	// chunkSize is how much of a stream is read at once: more than a batch of 64 frames of 1500
	// bytes, and than twice the longest frame.
	chunkSize = 128 << 10
)

// slab is memory that frames are received into and lent from: a chunk of a stream, or datagrams. Most
// of it is never touched, as most frames are short.
type slab struct {
	mem    []byte
	frames [slots]ports.Frame
	lent   int // of frames

	msgs [slots]mmsghdr
	iov  [slots]unix.Iovec
}

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

var slabs = shelf[slab]{make: func() *slab {
	s := &slab{mem: make([]byte, slots*slotSize)}
	for i := range s.msgs {
		s.iov[i].Base = &s.mem[i*slotSize+ports.Headroom]
		s.iov[i].SetLen(ports.MaxFrame)
		s.msgs[i].hdr.Iov = &s.iov[i]
		s.msgs[i].hdr.SetIovlen(1)
	}
	return s
}}

// lend adds a frame to b that is buf[off:].
func (s *slab) lend(b *ports.Batch, buf []byte, off int) {
	f := &s.frames[s.lent]
	s.lent++
	f.SetHead(buf, off, len(buf)-off)
	b.Lend(f)
}

// loan is slabs that frames have been lent from.
type loan []*slab

// put adds a slab, or puts it back at once when none of its frames is lent.
func (l *loan) put(s *slab) {
	if s.lent == 0 {
		slabs.put(s)
		return
	}
	*l = append(*l, s)
}

// end takes back what has been lent.
func (l *loan) end() {
	for _, s := range *l {
		s.lent = 0
		slabs.put(s)
	}
	clear(*l)
	*l = (*l)[:0]
}
