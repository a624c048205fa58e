package team_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
	"github.com/hvswitch/hvswitch/team"
)

func TestPairConforms(t *testing.T) {
	for name, c := range map[string]struct {
		pipe      ports.PipeConfig
		byStandby bool
	}{
		"by the primary":                   {ports.PipeConfig{}, false},
		"by the standby":                   {ports.PipeConfig{}, true},
		"by the primary, queues, offloads": {ports.PipeConfig{Queues: 3, Depth: 32, Offloads: ports.OffloadAll}, false},
	} {
		t.Run(name, func(t *testing.T) {
			portstest.Run(t, func(t *testing.T) portstest.Rig {
				near, ends := pipes(t, 2, &c.pipe)
				cable, first, second := near[0], near[0], near[1]
				peer := ends[0]
				if c.byStandby {
					near[0].SetLink(false)
					cable, peer = near[1], ends[1]
				}
				p, err := team.NewPair(first, second, &team.PairConfig{MAC: macOf(1), UpDelay: -1})
				require.NoError(t, err)
				if !c.byStandby {
					near[1].SetLink(false)
				}
				depth := c.pipe.Depth
				if depth == 0 {
					depth = 256
				}
				return portstest.Rig{
					Backend: turn(p), Peer: turnedPeer{portstest.Far(peer)}, Depth: depth,
					SetLink: cable.SetLink, Puts: c.pipe.Offloads, Takes: c.pipe.Offloads,
				}
			})
		})
	}
}

// guestNIC is a pair between two cables, and the frames that come out of it.
type guestNIC struct {
	*testing.T
	*team.Pair
	primary, standby *ports.PipeEnd // far ends
	batch            *ports.Batch
	downs            atomic.Int64 // times that the link was reported down
}

var (
	guest    = ports.MAC{2, 0, 0, 0, 9, 1}
	neighbor = ports.MAC{2, 0, 0, 0, 9, 2} // on the virtual switch of the standby
	remote   = ports.MAC{2, 0, 0, 0, 9, 3}
)

func newGuestNIC(t *testing.T, cfg *team.PairConfig) *guestNIC {
	near, far := pipes(t, 2, &ports.PipeConfig{Speed: 1e9})
	p, err := team.NewPair(near[0], near[1], cfg)
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	g := &guestNIC{T: t, Pair: p, primary: far[0], standby: far[1], batch: ports.NewBatch(64)}
	p.WatchLink(func(l ports.Link) {
		if !l.Up {
			g.downs.Add(1)
		}
	})
	return g
}

// receives returns the numbers of the frames that have arrived.
func (g *guestNIC) receives() (numbers []int) {
	synctest.Wait()
	numbers = []int{}
	for q := range g.Info().RxQueues {
		for {
			g.batch.Reset()
			require.NoError(g, g.Rx(q).Recv(g.batch))
			for _, f := range g.batch.Frames() {
				numbers = append(numbers, numberOf(f))
			}
			n := g.batch.Len()
			g.batch.Reset()
			g.Rx(q).Release()
			if n == 0 {
				break
			}
		}
	}
	return numbers
}

func (g *guestNIC) sends(number int) {
	n, err := g.Tx(0).Send([]*ports.Frame{numbered(udpFrame(guest, remote, 1, 60), 1, number)})
	require.NoError(g, err)
	require.Equal(g, 1, n)
}

// put puts a frame on a cable.
func put(t *testing.T, e *ports.PipeEnd, src, dst ports.MAC, number int) {
	n, err := e.Tx(0).Send([]*ports.Frame{numbered(udpFrame(src, dst, 1, 60), 1, number)})
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// taken returns the numbers of frames on a cable, and how many announcements of the guest are among them.
func taken(t *testing.T, e *ports.PipeEnd) (numbers []int, rarps int) {
	b := ports.NewBatch(64)
	require.NoError(t, e.Rx(0).Recv(b))
	for _, f := range b.Frames() {
		switch h := f.Head(); {
		case h[12] == 0x80 && h[13] == 0x35:
			require.Equal(t, guest, ports.MAC(h[6:12]))
			rarps++
		default:
			numbers = append(numbers, numberOf(f))
		}
	}
	e.Rx(0).Release()
	return numbers, rarps
}

func TestAPairFallsBackAndReturns(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGuestNIC(t, nil)
		expect := func(byPrimary, byStandby []int, rarpsThere, rarpsHere int) {
			t.Helper()
			synctest.Wait()
			n, rarps := taken(t, g.primary)
			require.Equal(t, byPrimary, n)
			require.Equal(t, rarpsThere, rarps)
			n, rarps = taken(t, g.standby)
			require.Equal(t, byStandby, n)
			require.Equal(t, rarpsHere, rarps)
		}
		require.True(t, g.PrimaryInUse())
		g.sends(1)
		expect([]int{1}, nil, 0, 0)

		g.primary.SetLink(false)
		synctest.Wait()
		require.False(t, g.PrimaryInUse())
		g.sends(2)
		time.Sleep(time.Second)
		expect(nil, []int{2}, 0, 3)
		require.Equal(t, ports.Link{Up: true, Speed: 1e9}, g.Link())

		g.primary.SetLink(true)
		synctest.Wait()
		g.sends(3) // it must first have been up for a while
		expect(nil, []int{3}, 0, 0)
		time.Sleep(201 * time.Millisecond)
		require.True(t, g.PrimaryInUse())
		time.Sleep(time.Second)
		g.sends(4)
		expect([]int{4}, nil, 3, 0)
		require.Zero(t, g.downs.Load())

		g.standby.SetLink(false)
		synctest.Wait()
		require.True(t, g.Link().Up)
		g.primary.SetLink(false)
		synctest.Wait()
		require.False(t, g.Link().Up)
		require.EqualValues(t, 1, g.downs.Load())
		g.standby.SetLink(true)
		synctest.Wait()
		require.True(t, g.Link().Up)
	})
}

func TestThePrimaryIsPluggedAndUnplugged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGuestNIC(t, nil)
		g.sends(1)
		for range 3 {
			b, err := g.Unplug()
			require.NoError(t, err)
			_, err = g.Unplug()
			require.ErrorIs(t, err, team.ErrNoMember)
			require.False(t, g.PrimaryInUse())
			require.True(t, g.Link().Up)
			g.sends(2)
			put(t, g.standby, remote, guest, 7)
			require.Equal(t, []int{7}, g.receives())
			require.NoError(t, g.Plug(b))
			time.Sleep(time.Second)
			require.True(t, g.PrimaryInUse())
			_, _ = taken(t, g.standby)
			_, _ = taken(t, g.primary)
		}
		require.ErrorContains(t, g.Plug(nil), "Backend is nil")
		require.Zero(t, g.downs.Load())
	})
}

func TestWhatComesByTheStandbyWhileThePrimaryIsInUse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newGuestNIC(t, &team.PairConfig{MAC: guest})
		g.sends(1)
		time.Sleep(time.Second)
		put(t, g.standby, neighbor, guest, 1)
		require.Equal(t, []int{1}, g.receives(), "of a station on the same virtual switch")
		put(t, g.primary, neighbor, ports.Broadcast, 2)
		put(t, g.standby, neighbor, ports.Broadcast, 2)
		require.Equal(t, []int{2}, g.receives(), "its broadcasts come by both")
		put(t, g.standby, neighbor, guest, 3)
		require.Equal(t, []int{3}, g.receives(), "but not what is for the guest")

		put(t, g.primary, remote, guest, 4)
		require.Equal(t, []int{4}, g.receives())
		put(t, g.standby, remote, guest, 4)
		require.Empty(t, g.receives(), "a switch has flooded it")
		time.Sleep(3 * time.Second)
		put(t, g.standby, remote, guest, 5)
		require.Equal(t, []int{5}, g.receives(), "it has moved to this host")

		put(t, g.primary, guest, ports.Broadcast, 6)
		put(t, g.standby, guest, ports.Broadcast, 6)
		require.Empty(t, g.receives(), "reflected")
		require.EqualValues(t, 2, g.Stats().Members[1].Drops[team.ElsewhereToo])
	})
}

func TestAPairIsRefused(t *testing.T) {
	near, _ := pipes(t, 2, nil)
	_, err := team.NewPair(nil, near[0], &team.PairConfig{Name: "vm"})
	require.EqualError(t, err, `team "vm": member "primary": Backend is nil`)
	_, err = team.NewPair(near[0], nil, nil)
	require.EqualError(t, err, `team "": member "standby": Backend is nil`)
	_, err = team.NewPair(near[0], near[0], nil)
	require.EqualError(t, err, `team "": member "standby": Backend is that of member "primary"`)
	_, err = team.NewPair(near[0], near[1], &team.PairConfig{MAC: ports.Broadcast})
	require.EqualError(t, err, `team "": MAC ff:ff:ff:ff:ff:ff is not that of a station`)
	_, err = team.NewPair(near[0], near[1], &team.PairConfig{UpDelay: 2 * time.Hour})
	require.EqualError(t, err, `team "": UpDelay 2h0m0s is more than 1h`)
}

func TestAPairHasTheQueuesOfThePathWithMore(t *testing.T) {
	one, farOne := pipes(t, 1, &ports.PipeConfig{MTU: 9000})
	four, farFour := pipes(t, 1, &ports.PipeConfig{Queues: 4, Offloads: ports.OffloadAll})
	p, err := team.NewPair(four[0], one[0], &team.PairConfig{Name: "nic"})
	require.NoError(t, err)
	defer p.Close()
	require.Equal(t, ports.Info{Name: "nic", MTU: 1500, RxQueues: 4, TxQueues: 4}, p.Info())
	b := ports.NewBatch(8)
	for q := range 4 {
		n, err := farFour[0].Tx(q).Send([]*ports.Frame{udpFrame(remote, guest, 1, 60)})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, 1, drain(b, p.Rx(q)))
		n, err = p.Tx(q).Send([]*ports.Frame{udpFrame(guest, remote, 1, 60)})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, 1, drain(b, farFour[0].Rx(q)))
	}
	require.Zero(t, drain(b, farOne[0].Rx(0)))
}
