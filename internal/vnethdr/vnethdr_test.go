package vnethdr

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// header builds a header from its fields.
func header(flags, gso byte, hdrLen, size, start, offset uint16) []byte {
	le := func(v uint16) (byte, byte) { return byte(v), byte(v >> 8) }
	b := []byte{flags, gso, 9: 0}
	for i, v := range []uint16{hdrLen, size, start, offset} {
		b[2+2*i], b[3+2*i] = le(v)
	}
	return b
}

func tcp4() ports.Offload {
	return ports.Offload{NeedsChecksum: true, Segment: ports.SegmentTCP4, SegmentSize: 1448, HeaderLen: 66, ChecksumStart: 34, ChecksumOffset: 16}
}

func with(o ports.Offload, set func(*ports.Offload)) ports.Offload {
	set(&o)
	return o
}

func TestWireForm(t *testing.T) {
	for _, c := range []struct {
		name string
		wire []byte
		o    ports.Offload
	}{
		{"nothing", make([]byte, 10), ports.Offload{}},
		{"checked", header(2, 0, 0, 0, 0, 0), ports.Offload{ChecksumValid: true}},
		{"checksum", header(1, 0, 0, 0, 34, 6), ports.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6}},
		{"TCP over IPv4", header(1, 1, 66, 1448, 34, 16), tcp4()},
		{"TCP over IPv4 with ECN", header(1, 0x81, 66, 1448, 34, 16), with(tcp4(), func(o *ports.Offload) { o.ECN = true })},
		{"TCP over IPv6", header(1, 4, 74, 1428, 54, 16),
			ports.Offload{NeedsChecksum: true, Segment: ports.SegmentTCP6, SegmentSize: 1428, HeaderLen: 74, ChecksumStart: 54, ChecksumOffset: 16}},
		{"UDP", header(1, 5, 42, 1472, 34, 6),
			ports.Offload{NeedsChecksum: true, Segment: ports.SegmentUDP, SegmentSize: 1472, HeaderLen: 42, ChecksumStart: 34, ChecksumOffset: 6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := Parse(c.wire)
			require.NoError(t, err)
			assert.Equal(t, c.o, o)

			dirty := []byte{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 7, 7}
			Put(dirty, c.o)
			assert.Equal(t, c.wire, dirty[:Size])
			assert.Equal(t, []byte{7, 7}, dirty[Size:], "num_buffers is the caller's")
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		wire []byte
		err  error
	}{
		{"short", make([]byte, 9), errShort},
		{"nil", nil, errShort},
		{"unknown type", header(1, 2, 54, 1448, 34, 16), errType},
		{"UDP tunnel", header(1, 0x21, 54, 1448, 34, 16), errType},
		{"UFO", header(1, 3, 42, 1472, 34, 6), errUFO},
		{"ECN alone", header(1, 0x80, 54, 1448, 34, 16), errECN},
		{"ECN with UDP", header(1, 0x85, 42, 1472, 34, 6), errECN},
		{"segments of 0 bytes", header(1, 1, 54, 0, 34, 16), errSize},
		{"segments without checksum", header(0, 1, 54, 1448, 34, 16), errNoSum},
		{"segments checked already", header(2, 1, 54, 1448, 34, 16), errNoSum},
		{"sum over the Ethernet header", header(1, 0, 0, 0, 13, 16), errSumStart},
		{"TCP inside the IPv4 header", header(1, 1, 54, 1448, 33, 16), errSumStart},
		{"TCP inside the IPv6 header", header(1, 4, 74, 1448, 53, 16), errSumStart},
		{"UDP inside the IPv4 header", header(1, 5, 42, 1448, 33, 6), errSumStart},
		{"TCP with the checksum of UDP", header(1, 1, 54, 1448, 34, 6), errSumPlace},
		{"UDP with the checksum of TCP", header(1, 5, 42, 1448, 34, 16), errSumPlace},
		{"sum beyond the frame", header(1, 0, 0, 0, 65535, 65535), errSumEnd},
		{"headers beyond the frame", header(1, 1, 0, 1448, 65530, 16), errSumEnd},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := Parse(c.wire)
			require.ErrorIs(t, err, c.err)
			assert.ErrorIs(t, err, ports.ErrOffload)
			assert.Zero(t, o)
		})
	}
}

func TestParseIgnoresWhatHasNoMeaning(t *testing.T) {
	o, err := Parse(header(0xfc, 0, 1, 2, 3, 4))
	require.NoError(t, err)
	assert.Zero(t, o)

	o, err = Parse(header(1, 0, 60, 1448, 34, 16))
	require.NoError(t, err)
	assert.Equal(t, ports.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16}, o)
}

func TestHeaderLenIsBounded(t *testing.T) {
	for _, c := range []struct {
		name         string
		gso          byte
		start, place uint16
		wire, want   uint16
	}{
		{"left out", 1, 34, 16, 0, 54},
		{"too short", 1, 34, 16, 53, 54},
		{"no options", 1, 34, 16, 54, 54},
		{"all options", 1, 34, 16, 94, 94},
		{"too long", 1, 34, 16, 95, 54},
		{"the whole world", 4, 54, 16, 65535, 74},
		{"UDP left out", 5, 34, 6, 0, 42},
		{"UDP too long", 5, 34, 6, 43, 42},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := Parse(header(1, c.gso, c.wire, 1000, c.start, c.place))
			require.NoError(t, err)
			assert.Equal(t, c.want, o.HeaderLen)
		})
	}
}

func TestPutNeedsRoom(t *testing.T) {
	assert.Panics(t, func() { Put(make([]byte, Size-1), tcp4()) })
}

func TestNoAllocation(t *testing.T) {
	good, bad := header(1, 1, 66, 1448, 34, 16), header(1, 3, 0, 0, 0, 0)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		o, _ := Parse(good)
		Put(good, o)
		_, _ = Parse(bad)
	}))
}

func FuzzParse(f *testing.F) {
	f.Add(header(1, 1, 66, 1448, 34, 16))
	f.Add(header(1, 0x84, 74, 1428, 54, 16))
	f.Add(header(1, 5, 42, 1472, 34, 6))
	f.Add(header(2, 0, 0, 0, 0, 0))
	f.Add(header(1, 0, 0, 0, 65535, 65535))
	f.Fuzz(func(t *testing.T, src []byte) {
		o, err := Parse(src)
		if err != nil {
			assert.ErrorIs(t, err, ports.ErrOffload)
			assert.Zero(t, o)
			return
		}
		if o.NeedsChecksum {
			assert.GreaterOrEqual(t, o.ChecksumStart, uint16(14))
			assert.LessOrEqual(t, int(o.ChecksumStart)+int(o.ChecksumOffset)+2, ports.MaxFrame)
		}
		if o.Segment != ports.SegmentNone {
			assert.True(t, o.NeedsChecksum)
			assert.NotZero(t, o.SegmentSize)
			assert.Greater(t, o.HeaderLen, o.ChecksumStart)
		}

		again := make([]byte, Size)
		Put(again, o)
		o2, err := Parse(again)
		require.NoError(t, err)
		assert.Equal(t, o, o2)
	})
}

func BenchmarkParsePut(b *testing.B) {
	for name, h := range map[string][]byte{"nothing": make([]byte, Size), "TCP": header(1, 1, 66, 1448, 34, 16)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				o, _ := Parse(h)
				Put(h, o)
			}
		})
	}
}
