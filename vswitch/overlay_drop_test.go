package vswitch

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
)

func TestEveryDropOfTheOverlayHasAReason(t *testing.T) {
	require.Len(t, overlayDrops, int(overlay.DropNoRoom), "those of an overlay.Underlay come behind")
	for d := overlay.DropNotTunnel + 1; d < overlay.DropNoRoom; d++ {
		require.NotZero(t, overlayDrops[d], d)
	}
}
