package vswitch_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// witness is a capture that counts what it sees.
type witness struct{ frames, fates int }

func (w *witness) Capture(b *extension.Batch) { w.frames += b.Len() }
func (w *witness) Fate(b *extension.Batch)    { w.fates += b.Len() }

func TestACaptureSeesEachFrameOnBothSides(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		w := new(witness)
		l.newSwitch("lab", vswitch.SwitchConfig{Extensions: []extension.Binding{{Name: "witness", Extension: w}}})
		a, b := l.guest("a", vswitch.VNICConfig{Switch: "lab"}), l.guest("b", vswitch.VNICConfig{Switch: "lab"})
		a.send(b.mac, "hello")
		l.settle()
		require.Equal(t, []string{"hello"}, b.got())
		require.Equal(t, witness{2, 2}, *w)
	})
}
