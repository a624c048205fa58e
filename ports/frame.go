package ports

import "encoding/binary"

const (
	// Headroom is the number of free bytes in front of the head of every frame that a Batch
	// or a Pipe made: room for a VLAN tag and the longest tunnel header.
	Headroom = 128

	// HeadLen is the least length of a head: a frame shorter than this lies in its head as a
	// whole, a longer one has at least this many bytes there. Headers are parsed in the head
	// only.
	HeadLen = 256

	// MaxFrame is the longest frame: an Ethernet header and the largest IP packet. Longer
	// ones do not occur, because no segmentation request can describe them.
	MaxFrame = etherLen + 65535
)

// Frame is one Ethernet frame without its FCS, in two parts.
//
// The head is private memory: its bytes do not change under the reader, whatever the sender does,
// so what has been checked stays true. It holds the headers, and often the whole frame. The body is
// the rest, in segments that may be memory of a guest; it is carried, never parsed.
//
// Beside the bytes ride the outermost VLAN tag and the offload request, so tagging moves no bytes
// and a 64 KiB TCP segment crosses as one frame.
//
// A frame is lent: it belongs to whoever made it, and is valid until that one takes it back (for
// received frames, until RxQueue.Release). Whoever wants to keep it copies it. A Frame must not be
// copied by value and must not be used by two goroutines at once unless both only read.
type Frame struct {
	buf      []byte // private memory, head and headroom
	off, end uint32 // the head is buf[off:end]

	// VLAN is the frame's outermost tag when it rides beside the bytes; the zero Tag means
	// that none does. Whoever sends the frame on a wire inserts it after the source address.
	VLAN Tag

	// Offload is what the sender left to be done: checksum, segmentation.
	Offload Offload

	bodyLen uint32
	body    [][]byte
}

// Tag is an IEEE 802.1Q (or, by its TPID, 802.1ad) tag. The zero Tag is no tag.
type Tag struct {
	TPID uint16 // 0x8100 or 0x88a8; 0 when there is no tag
	TCI  uint16 // PCP (3 bits), DEI (1 bit), VID (12 bits)
}

// EtherTypes of VLAN tags.
const (
	TPID8021Q  = 0x8100 // customer tag, IEEE 802.1Q table 9-1
	TPID8021AD = 0x88a8 // service tag, IEEE 802.1Q table 9-1
)

// Present reports whether there is a tag.
func (t Tag) Present() bool { return t.TPID != 0 }

// VID returns the VLAN identifier, 0 … 4095; 0 means priority only.
func (t Tag) VID() uint16 { return t.TCI & 0xfff }

// PCP returns the 802.1p priority, 0 … 7.
func (t Tag) PCP() uint8 { return uint8(t.TCI >> 13) }

const (
	macsLen  = 12 // destination and source address, in front of a tag
	tagLen   = 4
	etherLen = 14
)

// Head returns the private head of the frame. It may be modified until the frame is released,
// by the owner of the frame only.
func (f *Frame) Head() []byte { return f.buf[f.off:f.end] }

// Body returns the segments that follow the head. They must not be modified.
func (f *Frame) Body() [][]byte { return f.body }

// Len returns the length of head and body in bytes, without the tag beside them.
func (f *Frame) Len() int { return int(f.end-f.off) + int(f.bodyLen) }

// tagged reports whether a tag beside the frame has a place in it: without both addresses there is
// none, and the tag stays out of every wire form.
func (f *Frame) tagged() bool { return f.VLAN.TPID != 0 && f.end-f.off >= macsLen }

// Fits reports whether the payload behind the Ethernet header and the outermost tag, be it beside the
// frame or among its bytes, is at most mtu bytes long: what Info.MTU bounds.
func (f *Frame) Fits(mtu int) bool {
	over := f.Len() - (etherLen + mtu)
	return over <= 0 || over <= tagLen && f.VLAN.TPID == 0 && f.tagInside()
}

// tagInside reports whether the bytes of the frame begin with a tag.
func (f *Frame) tagInside() bool {
	h := f.Head()
	if len(h) < macsLen+tagLen+2 {
		return false
	}
	tpid := binary.BigEndian.Uint16(h[macsLen:])
	return tpid == TPID8021Q || tpid == TPID8021AD
}

// WireLen returns the length of the frame with its tag inserted.
func (f *Frame) WireLen() int {
	if f.tagged() {
		return f.Len() + tagLen
	}
	return f.Len()
}

// WireOffload returns the offload request with offsets that count from the start of the frame with
// its tag inserted.
func (f *Frame) WireOffload() Offload {
	o := f.Offload
	if f.tagged() {
		o.shift(tagLen)
	}
	return o
}

// SetHead makes buf[off:off+n] the head of an otherwise empty frame and buf[:off] its headroom:
// no body, no tag, no offload request. The frame refers to buf, which must be memory that nobody
// else writes; CopyFrom and Fork may write it later, so buf stays with the frame for good or until
// another SetHead.
func (f *Frame) SetHead(buf []byte, off, n int) {
	_ = buf[off : off+n]
	f.buf, f.off, f.end = buf, uint32(off), uint32(off+n)
	f.VLAN, f.Offload = Tag{}, Offload{}
	if f.body != nil {
		f.clearBody()
	}
}

func (f *Frame) clearBody() {
	clear(f.body)
	f.body = f.body[:0]
	f.bodyLen = 0
}

// AppendBody adds a segment to the end of the frame. The frame refers to seg.
func (f *Frame) AppendBody(seg []byte) {
	if len(seg) > 0 {
		f.body = append(f.body, seg)
		f.bodyLen += uint32(len(seg))
	}
}

// Prepend grows the head by n bytes at its front and returns the new head, or nil when the headroom
// is shorter than n. The new bytes have any value. Offsets of the offload request are adjusted.
func (f *Frame) Prepend(n int) []byte {
	if n < 0 || n > int(f.off) {
		return nil
	}
	f.off -= uint32(n)
	f.Offload.shift(n)
	return f.Head()
}

// TrimFront removes the first n bytes of the head, which must be at least that long. Offsets of the
// offload request are adjusted.
func (f *Frame) TrimFront(n int) {
	_ = f.buf[f.off:f.end][n:]
	f.off += uint32(n)
	f.Offload.shift(-n)
}

// PopTag moves an outermost 802.1Q or 802.1ad tag in the bytes of the frame beside it. It does
// nothing and returns false when there is none, or when a tag is beside the frame already.
func (f *Frame) PopTag() bool {
	if f.VLAN.TPID != 0 || !f.tagInside() {
		return false
	}
	h := f.Head()
	f.VLAN = Tag{
		TPID: binary.BigEndian.Uint16(h[macsLen:]),
		TCI:  binary.BigEndian.Uint16(h[macsLen+2:]),
	}
	copy(h[tagLen:tagLen+macsLen], h[:macsLen])
	f.TrimFront(tagLen)
	return true
}

// CopyTo writes the frame as it looks on the wire, its tag inserted, to dst and returns WireLen.
// dst must be at least that long.
func (f *Frame) CopyTo(dst []byte) int {
	h := f.Head()
	n := 0
	if f.tagged() {
		_ = dst[macsLen+tagLen-1]
		copy(dst, h[:macsLen])
		binary.BigEndian.PutUint16(dst[macsLen:], f.VLAN.TPID)
		binary.BigEndian.PutUint16(dst[macsLen+2:], f.VLAN.TCI)
		n, h = macsLen+tagLen, h[macsLen:]
	}
	n += copy(dst[n:], h)
	for _, s := range f.body {
		n += copy(dst[n:], s)
	}
	return n
}

// AppendVec appends the frame as it looks on the wire to vec, as slices of the frame's own memory
// and, for the tag, of *tag, whose bytes it writes: what writev and sendmsg want.
func (f *Frame) AppendVec(vec [][]byte, tag *[4]byte) [][]byte {
	h := f.Head()
	if f.tagged() {
		binary.BigEndian.PutUint16(tag[0:], f.VLAN.TPID)
		binary.BigEndian.PutUint16(tag[2:], f.VLAN.TCI)
		vec = append(vec, h[:macsLen], tag[:])
		h = h[macsLen:]
	}
	vec = append(vec, h)
	return append(vec, f.body...)
}

// CopyFrom makes f a deep copy of src, tag and offload request included, in memory of its own,
// which it keeps and uses again.
func (f *Frame) CopyFrom(src *Frame) {
	n := src.Len()
	if len(f.buf) < Headroom+n {
		f.buf = make([]byte, bufSize(Headroom+n))
	}
	d := f.buf[Headroom : Headroom+n]
	k := copy(d, src.buf[src.off:src.end])
	if src.bodyLen != 0 {
		for _, s := range src.body {
			k += copy(d[k:], s)
		}
	}
	f.off, f.end = Headroom, uint32(Headroom+n)
	f.VLAN, f.Offload = src.VLAN, src.Offload
	if f.bodyLen != 0 {
		f.clearBody()
	}
}

// bufSize rounds n up so that a buffer that was needed once serves what comes next: the small, the
// full-size and the segmented frame.
func bufSize(n int) int {
	for _, c := range []int{512, 2048, 9216 + Headroom, 20480} {
		if n <= c {
			return c
		}
	}
	return max(n, Headroom+MaxFrame)
}

// Fork makes f a frame of its own head and the body of src: what may be changed is copied (the first
// HeadLen bytes, the tag, the offload request), the rest is shared. f is valid as long as src is.
func (f *Frame) Fork(src *Frame) {
	if len(f.buf) < Headroom+HeadLen {
		f.buf = make([]byte, Headroom+HeadLen)
	}
	h := src.Head()
	n := copy(f.buf[Headroom:Headroom+HeadLen], h)
	f.off, f.end = Headroom, uint32(Headroom+n)
	f.VLAN, f.Offload = src.VLAN, src.Offload
	if f.bodyLen != 0 {
		f.clearBody()
	}
	if src.bodyLen == 0 && n == len(h) {
		return
	}
	f.AppendBody(h[n:])
	for _, s := range src.body {
		f.AppendBody(s)
	}
}
