package team_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
	"github.com/hvswitch/hvswitch/team/lacp"
)

func slowFrame(payload ...byte) *ports.Frame {
	f := frameOf(lacp.Group, hostOf(1), append([]byte{0x88, 0x09}, payload...)...)
	return f
}

func states(t *team.Team) (s []lacp.Status) {
	for _, m := range t.Stats().Members {
		s = append(s, *m.LACP)
	}
	return s
}

func TestLACPForms(t *testing.T) {
	for name, c := range map[string]struct {
		a, b  team.Config
		forms bool
	}{
		"active, active":        {team.Config{}, team.Config{}, true},
		"active, passive":       {team.Config{Short: true}, team.Config{Passive: true}, true},
		"passive, active short": {team.Config{Passive: true}, team.Config{Short: true}, true},
		"passive, passive":      {team.Config{Passive: true}, team.Config{Passive: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c.a.Mode, c.b.Mode = team.LACP, team.LACP
				p := newPair(t, 3, &c.a, &c.b)
				require.False(t, p.a.Link().Up)
				p.pass(5 * time.Second)
				require.Equal(t, c.forms, p.a.Link().Up)
				require.Equal(t, c.forms, p.b.Link().Up)
				if !c.forms {
					n, err := p.send(0, flowFrames(1)...)
					require.Zero(t, n)
					require.ErrorIs(t, err, ports.ErrLinkDown)
					return
				}
				require.EqualValues(t, 3e9, p.a.Link().Speed)
				n, err := p.send(0, flowFrames(100)...)
				require.NoError(t, err)
				require.Equal(t, 100, n)
				p.pass(time.Minute)
				require.Zero(t, p.lost)
				require.Len(t, inUse(p.a), 3)
			})
		})
	}
}

func TestLACPMemberOnAnotherSwitch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, far := pipes(t, 3, nil)
		cfg := &team.Config{Mode: team.LACP, Short: true}
		a, err := team.New(membersOf(near, 1), cfg)
		require.NoError(t, err)
		b, err := team.New(membersOf(far[:2], 2), cfg)
		require.NoError(t, err)
		c, err := team.New(membersOf(far[2:], 3), cfg)
		require.NoError(t, err)
		p := &pair{T: t, a: a, b: b, cable: near, batch: ports.NewBatch(16)}
		q := &pair{T: t, a: c, b: b, batch: ports.NewBatch(16)}
		defer a.Close()
		defer b.Close()
		defer c.Close()
		both := func(d time.Duration) {
			for range d / (10 * time.Millisecond) {
				p.poll()
				q.poll()
				time.Sleep(10 * time.Millisecond)
			}
		}
		both(10 * time.Second)
		require.Equal(t, []string{"1", "2"}, inUse(a))
		require.False(t, c.Link().Up)
		require.Equal(t, lacp.Unselected, states(a)[2].Selection)

		// What the other switch sends is not of the group.
		_, err = far[2].Tx(0).Send([]*ports.Frame{frameOf(hostOf(1), hostOf(2), 0x88, 0xb5)})
		require.NoError(t, err)
		both(100 * time.Millisecond)
		require.NotZero(t, a.Stats().Members[2].Drops[team.Unaggregated])
	})
}

func TestLACPLoop(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, far := pipes(t, 2, nil)
		a, err := team.New(membersOf(near, 1), &team.Config{Mode: team.LACP})
		require.NoError(t, err)
		defer a.Close()
		b := ports.NewBatch(8)
		for range 1000 {
			for i := range far { // all comes back
				b.Reset()
				require.NoError(t, far[i].Rx(0).Recv(b))
				_, err := far[i].Tx(0).Send(b.Frames())
				require.NoError(t, err)
				b.Reset()
				far[i].Rx(0).Release()
			}
			drain(b, a.Rx(0))
			synctest.Wait()
			require.False(t, a.Link().Up)
			time.Sleep(10 * time.Millisecond)
		}
		for _, s := range states(a) {
			require.True(t, s.Looped)
			require.NotZero(t, s.Counters.Looped)
		}
	})
}

// A partner that sends whatever it likes does no harm to the member beside it, and is not answered without
// end.
func TestLACPHostilePartner(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, far := pipes(t, 2, nil)
		cfg := &team.Config{Mode: team.LACP, Short: true}
		a, err := team.New(membersOf(near, 1), cfg)
		require.NoError(t, err)
		good, err := team.New(membersOf(far[1:], 2), cfg)
		require.NoError(t, err)
		p := &pair{T: t, a: a, b: good, cable: near, batch: ports.NewBatch(16)}
		defer a.Close()
		defer good.Close()
		p.pass(5 * time.Second)
		require.Equal(t, []string{"2"}, inUse(a))

		rnd := rand.New(rand.NewPCG(3, 3))
		b := ports.NewBatch(256)
		answers := 0
		const seconds = 20
		for range seconds * 1000 {
			var burst []*ports.Frame
			for range 10 {
				var body []byte
				switch rnd.IntN(3) {
				case 0:
					pdu := lacp.PDU{Actor: lacp.PortInfo{
						System: lacp.SystemID{MAC: ports.MAC{2, 0, 0, 0, byte(rnd.IntN(3)), byte(rnd.IntN(3))}},
						Key:    uint16(rnd.IntN(3)), State: lacp.State(rnd.Uint32()),
					}, Partner: states(a)[rnd.IntN(2)].Actor}
					body = pdu.Append(nil)
				case 1:
					m := lacp.Marker{Transaction: rnd.Uint32()}
					body = m.Append(nil)
				case 2:
					body = make([]byte, rnd.IntN(60))
					for i := range body {
						body[i] = byte(rnd.Uint32())
					}
					body = append([]byte{byte(1 + rnd.IntN(2))}, body...)
				}
				burst = append(burst, slowFrame(body...))
			}
			_, err := far[0].Tx(0).Send(burst)
			require.NoError(t, err)
			p.poll()
			answers += drain(b, far[0].Rx(0))
			time.Sleep(time.Millisecond)
			require.Contains(t, inUse(a), "2")
		}
		require.LessOrEqual(t, answers, (3+10)*(seconds+1), "3 LACPDUs and 10 answers to markers a second")
		require.NotZero(t, a.Stats().Members[0].Drops[team.SlowProtocol])
		require.NotZero(t, states(a)[0].Counters.Limited)
	})
}

func TestOtherSlowProtocolsPass(t *testing.T) {
	near, far := pipes(t, 1, nil)
	a, err := team.New(membersOf(near, 1), &team.Config{Mode: team.Static})
	require.NoError(t, err)
	defer a.Close()
	pdu := lacp.PDU{}
	_, err = far[0].Tx(0).Send([]*ports.Frame{
		slowFrame(3), // OAM
		slowFrame(pdu.Append(nil)...),
		frameOf(lacp.Group, hostOf(1), binary.BigEndian.AppendUint16(nil, 0x88cc)...),
	})
	require.NoError(t, err)
	require.Equal(t, 2, drain(ports.NewBatch(8), a.Rx(0)))
	require.EqualValues(t, 1, a.Stats().Members[0].Drops[team.SlowProtocol])
}

// A PDU for which there is no room is sent as soon as there is.
func TestLACPDUsGetThroughACableThatIsFull(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, far := pipes(t, 1, &ports.PipeConfig{Depth: 8})
		cfg := &team.Config{Mode: team.LACP, Short: true, Distribution: team.HyperVPort}
		a, err := team.New(membersOf(near, 1), cfg)
		require.NoError(t, err)
		b, err := team.New(membersOf(far, 2), cfg)
		require.NoError(t, err)
		p := &pair{T: t, a: a, b: b, cable: near, batch: ports.NewBatch(16)}
		defer a.Close()
		defer b.Close()
		p.pass(5 * time.Second)
		flows := flowFrames(8)
		for range 20_000 {
			for {
				if n, err := a.Tx(0).Send(flows[:1]); n == 0 || err != nil {
					require.NoError(t, err)
					break
				}
			}
			p.batch.Reset()
			for q := range 2 {
				drain(p.batch, []ports.RxQueue{a.Rx(0), b.Rx(0)}[q])
			}
			time.Sleep(time.Millisecond)
			require.True(t, a.Link().Up && b.Link().Up)
		}
	})
}
