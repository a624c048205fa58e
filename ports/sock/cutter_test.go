package sock

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// reader is a receive queue without a socket: what is fed to it comes out in frames.
type reader struct {
	cutter
	rest []byte
	got  [][]byte
}

func (r *reader) feed(b []byte) error {
	data := append(r.rest, b...)
	for {
		frame, rest, err := r.cut(data)
		if err != nil {
			return err
		}
		if data = rest; frame == nil {
			r.rest = bytes.Clone(data)
			return nil
		}
		r.got = append(r.got, bytes.Clone(frame[lengthLen:]))
	}
}

func ether(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + n)
	}
	return b
}

func wire(frames ...[]byte) (s []byte) {
	for _, f := range frames {
		s = binary.BigEndian.AppendUint32(s, uint32(len(f)))
		s = append(s, f...)
	}
	return s
}

func TestCutAtEveryByte(t *testing.T) {
	want := [][]byte{ether(60), ether(14), ether(301), ether(60)}
	s := wire(want[0], ether(0), want[1], ether(13), want[2], want[3])
	for first := range len(s) + 1 {
		for second := first; second <= len(s); second += 1 + (second-first)/2 {
			r := reader{}
			for _, part := range [][]byte{s[:first], s[first:second], s[second:]} {
				require.NoError(t, r.feed(part))
			}
			require.Equal(t, want, r.got, "cut at %d and %d", first, second)
			require.Empty(t, r.rest)
			require.Equal(t, Stats{Runts: 2}, r.count)
		}
	}
}

func TestCutByteByByte(t *testing.T) {
	want := [][]byte{ether(ports.MaxFrame), ether(60)}
	r := reader{}
	for _, s := range [][]byte{wire(ether(ports.MaxFrame + 1)), wire(want[0]), wire(ether(maxLength), want[1])} {
		for len(s) > 0 {
			n := min(len(s), 1+len(s)%999)
			require.NoError(t, r.feed(s[:n]))
			require.LessOrEqual(t, len(r.rest), lengthLen+ports.MaxFrame)
			s = s[n:]
		}
	}
	require.Equal(t, want, r.got)
	require.Equal(t, Stats{TooLong: 2}, r.count)
}

func TestLengthThatNobodySends(t *testing.T) {
	for _, n := range []uint32{maxLength + 1, 1 << 20, math.MaxInt32, 1 << 31, math.MaxUint32} {
		r := reader{}
		require.ErrorContains(t, r.feed(binary.BigEndian.AppendUint32(wire(ether(60)), n)), "of length")
		require.Equal(t, [][]byte{ether(60)}, r.got, "what came before is good")
		require.Equal(t, Stats{Violations: 1}, r.count)
	}
}

// FuzzCut cuts any bytes in two ways, which must come to the same, and be what the lengths say.
func FuzzCut(f *testing.F) {
	f.Add(wire(ether(60), ether(14)), uint16(3))
	f.Add(wire(ether(60), ether(13), ether(0), ether(1514)), uint16(70))
	f.Add(wire(ether(ports.MaxFrame+1), ether(60)), uint16(4000))
	f.Add([]byte{0, 1, 0x10, 0, 1, 2, 3}, uint16(5))
	f.Add([]byte{0, 1, 0x10, 1, 1, 2, 3}, uint16(1))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint16(2))
	f.Fuzz(func(t *testing.T, s []byte, at uint16) {
		whole, parts := reader{}, reader{}
		err := whole.feed(s)
		n := min(int(at), len(s))
		err2 := parts.feed(s[:n])
		if err2 == nil {
			err2 = parts.feed(s[n:])
		}
		require.Equal(t, err, err2)
		require.Equal(t, whole.got, parts.got)
		require.Equal(t, whole.count, parts.count)
		if err == nil {
			require.True(t, bytes.Equal(whole.rest, parts.rest))
			require.Equal(t, whole.skip, parts.skip)
		}

		var want [][]byte
		for len(s) >= lengthLen {
			n := int64(binary.BigEndian.Uint32(s))
			s = s[lengthLen:]
			if n > maxLength || n > int64(len(s)) {
				break
			}
			if n >= etherLen && n <= ports.MaxFrame {
				want = append(want, bytes.Clone(s[:n]))
			}
			s = s[n:]
		}
		require.Equal(t, want, whole.got)
	})
}
