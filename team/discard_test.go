package team_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
)

func TestATeamSaysWhatItDiscards(t *testing.T) {
	near, far := pipes(t, 2, nil)
	tm, err := team.New(membersOf(near, 1), &team.Config{Distribution: team.HyperVPort, Standby: "2"})
	require.NoError(t, err)
	defer tm.Close()
	flood := udpFrame(hostOf(1), ports.Broadcast, 1, 60)
	b := ports.NewBatch(64)
	receive := func() (n int, discarded uint64) {
		for q := range tm.Info().RxQueues {
			n += drain(b, tm.Rx(q))
			discarded += tm.Rx(q).(ports.Discarder).Discarded()
		}
		return n, discarded
	}
	n, discarded := receive()
	require.Zero(t, n)
	require.Zero(t, discarded)
	for round := range 10 {
		for _, e := range far { // a switch that floods
			k, err := e.Tx(0).Send([]*ports.Frame{flood, flood, flood})
			require.NoError(t, err)
			require.Equal(t, 3, k)
		}
		n, discarded := receive()
		require.Equal(t, 3, n)
		require.EqualValues(t, 3*(round+1), discarded)
	}
}
