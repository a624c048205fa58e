package vswitch_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

func TestNothingIsAllocatedPerFrame(t *testing.T) {
	able := ports.PipeConfig{Offloads: ports.OffloadAll}
	text := func(dst, src ports.MAC) *ports.Frame { return newFrame(frame(dst, src, "0123456789")) }
	nested := func(dst, src ports.MAC) *ports.Frame { return newFrame(frame(dst, stranger(1), "0123456789")) }
	segment := func(dst, src ports.MAC) *ports.Frame { return largeFrames[0].frame(dst, src, 4*1400, 1400) }
	for _, c := range []struct {
		name    string
		frame   func(dst, src ports.MAC) *ports.Frame
		flood   bool
		dst     ports.PipeConfig
		each    int // frames that arrive for one sent
		changes func(c *vswitch.VNICConfig)
	}{
		{name: "unicast", frame: text, each: 1},
		{name: "flood", frame: text, flood: true, each: 1},
		{name: "unicast, learned", frame: nested, each: 1},
		{name: "flood, learned", frame: nested, flood: true, each: 1},
		{name: "unicast, large", frame: segment, dst: able, each: 1},
		{name: "unicast, cut", frame: segment, dst: ports.PipeConfig{Depth: 1024}, each: 4},
		{name: "flood, cut for some", frame: segment, flood: true, dst: ports.PipeConfig{Depth: 1024}, each: 4},
	} {
		for _, burst := range []int{1, 64} {
			t.Run(fmt.Sprintf("%s, %d at once", c.name, burst), func(t *testing.T) {
				l := newLab(t)
				l.newSwitch("lab", vswitch.SwitchConfig{})
				from := l.guestOn(able, "from", vswitch.VNICConfig{Switch: "lab", AllowSpoofing: true})
				to := l.guestOn(c.dst, "to", vswitch.VNICConfig{Switch: "lab"})
				third := l.guestOn(able, "third", vswitch.VNICConfig{Switch: "lab"})
				dst := to.mac
				if c.flood {
					dst = ports.Broadcast
				}
				var frames []*ports.Frame
				for range burst {
					frames = append(frames, c.frame(dst, from.mac))
				}
				b := ports.NewBatch(64)
				take := func(s *station, n int) { s.takeInto(b, n) }
				round := func() {
					if n, err := from.end.Tx(0).Send(frames); n != len(frames) {
						panic(err)
					}
					take(to, burst*c.each)
					if c.flood {
						take(third, burst)
					}
				}
				for range 16 + 1024/burst { // each slot of a ring gets its memory when it is used first
					round()
				}
				require.Zero(t, testing.AllocsPerRun(100, round))
				require.Zero(t, to.vnic.Stats().Dropped())
			})
		}
	}
}
