package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch"
)

// long is more than anything takes on a busy machine.
const long = 3 * time.Minute

func TestVhostUser(t *testing.T) {
	t.Parallel()
	s := newScene(t, "vhost-user")
	s.follows = followsDriver
	s.talks(t, true)
	s.common(t)
	t.Run("switch goes and comes", s.switchGoesAndComes)
	t.Run("VM moves to another host", s.vmMoves)
}

func TestTAP(t *testing.T) {
	t.Parallel()
	s := newScene(t, "tap")
	s.follows = followsNobody // the TAP is there as long as we have its descriptor
	s.talks(t, true)
	s.common(t)
}

func TestStream(t *testing.T) {
	t.Parallel()
	newScene(t, "stream").socket(t)
}

func TestDgram(t *testing.T) {
	t.Parallel()
	newScene(t, "dgram").socket(t)
}

func (s *scene) socket(t *testing.T) {
	s.follows = followsQEMU
	s.talks(t, false)
	s.common(t)
}

// common is what happens over every netdev.
func (s *scene) common(t *testing.T) {
	t.Run("guest reboots", s.guestReboots)
	t.Run("driver goes and comes", s.driverGoesAndComes)
	t.Run("QEMU is killed and another started", s.qemuIsReplaced)
	t.Run("TCP after all that", func(t *testing.T) {
		got, err := s.vm2.iperf(s.ctx, s.vm1, time.Second)
		require.NoError(t, err)
		require.Greater(t, got.rate, rate(1e6))
	})
}

// follows says what the link of a port shows.
type follows int

const (
	followsNobody follows = iota
	followsQEMU
	followsDriver
)

// scene is two VMs. Once they have talked, vm1 pings vm2 without end, and something happens to vm2.
type scene struct {
	*lab
	ctx      context.Context
	vm1, vm2 *vm
	follows  follows
}

func newScene(t *testing.T, netdev string) *scene {
	img := needImage(t, netdev)
	here, err := newLab("here", netdev, "tcg", img)
	require.NoError(t, err)
	s := sceneOf(t, here)
	s.vm1, s.vm2 = s.start(t, here, "vm1", 1), s.start(t, here, "vm2", 2)
	s.ready(t)
	return s
}

// sceneOf makes a scene that ends with the test.
func sceneOf(t *testing.T, l *lab) *scene {
	t.Cleanup(func() { require.NoError(t, l.close()) })
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	return &scene{lab: l, ctx: ctx}
}

func (s *scene) ready(t *testing.T) {
	t.Helper()
	for _, v := range []*vm{s.vm1, s.vm2} {
		require.NoError(t, v.ready(s.ctx, 0))
		for _, l := range v.from(0) {
			require.NotContains(t, l.text, "warning", "QEMU is not content")
		}
	}
}

// talks has the VMs and the host talk to each other.
func (s *scene) talks(t *testing.T, segmentation bool) {
	t.Helper()
	m, err := s.measure(s.ctx, time.Second)
	require.NoError(t, err)
	var report bytes.Buffer
	m.print(&report)
	t.Log(report.String())
	require.Len(t, m.guests, 2)
	for _, g := range m.guests {
		require.Equal(t, segmentation, g.segmentation, g.name)
	}
	require.Len(t, m.flows, 2)
	for _, f := range m.flows {
		require.Len(t, f.rtt, pings)
		require.Greater(t, f.rate, rate(1e6), "%s to %s", f.from, f.to)
	}
	require.Positive(t, m.trips.n)
	require.Len(t, m.ports, 3)

	s.watch(t)
}

// watch has vm1 ping vm2 from now on.
func (s *scene) watch(t *testing.T) {
	t.Helper()
	_, err := s.vm1.run(s.ctx, "watch %v", s.vm2.addr.Addr())
	require.NoError(t, err)
}

// start plugs the n-th VM in and starts it, with a monitor.
func (s *scene) start(t *testing.T, l *lab, name string, n int, args ...string) *vm {
	t.Helper()
	m, err := l.plug(name, n)
	require.NoError(t, err)
	m.args = append(append(m.args, "-qmp", "unix:"+m.monitor()+",server=on,wait=off"), args...)
	require.NoError(t, l.start(m))
	return l.vms[len(l.vms)-1]
}

func (m machine) monitor() string { return filepath.Join(m.dir, m.name+".monitor") }

// gap has something happen to vm2, waits until vm1 gets replies again, and tells for how long it got none.
func (s *scene) gap(t *testing.T, happen func()) {
	t.Helper()
	n := s.vm1.length()
	flows := func(from int) func() bool {
		return func() bool { return len(replies(s.vm1.from(from))) >= 3 }
	}
	require.Eventually(t, flows(n), long, time.Millisecond, "no replies before anything happens")
	happen()
	require.Eventually(t, flows(s.vm1.length()), long, time.Millisecond, "no replies afterwards")

	var longest time.Duration
	all := replies(s.vm1.from(n))
	for i, r := range all[1:] {
		longest = max(longest, r.at.Sub(all[i].at))
	}
	t.Logf("%s: the longest time without a reply was %v", t.Name(), longest.Round(time.Millisecond))
}

// await waits for a state of a vNIC's link.
func (s *scene) await(t *testing.T, v *vswitch.VNIC, up bool) {
	t.Helper()
	require.Eventually(t, func() bool { return v.Link().Up == up }, long, time.Millisecond, "link up: %t", !up)
}

func (s *scene) guestReboots(t *testing.T) {
	s.gap(t, func() {
		n := s.vm2.length()
		_, err := fmt.Fprintln(s.vm2.typing, "reboot -f")
		require.NoError(t, err)
		require.NoError(t, s.vm2.ready(s.ctx, n))
	})
}

func (s *scene) driverGoesAndComes(t *testing.T) {
	vnic := s.host.VNIC("vm2")
	s.gap(t, func() {
		_, err := s.vm2.run(s.ctx, "unload")
		require.NoError(t, err)
		s.await(t, vnic, s.follows < followsDriver)
		_, err = s.vm2.run(s.ctx, "load && link")
		require.NoError(t, err)
		s.await(t, vnic, true)
	})
}

func (s *scene) qemuIsReplaced(t *testing.T) {
	vnic := s.host.VNIC("vm2")
	s.gap(t, func() {
		s.vm2.stop()
		s.await(t, vnic, s.follows < followsQEMU)
		require.NoError(t, s.lab.start(s.vm2.machine))
		s.vm2 = s.vms[len(s.vms)-1]
		require.NoError(t, s.vm2.ready(s.ctx, 0))
		s.await(t, vnic, true)
	})
	require.Same(t, vnic, s.host.VNIC("vm2"))
}

func (s *scene) switchGoesAndComes(t *testing.T) {
	s.gap(t, func() {
		require.NoError(t, s.host.VNIC("vm2").Close())
		_, err := s.plug("vm2", 2)
		require.NoError(t, err)
		s.await(t, s.host.VNIC("vm2"), true)
	})
	_, err := s.vm2.iperf(s.ctx, s.vm1, time.Second)
	require.NoError(t, err)
}
