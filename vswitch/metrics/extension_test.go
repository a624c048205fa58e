package metrics_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

var sieveMAC = ports.MAC{6, 0, 0, 0, 0, 0x51}

// sieve drops frames to sieveMAC.
type sieve struct{}

func (sieve) Filter(b *extension.Batch) {
	for i := range b.Len() {
		if ports.MAC(b.Frame(i).Head()[:6]) == sieveMAC {
			b.Drop(i, "sifted")
		}
	}
}

// mine blows up when a frame to mineMAC steps on it.
type mine struct{}

var mineMAC = ports.MAC{6, 0, 0, 0, 0, 0x52}

func (mine) Filter(b *extension.Batch) {
	for i := range b.Len() {
		if ports.MAC(b.Frame(i).Head()[:6]) == mineMAC {
			panic("stepped on")
		}
	}
}

func TestFailedExtension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		sw := l.newSwitch("lab", &vswitch.SwitchConfig{Extensions: []extension.Binding{{Name: "mine", Extension: mine{}}}})
		vm := l.guest("vm1", vswitch.VNICConfig{Switch: "lab"})
		l.hasValue(0, "hvswitch_extension_failed", "extension", "mine")
		vm.send(mineMAC)
		l.hasValue(1, "hvswitch_extension_failed", "extension", "mine", "switch", "lab")
		l.hasValue(1, "hvswitch_port_dropped_frames_total", "port", "vm1", "reason", vswitch.DropFilterOut.String())

		cfg := sw.Config()
		cfg.Extensions[0].Disabled = true
		require.NoError(t, sw.SetConfig(cfg))
		l.hasValue(1, "hvswitch_extension_disabled", "extension", "mine")
		cfg.Extensions = nil
		require.NoError(t, sw.SetConfig(cfg))
		l.hasNo("hvswitch_extension_failed")
	})
}
