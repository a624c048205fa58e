package capture

import (
	"encoding/binary"
	"math/bits"

	"github.com/hvswitch/hvswitch/internal/memfault"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// A record is what is captured of one batch: for each frame the finished block, see appendPacket, one
// behind the other, so that the writer can pass it on as it is. Only while it waits its first word is
//
//	state (8 bits), number of frames to be written (8), reason of the first frame (16)
//	length of the record (32)
//
// in place of the type and length of the first block. In a record that is marked the upper half of the type
// of each block, otherwise 0, is the number of the reason why its frame was dropped.
type record []byte

// State of a record, a set of bits.
const (
	settled = 1 << iota // it is known what became of the frames
	marked              // it is to be taken apart: not all frames are to be written as they are
)

// Numbers of reasons. Those of the reasons that have a comment are between.
const (
	alive  = 0      // not dropped
	unkept = 0xffff // what became of the frame is not what the filter wants
)

func (r record) init(size int) { le.PutUint64(r, uint64(size)<<32) }

func (r record) settle(frames int, state uint8) { r[0], r[1] = settled|state, uint8(frames) }

func (r record) size() int   { return int(le.Uint32(r[4:])) }
func (r record) frames() int { return int(r[1]) }

func (r record) is(state uint8) bool { return r[0]&state != 0 }

// id is the interface ID.
func (r record) id() uint32 { return le.Uint32(r[8:]) }

// restore makes the first word that of the block.
func (r record) restore() { le.PutUint64(r, packetWord(blockSize(r.captured()))) }

// captured is how much of the first frame is captured.
func (r record) captured() int { return int(le.Uint32(r[20:])) }

// next returns the first block, and the rest of the record.
func (r record) next() (block []byte, rest record) {
	n := blockSize(r.captured())
	return r[:n], r[n:]
}

func (r record) reason() uint16     { return le.Uint16(r[2:]) }
func (r record) setReason(n uint16) { le.PutUint16(r[2:], n) }

// sizeOf returns the size of a record of the frames in pick.
func sizeOf(b *extension.Batch, pick uint64, snapLen int) (size int) {
	for m := pick; m != 0; m &= m - 1 {
		size += blockSize(min(b.Frame(bits.TrailingZeros64(m)).WireLen(), snapLen))
	}
	return size
}

// fit returns the first frames of pick for which there is room, the size of their record, and the others.
func fit(b *extension.Batch, pick uint64, snapLen, room int) (fits uint64, size int, rest uint64) {
	for m := pick; m != 0; m &= m - 1 {
		n := sizeOf(b, m&-m, snapLen)
		if size+n > room {
			return pick &^ m, size, m
		}
		size += n
	}
	return pick, size, 0
}

// fill makes the blocks of the frames in pick, except for the first word, which the writer may read.
func (r record) fill(b *extension.Batch, pick uint64, snapLen int, id uint32, stamp uint64) {
	const tail = 4 + packetTrailer // with the padding
	where := uint64(id) | stamp>>32<<32
	options := packetOptions[b.Direction()&1]
	at := 0
	for m := pick; m != 0; m &= m - 1 {
		f := b.Frame(bits.TrailingZeros64(m))
		length := f.WireLen()
		n := min(length, snapLen)
		size := blockSize(n)
		block := r[at : at+size]
		if at > 0 {
			le.PutUint64(block, packetWord(size))
		}
		at += size

		// The end comes first: without data the header lies where the padding would.
		t := (*[tail]byte)(block[size-tail:])
		le.PutUint32(t[:], 0)
		le.PutUint64(t[4:], options)
		le.PutUint32(t[12:], optEnd)
		le.PutUint32(t[16:], uint32(size))
		h := (*[packetHeader]byte)(block)
		le.PutUint64(h[8:], where)
		le.PutUint32(h[16:], uint32(stamp))
		le.PutUint32(h[20:], uint32(n))
		le.PutUint32(h[24:], uint32(length))

		data := block[packetHeader : packetHeader+n]
		if head := f.Head(); n <= len(head) && length == f.Len() {
			copy(data, head)
		} else {
			copyWire(data, f)
		}
	}
}

// copyWire copies the first len(dst) bytes of a frame as it looks on the wire.
func copyWire(dst []byte, f *ports.Frame) {
	const macs, tag = 12, 4
	h := f.Head()
	if f.WireLen() != f.Len() {
		var start [macs + tag]byte
		copy(start[:macs], h)
		binary.BigEndian.PutUint16(start[macs:], f.VLAN.TPID)
		binary.BigEndian.PutUint16(start[macs+2:], f.VLAN.TCI)
		dst, h = dst[copy(dst, start[:]):], h[macs:]
	}
	if dst = dst[copy(dst, h):]; len(dst) > 0 {
		copyBody(dst, f)
	}
}

// copyBody copies the first len(dst) bytes of the body of a frame. What is memory of a guest may be gone, and comes as zeros
// then: the switch will find out.
func copyBody(dst []byte, f *ports.Frame) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if _, ok := memfault.Of(r); !ok {
			panic(r)
		}
		clear(dst)
	}()
	for _, s := range f.Body() {
		if len(dst) == 0 {
			break
		}
		dst = dst[copy(dst, s):]
	}
}
