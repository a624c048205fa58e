package team_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/afpacket"
	"github.com/hvswitch/hvswitch/ports/portstest"
	"github.com/hvswitch/hvswitch/team"
	"github.com/hvswitch/hvswitch/team/lacp"
)

// dpdk is DPDK's program testpmd with a bonding driver of two devices. What comes from there goes to h0
// and the other way. Its LACP is always active and wants one LACPDU in 30 s.
//
// Each sort of device lacks something. The driver for AF_PACKET (of far0 and far1) does not see that a link
// is down, the TAPs (near0 and near1) go with the program.
type dpdk struct {
	*testing.T
	taps bool
	cmd  *exec.Cmd
}

func newDPDK(t *testing.T, taps bool) *dpdk {
	t.Helper()
	if _, err := exec.LookPath("dpdk-testpmd"); err != nil {
		t.Skipf("needs dpdk-testpmd (Debian package dpdk): %v", err)
	}
	d := &dpdk{T: t, taps: taps}
	t.Cleanup(d.kill)
	return d
}

// cpus lists all that the test may use. DPDK's threads share them with it.
func cpus(t *testing.T) string {
	t.Helper()
	var set unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &set))
	var list []string
	for i := 0; len(list) < set.Count(); i++ {
		if set.IsSet(i) {
			list = append(list, strconv.Itoa(i))
		}
	}
	return strings.Join(list, ",")
}

// start starts testpmd. Its bonding driver has number 3, behind those of the devices.
func (d *dpdk) start() {
	d.Helper()
	devices := []string{"net_af_packet0,iface=far0", "net_af_packet1,iface=far1", "net_af_packet2,iface=h0"}
	bond := "net_bonding0,mode=4,xmit_policy=l34,%[1]s=net_af_packet0,%[1]s=net_af_packet1"
	if d.taps {
		devices[0], devices[1] = "net_tap0,iface=near0", "net_tap1,iface=near1"
		bond = "net_bonding0,mode=4,xmit_policy=l34,%[1]s=net_tap0,%[1]s=net_tap1"
	}
	c := exec.Command("dpdk-testpmd", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "256",
		"--lcores", "(0,1)@("+cpus(d.T)+")")
	for _, v := range append(devices, fmt.Sprintf(bond, d.memberOption())) {
		c.Args = append(c.Args, "--vdev="+v)
	}
	c.Args = append(c.Args, "--", "-i", "--auto-start", "--forward-mode=io", "--portlist=2,3",
		"--total-num-mbufs=8192", "--no-lsc-interrupt")
	in, err := c.StdinPipe() // whose end would be its end
	require.NoError(d, err)
	said := new(bytes.Buffer)
	c.Stdout, c.Stderr = said, said
	c.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+d.TempDir())
	c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	require.NoError(d, c.Start())
	d.cmd = c
	d.Cleanup(func() {
		d.kill()
		in.Close()
		if d.Failed() {
			d.Logf("testpmd said:\n%s", said)
		}
	})
}

func (d *dpdk) kill() {
	if d.cmd != nil {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
		d.cmd = nil
	}
}

// memberOption returns what the driver calls a member: DPDK 23.11 gave it a new name.
func (d *dpdk) memberOption() string {
	d.Helper()
	c := exec.Command("dpdk-testpmd", "-v", "--no-huge", "--no-shconf", "--no-pci", "--", "--help")
	c.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+d.TempDir())
	out, err := c.CombinedOutput()
	_, version, found := bytes.Cut(out, []byte("RTE Version: 'DPDK "))
	require.True(d, found, "%v: %s", err, out)
	var year, month int
	_, err = fmt.Sscanf(string(version), "%d.%d", &year, &month)
	require.NoError(d, err, "%s", version)
	if year < 23 || year == 23 && month < 11 {
		return "slave"
	}
	return "member"
}

// keepsSending sends frames through testpmd until the end of the test, as the bonding driver sends LACPDUs
// only when it is given something to send.
func (d *dpdk) keepsSending(host string) {
	peer := portstest.Interface(d.T, host)
	beat := portstest.Packet{Bytes: frameOf(hostOf(9), hostOf(8), 0x88, 0xb5).Head()}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				_ = peer.Put(beat)
			}
		}
	}()
	d.Cleanup(func() {
		close(stop)
		<-done
	})
}

func TestLACPWithDPDK(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  team.Config
		taps bool
	}{
		"active short":  {team.Config{Short: true}, false},
		"active long":   {team.Config{}, true},
		"passive short": {team.Config{Passive: true, Short: true}, true},
		"passive long":  {team.Config{Passive: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newNamespace(t)
			d := newDPDK(t, c.taps)
			ip(t, "link add h0 type veth peer name e0")
			ip(t, "link set h0 up")
			ip(t, "link set e0 up")
			var members []team.Member
			if c.taps {
				d.start()
				members = d.openTAPs()
			} else {
				members = veths(t, 2)
				d.start()
			}
			c.cfg.Mode, c.cfg.Distribution = team.LACP, team.AddressHash
			c.cfg.MAC = macOf(1) // both ends of a TAP have the same
			tm, err := team.New(members, &c.cfg)
			require.NoError(t, err)
			t.Cleanup(func() { tm.Close() })
			l := newLink(t, tm, "e0")
			d.keepsSending("e0")
			both := func(when string) {
				t.Helper()
				start := time.Now()
				await(t, 60*time.Second, "LACP does not form "+when, func() bool {
					ready := 0
					for _, s := range states(tm) {
						if s.Partner.State.Has(lacp.Synchronization | lacp.Collecting | lacp.Distributing) {
							ready++
						}
					}
					return len(inUse(tm)) == 2 && ready == 2
				})
				t.Logf("%s: formed after %v", when, time.Since(start).Round(10*time.Millisecond))
			}
			both("at first")
			for _, s := range states(tm) {
				require.Equal(t, !c.cfg.Passive, s.Actor.State.Has(lacp.Activity))
				require.Equal(t, c.cfg.Short, s.Actor.State.Has(lacp.ShortTimeout))
			}
			l.traffic()

			if c.taps {
				ip(t, "link set near0 down") // the cable is pulled
				await(t, 10*time.Second, "the loss of the link is not seen", func() bool { return len(inUse(tm)) == 1 })
				l.traffic()
				ip(t, "link set near0 up")
				both("after the cable was pulled")
				l.traffic()
				return
			}
			d.kill()
			if c.cfg.Short {
				await(t, 10*time.Second, "its silence is not noticed", func() bool { return !tm.Link().Up })
			}
			d.start()
			await(t, 60*time.Second, "the restart is not noticed", func() bool { return !tm.Link().Up })
			both("after the partner was restarted")
			l.traffic()
		})
	}
}

// openTAPs opens the kernel's ends of the TAPs of testpmd.
func (d *dpdk) openTAPs() (members []team.Member) {
	d.Helper()
	for _, name := range []string{"near0", "near1"} {
		var b ports.Backend
		await(d.T, 40*time.Second, "testpmd makes no "+name, func() bool {
			a, err := afpacket.Open(name, nil)
			b = a
			return err == nil && ports.LinkOf(b).Up
		})
		members = append(members, team.Member{Backend: b})
	}
	return members
}
