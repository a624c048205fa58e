package main

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestWeightsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var report bytes.Buffer
		chapters := story()
		for i := range chapters {
			chapters[i].seconds = 1
		}
		require.NoError(t, run(t.Context(), &report, classes(), chapters))
		for _, c := range chapters {
			require.Contains(t, report.String(), c.title+"\n")
		}
		t.Log("\n" + report.String())
		var pulled, whole int
		for _, found := range regexp.MustCompile(`([\d.]+) Mbit/s: eth0 ([\d.]+), eth1 ([\d.]+)\n`).FindAllStringSubmatch(report.String(), -1) {
			var rates []float64
			for _, s := range found[1:] {
				rate, err := strconv.ParseFloat(s, 64)
				require.NoError(t, err)
				rates = append(rates, rate)
			}
			if rates[2] == 0 {
				pulled++
				require.InDelta(t, 50, rates[1], 1)
				continue
			}
			whole++
			require.InDeltaSlice(t, []float64{100, 50, 50}, rates, 2)
		}
		require.Equal(t, 1, pulled)
		require.Equal(t, len(chapters)-1, whole)
	})
}

func TestOtherSharesAreDifferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := newLab(classes())
		require.NoError(t, err)
		defer func() { require.NoError(t, l.close()) }()
		l.planned[0].weight = 60 // the vNIC has 20
		err = l.tell(t.Context(), io.Discard, story()[0])
		require.ErrorContains(t, err, "All want everything, second 1: management has ")
		require.ErrorContains(t, err, "All want everything, second 1: VMs has ")
	})
}

func TestBandwidthThatIsNotThereIsADifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := newLab(classes())
		require.NoError(t, err)
		defer func() { require.NoError(t, l.close()) }()
		c := story()[0]
		require.NoError(t, l.tell(t.Context(), io.Discard, c))
		s, err := l.measure(t.Context())
		require.NoError(t, err)
		found := l.differences(s, shares(l.planned, c.senders), 1)
		require.Len(t, found, 2)
		require.ErrorContains(t, found[0], "1 NICs carry ")
		require.EqualError(t, found[1], "the uplink has 100 Mbit/s with 1 NICs")

		c.senders = nil
		require.ErrorContains(t, l.tell(t.Context(), io.Discard, c), "second 1: 2 NICs carry 0.0 Mbit/s")
	})
}

func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, run(ctx, io.Discard, classes(), story()), context.Canceled)
	})
}
