package main

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch"
)

func TestQuickstart(t *testing.T) {
	before := runtime.NumGoroutine()
	o, err := run(t.Context())
	require.NoError(t, err)

	require.Len(t, o.visits, 6, "three guests visit two others each")
	for _, v := range o.visits {
		require.NoError(t, v.err)
		require.Positive(t, v.rtt)
		require.Equal(t, pageSize, v.page)
	}

	ports := map[string]vswitch.PortStats{}
	for _, p := range o.stats.Ports {
		ports[p.Port] = p
	}
	require.Len(t, ports, 4)
	require.Positive(t, o.stats.Flooded)
	require.Equal(t, o.stats.Flooded, ports["mallory"].TxFrames, "the intruder sees what is flooded and no more")
	for _, name := range []string{"alice", "bob", "carol"} {
		require.Zero(t, ports[name].Dropped(), name)
		require.Greater(t, ports[name].RxBytes, uint64(2*pageSize), name)
	}
	require.Equal(t, map[vswitch.DropReason]uint64{vswitch.DropSpoofedSource: 1}, ports["mallory"].Drops)

	var learned []string
	for _, a := range o.addresses {
		if !a.Static {
			learned = append(learned, a.MAC.String()+" at "+a.Port)
		}
	}
	require.Equal(t, []string{"02:00:5e:00:00:03 at carol"}, learned)

	var report bytes.Buffer
	o.print(&report)
	require.Contains(t, report.String(), "spoofed source")

	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 5*time.Second, time.Millisecond,
		"more goroutines are left than the one of Eventually")
}

func TestWhatDidNotArriveIsAnError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o, err := run(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "alice did not reach bob: ")
	require.ErrorContains(t, err, "carol did not reach alice: ")

	o.visits[0].err = errors.New("lost")
	var report bytes.Buffer
	o.print(&report)
	require.Contains(t, strings.Split(report.String(), "\n")[2], "lost")
}
