package team_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
)

// pair is two teams at both ends of the same cables.
type pair struct {
	*testing.T
	a, b  *team.Team
	cable []*ports.PipeEnd // ends of a
	batch *ports.Batch
	last  [2][maxFlow]int
	sent  [2][maxFlow]int
	lost  int
}

func pipes(t testing.TB, n int, cfg *ports.PipeConfig) (a, b []*ports.PipeEnd) {
	for range n {
		x, y, err := ports.Pipe(cfg)
		require.NoError(t, err)
		a, b = append(a, x), append(b, y)
	}
	return a, b
}

func membersOf(ends []*ports.PipeEnd, side byte) (m []team.Member) {
	for i, e := range ends {
		m = append(m, team.Member{Backend: e, MAC: ports.MAC{2, 0, 0, 0, side, byte(i)}})
	}
	return m
}

func newPair(t *testing.T, members int, a, b *team.Config) *pair {
	near, far := pipes(t, members, &ports.PipeConfig{Depth: 1024, Speed: 1e9})
	p := &pair{T: t, cable: near, batch: ports.NewBatch(16)}
	var err error
	p.a, err = team.New(membersOf(near, 0x0a), a)
	require.NoError(t, err)
	p.b, err = team.New(membersOf(far, 0x0b), b)
	require.NoError(t, err)
	t.Cleanup(func() { p.a.Close(); p.b.Close() })
	return p
}

func (p *pair) team(side int) *team.Team { return [2]*team.Team{p.a, p.b}[side] }

// poll receives on both sides, so that LACPDUs are heard, and checks the order of flows.
func (p *pair) poll() {
	for side := range 2 {
		t := p.team(side)
		for q := range t.Info().RxQueues {
			for {
				p.batch.Reset()
				_ = t.Rx(q).Recv(p.batch)
				n := p.batch.Len()
				for _, f := range p.batch.Frames() {
					if f.Head()[12] != 8 || f.Head()[13] != 0 {
						continue // an announcement
					}
					flow, number := flowOf(f), numberOf(f)
					was := p.last[1-side][flow]
					if number <= was {
						p.Fatalf("from side %d: frame %d of flow %d arrived after frame %d", 1-side, number, flow, was)
					}
					p.lost += number - was - 1
					p.last[1-side][flow] = number
				}
				p.batch.Reset()
				t.Rx(q).Release()
				if n == 0 {
					break
				}
			}
		}
	}
}

// pass lets time pass while both sides are polled.
func (p *pair) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		p.poll()
		time.Sleep(time.Millisecond)
	}
	p.poll()
}

// send sends a frame of each of the flows from a side.
func (p *pair) send(side int, flows ...*ports.Frame) (int, error) {
	for _, f := range flows {
		flow := flowOf(f)
		p.sent[side][flow]++
		numbered(f, flow, p.sent[side][flow])
	}
	return p.team(side).Tx(0).Send(flows)
}

// inUse returns the names of members that frames leave by.
func inUse(t *team.Team) (names []string) {
	for _, m := range t.Stats().Members {
		if m.Active {
			names = append(names, m.Name)
		}
	}
	return names
}

func flowFrames(n int) (frames []*ports.Frame) {
	for i := range n {
		frames = append(frames, numbered(udpFrame(vnicOf(i%8), hostOf(i/8), i, 60+i%100), i, 0))
	}
	return frames
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }
