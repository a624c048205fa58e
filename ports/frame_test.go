package ports

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// count returns n bytes that count up.
func count(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// frameOf makes a frame with headroom of a copy of b.
func frameOf(b []byte) *Frame {
	f := new(Frame)
	f.SetHead(append(make([]byte, Headroom, Headroom+len(b)), b...), Headroom, len(b))
	return f
}

func wire(f *Frame) []byte {
	b := make([]byte, f.WireLen())
	return b[:f.CopyTo(b)]
}

// ethernet makes a frame with these words, EtherTypes and TCIs of tags, behind its addresses.
func ethernet(payload int, words ...uint16) []byte {
	b := count(macsLen)
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, w)
	}
	return append(b, count(payload)...)
}

func TestZeroFrameIsEmpty(t *testing.T) {
	var f Frame
	require.Zero(t, f.Len())
	require.Zero(t, f.WireLen())
	require.Empty(t, f.Head())
	require.Empty(t, f.Body())
	require.False(t, f.PopTag())
	require.Nil(t, f.Prepend(1))
	require.True(t, f.Fits(0))
	require.Zero(t, f.CopyTo(nil))
	var c Frame
	c.CopyFrom(&f)
	require.Zero(t, c.Len())
	c.Fork(&f)
	require.Zero(t, c.Len())
}

func TestTag(t *testing.T) {
	for _, c := range []struct {
		tag     Tag
		present bool
		vid     uint16
		pcp     uint8
	}{
		{Tag{}, false, 0, 0},
		{Tag{TPID: TPID8021Q}, true, 0, 0},
		{Tag{TPID: TPID8021Q, TCI: 0xffff}, true, 4095, 7},
		{Tag{TPID: TPID8021AD, TCI: 5<<13 | 1<<12 | 100}, true, 100, 5},
	} {
		require.Equal(t, c.present, c.tag.Present(), "%+v", c.tag)
		require.Equal(t, c.vid, c.tag.VID(), "%+v", c.tag)
		require.Equal(t, c.pcp, c.tag.PCP(), "%+v", c.tag)
	}
}

func TestPopTagMovesTheOutermostTagBeside(t *testing.T) {
	for name, c := range map[string]struct {
		bytes []byte
		tag   Tag
		rest  []byte
	}{
		"customer tag":  {ethernet(46, 0x8100, 100, 0x0800), Tag{TPID8021Q, 100}, ethernet(46, 0x0800)},
		"service tag":   {ethernet(46, 0x88a8, 0xe001, 0x0800), Tag{TPID8021AD, 0xe001}, ethernet(46, 0x0800)},
		"two tags":      {ethernet(46, 0x88a8, 1, 0x8100, 2, 0x0800), Tag{TPID8021AD, 1}, ethernet(46, 0x8100, 2, 0x0800)},
		"priority tag":  {ethernet(46, 0x8100, 0, 0x0800), Tag{TPID8021Q, 0}, ethernet(46, 0x0800)},
		"shortest":      {ethernet(0, 0x8100, 1, 0x0800), Tag{TPID8021Q, 1}, ethernet(0, 0x0800)},
		"no tag":        {ethernet(46, 0x0800), Tag{}, nil},
		"tag cut short": {ethernet(1, 0x8100, 1), Tag{}, nil},
		"old QinQ":      {ethernet(46, 0x9100, 1, 0x0800), Tag{}, nil},
		"runt":          {ethernet(0), Tag{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := frameOf(c.bytes)
			popped := f.PopTag()
			require.Equal(t, c.tag.Present(), popped)
			require.Equal(t, c.tag, f.VLAN)
			require.Equal(t, c.bytes, wire(f), "the frame on the wire is the same")
			if popped {
				require.Equal(t, c.rest, f.Head())
				require.Equal(t, len(c.rest)+4, f.WireLen())
				require.False(t, f.PopTag(), "one is beside the frame already")
			}
		})
	}
}

func TestTagHasNoPlaceInARunt(t *testing.T) {
	for n := range macsLen + 1 {
		f := frameOf(count(n))
		f.VLAN = Tag{TPID: TPID8021Q, TCI: 7}
		f.Offload = Offload{NeedsChecksum: true, ChecksumStart: 20}
		want, start := count(n), uint16(20)
		if n == macsLen {
			want, start = append(want, 0x81, 0, 0, 7), 24
		}
		require.Equal(t, len(want), f.WireLen(), n)
		require.Equal(t, want, wire(f), n)
		var tag [4]byte
		require.True(t, bytes.Equal(want, bytes.Join(f.AppendVec(nil, &tag), nil)), n)
		require.Equal(t, start, f.WireOffload().ChecksumStart, n)
	}
}

func TestFits(t *testing.T) {
	inside := ethernet(100, 0x8100, 1, 0x0800)
	beside := frameOf(inside)
	beside.PopTag()
	double := frameOf(ethernet(100, 0x88a8, 1, 0x8100, 2, 0x0800))
	segmented := frameOf(ethernet(60, 0x0800))
	segmented.AppendBody(count(40))
	for name, f := range map[string]*Frame{
		"untagged":   frameOf(ethernet(100, 0x0800)),
		"tag inside": frameOf(inside),
		"tag beside": beside,
		"segments":   segmented,
	} {
		require.True(t, f.Fits(101), name)
		require.True(t, f.Fits(100), name)
		require.False(t, f.Fits(99), name)
		require.False(t, f.Fits(95), name)
	}
	require.False(t, double.Fits(103), "a second tag is payload")
	require.True(t, double.Fits(104))
	double.PopTag()
	require.False(t, double.Fits(103), "wherever the first one is")
	require.True(t, double.Fits(104))
}

func TestOffsetsFollowTheFront(t *testing.T) {
	f := frameOf(ethernet(100, 0x8100, 1, 0x0800))
	f.Offload = Offload{NeedsChecksum: true, ChecksumStart: 38, ChecksumOffset: 16, Segment: SegmentTCP4, HeaderLen: 58, SegmentSize: 9}
	asked := f.Offload

	require.True(t, f.PopTag())
	require.EqualValues(t, 34, f.Offload.ChecksumStart)
	require.EqualValues(t, 54, f.Offload.HeaderLen)
	require.EqualValues(t, 16, f.Offload.ChecksumOffset)
	require.Equal(t, asked, f.WireOffload())

	require.NotNil(t, f.Prepend(50))
	require.EqualValues(t, 84, f.Offload.ChecksumStart)
	f.TrimFront(50)
	require.Equal(t, asked, f.WireOffload())

	var plain Frame
	plain.CopyFrom(frameOf(count(60)))
	plain.Prepend(8)
	require.Zero(t, plain.Offload, "nothing is asked, nothing moves")
}

func TestPrependNeedsHeadroom(t *testing.T) {
	f := frameOf(count(60))
	require.Nil(t, f.Prepend(Headroom+1))
	require.Nil(t, f.Prepend(-1))
	require.Nil(t, f.Prepend(1<<40))
	require.Equal(t, count(60), f.Head(), "a refused call changes nothing")
	require.Len(t, f.Prepend(Headroom), Headroom+60)
	require.Nil(t, f.Prepend(1))
	require.Equal(t, count(60), f.Head()[Headroom:])
	require.Panics(t, func() { f.TrimFront(Headroom + 61) })
}

func TestCopyFromKeepsItsMemory(t *testing.T) {
	src := frameOf(count(1000))
	src.AppendBody(count(500))
	src.VLAN = Tag{TPID: TPID8021Q, TCI: 5}
	src.Offload = Offload{NeedsChecksum: true, ChecksumStart: 34}
	var c Frame
	c.CopyFrom(src)
	require.Equal(t, wire(src), wire(&c))
	require.Equal(t, src.Offload, c.Offload)
	require.Empty(t, c.Body())
	require.Len(t, c.Prepend(Headroom), Headroom+1500, "a copy has all its headroom")

	clear(src.Head())
	require.NotEqual(t, wire(src), wire(&c), "a copy is deep")

	memory := &c.buf[0]
	for _, n := range []int{60, 1514, 0, 14} {
		c.AppendBody(count(9)) // what the copy was before leaves nothing behind
		c.CopyFrom(frameOf(count(n)))
		require.Equal(t, count(n), wire(&c))
		require.Same(t, memory, &c.buf[0])
	}
	c.CopyFrom(frameOf(count(MaxFrame)))
	require.Equal(t, MaxFrame, c.Len())
}

func TestForkSharesTheBodyOnly(t *testing.T) {
	src := frameOf(count(1000))
	body := count(500)
	src.AppendBody(body)
	src.VLAN = Tag{TPID: TPID8021AD, TCI: 9}
	looks := wire(src)
	var f Frame
	f.Fork(src)
	require.Equal(t, looks, wire(&f))
	require.Len(t, f.Head(), HeadLen)
	require.Same(t, &body[0], &f.Body()[1][0])

	clear(f.Head())
	f.VLAN = Tag{}
	f.Offload.NeedsChecksum = true
	f.Prepend(50)
	require.Equal(t, looks, wire(src), "what is done to a fork does not reach its source")
	require.Zero(t, src.Offload)

	f.Fork(frameOf(count(20)))
	require.Equal(t, count(20), wire(&f))
	require.Empty(t, f.Body())
}

func TestFrameOperationsAllocateNothing(t *testing.T) {
	src := frameOf(ethernet(1496, 0x8100, 7, 0x0800))
	src.AppendBody(count(3000))
	var c, fork Frame
	var tag [4]byte
	vec := make([][]byte, 0, 8)
	dst := make([]byte, MaxFrame)
	use := func() {
		c.CopyFrom(src)
		c.PopTag()
		c.Prepend(50)
		c.TrimFront(50)
		c.CopyTo(dst)
		vec = c.AppendVec(vec[:0], &tag)
		fork.Fork(src)
		fork.PopTag()
		fork.CopyTo(dst)
		_ = fork.Fits(1500)
	}
	use() // the first use makes their memory
	require.Zero(t, testing.AllocsPerRun(100, use))
}
