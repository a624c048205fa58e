package ports

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBatchMakesFramesOfItsMemory(t *testing.T) {
	b := NewBatch(3)
	require.Equal(t, 3, b.Room())
	for i := range 3 {
		buf := b.Buffer(2048)
		require.Len(t, buf, 2048)
		require.Same(t, &buf[0], &b.Buffer(1000)[0], "a buffer that was not committed is offered again")
		n := copy(buf, count(100+i))
		f := b.Commit(n)
		require.Equal(t, count(100+i), f.Head())
		require.Len(t, f.Prepend(Headroom), Headroom+n)
		clear(f.Head()[:Headroom])
		f.TrimFront(Headroom)
	}
	require.Zero(t, b.Room())
	require.Nil(t, b.Buffer(60))
	require.False(t, b.Lend(new(Frame)))
	require.Equal(t, 3, b.Len())
	for i, f := range b.Frames() {
		require.Equal(t, count(100+i), f.Head(), "frames do not overlap, nor do their headrooms")
	}
}

func TestBatchReset(t *testing.T) {
	b := NewBatch(2)
	b.Buffer(100)
	f := b.Commit(50)
	f.VLAN = Tag{TPID: TPID8021Q, TCI: 1}
	f.Offload.NeedsChecksum = true
	f.AppendBody(count(10))
	b.Lend(frameOf(count(60)))
	b.Reset()
	require.Zero(t, b.Len())
	require.Equal(t, 2, b.Room())
	require.Empty(t, b.Frames())

	copy(b.Buffer(100), count(60))
	again := b.Commit(60)
	require.Same(t, f, again)
	require.Equal(t, count(60), wire(again), "the frame that was there before leaves nothing behind")
	require.Zero(t, again.Offload)
}

func TestBatchKeepsTheOrderOfLentAndOwnFrames(t *testing.T) {
	b := NewBatch(3)
	lent := frameOf(count(60))
	b.Buffer(10)
	first := b.Commit(10)
	require.True(t, b.Lend(lent))
	b.Buffer(10)
	last := b.Commit(10)
	require.Equal(t, []*Frame{first, lent, last}, b.Frames())
}

func TestBatchIsFullOfBytesToo(t *testing.T) {
	b := NewBatch(1000)
	n := 0
	for b.Buffer(MaxFrame) != nil {
		b.Commit(MaxFrame)
		n++
	}
	require.GreaterOrEqual(t, n, 4)
	require.Less(t, n, 16, "the memory of a batch is bounded")
	require.Positive(t, b.Room())
	b.Reset()
	require.NotNil(t, b.Buffer(MaxFrame))
}

// A device may have larger frames than the one that used the batch before.
func TestEmptyBatchTakesAnyLength(t *testing.T) {
	b := NewBatch(2)
	b.Buffer(60)
	b.Commit(60)
	require.Nil(t, b.Buffer(1<<20))
	b.Reset()
	require.Len(t, b.Buffer(1<<20), 1<<20)
	require.Equal(t, 1<<20, b.Commit(1<<20).Len())
}

func TestBatchWithoutRoom(t *testing.T) {
	b := NewBatch(0)
	require.Nil(t, b.Buffer(1))
	require.False(t, b.Lend(new(Frame)))
	require.Zero(t, b.Room())
}

func TestBatchAllocatesNothing(t *testing.T) {
	b := NewBatch(64)
	lent := frameOf(count(60))
	fill := func() {
		for b.Room() > 1 {
			b.Commit(copy(b.Buffer(1514), "a frame"))
		}
		b.Lend(lent)
		b.Reset()
	}
	fill()
	require.Zero(t, testing.AllocsPerRun(100, fill))
}

func TestBatchLimit(t *testing.T) {
	b := NewBatch(8)
	for _, limit := range []int{3, 1, 8, 0, 100, -1, 8} {
		b.Limit(limit)
		want := min(max(limit, 1), 8)
		require.Equal(t, want, b.Room())
		for range want {
			require.NotNil(t, b.Buffer(60))
			b.Commit(60)
		}
		require.Nil(t, b.Buffer(60))
		require.False(t, b.Lend(new(Frame)))
		require.Len(t, b.Frames(), want)
		b.Reset()
	}
}
