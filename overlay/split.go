package overlay

import (
	"errors"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// A Splitter encapsulates frames for a provider network that cannot segment them: an inner frame with a
// segmentation request is cut first, each segment is encapsulated then. It keeps memory for the heads of
// 1,024 segments and allocates nothing once that is there; a large batch makes it keep several times as
// much. The zero Splitter is ready. It is used by one goroutine at a time.
type Splitter struct {
	segmenters []*segment.Segmenter
	used       int // of segmenters
}

// Append adds to out what a network whose devices accept those offloads takes in place of f, an inner
// frame whose head the caller owns: encapsulated frames that ask at most for a checksum to be completed.
// What it added is valid until Reset, and as long as f, which may be among it. With an error it adds
// nothing; those that concern the request wrap ports.ErrOffload.
//
// mtu is that of the provider network in bytes. Where the guest's segments are longer than it allows,
// TCP is cut into shorter ones; UDP keeps its datagrams, and the caller has to look at their length.
func (s *Splitter) Append(out []*ports.Frame, f *ports.Frame, t *Tunnel, id VSID, accept ports.Offloads, mtu int) ([]*ports.Frame, error) {
	var h header.Header
	if err := parse(f, &h); err != nil {
		return out, err
	}
	return s.append(out, f, &h, t, id, nil, accept, mtu)
}

func (s *Splitter) append(out []*ports.Frame, f *ports.Frame, h *header.Header, t *Tunnel, id VSID, next *ports.MAC, accept ports.Offloads, mtu int) ([]*ports.Frame, error) {
	accept &= ports.OffloadChecksum
	if t.checksum {
		accept = 0
	}
	switch {
	case f.Offload.Needs()&^accept == 0:
		if err := t.put(f, h, id, next); err != nil {
			return out, err
		}
		return append(out, f), nil
	case f.Offload.Segment == ports.SegmentNone:
		if err := segment.CheckParsed(f, h); err != nil {
			return out, err
		}
		if err := segment.Finish(f); err != nil {
			return out, err
		}
		if err := t.put(f, h, id, next); err != nil {
			return out, err
		}
		return append(out, f), nil
	}
	shorten(f, h, mtu-t.n)
	n := len(out)
	out, err := s.cut(out, f, accept)
	if err != nil {
		return out, err
	}
	for _, g := range out[n:] {
		// The offsets of the segments' headers are those of the frame.
		if err := t.put(g, h, id, next); err != nil {
			return out[:n], err
		}
	}
	return out, nil
}

// shorten makes the segments of TCP fit mtu bytes behind the Ethernet header.
func shorten(f *ports.Frame, h *header.Header, mtu int) {
	if h.Proto != header.TCP || h.Payload == 0 {
		return
	}
	if room := mtu - int(h.Payload-h.L3); room > 0 && int(f.Offload.SegmentSize) > room {
		f.Offload.SegmentSize = uint16(room)
	}
}

func (s *Splitter) cut(out []*ports.Frame, f *ports.Frame, accept ports.Offloads) ([]*ports.Frame, error) {
	if s.used == 0 {
		s.next()
	}
	out, err := s.segmenters[s.used-1].Append(out, f, accept)
	if errors.Is(err, segment.ErrFull) {
		s.next()
		out, err = s.segmenters[s.used-1].Append(out, f, accept)
	}
	return out, err
}

func (s *Splitter) next() {
	if s.used == len(s.segmenters) {
		s.segmenters = append(s.segmenters, new(segment.Segmenter))
	}
	s.used++
}

// Reset takes back all frames that were returned.
func (s *Splitter) Reset() {
	for ; s.used > 0; s.used-- {
		s.segmenters[s.used-1].Reset()
	}
}
