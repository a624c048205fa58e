package vhostuser

import (
	"encoding/binary"
	"errors"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/internal/vnethdr"
	"github.com/hvswitch/hvswitch/ports"
)

// txQueue sends to a guest, on the ring that the device has chosen for it.
type txQueue struct {
	dev       *device
	ring      atomic.Pointer[ring] // nil while the link is down
	segmenter *segment.Segmenter   // on first use
	vec       [][]byte
	tag       [tagLen]byte
	hdr       [vnethdr.MergeableSize]byte
	sent      int
	undo      ringMark // to be gone back to when a frame cannot be read
	undoes    bool
}

var _ ports.TxQueue = &txQueue{}

// Why a frame is not put into a ring.
var (
	errFull   = errors.New("ring is full")
	errBroken = errors.New("ring is broken")
)

// Send implements ports.TxQueue.
func (q *txQueue) Send(frames []*ports.Frame) (int, error) {
	v := q.ring.Load()
	if v == nil {
		return 0, q.dev.downError()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.active.Load() || v.pause.Load() {
		return 0, q.dev.downError()
	}
	q.sent = 0
	err := q.putAll(v, frames)
	if err == errSource && q.undoes {
		v.back(q.undo)
	}
	q.undoes = false
	if v.pending > 0 && v.running {
		if e := v.guarded(v.publish); e != nil {
			err = e
		}
	}
	if !v.running {
		return 0, ports.ErrLinkDown
	}
	if err == errFull {
		err = nil
	}
	return q.sent, err
}

// putAll puts frames into the ring until one does not go in.
func (q *txQueue) putAll(v *ring, frames []*ports.Frame) (err error) {
	defer v.rescue(debug.SetPanicOnFault(true), &err)
	v.drop()
	for i, f := range frames {
		if len(f.Head()) < etherLen {
			return ports.ErrFrameSize
		}
		if f.Offload.Segment == ports.SegmentNone {
			if !f.Fits(v.mtu) {
				return ports.ErrFrameSize
			}
		} else if f.Len() > ports.MaxFrame {
			return ports.ErrFrameSize
		}
		if f.Offload.IsZero() || f.Offload.Needs()&^v.guestTakes == 0 {
			err = q.put(v, f, len(frames)-i)
		} else {
			err = q.putSplit(v, f)
		}
		if err != nil {
			return err
		}
		q.sent++
	}
	return nil
}

// putSplit puts what the guest takes in place of a frame of whose request it cannot do a part.
func (q *txQueue) putSplit(v *ring, f *ports.Frame) error {
	if f.Offload.Needs()&^v.dev.info.Offloads != 0 {
		return ports.ErrOffload
	}
	if q.segmenter == nil {
		q.segmenter = new(segment.Segmenter)
	}
	parts, err := q.segmenter.Split(f, v.guestTakes)
	defer q.segmenter.Reset()
	if err != nil {
		return err
	}
	mark := v.mark()
	for i, p := range parts {
		q.undo, q.undoes = mark, true
		if err := q.put(v, p, len(parts)-i); err != nil {
			v.back(mark)
			return err
		}
	}
	q.undoes = false
	return nil
}

// put copies a frame into the next buffers of the guest. more is how many frames there are to send, this
// one included.
func (q *txQueue) put(v *ring, f *ports.Frame, more int) error {
	e := v.nextEntry(more)
	if e == nil {
		return v.none()
	}
	frameLen := f.WireLen()
	total := v.hdrLen + uint32(frameLen)
	if e.flags&(descNext|descIndirect) != 0 || e.len < total || e.mem == nil {
		return q.putChains(v, e, f, total)
	}
	p := e.mem
	if f.Offload.IsZero() && !f.Offload.ChecksumValid {
		*(*uint64)(p) = 0
		*(*uint32)(unsafe.Add(p, 8)) = 1 << 16 // num_buffers, or written over by the frame
	} else {
		q.header(v, f, 1)
		copy(unsafe.Slice((*byte)(p), vnethdr.MergeableSize), q.hdr[:v.hdrLen])
	}
	dst := unsafe.Slice((*byte)(unsafe.Add(p, v.hdrLen)), frameLen)
	if h := f.Head(); len(h) == frameLen {
		copy(dst, h)
	} else {
		f.CopyTo(dst)
	}
	if v.log != nil {
		v.log.mark(e.addr, uint64(total))
	}
	if v.plain {
		v.usePlain(e, total)
	} else {
		v.use(e, total)
	}
	return nil
}

// none says why there is no entry.
func (v *ring) none() error {
	if !v.running {
		return errBroken
	}
	return errFull
}

// header makes the virtio-net header of a frame in buffers many chains.
func (q *txQueue) header(v *ring, f *ports.Frame, buffers int) {
	o := f.WireOffload()
	if v.guestTakes&ports.OffloadChecksum == 0 {
		o.ChecksumValid = false // the guest does not know of it
	}
	vnethdr.Put(q.hdr[:], o)
	binary.LittleEndian.PutUint16(q.hdr[vnethdr.Size:], uint16(buffers))
}

// nextEntry returns the next chain, or nil.
func (v *ring) nextEntry(more int) *entry {
	if v.next == len(v.entries) {
		v.fetch(more)
		if len(v.entries) == 0 {
			return nil
		}
		v.reach()
	}
	e := &v.entries[v.next]
	v.next++
	return e
}

// touchLen is where the second cache line of a short frame begins at the latest.
const touchLen = 64

// reach finds the buffers of the chains that were fetched, where they are one. It writes to their first
// cache lines, which the guest had, so that the processor gets them all at the same time: it does not look
// far ahead when it stores.
func (v *ring) reach() {
	touch := v.log == nil
	for i := range v.entries {
		e := &v.entries[i]
		if e.flags&(descNext|descWrite|descIndirect) != descWrite || e.len < touchLen+8 {
			continue
		}
		p := v.hot.at(e.addr, e.len)
		if p == nil {
			if p = v.atOther(e.addr, e.len); p == nil {
				continue
			}
		}
		e.mem = p
		if touch {
			*(*uint64)(p) = 0
			*(*uint64)(unsafe.Add(p, touchLen)) = 0
		}
	}
}

// putChains is put for a frame that needs more than the one buffer of e, or for any other chain.
func (q *txQueue) putChains(v *ring, e *entry, f *ports.Frame, total uint32) error {
	mark := v.mark()
	if !q.undoes {
		q.undo, q.undoes = mark, true
	}
	v.chain = v.chain[:0]
	buffers := 0
	for left := uint64(total); ; {
		n, err := v.gather(e, descWrite)
		if err == nil && buffers == 0 && n < uint64(v.hdrLen) {
			err = errNoHeader
		}
		if err != nil {
			v.violate(err)
			return errBroken
		}
		n = min(n, left)
		v.use(e, uint32(n))
		left -= n
		buffers++
		if left == 0 {
			break
		}
		if !v.mergeable {
			v.back(mark)
			return ports.ErrFrameSize
		}
		if e = v.nextEntry(1 + int(left/1500)); e == nil {
			err := v.none()
			v.back(mark)
			return err
		}
	}
	q.header(v, f, buffers)
	q.vec = append(q.vec[:0], q.hdr[:v.hdrLen])
	q.vec = f.AppendVec(q.vec, &q.tag)
	v.copyIn(q.vec)
	clear(q.vec)
	q.undoes = false
	return nil
}

// copyIn copies slices to the buffers of v.chain, which must have room for them.
func (v *ring) copyIn(vec [][]byte) {
	i := 0
	dst := v.chain[0].bytes()
	for _, src := range vec {
		for len(src) > 0 {
			if len(dst) == 0 {
				i++
				dst = v.chain[i].bytes()
			}
			n := copy(dst, src)
			if v.log != nil {
				s := &v.chain[i]
				v.log.mark(s.guest+uint64(int(s.n)-len(dst)), uint64(n))
			}
			dst, src = dst[n:], src[n:]
		}
	}
}

// ringMark is a state of a ring to which back returns.
type ringMark struct {
	lastAvail uint16
	availWrap bool
	pending   int
	slots     uint32
	resend    []uint16
}

func (v *ring) mark() ringMark {
	return ringMark{v.lastAvail, v.availWrap, v.pending, v.slots, v.resend}
}

// back takes back the use of chains since mark was called.
func (v *ring) back(m ringMark) {
	if !v.running {
		return
	}
	v.lastAvail, v.availWrap, v.pending, v.slots, v.resend = m.lastAvail, m.availWrap, m.pending, m.slots, m.resend
	if v.packed {
		v.usedList = v.usedList[:m.pending]
	}
	v.drop()
}
