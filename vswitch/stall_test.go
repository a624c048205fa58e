package vswitch_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// pipeDepth is how many frames a Pipe of the lab holds.
const pipeDepth = 256

// blast sends n numbered frames to dst without waiting for anybody.
func (s *station) blast(dst ports.MAC, n int) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for i := range n {
			if s.end.WriteFrame(s.lab.t.Context(), frame(dst, s.mac, fmt.Sprint(i))) != nil {
				return
			}
			if i%256 == 255 {
				time.Sleep(time.Microsecond) // in a bubble time stands still while goroutines run
			}
		}
	}()
	return done
}

func numbers(n int) (l []string) {
	for i := range n {
		l = append(l, fmt.Sprint(i))
	}
	return l
}

func TestAReceiverThatStopsReadingHurtsOnlyItself(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := newLabWith(t, vswitch.HostConfig{Workers: workers})
				wire := l.nic("eth0")
				l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
				vm := l.guests(5)
				stalled := vm[4]
				flows := []*flow{
					l.flow(vm[0], vm[1]), // from a guest that sends to the stalled one as well
					l.flow(vm[1], vm[2]),
					l.flow(wire, vm[0]),
				}
				const n = 20_000
				fromGuest, fromWire := vm[0].blast(stalled.mac, n), wire.blast(stalled.mac, n)
				for range 10 {
					for _, f := range flows {
						f.goOn(200)
					}
				}
				<-fromGuest
				<-fromWire
				for _, f := range flows {
					f.goOn(200)
					f.stop()
				}
				require.Equal(t, drops{vswitch.DropQueueFull: 2*n - pipeDepth}, stalled.drops())
				require.EqualValues(t, pipeDepth, stalled.stats().TxFrames)
				for _, s := range append(vm[:4], wire) {
					require.Empty(t, s.drops(), "at %s", s.stats().Port)
				}

				require.Len(t, stalled.got(), pipeDepth)
				vm[3].send(stalled.mac, "well again?")
				l.everyoneGot([]string{"well again?"}, stalled)
			})
		})
	}
}

func TestAStalledReceiverKeepsWhatItGotFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 2)
		<-vm[0].blast(vm[1].mac, 1000)
		require.Equal(t, numbers(pipeDepth), vm[1].got())
	})
}

func TestBroadcastsPassAStalledReceiver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 4)
		<-vm[0].blast(vm[3].mac, 1000) // fills the queue of vm3
		l.settle()
		for i := range 10 {
			var texts []string
			for j := range 50 {
				texts = append(texts, fmt.Sprint(i, j))
			}
			vm[0].send(ports.Broadcast, texts...)
			l.everyoneGot(texts, vm[1], vm[2], wire)
		}
		require.Equal(t, drops{vswitch.DropQueueFull: 1000 - pipeDepth + 500}, vm[3].drops())
		require.Equal(t, numbers(pipeDepth), vm[3].got())
	})
}

func TestAGuestThatSendsWithoutPauseStarvesNobody(t *testing.T) {
	l := newLabWith(t, vswitch.HostConfig{Workers: 1})
	l.newSwitch("lab", vswitch.SwitchConfig{})
	vm := l.guests(4)
	endless := &endlessStub{stub: newStub()}
	for range 32 {
		endless.arrived = append(endless.arrived, newFrame(frame(vm[3].mac, stranger(1), "noise")))
	}
	hostile, err := l.host.NewVNIC("hostile", endless, &vswitch.VNICConfig{Switch: "lab", MAC: stranger(1)})
	require.NoError(t, err)
	traffic := l.flow(vm[0], vm[1])
	traffic.goOn(500)
	vm[2].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "" })
	traffic.goOn(500)
	require.NoError(t, hostile.Close())
	traffic.stop()
	require.NotZero(t, hostile.Stats().RxFrames)
}

// endlessStub lends what has arrived again and again.
type endlessStub struct{ *stub }

func (s *endlessStub) Rx(int) ports.RxQueue { return s }
func (s *endlessStub) Recv(b *ports.Batch) error {
	for _, f := range s.arrived {
		b.Lend(f)
	}
	return nil
}
