package team_test

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
	"github.com/hvswitch/hvswitch/team"
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

func await(t *testing.T, limit time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(end), what)
	}
}

// serve receives from a team until the test ends, and counts frames by flow.
func serve(t *testing.T, tm *team.Team) (count func(flow int) int) {
	var mu sync.Mutex
	seen := map[int]int{}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		b := ports.NewBatch(64)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n := 0
			for i := range tm.Info().RxQueues {
				q := tm.Rx(i)
				b.Reset()
				_ = q.Recv(b)
				n += b.Len()
				mu.Lock()
				for _, f := range b.Frames() {
					if h := f.Head(); len(h) >= 50 && binary.BigEndian.Uint16(h[12:]) == 0x0800 {
						seen[flowOf(f)]++
					}
				}
				mu.Unlock()
				b.Reset()
				q.Release()
			}
			if n == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
	})
	return func(flow int) int {
		mu.Lock()
		defer mu.Unlock()
		return seen[flow]
	}
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
			count := serve(t, tm)
			host := portstest.Interface(t, "e0")

			both := func(when string) {
				t.Helper()
				start := time.Now()
				await(t, 40*time.Second, "LACP does not form "+when, func() bool { return len(inUse(tm)) == 2 && o.attached() == 2 })
				t.Logf("%s: formed after %v", when, time.Since(start).Round(10*time.Millisecond))
			}
			// Whatever is sent arrives once.
			traffic := func(round int) {
				t.Helper()
				var out []*ports.Frame
				for i := range 32 {
					out = append(out, numbered(udpFrame(vnicOf(1), hostOf(1), i, 100), round+i, 0))
				}
				await(t, 5*time.Second, "nothing arrives", func() bool { // until the switch forwards
					_, err := tm.Tx(0).Send([]*ports.Frame{numbered(udpFrame(vnicOf(1), hostOf(1), 99, 100), round+99, 0)})
					require.NoError(t, err)
					p, ok := host.Take(50 * time.Millisecond)
					return ok && binary.BigEndian.Uint32(p.Bytes[42:]) == uint32(round+99)
				})
				time.Sleep(50 * time.Millisecond)
				for {
					if _, ok := host.Take(20 * time.Millisecond); !ok {
						break
					}
				}
				n, err := tm.Tx(0).Send(out)
				require.NoError(t, err)
				require.Equal(t, len(out), n)
				got := map[uint32]int{}
				for {
					p, ok := host.Take(300 * time.Millisecond)
					if !ok {
						break
					}
					if binary.BigEndian.Uint16(p.Bytes[12:]) == 0x0800 { // and no announcement
						got[binary.BigEndian.Uint32(p.Bytes[42:])]++
					}
				}
				require.Len(t, got, len(out))
				for _, n := range got {
					require.Equal(t, 1, n)
				}
				for i := range 32 {
					f := numbered(udpFrame(hostOf(1), vnicOf(1), i, 100), round+200+i, 0)
					require.NoError(t, host.Put(portstest.Packet{Bytes: f.Head()}))
				}
				time.Sleep(300 * time.Millisecond)
				for i := range 32 {
					require.Equal(t, 1, count(round+200+i))
				}
			}
			both("at first")
			traffic(0)

			ip(t, "link set far0 down") // the cable is pulled
			await(t, time.Second, "the loss of the link is not seen", func() bool { return len(inUse(tm)) == 1 })
			traffic(1000)
			ip(t, "link set far0 up")
			both("after the cable was pulled")

			if c.restart {
				require.NoError(t, o.daemon.Process.Kill())
				await(t, 10*time.Second, "its silence is not noticed", func() bool { return !tm.Link().Up })
				o.startSwitch()
				both("after the partner was restarted")
				traffic(2000)
			}
		})
	}
}
