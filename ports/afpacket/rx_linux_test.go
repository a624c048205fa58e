package afpacket

import (
	"math"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/internal/vnethdr"
	"github.com/hvswitch/hvswitch/ports"
)

// kernel plays the kernel's part at the ring of a receive queue without a socket.
type kernel struct {
	*rxQueue
	at uint32
}

func newKernel() *kernel {
	const places = 32
	q := &rxQueue{dev: &device{}, fd: -1, ring: make([]byte, places*slotSize), frames: make([]ports.Frame, places)}
	q.next = math.MaxUint32 - places/2 // where the count wraps around
	return &kernel{rxQueue: q, at: q.next}
}

// owns reports whether a place is the kernel's.
func (k *kernel) owns(n uint32) bool { return atomic.LoadUint32(status(k.place(n))) == 0 }

// fill puts a frame at the next place, which must be free.
func (k *kernel) fill(t *testing.T, h unix.Tpacket2Hdr, vnet []byte) {
	t.Helper()
	require.True(t, k.owns(k.at))
	place := k.place(k.at)
	h.Mac = slotSize - 1600
	copy(place[h.Mac-vnethdr.Size:], make([]byte, vnethdr.Size))
	copy(place[h.Mac-vnethdr.Size:], vnet)
	state := h.Status
	h.Status = 0
	*(*unix.Tpacket2Hdr)(unsafe.Pointer(&place[0])) = h
	atomic.StoreUint32(status(place), state|unix.TP_STATUS_USER)
	k.at++
}

func TestTagOfReceivedFrame(t *testing.T) {
	for name, c := range map[string]struct {
		state uint32
		want  ports.Tag
	}{
		"none":         {0, ports.Tag{}},
		"without TPID": {unix.TP_STATUS_VLAN_VALID, ports.Tag{TPID: ports.TPID8021Q, TCI: 0x2003}},
		"with TPID": {unix.TP_STATUS_VLAN_VALID | unix.TP_STATUS_VLAN_TPID_VALID,
			ports.Tag{TPID: ports.TPID8021AD, TCI: 0x2003}},
	} {
		k, b := newKernel(), ports.NewBatch(4)
		k.fill(t, unix.Tpacket2Hdr{Status: c.state, Len: 60, Snaplen: 60, Vlan_tci: 0x2003, Vlan_tpid: 0x88a8}, nil)
		require.NoError(t, k.Recv(b))
		require.Len(t, b.Frames(), 1, name)
		require.Equal(t, c.want, b.Frames()[0].VLAN, name)
	}
}

func TestReceivedFrameHasHeadroom(t *testing.T) {
	k, b := newKernel(), ports.NewBatch(4)
	k.fill(t, unix.Tpacket2Hdr{Len: 60, Snaplen: 60}, nil)
	k.fill(t, unix.Tpacket2Hdr{Len: 60, Snaplen: 60}, nil)
	require.NoError(t, k.Recv(b))
	for _, f := range b.Frames() {
		for i := range f.Prepend(ports.Headroom) {
			f.Head()[i] = 0xff
		}
	}
	require.Equal(t, 2, b.Len())
	k.Release()
	require.True(t, k.owns(k.at-1) && k.owns(k.at-2))
}

// What is dropped is counted by its reason, and gives its place back though the caller has nothing to
// release.
func TestDroppedFrames(t *testing.T) {
	badSegment := []byte{1, 1, 54, 0, 0, 0, 34, 0, 16, 0} // of size 0
	for name, c := range map[string]struct {
		h    unix.Tpacket2Hdr
		vnet []byte
		want Stats
	}{
		"empty":           {unix.Tpacket2Hdr{}, nil, Stats{Malformed: 1}},
		"runt":            {unix.Tpacket2Hdr{Len: 13, Snaplen: 13}, nil, Stats{Malformed: 1}},
		"bad header":      {unix.Tpacket2Hdr{Len: 60, Snaplen: 60}, badSegment, Stats{Malformed: 1}},
		"cut":             {unix.Tpacket2Hdr{Len: 3000, Snaplen: 1600}, nil, Stats{Dropped: 1}},
		"cut, losing":     {unix.Tpacket2Hdr{Status: unix.TP_STATUS_LOSING, Len: 3000, Snaplen: 1600}, nil, Stats{Dropped: 1}},
		"beyond MaxFrame": {unix.Tpacket2Hdr{Status: unix.TP_STATUS_COPY, Len: ports.MaxFrame + 1, Snaplen: 1600}, nil, Stats{TooLong: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			k, b := newKernel(), ports.NewBatch(4)
			for n := range uint64(100) {
				k.fill(t, c.h, c.vnet)
				require.NoError(t, k.Recv(b))
				require.Empty(t, b.Frames())
				require.True(t, k.owns(k.at-1))
				require.Equal(t, n+1, k.stat.Dropped+k.stat.TooLong+k.stat.Malformed)
			}
			want := Stats{Dropped: 100 * c.want.Dropped, TooLong: 100 * c.want.TooLong, Malformed: 100 * c.want.Malformed}
			require.Equal(t, want, k.stat)

			// Others in the same batch go on.
			k.fill(t, unix.Tpacket2Hdr{Len: 60, Snaplen: 60}, nil)
			k.fill(t, c.h, c.vnet)
			k.fill(t, unix.Tpacket2Hdr{Len: 61, Snaplen: 61}, nil)
			require.NoError(t, k.Recv(b))
			require.Len(t, b.Frames(), 2)
			require.Equal(t, 61, b.Frames()[1].Len())
			require.False(t, k.owns(k.at-2), "a place between lent ones waits for Release")
			k.Release()
			require.True(t, k.owns(k.at-2))
		})
	}
}

// A frame beyond the ring is read from the socket, of which the end of a socket pair plays the part.
func TestQueuedFrames(t *testing.T) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	k, b := newKernel(), ports.NewBatch(8)
	k.fd = ends[0]
	k.msg.Iov = &k.iov[0]
	k.msg.SetIovlen(len(k.iov))
	k.iov[0].Base = &k.vnet[0]
	k.iov[0].SetLen(len(k.vnet))

	queue := func(announced, length int) {
		k.fill(t, unix.Tpacket2Hdr{Status: unix.TP_STATUS_COPY, Len: uint32(announced), Snaplen: 1600}, nil)
		if length > 0 {
			_, err := unix.Write(ends[1], append(make([]byte, vnethdr.Size), make([]byte, length)...))
			require.NoError(t, err)
		}
	}
	queue(3000, 3000)
	queue(ports.MaxFrame+1, ports.MaxFrame+1) // too long
	queue(3001, 3001)
	queue(3002, 5000) // longer than announced
	queue(3003, 3003)
	queue(3004, 0) // not there
	require.NoError(t, k.Recv(b))
	var got []int
	for _, f := range b.Frames() {
		got = append(got, f.Len())
	}
	require.Equal(t, []int{3000, 3001, 3003}, got)
	require.Equal(t, Stats{TooLong: 1, Malformed: 1, Dropped: 1}, k.stat)
}
