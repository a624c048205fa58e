package afpacket

import (
	"encoding/binary"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/internal/checksum"
	"github.com/hvswitch/hvswitch/internal/coalesce"
	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// tcpStream returns n segments of 1,448 bytes that follow one another, as a sender delivers them that
// leaves checksums to its device.
func tcpStream(t testing.TB, n int) (wires [][]byte, o ports.Offload) {
	t.Helper()
	for i := range n {
		b, whole := tcpSegment(54 + 1448)
		binary.BigEndian.PutUint16(b[18:], uint16(i)) // ID
		clear(b[24:26])
		binary.BigEndian.PutUint16(b[24:], checksum.Of(b[14:34]))
		binary.BigEndian.PutUint32(b[38:], uint32(1+1448*i))
		binary.BigEndian.PutUint32(b[60:], uint32(i)) // payload
		wires = append(wires, b)
		o = ports.Offload{NeedsChecksum: true, ChecksumStart: whole.ChecksumStart, ChecksumOffset: whole.ChecksumOffset}
	}
	return wires, o
}

// cutAgain returns the frames as a device gets them that cannot segment but completes checksums.
func cutAgain(t testing.TB, frames []*ports.Frame) (wires [][]byte) {
	t.Helper()
	var s segment.Segmenter
	for _, f := range frames {
		pieces, err := s.Split(f, ports.OffloadChecksum)
		require.NoError(t, err)
		for _, p := range pieces {
			b := make([]byte, p.WireLen())
			p.CopyTo(b)
			wires = append(wires, b)
		}
	}
	return wires
}

// arrived waits until the kernel has filled n places of the ring of an Interface that has received nothing yet.
func arrived(t testing.TB, i *Interface, n int) {
	t.Helper()
	q := i.rx[0]
	eventually(t, "the frames do not arrive", func() bool {
		return atomic.LoadUint32(status(q.place(uint32(n-1))))&unix.TP_STATUS_USER != 0
	})
}

func TestSegmentsAreJoined(t *testing.T) {
	s := newScene(t, nil)
	const n = maxJoined + 45
	want, o := tcpStream(t, n)
	for _, b := range want {
		s.put(b, o)
	}
	arrived(t, s.i, n)
	q := s.i.Rx(0)
	require.NoError(t, q.Recv(s.batch))
	require.Equal(t, uint64(maxJoined), s.i.Stats().Coalesced, "one call joins no more")
	require.Equal(t, 45*1448, s.batch.Frames()[0].Len()-54)
	got := cutAgain(t, s.batch.Frames())
	s.release()
	require.NoError(t, q.Recv(s.batch))
	got = append(got, cutAgain(t, s.batch.Frames())...)
	s.release()
	require.Equal(t, len(want), len(got))
	for i := range want {
		require.Equal(t, want[i], got[i], "frame %d", i)
	}
	require.Equal(t, Stats{Coalesced: s.i.Stats().Coalesced}, s.i.Stats())
	require.Greater(t, s.i.Stats().Coalesced, uint64(maxJoined))
}

func TestNoCoalescing(t *testing.T) {
	s := newScene(t, &Config{NoCoalescing: true})
	want, o := tcpStream(t, 20)
	for _, b := range want {
		s.put(b, o)
	}
	arrived(t, s.i, len(want))
	for i, f := range s.recv(len(want)) {
		require.Zero(t, f.Offload.Segment)
		require.Equal(t, want[i], f.Head())
	}
	require.Zero(t, s.i.Stats())
}

// A longer frame of the flow, which waits in the socket, keeps what is in front of it from what is behind it.
func TestSegmentsAroundALongFrame(t *testing.T) {
	s := newScene(t, nil)
	want, o := tcpStream(t, 4)
	long, longOffload := tcpSegment(54 + 3*1448)
	s.put(want[0], o)
	s.put(want[1], o)
	s.put(long, longOffload)
	s.put(want[2], o)
	s.put(want[3], o)
	arrived(t, s.i, 5)
	var lengths []int
	for _, f := range s.recv(3) {
		lengths = append(lengths, f.Len()-54)
	}
	require.Equal(t, []int{2 * 1448, 3 * 1448, 2 * 1448}, lengths)
}

func TestPlacesOfJoinedSegmentsAreLent(t *testing.T) {
	k, b := newKernel(), ports.NewBatch(4)
	k.join = new(coalesce.Coalescer)
	wires, _ := tcpStream(t, 3)
	const needsChecksum = 1
	for _, w := range wires {
		at := k.at
		k.fill(t, unix.Tpacket2Hdr{Len: uint32(len(w)), Snaplen: uint32(len(w))}, []byte{needsChecksum, 0, 0, 0, 0, 0, 34, 0, 16, 0})
		copy(k.place(at)[slotSize-1600:], w)
	}
	require.NoError(t, k.Recv(b))
	require.Len(t, b.Frames(), 1)
	require.Len(t, b.Frames()[0].Body(), 2)
	for i := range uint32(3) {
		require.False(t, k.owns(k.at-1-i))
	}
	b.Reset()
	k.Release()
	for i := range uint32(3) {
		require.True(t, k.owns(k.at-1-i))
	}
}
