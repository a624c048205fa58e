package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/examples/internal/table"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/afpacket"
	"github.com/hvswitch/hvswitch/vswitch"
)

// Two guests have a card on each of several switches, and make round trips by one after the other. What the guests take
// for themselves, which is most as they are emulated, is in every figure alike.
func TestRoundTripsBesideOtherSwitches(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector slows this switch down, and not the others")
	}
	img := needImage(t, "tap")
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	l, err := newLab("here", "vhost-user", "tcg", img)
	require.NoError(t, err)
	c := &comparison{scene: sceneOf(t, l)}
	for i := range c.machines {
		c.machines[i], err = l.plug(fmt.Sprintf("vm%d", i+1), i+1)
		require.NoError(t, err)
	}
	vhostUser := c.way("ours, vhost-user") // that of the lab
	tap := c.oursByTAP(t)
	bridge := c.kernelBridge(t)
	c.openVSwitch(t)
	dpdk := c.openVSwitchDPDK(t)
	c.boot(t)

	const rounds = 3
	for range rounds {
		for _, w := range c.ways {
			if w != dpdk {
				c.measure(t, w)
			}
		}
	}
	if dpdk != nil {
		dpdk.plug()
		for range rounds {
			c.measure(t, dpdk)
		}
	}
	t.Log(c.table(vhostUser, tap))
	for _, w := range []*way{vhostUser, tap} {
		require.Less(t, w.median(p50), 3*bridge.median(p50), w.name)
	}
}

// comparison is two VMs with a card for each way between them.
type comparison struct {
	*scene
	machines [2]machine
	ways     []*way
}

// way is one from guest to guest.
type way struct {
	name   string
	n      int    // it is by the n-th card of each
	plain  bool   // neither checksums nor segmentation are left to the switch
	plug   func() // connects the cards, if that is not for good
	unplug func()
	rounds []roundTrips
}

func (c *comparison) way(name string) *way {
	w := &way{name: name, n: len(c.ways)}
	c.ways = append(c.ways, w)
	return w
}

// mac is that of the card of the i-th machine.
func (w *way) mac(i int) ports.MAC { return ports.MAC{0x52, 0x54, 0, 0, byte(w.n), byte(i + 1)} }

// addr is that of the i-th machine.
func (w *way) addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(w.n), byte(i + 1)}) }

// add gives a machine its card. The cards of all ways are the same, also in what they do without (see card).
func (w *way) add(m *machine, i int, netdev string) {
	m.args = append(m.args, "-netdev", fmt.Sprintf("%s,id=net%d", netdev, w.n),
		"-device", fmt.Sprintf("virtio-net-pci,netdev=net%d,romfile=,vectors=0,mac=%v", w.n, w.mac(i)))
}

// addTAPs gives the machines cards that are the other ends of TAPs.
func (c *comparison) addTAPs(w *way, taps [2]*os.File) {
	for i := range c.machines {
		m := &c.machines[i]
		m.files = append(m.files, taps[i])
		w.add(m, i, fmt.Sprintf("tap,vhost=off,fd=%d", 2+len(m.files)))
	}
}

// oursByTAP is another switch of the host.
func (c *comparison) oursByTAP(t *testing.T) *way {
	w := c.way("ours, TAP")
	var ends [2]ports.Backend
	c.addTAPs(w, newTAPs(t, func() (err error) {
		for i, name := range tapNames {
			if ends[i], err = afpacket.Open(name, nil); err != nil {
				return err
			}
		}
		return nil
	}))
	sw, err := c.host.NewSwitch("taps", &vswitch.SwitchConfig{Type: vswitch.Private})
	require.NoError(t, err)
	for i, end := range ends {
		_, err := c.host.NewVNIC(tapNames[i], end, &vswitch.VNICConfig{Switch: sw.Name(), MAC: w.mac(i)})
		require.NoError(t, err)
	}
	return w
}

func (c *comparison) kernelBridge(t *testing.T) *way {
	w := c.way("kernel bridge, TAP")
	c.addTAPs(w, newTAPs(t, bridgeTAPs))
	return w
}

// openVSwitch is its datapath in user space, which gets to the TAPs by packet sockets as our switch does.
func (c *comparison) openVSwitch(t *testing.T) {
	const name, daemon = "Open vSwitch, TAP", "ovs-vswitchd"
	if skipWithoutOVS(t, name, daemon) {
		return
	}
	w := c.way(name)
	w.plain = true // a frame without a checksum would leave it without one
	o := newOVS(t)
	c.addTAPs(w, newTAPs(t, func() error { return o.launch(daemon, o.db()) }))
	o.vsctl("add-br", "bridge", "--", "set", "bridge", "bridge", "datapath_type=netdev",
		"--", "add-port", "bridge", tapNames[0], "--", "add-port", "bridge", tapNames[1])
}

// openVSwitchDPDK takes a processor for itself as long as it has ports.
func (c *comparison) openVSwitchDPDK(t *testing.T) *way {
	const name = "Open vSwitch with DPDK, vhost-user"
	if skipWithoutOVS(t, name, ovsDPDK) {
		return nil
	}
	w := c.way(name)
	// Frames are few: they need no huge pages.
	o := newOVS(t, "dpdk-init=true", "dpdk-extra=--no-huge --legacy-mem -m 512 --no-pci --no-shconf --no-telemetry")
	require.NoError(t, inNewNetwork(func() error { return o.launch(ovsDPDK, o.db()) }))
	o.vsctl("add-br", "bridge", "--", "set", "bridge", "bridge", "datapath_type=netdev")
	w.plug = func() {
		for i := range c.machines {
			name := c.machines[i].name
			o.vsctl("add-port", "bridge", name, "--", "set", "interface", name, "type=dpdkvhostuserclient",
				"options:vhost-server-path="+filepath.Join(o.dir, name))
		}
	}
	w.unplug = func() {
		for i := range c.machines {
			o.vsctl("del-port", c.machines[i].name)
		}
	}
	for i := range c.machines {
		m := &c.machines[i]
		m.args = append(m.args, "-chardev", fmt.Sprintf("socket,id=switch%d,server=on,wait=off,path=%s", w.n, filepath.Join(o.dir, m.name)))
		w.add(m, i, fmt.Sprintf("vhost-user,chardev=switch%d", w.n))
	}
	w.plug() // or QEMU would wait for it
	return w
}

// boot starts the VMs and configures their cards.
func (c *comparison) boot(t *testing.T) {
	for _, m := range c.machines {
		require.NoError(t, c.lab.start(m))
	}
	c.vm1, c.vm2 = c.vms[0], c.vms[1]
	c.ready(t)
	for _, w := range c.ways[1:] {
		for i, v := range c.vms {
			_, err := v.run(c.ctx, "ip address add %v/24 dev eth%d && ip link set eth%d up", w.addr(i), w.n, w.n)
			require.NoError(t, err)
			if w.plain {
				_, err := v.run(c.ctx, "ethtool -K eth%d tx off", w.n)
				require.NoError(t, err)
			}
		}
		if w.unplug != nil {
			w.unplug()
		}
	}
}

// measure makes round trips from the first VM to the second.
func (c *comparison) measure(t *testing.T, w *way) {
	t.Helper()
	for _, v := range c.vms {
		_, err := v.run(c.ctx, `until [ "$(cat /sys/class/net/eth%d/carrier)" = 1 ]; do usleep 20000; done`, w.n)
		require.NoError(t, err)
	}
	r, err := c.vm1.roundTrips(c.ctx, w.addr(1), time.Second)
	require.NoError(t, err, w.name)
	w.rounds = append(w.rounds, r)
}

func p50(r roundTrips) time.Duration { return r.p50 }
func p90(r roundTrips) time.Duration { return r.p90 }
func p99(r roundTrips) time.Duration { return r.p99 }

// median returns that of the rounds.
func (w *way) median(of func(roundTrips) time.Duration) time.Duration {
	var all []time.Duration
	for _, r := range w.rounds {
		all = append(all, of(r))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// table compares the medians of the rounds.
func (c *comparison) table(vhostUser, tap *way) string {
	t := table.New("64 bytes by TCP there and back", "round trips", "p50", "p90", "p99", "p50 / "+vhostUser.name, "p50 / "+tap.name)
	for _, w := range c.ways {
		trips := 0
		for _, r := range w.rounds {
			trips += r.n
		}
		of := func(ours *way) string {
			return fmt.Sprintf("%.2f", float64(w.median(p50))/float64(ours.median(p50)))
		}
		t.Row(w.name, trips, w.median(p50), w.median(p90), w.median(p99), of(vhostUser), of(tap))
	}
	var b strings.Builder
	t.Print(&b)
	return "\n" + b.String()
}
