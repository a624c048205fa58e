package segment

import (
	"encoding/binary"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/ports"
)

// Complete makes dst a fork of src with the checksum completed that src asks for. src must have passed
// Check and must not ask for segmentation.
func Complete(dst, src *ports.Frame) error {
	dst.Fork(src)
	return Finish(dst)
}

// Finish completes the checksum that f asks for in the head of f itself, so the caller must own it. f
// must have passed Check and must not ask for segmentation.
func Finish(f *ports.Frame) error {
	o := &f.Offload
	if !o.NeedsChecksum {
		return nil
	}
	head := f.Head()
	start := int(o.ChecksumStart)
	at := start + int(o.ChecksumOffset)
	if o.Segment != ports.SegmentNone || at+2 > len(head) {
		return ErrChecksum
	}
	var s checksum.Sum
	s.Add(head[start:]) // with the field, which holds the sum of the pseudo header
	for _, b := range f.Body() {
		s.Add(b)
	}
	binary.BigEndian.PutUint16(head[at:], present(s.Checksum()))
	o.NeedsChecksum, o.ChecksumStart, o.ChecksumOffset = false, 0, 0
	return nil
}

// present returns a checksum in the form that does not mean, in UDP, that there is none (RFC 768). To
// all other protocols both forms of zero are the same.
func present(sum uint16) uint16 {
	if sum == 0 {
		return 0xffff
	}
	return sum
}
