package team_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/team"
	"github.com/hvswitch/hvswitch/team/lacp"
)

// ovs is Open vSwitch with its userspace datapath: a bridge with bond0 of far0 and far1, and port h0.
type ovs struct {
	*testing.T
	dir    string
	daemon *exec.Cmd
}

// tool finds a program of Open vSwitch.
func tool(t *testing.T, name string) string {
	for _, dir := range []string{"", "/usr/sbin", "/sbin", "/usr/bin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p
		}
	}
	t.Skipf("needs %s of Open vSwitch (Debian package openvswitch-switch)", name)
	return ""
}

func (o *ovs) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(tool(o.T, name), args...)
	c.Env = append(os.Environ(), "OVS_RUNDIR="+o.dir, "OVS_DBDIR="+o.dir, "OVS_LOGDIR="+o.dir)
	return c
}

func (o *ovs) do(name string, args ...string) string {
	o.Helper()
	out, err := o.command(name, args...).CombinedOutput()
	require.NoError(o, err, "%s %v: %s", name, args, out)
	return string(out)
}

func (o *ovs) vsctl(line string) {
	o.Helper()
	o.do("ovs-vsctl", append([]string{"--db=unix:" + o.dir + "/db.sock", "--timeout=20"}, strings.Fields(line)...)...)
}

func (o *ovs) appctl(what ...string) string {
	out, _ := o.command("ovs-appctl", append([]string{"-t", o.dir + "/vsw.ctl"}, what...)...).CombinedOutput()
	return string(out)
}

// start starts a daemon that ends with the test.
func (o *ovs) start(socket, name string, args ...string) *exec.Cmd {
	o.Helper()
	c := o.command(name, args...)
	c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	require.NoError(o, c.Start())
	var once sync.Once
	o.Cleanup(func() {
		once.Do(func() {
			_ = c.Process.Kill()
			_ = c.Wait()
		})
	})
	await(o.T, 20*time.Second, name+" does not start", func() bool {
		_, err := os.Stat(filepath.Join(o.dir, socket))
		return err == nil
	})
	return c
}

func (o *ovs) startSwitch() {
	o.Helper()
	_ = os.Remove(o.dir + "/vsw.ctl")
	o.daemon = o.start("vsw.ctl", "ovs-vswitchd", "unix:"+o.dir+"/db.sock", "-vconsole:off",
		"--log-file="+o.dir+"/vsw.log", "--unixctl="+o.dir+"/vsw.ctl")
}

func newOVS(t *testing.T, bond string) *ovs {
	t.Helper()
	schema := "/usr/share/openvswitch/vswitch.ovsschema"
	if _, err := os.Stat(schema); err != nil {
		t.Skipf("needs Open vSwitch (Debian package openvswitch-switch): %v", err)
	}
	dir, err := os.MkdirTemp("", "ovs") // not t.TempDir: the path of a socket must be short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := &ovs{T: t, dir: dir}
	o.do("ovsdb-tool", "create", dir+"/conf.db", schema)
	o.start("db.sock", "ovsdb-server", dir+"/conf.db", "--remote=punix:"+dir+"/db.sock", "-vconsole:off", "--log-file="+dir+"/db.log")
	o.vsctl("--no-wait init")
	o.startSwitch()
	o.vsctl("add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 h0 -- add-bond br0 bond0 far0 far1 " + bond)
	return o
}

// attached counts the members of the bond whose LACP says that they are.
func (o *ovs) attached() int {
	return strings.Count(o.appctl("lacp/show"), "current attached")
}

func TestLACPWithOpenVSwitch(t *testing.T) {
	for name, c := range map[string]struct {
		bond    string
		cfg     team.Config
		restart bool
	}{
		"active fast, active short":  {"bond_mode=balance-tcp lacp=active other_config:lacp-time=fast", team.Config{Short: true}, true},
		"passive slow, active long":  {"bond_mode=balance-slb lacp=passive other_config:lacp-time=slow", team.Config{}, false},
		"active slow, passive short": {"bond_mode=balance-tcp lacp=active other_config:lacp-time=slow", team.Config{Passive: true, Short: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newNamespace(t)
			members := veths(t, 2)
			ip(t, "link add h0 type veth peer name e0")
			ip(t, "link set h0 up")
			ip(t, "link set e0 up")
			o := newOVS(t, c.bond)
			c.cfg.Mode, c.cfg.Distribution = team.LACP, team.AddressHash
			tm, err := team.New(members, &c.cfg)
			require.NoError(t, err)
			t.Cleanup(func() { tm.Close() })
			l := newLink(t, tm, "e0")
			both := func(when string) {
				t.Helper()
				start := time.Now()
				await(t, 40*time.Second, "LACP does not form "+when, func() bool { return len(inUse(tm)) == 2 && o.attached() == 2 })
				t.Logf("%s: formed after %v", when, time.Since(start).Round(10*time.Millisecond))
			}
			both("at first")
			l.traffic()

			ip(t, "link set far0 down") // the cable is pulled
			await(t, 10*time.Second, "the loss of the link is not seen", func() bool { return len(inUse(tm)) == 1 })
			l.traffic()
			ip(t, "link set far0 up")
			both("after the cable was pulled")

			if c.restart {
				require.NoError(t, o.daemon.Process.Kill())
				await(t, 10*time.Second, "its silence is not noticed", func() bool { return !tm.Link().Up })
				o.startSwitch()
				both("after the partner was restarted")
				l.traffic()
			}
		})
	}
}

// A cable is put into another switch, which has an aggregation of its own, and back again.
func TestMemberMovesToAnotherOpenVSwitch(t *testing.T) {
	for name, short := range map[string]bool{"short": true, "long": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newNamespace(t)
			members := veths(t, 3)
			ip(t, "link add h0 type veth peer name e0")
			ip(t, "link set h0 up")
			ip(t, "link set e0 up")
			o := newOVS(t, "bond_mode=balance-tcp lacp=active other_config:lacp-time=fast")
			o.vsctl("add-bond-iface bond0 far2")
			o.vsctl("add-br br1 -- set bridge br1 datapath_type=netdev other_config:hwaddr=02:00:00:00:0b:01")
			tm, err := team.New(members, &team.Config{Mode: team.LACP, Distribution: team.AddressHash, Short: short, MAC: macOf(1)})
			require.NoError(t, err)
			t.Cleanup(func() { tm.Close() })
			l := newLink(t, tm, "e0")
			all := func() bool { return len(inUse(tm)) == 3 && o.attached() == 3 }
			await(t, 40*time.Second, "LACP does not form", all)
			l.traffic()
			partner := states(tm)[0].Partner.System

			ip(t, "link set far2 down")
			o.vsctl("del-bond-iface bond0 far2 -- add-port br1 far2 -- set port far2 lacp=active other_config:lacp-time=fast")
			ip(t, "link set far2 up")
			await(t, 40*time.Second, "the other switch is not seen", func() bool {
				s := states(tm)[2]
				return s.Receive == lacp.ReceiveCurrent && s.Partner.System != partner
			})
			require.Equal(t, lacp.Unselected, states(tm)[2].Selection)
			require.Equal(t, []string{"near0", "near1"}, inUse(tm))
			l.traffic()

			ip(t, "link set far2 down")
			o.vsctl("del-port br1 far2 -- add-bond-iface bond0 far2")
			ip(t, "link set far2 up")
			await(t, 40*time.Second, "LACP does not form again", all)
			require.Equal(t, partner, states(tm)[2].Partner.System)
			l.traffic()
		})
	}
}

func TestPassiveEndsNeverForm(t *testing.T) {
	newNamespace(t)
	members := veths(t, 2)
	ip(t, "link add h0 type veth peer name e0")
	ip(t, "link set h0 up")
	ip(t, "link set e0 up")
	o := newOVS(t, "bond_mode=balance-tcp lacp=passive other_config:lacp-time=fast")
	tm, err := team.New(members, &team.Config{Mode: team.LACP, Passive: true, Short: true})
	require.NoError(t, err)
	t.Cleanup(func() { tm.Close() })
	newLink(t, tm, "e0")
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		require.Empty(t, inUse(tm))
		require.Zero(t, o.attached())
	}
	for _, s := range states(tm) {
		require.Zero(t, s.Counters.Received)
		require.Zero(t, s.Counters.Sent)
		require.True(t, s.Actor.State.Has(lacp.Defaulted))
	}
}
