package coalesce

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// Bits in front of each frame of a fuzz input; its length follows.
const (
	fuzzPartial = 1 << iota
	fuzzWhole
	fuzzTag
	fuzzSegment
	fuzzECN
	fuzzStart // the checksum begins one byte later
)

// fuzzInput writes frames as fuzzFrames reads them.
func fuzzInput(frames []*ports.Frame) (b []byte) {
	for _, f := range frames {
		bits := byte(0)
		if f.Offload.NeedsChecksum {
			bits |= fuzzPartial
		}
		if f.Offload.ChecksumValid {
			bits |= fuzzWhole
		}
		if f.VLAN.Present() {
			bits |= fuzzTag
		}
		b = binary.BigEndian.AppendUint16(append(b, bits), uint16(f.Len()))
		b = append(b, f.Head()...)
	}
	return b
}

func fuzzFrames(b []byte) (frames []*ports.Frame) {
	for len(b) >= 3 {
		bits, n := b[0], min(int(binary.BigEndian.Uint16(b[1:]))&2047, len(b)-3)
		f := new(ports.Frame)
		f.SetHead(append(make([]byte, ports.Headroom), b[3:3+n]...), ports.Headroom, n)
		b = b[3+n:]
		frames = append(frames, f)
		if bits&fuzzTag != 0 {
			f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: 5}
		}
		var h header.Header
		h.Parse(f.Head(), f.Len())
		f.Offload = ports.Offload{NeedsChecksum: bits&fuzzPartial != 0, ECN: bits&fuzzECN != 0}
		if f.Offload.NeedsChecksum {
			f.Offload.ChecksumStart, f.Offload.ChecksumOffset = h.L4+uint16(bits&fuzzStart/fuzzStart), 16
		}
		if bits&fuzzSegment != 0 {
			f.Offload.Segment, f.Offload.SegmentSize = ports.SegmentTCP4, 100
		}
		if bits&fuzzWhole != 0 && h.L4 > 0 && h.Payload > 0 {
			// A device says so of a right checksum only.
			pseudo := append([]byte{0, h.Proto}, h.AddrBytes(f.Head())...)
			pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(f.Len()-int(h.L4)))
			f.Offload.ChecksumValid = slowSum(append(pseudo, f.Head()[h.L4:]...)) == 0xffff
		}
	}
	return frames
}

// FuzzJoin joins any frames. What comes out can be cut, and then is what went in, in its order.
func FuzzJoin(f *testing.F) {
	for _, k := range kinds {
		s := newStream(443)
		s.v6, s.state = k.v6, k.state
		other := newStream(444)
		var frames []*ports.Frame
		for i := range 4 {
			p := s.next(200)
			p.tcp.PSH = i == 2
			frames = append(frames, p.frame(f))
			if i == 1 {
				frames = append(frames, other.next(200).frame(f))
			}
		}
		f.Add(fuzzInput(frames))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frames := fuzzFrames(b)
		before := onWire(frames)
		var c Coalescer
		out := join(&c, frames)
		for _, f := range out {
			require.LessOrEqual(t, len(f.Body()), maxSegments-1)
			require.LessOrEqual(t, f.Len(), ports.MaxFrame)
			require.GreaterOrEqual(t, len(f.Head()), min(f.Len(), ports.HeadLen))
			if len(f.Body()) > 0 {
				require.NoError(t, segment.Check(f))
			}
		}
		requireSame(t, before, onWire(out))
	})
}
