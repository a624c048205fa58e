package ports

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOffloadNeeds(t *testing.T) {
	for name, c := range map[string]struct {
		request Offload
		needs   Offloads
	}{
		"nothing":               {Offload{}, 0},
		"a checked checksum":    {Offload{ChecksumValid: true}, 0},
		"hints":                 {Offload{SegmentSize: 9, HeaderLen: 54}, 0},
		"checksum":              {Offload{NeedsChecksum: true}, OffloadChecksum},
		"TCP over IPv4":         {Offload{NeedsChecksum: true, Segment: SegmentTCP4}, OffloadChecksum | OffloadTCP4},
		"TCP over IPv6 and ECN": {Offload{NeedsChecksum: true, Segment: SegmentTCP6, ECN: true}, OffloadChecksum | OffloadTCP6 | OffloadECN},
		"UDP":                   {Offload{NeedsChecksum: true, Segment: SegmentUDP}, OffloadChecksum | OffloadUDP},
		"without checksum":      {Offload{Segment: SegmentTCP4}, OffloadTCP4},
	} {
		require.Equal(t, c.needs, c.request.Needs(), name)
		require.Equal(t, c.needs == 0, c.request.IsZero(), name)
		require.Zero(t, c.request.Needs()&^OffloadAll, name)
	}
}

func TestLinkOf(t *testing.T) {
	a, _, err := Pipe(&PipeConfig{Speed: 10e9})
	require.NoError(t, err)
	require.Equal(t, Link{Up: true, Speed: 10e9}, LinkOf(a))
	a.SetLink(false)
	require.Equal(t, Link{Up: false, Speed: 10e9}, LinkOf(a))
	require.Equal(t, Link{Up: true}, LinkOf(struct{ Backend }{a}), "a backend that says nothing of its link is up")
}
