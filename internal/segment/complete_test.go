package segment

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func TestComplete(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var dst ports.Frame
	for _, p := range []packet{tcp4(0), tcp4(1), tcp4(1448), tcp6(999), udp4(0), udp4(3000), udp6(77), tcp4(60000).tagged()} {
		for range 5 {
			want := p.bytes(t)
			b, o := p.asking(t, 0)
			src := frame(r, b, o)
			src.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: 9}
			require.NoError(t, Check(src))
			require.NoError(t, Complete(&dst, src))
			require.Equal(t, want, flat(&dst), "%v", p)
			require.Equal(t, src.VLAN, dst.VLAN)
			require.Equal(t, ports.Offload{}, dst.Offload)
			require.Equal(t, b, flat(src), "the frame itself has changed")
			require.Equal(t, o, src.Offload)

			var s Segmenter
			got, err := s.Split(src, 0)
			require.NoError(t, err)
			require.Len(t, got, 1)
			require.Equal(t, want, flat(got[0]))

			require.NoError(t, Finish(src))
			require.Equal(t, want, flat(src))
		}
	}
}

func TestCompleteKeepsAChecksumFromBeingAbsent(t *testing.T) {
	b, o := udp4(2).asking(t, 0)
	clear(b[42:44])
	binary.BigEndian.PutUint16(b[42:], ^slowSum(b[34:]))
	require.Equal(t, uint16(0xffff), slowSum(b[34:]))
	f := frame(rand.New(rand.NewPCG(1, 1)), b, o)
	require.NoError(t, Finish(f))
	require.Equal(t, uint16(0xffff), binary.BigEndian.Uint16(f.Head()[40:]))
}

func TestFinishOfAFrameThatWasNotChecked(t *testing.T) {
	f := frame(rand.New(rand.NewPCG(1, 1)), make([]byte, 60), ports.Offload{})
	require.NoError(t, Finish(f))
	f.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: 65535, ChecksumOffset: 65535}
	require.ErrorIs(t, Finish(f), ErrChecksum)
	f.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, Segment: ports.SegmentTCP4}
	require.ErrorIs(t, Finish(f), ErrChecksum)
}
