package team_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
)

// Flows of the test below; each has frames of its own.
const (
	vnicsOfTest = 8
	flowsEach   = 40

	floodsOut   = 1000 // and the number of the vNIC
	unknownsOut = 1100
	floodsIn    = 2000
	silentIn    = 2100 // to a station behind the team that never sends
	foreignIn   = 2200 // to one that is nowhere
)

func TestNoDuplicateAndNoOvertakingOnASwitchThatFloods(t *testing.T) {
	for _, d := range []team.Distribution{team.HyperVPort, team.AddressHash, team.Dynamic} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { onFloodingSwitch(t, d) })
		})
	}
}

func onFloodingSwitch(t *testing.T, d team.Distribution) {
	const step = 100 * time.Microsecond
	w := newWorld(t, 4, &team.Config{Distribution: d, UpDelay: 10 * time.Millisecond})
	w.lag = 5
	silent := ports.MAC{2, 0, 0, 0, 4, 1}
	foreign := ports.MAC{2, 0, 0, 0, 5, 1}
	var out, in []*ports.Frame
	for v := range vnicsOfTest {
		for f := range flowsEach {
			flow := v*flowsEach + f
			out = append(out, numbered(udpFrame(vnicOf(v), hostOf(f), flow, 60+f*20), flow, 0))
			in = append(in, numbered(udpFrame(hostOf(f), vnicOf(v), flow, 60), flow, 0))
		}
	}
	rare := func() {
		v := w.rnd.IntN(vnicsOfTest)
		switch w.rnd.IntN(5) {
		case 0:
			w.send(numbered(udpFrame(vnicOf(v), ports.Broadcast, 1, 60), floodsOut+v, 0))
		case 1:
			w.send(numbered(udpFrame(vnicOf(v), foreign, 1, 60), unknownsOut+v, 0))
		case 2:
			w.outsideSends(numbered(udpFrame(hostOf(v), ports.Broadcast, 1, 60), floodsIn+v, 0))
		case 3:
			w.outsideSends(numbered(udpFrame(hostOf(v), silent, 1, 60), silentIn+v, 0))
		case 4:
			w.outsideSends(numbered(udpFrame(hostOf(v), foreign, 1, 60), foreignIn+v, 0))
		}
	}
	rounds, down := million/64, -1
	quiet := rounds / 4 // in which no cable is pulled
	for n := range rounds {
		if n == quiet {
			w.settle()
			lost, _ := w.lost()
			require.Zero(t, lost)
			require.Zero(t, w.flaps)
		}
		burst := make([]*ports.Frame, 0, 32)
		for range 32 {
			// Some flows are elephants, so that there is something to balance.
			burst = append(burst, out[min(w.rnd.IntN(len(out)), w.rnd.IntN(len(out)))])
			w.outsideSends(in[w.rnd.IntN(len(in))])
		}
		slices.SortFunc(burst, func(a, b *ports.Frame) int { return flowOf(a) - flowOf(b) })
		w.send(slices.Compact(burst)...) // a frame can be in a burst once
		rare()
		w.round(step)
		if n < quiet || n%(rounds/24) != 0 {
			continue
		}
		if down < 0 {
			down = w.rnd.IntN(len(w.far))
			// A flood has come over this cable, and is under way on the others.
			w.outsideSends(numbered(udpFrame(hostOf(0), ports.Broadcast, 1, 60), floodsIn, 0))
			w.deliver(down)
			for q := range w.Info().RxQueues {
				w.receive(q, 10000)
			}
			w.pull(down)
		} else {
			w.plug(down)
			down = -1
		}
	}
	w.settle()
	st := w.Stats()
	lost, of := w.lost()
	t.Logf("%d frames sent, %d lost in %d failovers, %d buckets moved, %d announcements", of, lost, st.Failovers, st.Moved, st.Announced)
	var drops [16]uint64
	for _, m := range st.Members {
		for r, n := range m.Drops {
			drops[r] += n
		}
	}
	require.NotZero(t, drops[team.ElsewhereToo])
	require.NotZero(t, drops[team.Reflected])
	require.Less(t, lost, 20*400, "at most what was sent in some milliseconds around each of some 20 events")
	require.NotZero(t, st.Announced)
	// An address shows up elsewhere only where the team has moved it.
	require.LessOrEqual(t, w.flaps, int(st.Failovers)*2*(vnicsOfTest+len(w.far)))
	if d == team.Dynamic {
		require.NotZero(t, st.Moved)
	}
}
