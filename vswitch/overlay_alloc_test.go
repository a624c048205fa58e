package vswitch_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

func TestTheOverlayAllocatesNothingPerFrame(t *testing.T) {
	able := ports.PipeConfig{Offloads: ports.OffloadAll, Depth: 1024}
	cable := ports.PipeConfig{Depth: 1024}
	for _, x := range []struct {
		name  string
		to    int // number of the VM; 0 for all others
		frame func(from, to *member) *ports.Frame
		each  int
	}{
		{"to another host", 2, func(from, to *member) *ports.Frame {
			return newFrame(packet(to.mac, from.mac, from.ca, to.ca, "0123456789"))
		}, 1},
		{"on one host", 1, func(from, to *member) *ports.Frame {
			return newFrame(packet(to.mac, from.mac, from.ca, to.ca, "0123456789"))
		}, 1},
		{"routed", 3, func(from, to *member) *ports.Frame {
			return newFrame(packet(routerMAC(5001), from.mac, from.ca, to.ca, "0123456789"))
		}, 1},
		{"broadcast", 0, func(from, to *member) *ports.Frame {
			return newFrame(packet(ports.Broadcast, from.mac, from.ca, addr("255.255.255.255"), "0123456789"))
		}, 1},
		{"a large segment", 2, func(from, to *member) *ports.Frame {
			f := largeFrames[0].frame(to.mac, from.mac, 4*1400, 1400)
			setAddrs(f.Head(), from.ca.As4(), to.ca.As4())
			return f
		}, 4},
	} {
		for _, burst := range []int{1, 64} {
			t.Run(fmt.Sprintf("%s, %d at once", x.name, burst), func(t *testing.T) {
				c := newCloudOn(t, cable, 9)
				c.subnet(red, 5001, "10.0.0.0/24")
				c.subnet(red, 5002, "10.0.1.0/24")
				var vm []*member
				for _, at := range []struct {
					host int
					name string
					cfg  vswitch.VNICConfig
					ca   string
				}{
					{0, "vm0", vswitch.VNICConfig{VSID: 5001}, "10.0.0.10"},
					{0, "vm1", vswitch.VNICConfig{VSID: 5001}, "10.0.0.11"},
					{1, "vm2", vswitch.VNICConfig{VSID: 5001}, "10.0.0.12"},
					{1, "vm3", vswitch.VNICConfig{VSID: 5002}, "10.0.1.13"},
				} {
					vm = append(vm, c.vmWith(at.host, at.name, at.ca, able, at.cfg))
				}
				b := ports.NewBatch(64)
				c.introduce(9)
				var frames []*ports.Frame
				for range burst {
					frames = append(frames, x.frame(vm[0], vm[x.to]))
				}
				round := func() {
					if n, err := vm[0].end.Tx(0).Send(frames); n != len(frames) {
						panic(err)
					}
					if x.to == 0 {
						vm[1].takeInto(b, burst)
						vm[2].takeInto(b, burst)
						return
					}
					vm[x.to].takeInto(b, burst*x.each)
				}
				for range 16 + 4096/burst { // each slot of a ring gets its memory when it is used first
					round()
				}
				require.Zero(t, testing.AllocsPerRun(100, round))
			})
		}
	}
}
