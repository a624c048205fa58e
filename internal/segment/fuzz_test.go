package segment

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// FuzzSplit gives any bytes with any request to all that acts on requests.
func FuzzSplit(f *testing.F) {
	for _, p := range []packet{tcp4(700), tcp6(300), udp4(500), udp6(90), tcp4(500).tagged(), tcp4(0)} {
		for _, size := range []int{0, 100} {
			b, o := p.asking(f, size)
			f.Add(b, uint8(o.Segment), o.NeedsChecksum, o.ECN, o.SegmentSize, o.ChecksumStart, o.ChecksumOffset, uint8(0), uint64(1))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, kind uint8, sum, ecn bool, size, start, offset uint16, accept uint8, layout uint64) {
		fr := frame(rand.New(rand.NewPCG(layout, 0)), b, ports.Offload{
			NeedsChecksum: sum, Segment: ports.Segment(kind), ECN: ecn, SegmentSize: size,
			ChecksumStart: start, ChecksumOffset: offset,
		})
		o := fr.Offload
		can := ports.Offloads(accept) & ports.OffloadAll
		var s Segmenter
		refused := Check(fr)
		got, err := s.Split(fr, can)
		require.Equal(t, string(b), string(flat(fr)), "the frame itself has changed")
		require.Equal(t, o, fr.Offload)
		if o.Needs()&^can == 0 {
			require.NoError(t, err)
			require.Equal(t, []*ports.Frame{fr}, got)
			return
		}
		require.Equal(t, refused, err)
		if err != nil {
			require.Empty(t, got)
			return
		}
		var h header.Header
		h.Parse(fr.Head(), fr.Len())
		require.LessOrEqual(t, len(got), MaxSegments)
		if o.Segment == ports.SegmentNone {
			require.Len(t, got, 1)
			require.Zero(t, got[0].Offload.Needs()&^can)
			want := append([]byte(nil), b...)
			at := int(start) + int(offset)
			c := ^slowSum(want[start:])
			if c == 0 {
				c = 0xffff
			}
			binary.BigEndian.PutUint16(want[at:], c)
			require.Equal(t, want, flat(got[0]))
			return
		}
		var whole []byte
		for i, g := range got {
			var p header.Header
			seg := flat(g)
			p.Parse(g.Head(), g.Len())
			require.Equal(t, h, p, "segment %d has other headers", i)
			require.Zero(t, g.Offload.Needs()&^can)
			require.Equal(t, seg[:h.L3], b[:h.L3])
			require.LessOrEqual(t, len(seg)-int(h.Payload), int(size))
			if i < len(got)-1 {
				require.Len(t, seg, int(h.Payload)+int(size))
			}
			whole = append(whole, seg[h.Payload:]...)
			require.NoError(t, Finish(g))
			seg = flat(g)
			pseudo := append([]byte(nil), h.AddrBytes(seg)...)
			pseudo = append(pseudo, 0, h.Proto)
			pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(seg)-int(h.L4)))
			require.Equal(t, uint16(0xffff), slowSum(append(pseudo, seg[h.L4:]...)))
			if h.Flags.Has(header.IPv4) {
				require.Equal(t, uint16(0xffff), slowSum(seg[h.L3:h.L4]))
			}
		}
		end := int(h.L3) + int(binary.BigEndian.Uint16(b[h.L3+2:]))
		if h.Flags.Has(header.IPv6) {
			end = int(h.L3) + 40 + int(binary.BigEndian.Uint16(b[h.L3+4:]))
		}
		require.Equal(t, string(b[h.Payload:end]), string(whole))
	})
}
