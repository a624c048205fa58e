package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// tapNames are those of two TAPs in a network namespace.
var tapNames = [2]string{"tap1", "tap2"}

// newTAPs makes two TAPs in a network namespace of their own, where it has join connect them.
func newTAPs(t *testing.T, join func() error) (taps [2]*os.File) {
	t.Helper()
	err := inNewNetwork(func() error {
		for i, name := range tapNames {
			tap, err := os.OpenFile("/dev/net/tun", os.O_RDWR|unix.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = tap.Close() })
			if err := bringUp(tap, name); err != nil {
				return fmt.Errorf("make TAP: %w", err)
			}
			taps[i] = tap
		}
		return join()
	})
	require.NoError(t, err)
	return taps
}

// bridgeTAPs connects the TAPs by the bridge of the kernel.
func bridgeTAPs() error {
	for _, line := range []string{
		"link add bridge type bridge",
		"link set bridge up",
		"link set " + tapNames[0] + " master bridge",
		"link set " + tapNames[1] + " master bridge",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}

// Where Debian puts the build of Open vSwitch with DPDK, of the package openvswitch-switch-dpdk.
const ovsDPDK = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"

// skipWithoutOVS skips a part of a test when the machine has no Open vSwitch with that daemon.
func skipWithoutOVS(t *testing.T, part, daemon string) (skipped bool) {
	for _, name := range []string{daemon, "ovsdb-server", "ovsdb-tool", "ovs-vsctl"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Run(part, func(t *testing.T) { t.Skip(err) })
			return true
		}
	}
	return false
}

// ovs is an Open vSwitch with all its files in a directory.
type ovs struct {
	t   *testing.T
	dir string
}

// newOVS runs its database, with settings of its other_config.
func newOVS(t *testing.T, settings ...string) *ovs {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovs") // not that of t, whose name is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o := &ovs{t, dir}
	db := filepath.Join(dir, "conf.db")
	out, err := exec.Command("ovsdb-tool", "create", db, "/usr/share/openvswitch/vswitch.ovsschema").CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, o.launch("ovsdb-server", db, "--remote=p"+o.db()))
	o.vsctl("--no-wait", "init")
	for _, s := range settings {
		o.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:"+s)
	}
	return o
}

// db is where the database listens.
func (o *ovs) db() string { return "unix:" + filepath.Join(o.dir, "db") }

// launch starts a daemon of it in the network namespace of the caller.
func (o *ovs) launch(name string, args ...string) error {
	command := []string{"OVS_RUNDIR=" + o.dir, "OVS_DBDIR=" + o.dir, "OVS_LOGDIR=" + o.dir, name, "-vconsole:off", "--log-file"}
	_, err := launch(o.t, "env", append(command, args...)...)
	return err
}

// vsctl changes its configuration, and waits until the switch has taken it over.
func (o *ovs) vsctl(args ...string) {
	o.t.Helper()
	out, err := exec.Command("ovs-vsctl", append([]string{"--timeout=60", "--retry", "--db=" + o.db()}, args...)...).CombinedOutput()
	require.NoError(o.t, err, string(out))
}
