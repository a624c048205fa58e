package vhostuser

import (
	"encoding/binary"
	"runtime/debug"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hvswitch/hvswitch/internal/vnethdr"
	"github.com/hvswitch/hvswitch/ports"
)

const (
	etherLen = 14
	macsLen  = 12
	tagLen   = 4

	// maxBody is how many buffers the body of a frame may have before it is copied, so that
	// frames do not become large themselves. Linux uses 18 at most (MAX_SKB_FRAGS).
	maxBody = 32
)

// rxQueue receives what a guest sends on one ring.
type rxQueue struct {
	ring   *ring
	bell   bell
	idle   time.Time // when it was found empty first; zero when it was not
	closed bool      // guarded by ring.mu
	rarp   atomic.Pointer[ports.MAC]
	mayAsk ports.Offloads // what the guest may leave to us; guarded by ring.mu
	muted  bool           // the link is set down; guarded by ring.mu
	sink   uint64         // of reads that are made for the cache only
	hdr    [vnethdr.MergeableSize]byte

	tooLong, malformed, discarded atomic.Uint64
}

var (
	_ ports.RxQueue  = &rxQueue{}
	_ ports.Notifier = &rxQueue{}
)

// SetBell implements ports.Notifier.
func (q *rxQueue) SetBell(ring func()) { q.bell.set(ring) }

// Recv implements ports.RxQueue.
func (q *rxQueue) Recv(b *ports.Batch) error {
	v := q.ring
	v.mu.Lock()
	defer v.mu.Unlock()
	if q.closed {
		return ports.ErrClosed
	}
	if q.rarp.Load() != nil && !q.muted {
		q.announce(b)
	}
	if !v.running || v.pause.Load() {
		return nil
	}
	had := b.Len()
	q.receive(b)
	if b.Len() > had {
		v.lent = true
		q.idle = time.Time{}
	}
	return nil
}

// receive takes chains off the ring. A fault ends it: frames that were added before keep their bytes in
// the batch, and whoever reads their bodies will find out.
func (q *rxQueue) receive(b *ports.Batch) {
	v := q.ring
	var err error
	defer v.rescue(debug.SetPanicOnFault(true), &err)
	if !v.quiet && !v.empty() {
		v.refuseNotify()
	}
	lent := v.lent
	if discard := q.muted || !v.enabled; discard {
		q.discard()
	} else {
		had := b.Len()
		for left := b.Room(); left > 0; left -= len(v.entries) {
			// Chains that make no frame count too, or the guest could keep us here.
			v.fetch(left)
			if len(v.entries) == 0 || !q.takeAll(b) {
				break
			}
		}
		lent = lent || b.Len() > had
	}
	if !lent {
		v.publish() // the caller need not call Release
	}
}

// takeAll makes frames of the chains that were fetched. It reports false when b or the ring takes no
// more.
func (q *rxQueue) takeAll(b *ports.Batch) bool {
	v := q.ring
	entries := v.entries
	for i := range entries {
		e := &entries[i]
		if e.flags&(descNext|descWrite|descIndirect) != 0 || e.len < vnethdr.MergeableSize+etherLen {
			continue
		}
		p := v.hot.at(e.addr, e.len)
		if p == nil {
			p = v.atOther(e.addr, e.len)
		}
		if p != nil {
			e.mem = p
			e.hdr = *(*uint64)(p)
			q.sink += uint64(*(*byte)(unsafe.Add(p, vnethdr.MergeableSize)))
		}
	}
	for i := range entries {
		e := &entries[i]
		ok := false
		if e.mem != nil {
			ok = q.take(b, e)
		} else {
			ok = q.takeChain(b, e)
		}
		if !ok {
			return false
		}
		if v.plain {
			v.usePlain(e, 0)
		} else {
			v.use(e, 0)
		}
	}
	return true
}

// take makes a frame of a chain of one buffer. It reports false when b takes no more; frames that cannot
// be are counted.
func (q *rxQueue) take(b *ports.Batch, e *entry) bool {
	hdr := q.ring.hdrLen
	n := e.len - hdr
	p := unsafe.Add(e.mem, hdr)
	if n > ports.MaxFrame+tagLen {
		q.tooLong.Add(1)
		return true
	}
	var o ports.Offload
	if uint16(e.hdr) != 0 { // flags and gso_type
		binary.LittleEndian.PutUint64(q.hdr[:], e.hdr)
		*(*uint16)(unsafe.Pointer(&q.hdr[8])) = *(*uint16)(unsafe.Add(e.mem, 8))
		var ok bool
		if o, ok = q.offload(); !ok {
			return true
		}
	}
	head := min(n, ports.HeadLen)
	buf := b.Buffer(int(head))
	if buf == nil {
		return false
	}
	copy(buf, unsafe.Slice((*byte)(p), head))
	if n > ports.MaxFrame && !tagged(buf) {
		q.tooLong.Add(1)
		return true
	}
	f := b.Commit(int(head))
	if n > head {
		f.AppendBody(unsafe.Slice((*byte)(unsafe.Add(p, head)), n-head))
	}
	f.Offload = o
	if n > ports.MaxFrame {
		f.PopTag()
	}
	return true
}

// offload parses q.hdr. It reports false, and counts, when no frame can be meant by it.
func (q *rxQueue) offload() (ports.Offload, bool) {
	o, err := vnethdr.Parse(q.hdr[:])
	if err != nil || o.Needs()&^q.mayAsk != 0 {
		q.malformed.Add(1)
		return o, false
	}
	o.ChecksumValid = false // that is not for the guest to say
	return o, true
}

// takeChain is take for any chain.
func (q *rxQueue) takeChain(b *ports.Batch, e *entry) bool {
	v := q.ring
	v.chain = v.chain[:0]
	total, err := v.gather(e, 0)
	hdr := uint64(v.hdrLen)
	if err == nil && total < hdr {
		err = errNoHeader
	}
	if err != nil {
		v.violate(err)
		return false
	}
	n := total - hdr
	switch {
	case n < etherLen:
		q.malformed.Add(1)
		return true
	case n > ports.MaxFrame+tagLen:
		q.tooLong.Add(1)
		return true
	}
	at := v.copyOut(chainPos{}, q.hdr[:hdr])
	o, ok := q.offload()
	if !ok {
		return true
	}
	head := min(n, ports.HeadLen)
	if len(v.chain) > maxBody {
		head = n
	}
	buf := b.Buffer(int(head))
	if buf == nil {
		return false
	}
	at = v.copyOut(at, buf)
	if n > ports.MaxFrame && !tagged(buf) {
		q.tooLong.Add(1)
		return true
	}
	f := b.Commit(len(buf))
	f.Offload = o
	for ; at.i < len(v.chain); at = (chainPos{at.i + 1, 0}) {
		f.AppendBody(v.chain[at.i].bytes()[at.off:])
	}
	if n > ports.MaxFrame {
		f.PopTag()
	}
	return true
}

// tagged tells whether the bytes of a frame, etherLen at least, have a VLAN tag among them.
func tagged(b []byte) bool {
	t := binary.BigEndian.Uint16(b[macsLen:])
	return t == ports.TPID8021Q || t == ports.TPID8021AD
}

// chainPos is a place in v.chain.
type chainPos struct {
	i   int
	off uint32
}

// copyOut copies len(dst) bytes, which must be there, from a place on and returns the place behind them.
func (v *ring) copyOut(at chainPos, dst []byte) chainPos {
	for len(dst) > 0 {
		s := v.chain[at.i].bytes()[at.off:]
		n := copy(dst, s)
		dst = dst[n:]
		if at.off += uint32(n); n == len(s) {
			at = chainPos{at.i + 1, 0}
		}
	}
	return at
}

// discard takes what is there and drops it (vhost-user, "Ring states").
func (q *rxQueue) discard() {
	v := q.ring
	for range maxRing / fetchLen {
		v.fetch(fetchLen)
		if len(v.entries) == 0 {
			return
		}
		for i := range v.entries {
			v.use(&v.entries[i], 0)
		}
		q.discarded.Add(uint64(len(v.entries)))
	}
}

// announce receives the frame that SEND_RARP asks for in the name of a guest that has moved here and
// cannot do it itself: a RARP request for its own address (RFC 903), as QEMU sends.
func (q *rxQueue) announce(b *ports.Batch) {
	const frameLen = 60
	buf := b.Buffer(frameLen)
	if buf == nil {
		return
	}
	mac := q.rarp.Swap(nil)
	f := append(buf[:0], ports.Broadcast[:]...)
	f = append(f, mac[:]...)
	f = append(f, 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3)
	f = append(f, mac[:]...)
	f = append(f, 0, 0, 0, 0)
	f = append(f, mac[:]...)
	clear(buf[len(f):])
	b.Commit(frameLen)
	q.ring.lent = true
}

// Release implements ports.RxQueue.
func (q *rxQueue) Release() {
	v := q.ring
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lent = false
	if v.held != nil {
		v.dropHeld()
	}
	if v.pending > 0 {
		_ = v.guarded(v.publish)
	}
}

func (v *ring) dropHeld() {
	for _, m := range v.held {
		m.drop()
	}
	v.held = nil
}

// Arm implements ports.Notifier.
func (q *rxQueue) Arm() bool {
	v := q.ring
	v.mu.Lock()
	defer v.mu.Unlock()
	q.bell.armed.Store(true)
	if q.closed || q.rarp.Load() != nil {
		q.bell.armed.Store(false)
		return true
	}
	if !v.running || v.pause.Load() {
		return false
	}
	if v.dev.cfg.BusyPoll > 0 && q.busy() {
		q.bell.armed.Store(false)
		return true
	}
	ready := false
	if v.guarded(func() {
		v.askNotify()
		ready = !v.empty()
	}) == nil && ready {
		q.bell.armed.Store(false)
		return true
	}
	return false
}

// busy reports whether the queue, which is empty, asks to be polled all the same.
func (q *rxQueue) busy() bool {
	now := time.Now()
	if q.idle.IsZero() {
		q.idle = now
	}
	return now.Sub(q.idle) < q.ring.dev.cfg.BusyPoll
}
