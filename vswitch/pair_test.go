package vswitch_test

import (
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
	"github.com/hvswitch/hvswitch/vswitch"
)

// stream is numbered frames from one station to another or to all.
type stream struct {
	src, dst ports.MAC
	id       byte
	sent     uint32
	last     map[*station]uint32 // number that has arrived last, by receiver
	lost     map[*station]int
}

func (s *stream) next() *ports.Frame {
	s.sent++
	b := frame(s.dst, s.src, "?1234")
	b[14] = s.id
	binary.BigEndian.PutUint32(b[15:], s.sent)
	return newFrame(b)
}

// arrived checks that a frame is newer than those before.
func (s *stream) arrived(t *testing.T, at *station, f *ports.Frame) {
	n := binary.BigEndian.Uint32(f.Head()[15:])
	require.Greater(t, n, s.last[at], "stream %d at %s", s.id, at.end.Info().Name)
	s.lost[at] += int(n - s.last[at] - 1)
	s.last[at] = n
}

// A guest is behind a pair: one path leads to a physical switch, the other through a virtual one, which is on that switch
// too. The first is pulled and plugged under traffic of all kinds.
func TestAPairOnTwoSwitches(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		physical := newLab(t)
		physical.newSwitch("lab", vswitch.SwitchConfig{})
		cable := vswitch.VNICConfig{Switch: "lab", AllowSpoofing: true}
		direct, uplink := physical.guest("direct", cable), physical.guest("uplink", cable)
		remote := physical.guest("remote", vswitch.VNICConfig{Switch: "lab"})
		virtual := newLab(t)
		_, err := virtual.host.AddNIC("eth0", uplink.end)
		require.NoError(t, err)
		virtual.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
		address := stranger(1)
		vnic := virtual.guest("vm", vswitch.VNICConfig{Switch: "lab", MAC: address, PassThrough: true})
		neighbor := virtual.guest("neighbor", vswitch.VNICConfig{Switch: "lab"})
		require.Empty(t, vnic.vnic.PassThrough())

		pair, err := team.NewPair(direct.end, vnic.end, &team.PairConfig{Name: "vm", MAC: address, UpDelay: 50 * time.Millisecond})
		require.NoError(t, err)
		t.Cleanup(func() { pair.Close() })
		var downs atomic.Int64
		pair.WatchLink(func(l ports.Link) {
			if !l.Up {
				downs.Add(1)
			}
		})
		guest := &station{lab: virtual, end: vnic.end, mac: address}

		var streams []*stream
		add := func(src, dst ports.MAC) *stream {
			s := &stream{src: src, dst: dst, id: byte(len(streams)), last: map[*station]uint32{}, lost: map[*station]int{}}
			streams = append(streams, s)
			return s
		}
		fromGuest := []*stream{add(address, remote.mac), add(address, neighbor.mac), add(address, ports.Broadcast)}
		fromRemote := []*stream{add(remote.mac, address), add(remote.mac, ports.Broadcast)}
		fromNeighbor := []*stream{add(neighbor.mac, address), add(neighbor.mac, ports.Broadcast)}
		send := func(tx ports.TxQueue, list []*stream) {
			for _, s := range list {
				n, err := tx.Send([]*ports.Frame{s.next()})
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
		}
		b := ports.NewBatch(64)
		receive := func(rx ports.RxQueue, at *station) {
			for {
				b.Reset()
				require.NoError(t, rx.Recv(b))
				for _, f := range b.Frames() {
					// Else it is an announcement, or for another and flooded.
					if h := f.Head(); h[12] == 0x88 && (h[0]&1 != 0 || ports.MAC(h[:6]) == at.mac) {
						streams[h[14]].arrived(t, at, f)
					}
				}
				n := b.Len()
				b.Reset()
				rx.Release()
				if n == 0 {
					return
				}
			}
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		run := func(rounds int) {
			for range rounds {
				send(pair.Tx(0), fromGuest)
				send(remote.end.Tx(0), fromRemote)
				send(neighbor.end.Tx(0), fromNeighbor)
				if rnd.IntN(4) == 0 { // what has come waits in both paths meanwhile
					receive(pair.Rx(0), guest)
				}
				receive(remote.end.Rx(0), remote)
				receive(neighbor.end.Rx(0), neighbor)
				time.Sleep(time.Millisecond)
			}
		}
		settle := func() {
			time.Sleep(time.Millisecond)
			receive(pair.Rx(0), guest)
			receive(remote.end.Rx(0), remote)
			receive(neighbor.end.Rx(0), neighbor)
		}
		lost := func() (n int) {
			for _, s := range streams {
				for _, k := range s.lost {
					n += k
				}
			}
			return n
		}
		run(100)
		settle()
		was := lost()
		run(1000)
		settle()
		require.Equal(t, was, lost(), "while nothing changes nothing is lost")
		require.True(t, pair.PrimaryInUse())
		for pull := range 5 {
			before := lost()
			direct.end.SetLink(false)
			run(1000)
			settle()
			failover := lost() - before
			require.False(t, pair.PrimaryInUse())
			before = lost()
			run(1000)
			settle()
			require.Equal(t, before, lost())

			direct.end.SetLink(true)
			run(2000)
			settle()
			require.True(t, pair.PrimaryInUse())
			t.Logf("pull %d: %d of 7000 frames lost, in 1 s, when the cable was pulled, %d when it was plugged", pull, failover, lost()-before)
			before = lost()
			run(1000)
			settle()
			require.Equal(t, before, lost())
		}
		total := 0
		for _, s := range streams {
			total += int(s.sent)
			receivers := len(s.last)
			require.Equal(t, 1+int(s.dst[0]&1), receivers, "stream %d", s.id)
			for at, n := range s.last {
				require.Equal(t, s.sent, n, "the last frame of stream %d has arrived at %s", s.id, at.end.Info().Name)
			}
		}
		t.Logf("%d frames sent, %d lost", total, lost())
		require.Less(t, lost(), total/50)
		require.Zero(t, downs.Load(), "the link of the pair has never been down")
		require.True(t, pair.Link().Up)
	})
}
