package segment

import (
	"errors"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// ErrFull says that a Segmenter has no memory for one more frame until it is reset.
var ErrFull = errors.New("segmenter is full")

// A Segmenter turns frames into such as a destination takes. It keeps the memory for MaxSegments heads at
// most (about 512 KiB) and uses it again, so it allocates nothing after the first frames. The zero value is
// ready. It is used by one goroutine at a time.
type Segmenter struct {
	chunks [MaxSegments / chunkLen]*chunk
	used   int // slots, from the first
	split  []*ports.Frame
}

const (
	chunkLen = 64 // slots that are allocated together: more than 64 KiB takes with full-size segments
	slotLen  = ports.Headroom + ports.HeadLen
)

// chunk is memory for the heads of frames and the frames with them.
type chunk struct {
	frames [chunkLen]ports.Frame
	heads  [chunkLen][slotLen]byte
}

// Split returns the frames that a destination which accepts those offloads takes in place of f, in their
// order: f itself if it takes that. They are valid until the next call of any method, and as long as f.
func (s *Segmenter) Split(f *ports.Frame, accept ports.Offloads) ([]*ports.Frame, error) {
	s.Reset()
	out, err := s.Append(s.split[:0], f, accept)
	s.split = out
	return out, err
}

// Append is Split for several frames: it adds to out, and what it added is valid until Reset. With an
// error it adds nothing. ErrFull asks to send what is in out, to reset and to try again; after a Reset
// each frame that passes Check has room.
//
// Each segment has the headers of f in a head of its own, in front of a piece of the payload of f; the
// fields that RFC 791, 8200, 9293 and 768 require are mended. Bytes behind the end of the IP packet are
// left out. A destination that accepts OffloadChecksum is left to complete the checksum of each.
func (s *Segmenter) Append(out []*ports.Frame, f *ports.Frame, accept ports.Offloads) ([]*ports.Frame, error) {
	if f.Offload.Needs()&^accept == 0 {
		return append(out, f), nil
	}
	var h header.Header
	h.Parse(f.Head(), f.Len())
	if err := CheckParsed(f, &h); err != nil {
		return out, err
	}
	if f.Offload.Segment != ports.SegmentNone {
		return s.cut(out, f, &h, accept)
	}
	if s.used == MaxSegments {
		return out, ErrFull
	}
	g, _ := s.slot()
	if err := Complete(g, f); err != nil {
		return out, err
	}
	return append(out, g), nil
}

// Reset takes back all frames that were returned.
func (s *Segmenter) Reset() {
	for ; s.used > 0; s.used-- {
		// Nothing may point into memory of a guest that is gone.
		i := s.used - 1
		c := s.chunks[i/chunkLen]
		c.frames[i%chunkLen].SetHead(c.heads[i%chunkLen][:], ports.Headroom, 0)
	}
	clear(s.split)
}

// slot returns the next unused frame and the memory for its head. There must be one.
func (s *Segmenter) slot() (*ports.Frame, *[slotLen]byte) {
	i, j := s.used/chunkLen, s.used%chunkLen
	s.used++
	c := s.chunks[i]
	if c == nil {
		c = new(chunk)
		for k := range c.frames {
			c.frames[k].SetHead(c.heads[k][:], ports.Headroom, 0)
		}
		s.chunks[i] = c
	}
	return &c.frames[j], &c.heads[j]
}
