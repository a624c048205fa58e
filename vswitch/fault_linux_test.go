package vswitch_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// memory is what a VMM shares, mapped here.
func memory(t *testing.T) (file int, mapped []byte) {
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	size := 4 * os.Getpagesize()
	require.NoError(t, unix.Ftruncate(fd, int64(size)))
	mapped, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, unix.Munmap(mapped))
		require.NoError(t, unix.Close(fd))
	})
	return fd, mapped
}

// sharing is a cable whose frames, as the switch gets them, end in memory of others.
type sharing struct {
	*ports.PipeEnd
	body []byte
}

func (s *sharing) Rx(i int) ports.RxQueue {
	q := s.PipeEnd.Rx(i)
	return &sharingRx{q, q.(ports.Notifier), s.body}
}

type sharingRx struct {
	ports.RxQueue
	ports.Notifier
	body []byte
}

func (q *sharingRx) Recv(b *ports.Batch) error {
	err := q.RxQueue.Recv(b)
	for _, f := range b.Frames() {
		f.AppendBody(q.body)
	}
	return err
}

func TestMemoryThatAVMMTakesAwayHurtsOnlyItsFrames(t *testing.T) {
	file, body := memory(t)
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		seen := new(witness)
		l.newSwitch("lab", vswitch.SwitchConfig{Extensions: []extension.Binding{{Name: "witness", Extension: seen}}})
		vm := l.guests(2)
		monitor := l.guest("monitor", vswitch.VNICConfig{Switch: "lab", Mirror: vswitch.MirrorDestination})
		near, far := l.pipe(ports.PipeConfig{Name: "sharer"})
		sharer := l.guestOnStub("sharer", &sharing{near, body[:100]})
		sharer.end = far

		sharer.send(vm[0].mac, "hello")
		require.Len(t, vm[0].received(), 1)
		mirrored := sharer.vnic.Config()
		mirrored.Mirror = vswitch.MirrorSource
		require.NoError(t, sharer.vnic.SetConfig(mirrored))
		require.NoError(t, unix.Ftruncate(file, 0))
		sharer.send(vm[0].mac, "gone")
		sharer.send(ports.Broadcast, "gone too")
		l.nobodyGot(vm[0], vm[1])
		l.requireLogged("memory of frames is gone", "sharer")
		require.Equal(t, seen.frames.Load(), seen.fates.Load(), "the fate of each is told")

		vm[0].send(vm[1].mac, "one")
		vm[1].send(vm[0].mac, "another")
		require.Equal(t, []string{"one"}, vm[1].got())
		require.Equal(t, []string{"another"}, vm[0].got())
		vm[0].send(monitor.mac, "the queue of the monitor is free")
		require.Equal(t, []string{"the queue of the monitor is free"}, monitor.got())
	})
}
