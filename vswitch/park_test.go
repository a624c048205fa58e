package vswitch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

type discarding struct {
	ports.RxQueue
	n uint64
}

func (d *discarding) Discarded() uint64 { return d.n }

func TestADescriptorIsLeftAloneOnlyWhenItWasReadableInVain(t *testing.T) {
	pauses := func(q *rxQueue, wakes int) (n int) {
		for range wakes {
			switch d := q.pause(); d {
			case 0:
			case pauseTime:
				n++
			default:
				require.Fail(t, "pause", "%s", d)
			}
		}
		return n
	}
	plain := &rxQueue{rx: struct{ ports.RxQueue }{}}
	require.Equal(t, 10, pauses(plain, 10*maxQuiet))

	d := &discarding{}
	q := &rxQueue{rx: d}
	require.Equal(t, 10, pauses(q, 10*maxQuiet), "it has discarded nothing")
	for range 1000 {
		d.n++
		require.Equal(t, time.Duration(0), q.pause(), "it discards what it finds")
	}
	for range 1000 {
		d.n++
		require.Zero(t, pauses(q, maxQuiet))
	}
	require.Equal(t, 1, pauses(q, maxQuiet))
}
