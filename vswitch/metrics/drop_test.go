package metrics_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/metrics"
)

const drops = "hvswitch_port_dropped_frames_total"

func TestEveryDropReasonIsThereFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		l.newSwitch("lab", nil)
		vm := l.guest("vm1", vswitch.VNICConfig{Switch: "lab"})
		n := 0
		for r := vswitch.DropReason(1); !strings.HasPrefix(r.String(), "drop reason"); r++ {
			n++
			l.hasValue(0, drops, "port", "vm1", "reason", r.String())
		}
		require.Len(t, l.gather()[drops], n)

		send(t, vm.end, ports.Broadcast, ports.MAC{6})
		l.hasValue(1, drops, "port", "vm1", "reason", "spoofed source")
		require.Len(t, l.gather()[drops], n)
	})
}

func TestSparseDropsAreThoseThatOccurred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &metrics.Config{SparseDrops: true})
		l.newSwitch("lab", nil)
		vm := l.guest("vm1", vswitch.VNICConfig{Switch: "lab"})
		require.Empty(t, l.gather()[drops])
		send(t, vm.end, ports.Broadcast, ports.MAC{6})
		l.hasValue(1, drops, "port", "vm1", "reason", "spoofed source", "switch", "lab")
		require.Len(t, l.gather()[drops], 1)
	})
}
