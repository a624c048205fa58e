package team_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
)

// A million frames each way between two teams of an aggregating switch, while cables are pulled.
func TestNoDuplicateAndNoOvertakingInAnAggregation(t *testing.T) {
	for _, m := range []team.Mode{team.Static, team.LACP} {
		for _, d := range []team.Distribution{team.HyperVPort, team.AddressHash, team.Dynamic} {
			t.Run(fmt.Sprintf("%v, %v", m, d), func(t *testing.T) {
				t.Parallel()
				inBubble(t, func(t *testing.T) {
					cfg := &team.Config{Mode: m, Distribution: d, Short: m == team.LACP, UpDelay: 10 * time.Millisecond}
					p := newPair(t, 4, cfg, cfg)
					p.pass(5 * time.Second)
					require.Len(t, inUse(p.a), 4)
					flows := flowFrames(256)
					down := -1
					rounds := million / len(flows)
					for n := range rounds {
						for side := range 2 {
							k, err := p.send(side, flows...)
							require.NoError(t, err)
							require.Equal(t, len(flows), k)
						}
						p.poll()
						time.Sleep(100 * time.Microsecond)
						switch {
						case n == rounds/4:
							require.Zero(t, p.lost)
						case n > rounds/4 && n%500 == 0 && down < 0:
							down = n / 500 % 4
							p.cable[down].SetLink(false)
							synctest.Wait()
						case n > rounds/4 && n%500 == 0:
							p.cable[down].SetLink(true)
							p.pass(4 * time.Second) // LACP takes its time
							down = -1
						}
					}
					p.pass(5 * time.Millisecond)
					require.Less(t, p.lost, 2*million/100)
				})
			})
		}
	}
}

// where returns the member that each flow leaves by.
func where(t *testing.T, tm *team.Team, flows []*ports.Frame) (at []int) {
	for _, f := range flows {
		before := tm.Stats().Members
		n, err := tm.Tx(0).Send([]*ports.Frame{f})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		at = append(at, -1)
		for i, m := range tm.Stats().Members {
			if m.TxFrames > before[i].TxFrames {
				at[len(at)-1] = i
			}
		}
	}
	return at
}

func TestFlowsOnHealthyMembersDoNotMove(t *testing.T) {
	for _, m := range []team.Mode{team.SwitchIndependent, team.Static} {
		for _, d := range []team.Distribution{team.HyperVPort, team.AddressHash, team.Dynamic} {
			t.Run(fmt.Sprintf("%v, %v", m, d), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					near, _ := pipes(t, 4, &ports.PipeConfig{Depth: 4096})
					tm, err := team.New(membersOf(near, 1), &team.Config{Mode: m, Distribution: d})
					require.NoError(t, err)
					defer tm.Close()
					flows := flowFrames(400)
					if d == team.HyperVPort {
						flows = flows[:8]
					}
					home := where(t, tm, flows)

					near[1].SetLink(false)
					synctest.Wait()
					time.Sleep(2 * time.Millisecond)
					first := where(t, tm, flows)
					near[3].SetLink(false)
					synctest.Wait()
					time.Sleep(2 * time.Millisecond)
					second := where(t, tm, flows)
					for i := range flows {
						require.NotContains(t, []int{-1, 1}, first[i])
						require.NotContains(t, []int{-1, 1, 3}, second[i])
						if home[i] != 1 {
							require.Equal(t, home[i], first[i])
						}
						if first[i] != 3 {
							require.Equal(t, first[i], second[i])
						}
					}
					near[1].SetLink(true)
					near[3].SetLink(true)
					time.Sleep(time.Second)
					if d != team.Dynamic { // which has its own mind
						require.Equal(t, home, where(t, tm, flows), "all are back, and so are the flows")
					}
				})
			})
		}
	}
}

// From the loss of the carrier to the first frame by another member.
func TestFailoverTakesNoTime(t *testing.T) {
	for _, m := range []team.Mode{team.SwitchIndependent, team.Static, team.LACP} {
		t.Run(m.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cfg := &team.Config{Mode: m, Distribution: team.HyperVPort}
				p := newPair(t, 2, cfg, cfg)
				p.pass(4 * time.Second)
				flow := flowFrames(1)
				at := where(t, p.a, flow)[0]
				p.cable[at].SetLink(false)
				start := time.Now()
				synctest.Wait()
				require.Equal(t, 1-at, where(t, p.a, flow)[0])
				require.Zero(t, time.Since(start), "in virtual time, which passes while all goroutines wait")
				require.True(t, p.a.Link().Up)
				require.EqualValues(t, 1e9, p.a.Link().Speed)
			})
		})
	}
}

// The same on the clock of the wall.
func TestFailoverTakesLessThan50ms(t *testing.T) {
	near, _ := pipes(t, 2, nil)
	tm, err := team.New(membersOf(near, 1), &team.Config{Distribution: team.HyperVPort})
	require.NoError(t, err)
	defer tm.Close()
	flow := flowFrames(1)
	at := where(t, tm, flow)[0]
	near[at].SetLink(false)
	start := time.Now()
	for where(t, tm, flow)[0] != 1-at {
		require.Less(t, time.Since(start), 50*time.Millisecond)
	}
	t.Logf("the first frame left after %v", time.Since(start))
}

// Only the LACPDUs stop.
func TestLACPShortTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, far := pipes(t, 2, nil)
		a, err := team.New(membersOf(near, 1), &team.Config{Mode: team.LACP, Distribution: team.HyperVPort, Short: true})
		require.NoError(t, err)
		b, err := team.New(membersOf(far, 2), &team.Config{Mode: team.LACP, Short: true})
		require.NoError(t, err)
		p := &pair{T: t, a: a, b: b, cable: near, batch: ports.NewBatch(16)}
		defer a.Close()
		defer b.Close()
		p.pass(5 * time.Second)
		require.Len(t, inUse(a), 2)

		// The far end of the first falls silent; its link stays up.
		_, err = b.Remove(b.Stats().Members[0].Name)
		require.NoError(t, err)
		start := time.Now()
		for len(inUse(a)) == 2 {
			p.pass(10 * time.Millisecond)
		}
		took := time.Since(start)
		require.LessOrEqual(t, took, 3*time.Second+20*time.Millisecond)
		require.Equal(t, 1, where(t, a, flowFrames(1))[0])
	})
}

func TestStandby(t *testing.T) {
	for _, m := range []team.Mode{team.SwitchIndependent, team.LACP} {
		t.Run(m.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				near, far := pipes(t, 3, &ports.PipeConfig{Speed: 1e9})
				list := membersOf(near, 1)
				for i, name := range []string{"a", "b", "c"} {
					list[i].Name = name
				}
				a, err := team.New(list, &team.Config{Mode: m, Standby: "b"})
				require.NoError(t, err)
				other := team.Config{Mode: m}
				if m == team.LACP {
					other.SystemPriority = 0xffff
				}
				b, err := team.New(membersOf(far, 2), &other)
				require.NoError(t, err)
				p := &pair{T: t, a: a, b: b, cable: near, batch: ports.NewBatch(16)}
				defer a.Close()
				defer b.Close()
				p.pass(5 * time.Second)
				require.Equal(t, []string{"a", "c"}, inUse(a))
				require.EqualValues(t, 2e9, a.Link().Speed)
				near[0].SetLink(false)
				synctest.Wait()
				p.pass(20 * time.Millisecond)
				require.Equal(t, []string{"b", "c"}, inUse(a))
				near[0].SetLink(true)
				p.pass(5 * time.Second)
				require.Equal(t, []string{"a", "c"}, inUse(a))
			})
		})
	}
}

func TestMembersComeAndGo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, _ := pipes(t, 3, &ports.PipeConfig{Depth: 1024})
		w, err := team.New(membersOf(near, 1), &team.Config{Distribution: team.AddressHash, UpDelay: -1})
		require.NoError(t, err)
		flows := flowFrames(64)
		home := where(t, w, flows)

		x, _, err := ports.Pipe(nil)
		require.NoError(t, err)
		require.NoError(t, w.Add(team.Member{Name: "new", Backend: x, MAC: macOf(9)}))
		time.Sleep(2 * time.Millisecond)
		now := where(t, w, flows)
		moved := 0
		for i := range flows {
			if now[i] != home[i] {
				require.Equal(t, 3, now[i], "flows move to the new member only")
				moved++
			}
		}
		require.Greater(t, moved, 4)
		require.Less(t, moved, 32)

		b, err := w.Remove("new")
		require.NoError(t, err)
		require.Same(t, x, b)
		require.Equal(t, home, where(t, w, flows))
		_, err = w.Remove("new")
		require.ErrorIs(t, err, team.ErrNoMember)
		for _, name := range []string{"1", "2"} {
			_, err = w.Remove(name)
			require.NoError(t, err)
		}
		_, err = w.Remove("3")
		require.EqualError(t, err, `team "": member "3" is the only one`)
		n, err := x.Tx(0).Send(flows[:1])
		require.NoError(t, err)
		require.Equal(t, 1, n, "the backend is open still")
		require.NoError(t, w.Close())
		require.ErrorIs(t, w.Add(team.Member{Name: "late", Backend: x, MAC: macOf(9)}), ports.ErrClosed)
	})
}

func TestRemoveWaitsForLentFrames(t *testing.T) {
	near, far := pipes(t, 2, nil)
	tm, err := team.New(membersOf(near, 1), &team.Config{Mode: team.Static})
	require.NoError(t, err)
	defer tm.Close()
	_, err = far[0].Tx(0).Send(flowFrames(1))
	require.NoError(t, err)
	b := ports.NewBatch(4)
	require.NoError(t, tm.Rx(0).Recv(b))
	require.Equal(t, 1, b.Len())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := tm.Remove("1")
		require.NoError(t, err)
	}()
	select {
	case <-done:
		t.Fatal("the frame is still lent")
	case <-time.After(20 * time.Millisecond):
	}
	b.Reset()
	tm.Rx(0).Release()
	<-done
}

func TestLinkOfTheTeam(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, _ := pipes(t, 2, &ports.PipeConfig{Speed: 1e9})
		tm, err := team.New(membersOf(near, 1), &team.Config{UpDelay: -1})
		require.NoError(t, err)
		defer tm.Close()
		var events []ports.Link
		tm.WatchLink(func(l ports.Link) { events = append(events, l) })
		change := func(i int, up bool) ports.Link {
			near[i].SetLink(up)
			synctest.Wait()
			return tm.Link()
		}
		require.Equal(t, ports.Link{Up: true, Speed: 2e9}, tm.Link())
		require.Equal(t, ports.Link{Up: true, Speed: 1e9}, change(0, false))
		require.Equal(t, ports.Link{}, change(1, false))
		n, err := tm.Tx(0).Send(flowFrames(1))
		require.Zero(t, n)
		require.ErrorIs(t, err, ports.ErrLinkDown)
		require.Equal(t, ports.Link{Up: true, Speed: 1e9}, change(1, true))
		require.Equal(t, ports.Link{Up: true, Speed: 2e9}, change(0, true))
		require.Equal(t, []ports.Link{{Up: true, Speed: 1e9}, {}, {Up: true, Speed: 1e9}, {Up: true, Speed: 2e9}}, events)
	})
}

func TestMemberThatComesUpIsGivenTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, _ := pipes(t, 2, nil)
		tm, err := team.New(membersOf(near, 1), &team.Config{UpDelay: time.Second})
		require.NoError(t, err)
		defer tm.Close()
		require.Len(t, inUse(tm), 2)
		near[0].SetLink(false)
		synctest.Wait()
		near[0].SetLink(true)
		time.Sleep(900 * time.Millisecond)
		require.Equal(t, []string{"2"}, inUse(tm))
		time.Sleep(200 * time.Millisecond)
		require.Len(t, inUse(tm), 2)

		// Nobody waits while there is no other.
		near[0].SetLink(false)
		near[1].SetLink(false)
		synctest.Wait()
		near[1].SetLink(true)
		synctest.Wait()
		require.Equal(t, []string{"2"}, inUse(tm))
	})
}
