package ports

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func newPipe(t *testing.T, cfg *PipeConfig) (a, b *PipeEnd) {
	t.Helper()
	a, b, err := Pipe(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	return a, b
}

// sendNew sends n frames, numbered from first, and returns how many were taken.
func sendNew(t *testing.T, e *PipeEnd, first, n int) int {
	t.Helper()
	var fs []*Frame
	for i := range n {
		fs = append(fs, frameOf(ethernet(46, uint16(first+i))))
	}
	k, err := e.Tx(0).Send(fs)
	require.NoError(t, err)
	return k
}

func numberOf(f *Frame) int { return int(f.Head()[12])<<8 | int(f.Head()[13]) }

func TestPipeRefusesBadConfig(t *testing.T) {
	for says, cfg := range map[string]PipeConfig{
		`pipe "p": MTU 67 is out of 68–65535`:       {MTU: 67},
		`pipe "p": MTU 65536 is out of 68–65535`:    {MTU: 65536},
		`pipe "p": MTU -1 is out of 68–65535`:       {MTU: -1},
		`pipe "p": 257 queues are out of 1–256`:     {Queues: 257},
		`pipe "p": -1 queues are out of 1–256`:      {Queues: -1},
		`pipe "p": depth -1 is out of 1–65536`:      {Depth: -1},
		`pipe "p": depth 65537 is out of 1–65536`:   {Depth: 1<<16 + 1},
		`pipe "p": depth 1048576 is out of 1–65536`: {Depth: 1 << 20},
	} {
		cfg.Name = "p"
		a, b, err := Pipe(&cfg)
		require.EqualError(t, err, says)
		require.Nil(t, a)
		require.Nil(t, b)
	}
}

func TestPipeInfo(t *testing.T) {
	a, b := newPipe(t, nil)
	require.Equal(t, Info{MTU: 1500, RxQueues: 1, TxQueues: 1}, a.Info())
	require.Equal(t, a.Info(), b.Info())

	mac := MAC{2, 0, 0, 0, 0, 1}
	a, _ = newPipe(t, &PipeConfig{Name: "vm1", MAC: mac, MTU: 9000, Queues: 3, Offloads: OffloadAll})
	require.Equal(t, Info{Name: "vm1", MAC: mac, MTU: 9000, RxQueues: 3, TxQueues: 3, Offloads: OffloadAll}, a.Info())
}

func TestPipeDepthIsRoundedUp(t *testing.T) {
	for depth, holds := range map[int]int{1: 1, 2: 2, 3: 4, 200: 256, 256: 256, 257: 512} {
		a, _ := newPipe(t, &PipeConfig{Depth: depth})
		require.Equal(t, holds, sendNew(t, a, 0, 1000), "depth %d", depth)
	}
}

func TestPipeThatCarriesNothingHoldsNothing(t *testing.T) {
	a, b := newPipe(t, &PipeConfig{Queues: 8, Depth: 1 << 16})
	for i := range 8 {
		require.NoError(t, b.Rx(i).Recv(NewBatch(8)))
	}
	sendNew(t, a, 0, 1)
	for i := range 8 {
		require.Equal(t, i == 0, a.tx[i].slots != nil, "queue %d", i)
		require.Nil(t, b.tx[i].slots)
	}
}

func TestPipeRoomComesBackWithRelease(t *testing.T) {
	a, b := newPipe(t, &PipeConfig{Depth: 4})
	require.Equal(t, 4, sendNew(t, a, 0, 9))
	rx, batch := b.Rx(0), NewBatch(2)
	require.NoError(t, rx.Recv(batch))
	require.Equal(t, 2, batch.Len())
	require.Zero(t, sendNew(t, a, 9, 1), "what is lent keeps its place")
	batch.Reset()
	rx.Release()
	require.Equal(t, 2, sendNew(t, a, 4, 9))
	for want := 2; want < 6; want++ {
		one := NewBatch(1)
		require.NoError(t, rx.Recv(one))
		require.Equal(t, want, numberOf(one.Frames()[0]))
	}
	require.Zero(t, sendNew(t, a, 9, 1))
	rx.Release() // all that were lent since the last one
	require.Equal(t, 4, sendNew(t, a, 9, 9))
}

// The receiver owns what it is lent: it may change heads and add tags, and the frames that come later
// in the same slots know nothing of it.
func TestPipeForgetsWhatTheReceiverDid(t *testing.T) {
	a, b := newPipe(t, &PipeConfig{Depth: 2})
	rx, batch := b.Rx(0), NewBatch(2)
	for range 5 {
		require.Equal(t, 2, sendNew(t, a, 7, 2))
		require.NoError(t, rx.Recv(batch))
		for i, f := range batch.Frames() {
			require.Equal(t, ethernet(46, uint16(7+i)), wire(f))
			require.Zero(t, f.Offload)
			f.Prepend(Headroom)
			clear(f.Head())
			f.AppendBody(count(99))
			f.VLAN = Tag{TPID: TPID8021AD, TCI: 1}
			f.Offload = Offload{NeedsChecksum: true, Segment: SegmentUDP}
		}
		batch.Reset()
		rx.Release()
	}
}

func TestPipeDrop(t *testing.T) {
	a, b := newPipe(t, &PipeConfig{Drop: true, Depth: 4})
	require.Equal(t, 10, sendNew(t, a, 0, 10))
	require.EqualValues(t, 6, a.Dropped())
	require.Zero(t, b.Dropped(), "drops are counted where they were sent")
	batch := NewBatch(10)
	require.NoError(t, b.Rx(0).Recv(batch))
	require.Equal(t, 4, batch.Len())
	require.Equal(t, 3, numberOf(batch.Frames()[3]), "the oldest stay")

	lossless, _ := newPipe(t, &PipeConfig{Depth: 4})
	sendNew(t, lossless, 0, 10)
	require.Zero(t, lossless.Dropped())
}

func TestPipeKeepsWhatWasSentBeforeClose(t *testing.T) {
	a, b := newPipe(t, nil)
	sendNew(t, a, 0, 5)
	require.NoError(t, a.Close())
	for i := range 5 {
		one := NewBatch(1)
		require.NoError(t, b.Rx(0).Recv(one))
		require.Equal(t, i, numberOf(one.Frames()[0]))
	}
	require.ErrorIs(t, b.Rx(0).Recv(NewBatch(1)), ErrClosed)
	require.ErrorIs(t, a.Rx(0).Recv(NewBatch(1)), ErrClosed, "one end closes both")
	_, err := b.Tx(0).Send([]*Frame{frameOf(count(60))})
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, b.Close())
}

func TestPipeLink(t *testing.T) {
	a, b := newPipe(t, &PipeConfig{Speed: 1e9})
	var events []string
	say := func(who string) func(Link) {
		return func(l Link) {
			require.EqualValues(t, 1e9, l.Speed)
			events = append(events, who+map[bool]string{true: " up", false: " down"}[l.Up])
		}
	}
	a.WatchLink(say("a"))
	b.WatchLink(say("b"))
	sendNew(t, a, 1, 1)

	b.SetLink(false)
	b.SetLink(false)
	require.Equal(t, []string{"a down", "b down"}, events, "a change is told once, to both ends")
	require.False(t, a.Link().Up)
	n, err := a.Tx(0).Send([]*Frame{frameOf(count(60))})
	require.Zero(t, n)
	require.ErrorIs(t, err, ErrLinkDown)
	batch := NewBatch(4)
	require.NoError(t, b.Rx(0).Recv(batch))
	require.Equal(t, 1, batch.Len(), "what was sent before still arrives")

	events = nil
	a.SetLink(true)
	require.Equal(t, []string{"a up", "b up"}, events)
	require.Equal(t, 1, sendNew(t, a, 2, 1))

	events = nil
	b.WatchLink(nil)
	require.NoError(t, b.Close())
	require.Equal(t, []string{"a down"}, events, "Close takes the link down")
	a.SetLink(false)
	a.SetLink(true)
	require.Len(t, events, 1, "a closed pipe has no events")
	require.False(t, a.Link().Up)
}

func TestPipeClosedWhileDownTellsNothingNew(t *testing.T) {
	a, _ := newPipe(t, nil)
	a.SetLink(false)
	a.WatchLink(func(l Link) { t.Errorf("the link was down already: %+v", l) })
	require.NoError(t, a.Close())
}

func TestPipeRefusesOneFrameOfMany(t *testing.T) {
	a, b := newPipe(t, &PipeConfig{MTU: 100, Offloads: OffloadChecksum})
	plain := func(payload int) *Frame { return frameOf(ethernet(payload, 0x0800)) }
	asking := func(o Offload, payload int) *Frame { f := plain(payload); f.Offload = o; return f }
	checksum := Offload{NeedsChecksum: true}
	for name, c := range map[string]struct {
		frame *Frame
		err   error
	}{
		"full":                   {plain(100), nil},
		"too long":               {plain(101), ErrFrameSize},
		"checksum, full":         {asking(checksum, 100), nil},
		"checksum, too long":     {asking(checksum, 101), ErrFrameSize},
		"segmentation":           {asking(Offload{NeedsChecksum: true, Segment: SegmentTCP4}, 60), ErrOffload},
		"segmentation, too long": {asking(Offload{NeedsChecksum: true, Segment: SegmentTCP4}, 9000), ErrOffload},
		"longer than any frame":  {frameOf(count(MaxFrame + 1)), ErrFrameSize},
	} {
		n, err := a.Tx(0).Send([]*Frame{plain(46), c.frame, plain(46)})
		if c.err == nil {
			require.NoError(t, err, name)
			require.Equal(t, 3, n, name)
		} else {
			require.ErrorIs(t, err, c.err, name)
			require.Equal(t, 1, n, name)
		}
		batch := NewBatch(8)
		require.NoError(t, b.Rx(0).Recv(batch))
		require.Equal(t, n, batch.Len(), name)
		b.Rx(0).Release()
	}

	all, _ := newPipe(t, &PipeConfig{MTU: 100, Offloads: OffloadAll})
	large := asking(Offload{NeedsChecksum: true, Segment: SegmentTCP6, SegmentSize: 40}, MaxFrame-14)
	n, err := all.Tx(0).Send([]*Frame{large})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	n, err = all.Tx(0).Send([]*Frame{asking(large.Offload, MaxFrame-13)})
	require.ErrorIs(t, err, ErrFrameSize)
	require.Zero(t, n)
}

func TestPipeAllocatesNothing(t *testing.T) {
	a, b := newPipe(t, nil)
	frames := make([]*Frame, 64)
	for i := range frames {
		frames[i] = frameOf(ethernet(1500, 0x0800))
		frames[i].AppendBody(count(0))
	}
	tx, rx, batch := a.Tx(0), b.Rx(0), NewBatch(64)
	cross := func() {
		if n, err := tx.Send(frames); n != 64 || err != nil {
			t.Fatal(n, err)
		}
		if err := rx.Recv(batch); err != nil || batch.Len() != 64 {
			t.Fatal(batch.Len(), err)
		}
		batch.Reset()
		rx.Release()
	}
	for range 4 { // once through all slots
		cross()
	}
	require.Zero(t, testing.AllocsPerRun(100, cross))
}
