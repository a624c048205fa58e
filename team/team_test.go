package team_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
)

func TestBadConfig(t *testing.T) {
	near, _ := pipes(t, 3, &ports.PipeConfig{Speed: 1e9})
	fast, _ := pipes(t, 1, &ports.PipeConfig{Speed: 1e10})
	member := func(i int) team.Member { return team.Member{Backend: near[i], MAC: macOf(i)} }
	two := []team.Member{member(0), member(1)}
	for want, c := range map[string]struct {
		members []team.Member
		cfg     team.Config
	}{
		`0 members are out of 1–32`:                                        {nil, team.Config{}},
		`Mode 3 is out of 0–2`:                                             {two, team.Config{Mode: 3}},
		`Distribution 3 is out of 0–2`:                                     {two, team.Config{Distribution: 3}},
		`Speeds 2 is out of 0–1`:                                           {two, team.Config{Speeds: 2}},
		`MAC 01:00:00:00:00:00 is not that of a station`:                   {two, team.Config{MAC: ports.MAC{1}}},
		`FlowletGap 1ns is out of 10µs–1s`:                                 {two, team.Config{FlowletGap: 1}},
		`UpDelay 2h0m0s is more than 1h`:                                   {two, team.Config{UpDelay: 2 * time.Hour}},
		`SystemPriority, Passive and Short have no meaning in mode static`: {two, team.Config{Mode: team.Static, Short: true}},
		`Standby "x" is no member`:                                         {two, team.Config{Standby: "x"}},
		`Standby "1" is the only member`:                                   {two[:1], team.Config{Standby: "1"}},
		`Standby "1": the other end of a static team uses every`:           {two, team.Config{Mode: team.Static, Standby: "1"}},
		`member "": Backend is nil`:                                        {[]team.Member{{}}, team.Config{}},
		`member "2": Backend is that of member "1"`:                        {[]team.Member{member(0), member(0)}, team.Config{}},
		`member "1": MAC 00:00:00:00:00:00 is not that of a stat`:          {[]team.Member{{Backend: near[0]}}, team.Config{}},
		`member "2": MAC 02:00:00:00:01:00 is that of member "1"`:          {[]team.Member{member(0), {Backend: near[1], MAC: macOf(0)}}, team.Config{}},
		`member "a": Name is taken`: {[]team.Member{{Name: "a", Backend: near[0], MAC: macOf(0)},
			{Name: "a", Backend: near[1], MAC: macOf(1)}}, team.Config{}},
		`member "2": speed 10000000000 bit/s is not that of the others`:    {[]team.Member{member(0), {Backend: fast[0], MAC: macOf(9)}}, team.Config{}},
		`MAC 00:00:00:00:00:00 is not that of a station, which LACP needs`: {[]team.Member{{Backend: near[0]}}, team.Config{Mode: team.LACP}},
	} {
		c.cfg.Name = "t"
		_, err := team.New(c.members, &c.cfg)
		require.ErrorContains(t, err, want)
		require.True(t, strings.HasPrefix(err.Error(), `team "t": `), err)
	}
	tm, err := team.New(two, nil)
	require.NoError(t, err)
	defer tm.Close()
	small, _ := pipes(t, 1, &ports.PipeConfig{MTU: 1000})
	require.EqualError(t, tm.Add(team.Member{Name: "s", Backend: small[0], MAC: macOf(7)}),
		`team "": member "s": MTU 1000 is less than the 1500 of the team`)
	require.NoError(t, tm.Add(member(2)))
}

// Table of MISSION.md, M11.
func TestQueueCounts(t *testing.T) {
	for _, m := range []team.Mode{team.SwitchIndependent, team.Static, team.LACP} {
		for _, d := range []team.Distribution{team.HyperVPort, team.AddressHash, team.Dynamic} {
			two, _ := pipes(t, 1, &ports.PipeConfig{Queues: 2})
			three, far := pipes(t, 1, &ports.PipeConfig{Queues: 3})
			tm, err := team.New(membersOf(append(two, three...), 1), &team.Config{Mode: m, Distribution: d})
			require.NoError(t, err)
			want := 2
			if m == team.SwitchIndependent && d != team.AddressHash {
				want = 5
			}
			require.Equal(t, want, tm.Info().RxQueues, "%v, %v", m, d)
			require.Equal(t, want, tm.Info().TxQueues)
			if m == team.Static { // every queue of a member has one to go to
				b := ports.NewBatch(8)
				for q := range 3 {
					_, err := far[0].Tx(q).Send(flowFrames(1))
					require.NoError(t, err)
				}
				require.Equal(t, 3, drain(b, tm.Rx(0), tm.Rx(1)))
			}
			require.NoError(t, tm.Close())
		}
	}
}

func TestMixedSpeeds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		slow, _ := pipes(t, 2, &ports.PipeConfig{Speed: 1e9})
		fast, _ := pipes(t, 1, &ports.PipeConfig{Speed: 2e9})
		members := membersOf(append(slow, fast...), 1)
		tm, err := team.New(members, &team.Config{Speeds: team.Weighted, UpDelay: -1})
		require.NoError(t, err)
		defer tm.Close()
		shares := func() (s []float64) {
			for _, m := range tm.Stats().Members {
				s = append(s, m.Share)
			}
			return s
		}
		require.Equal(t, []float64{0.25, 0.25, 0.5}, shares())
		require.EqualValues(t, 4e9, tm.Link().Speed)
		slow[0].SetLink(false)
		synctest.Wait()
		require.InDeltaSlice(t, []float64{0, 1. / 3, 2. / 3}, shares(), 0.002)
		slow[0].SetLink(true)
		synctest.Wait()
		require.Equal(t, []float64{0.25, 0.25, 0.5}, shares())
	})
}

func TestSendComesUpShortWithoutLoss(t *testing.T) {
	near, far := pipes(t, 4, &ports.PipeConfig{Depth: 64})
	tm, err := team.New(membersOf(near, 1), &team.Config{Mode: team.Static, Distribution: team.AddressHash})
	require.NoError(t, err)
	defer tm.Close()
	flows := flowFrames(256)
	narrow := far[2] // which takes its frames off at leisure; the others do at once
	b := ports.NewBatch(64)
	got, first, last := 0, 0, map[int]int{}
	take := func(e *ports.PipeEnd) {
		b.Reset()
		require.NoError(t, e.Rx(0).Recv(b))
		for _, f := range b.Frames() {
			require.Greater(t, numberOf(f), last[flowOf(f)])
			last[flowOf(f)] = numberOf(f)
			got++
		}
		b.Reset()
		e.Rx(0).Release()
	}
	short := 0
	for round := range 100 {
		for _, f := range flows {
			numbered(f, flowOf(f), round+1)
		}
		for rest := flows; len(rest) > 0; {
			part := rest[:min(len(rest), 48)]
			n, err := tm.Tx(0).Send(part)
			require.NoError(t, err)
			if n < len(part) {
				if short++; short == 1 { // until then nobody knows who is narrow
					first = int(tm.Stats().Members[2].Drops[team.QueueFull])
					require.Less(t, first, 48)
				}
				take(narrow)
			}
			rest = rest[n:]
			for _, e := range far {
				if e != narrow {
					take(e)
				}
			}
		}
	}
	take(narrow)
	require.NotZero(t, short)
	require.Equal(t, 100*len(flows), got+first)
}

// A backend that does not know its link, but whose Send does.
type blind struct {
	ports.Backend
}

func TestSendFindsThatAMemberIsDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, _ := pipes(t, 2, nil)
		list := membersOf(near, 1)
		for i := range list {
			list[i].Backend = blind{near[i]}
		}
		tm, err := team.New(list, &team.Config{Distribution: team.HyperVPort, UpDelay: -1})
		require.NoError(t, err)
		defer tm.Close()
		flow := flowFrames(1)
		at := where(t, tm, flow)[0]
		near[at].SetLink(false)
		require.Equal(t, -1, where(t, tm, flow)[0], "this one is lost")
		synctest.Wait()
		require.Equal(t, 1-at, where(t, tm, flow)[0])
		require.EqualValues(t, 1, tm.Stats().Members[at].Drops[team.LinkDown])
		near[at].SetLink(true)
		time.Sleep(1100 * time.Millisecond)
		require.Equal(t, at, where(t, tm, flow)[0], "it was tried again")
	})
}

func TestNothingIsAllocatedForFrames(t *testing.T) {
	for _, d := range []team.Distribution{team.HyperVPort, team.AddressHash, team.Dynamic} {
		near, far := pipes(t, 2, nil)
		tm, err := team.New(membersOf(near, 1), &team.Config{Distribution: d})
		require.NoError(t, err)
		defer tm.Close()
		flows, b := flowFrames(64), ports.NewBatch(64)
		turn := func() {
			_, _ = tm.Tx(0).Send(flows)
			drain(b, far[0].Rx(0), far[1].Rx(0))
			_, _ = far[0].Tx(0).Send(flows)
			_, _ = far[1].Tx(0).Send(flows)
			for q := range tm.Info().RxQueues {
				drain(b, tm.Rx(q))
			}
		}
		for range 20 {
			turn()
		}
		require.Zero(t, testing.AllocsPerRun(100, turn), d)
	}
}

// endless is a backend that never runs out of frames.
type endless struct {
	ports.Backend
	f *ports.Frame
}

type endlessRx struct {
	ports.RxQueue
	f *ports.Frame
}

func (e endless) Rx(i int) ports.RxQueue { return endlessRx{e.Backend.Rx(i), e.f} }

func (q endlessRx) Recv(b *ports.Batch) error {
	for b.Lend(q.f) {
	}
	return nil
}

func (q endlessRx) Release()       {}
func (q endlessRx) SetBell(func()) {}
func (q endlessRx) Arm() bool      { return true }

func TestFloodThatDoesNotCountHoldsUpNobody(t *testing.T) {
	near, far := pipes(t, 2, nil)
	list := membersOf(near, 1)
	list[1].Backend = endless{near[1], frameOf(ports.Broadcast, hostOf(1), arp...)}
	tm, err := team.New(list, &team.Config{Distribution: team.AddressHash})
	require.NoError(t, err)
	defer tm.Close()
	b := ports.NewBatch(16)
	for range 100 {
		_, err := far[0].Tx(0).Send([]*ports.Frame{frameOf(tm.Info().MAC, hostOf(1), arp...)})
		require.NoError(t, err)
		require.Equal(t, 1, drain(b, tm.Rx(0)))
	}
}
