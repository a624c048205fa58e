package vswitch_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// socketStub is a backend whose receive queue is a descriptor: one end of a pair of sockets.
type socketStub struct {
	*stub
	fd  int
	far int // where the test writes frames
}

func newSocketStub(t *testing.T) *socketStub {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.SetNonblock(pair[0], true))
	t.Cleanup(func() { unix.Close(pair[1]) })
	return &socketStub{newDeafStub(), pair[0], pair[1]}
}

func (s *socketStub) Rx(int) ports.RxQueue {
	return struct {
		ports.RxQueue
		ports.Pollable
	}{s, s}
}
func (s *socketStub) Descriptor() int { return s.fd }
func (s *socketStub) Close() error    { return unix.Close(s.fd) }

func (s *socketStub) Recv(b *ports.Batch) error {
	for {
		buf := b.Buffer(1514)
		if buf == nil {
			return nil
		}
		n, err := unix.Read(s.fd, buf)
		if err != nil {
			return nil // there is none
		}
		b.Commit(n)
	}
}

func TestMovingADescriptorDisturbsNoFlow(t *testing.T) {
	l := newLabWith(t, vswitch.HostConfig{Workers: 3})
	l.newSwitch("lab", vswitch.SwitchConfig{})
	to := l.guests(1)[0]
	var socks []*socketStub
	for i := range 4 {
		s := newSocketStub(t)
		_, err := l.host.NewVNIC(fmt.Sprint("sock", i), s, &vswitch.VNICConfig{Switch: "lab", MAC: stranger(i)})
		require.NoError(t, err)
		socks = append(socks, s)
	}
	var moved atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				moved.Add(int64(l.host.MoveQueues()))
			}
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	buf := make([]byte, 2048)
	const each = 8
	next := map[string]int{}
	n := 0
	for ; n < 300 || moved.Load() < 1000; n++ {
		for i, s := range socks {
			for k := range each {
				_, err := unix.Write(s.far, frame(to.mac, stranger(i), fmt.Sprintf("%d %d", i, n*each+k)))
				require.NoError(t, err)
			}
		}
		for range each * len(socks) {
			n, err := to.end.ReadFrame(ctx, buf)
			require.NoError(t, err, "a frame was lost")
			var from string
			var number int
			_, err = fmt.Sscan(string(buf[14:n]), &from, &number)
			require.NoError(t, err)
			require.Equal(t, next[from], number, "from %s", from)
			next[from]++
		}
	}
	close(stop)
	<-stopped
	t.Logf("%d moves while %d frames were under way", moved.Load(), n*each*len(socks))
}
