package interop

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/arrival"
	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/tap"
)

const (
	vsid     = 5001
	provider = "pnet0" // of the peer: its interface to the provider network
	ourCA    = "10.0.0.11"
	theirCA  = "10.0.0.12"
)

// providers is who has which address on the provider network.
type providers struct{ ours, theirs, bits string }

var (
	overIPv4 = providers{"192.0.2.1", "192.0.2.2", "/24"}
	overIPv6 = providers{"2001:db8::1", "2001:db8::2", "/64"}
)

// tunnels are what programs of others do with virtual subnets. Each makes, in the namespace of the peer,
// an interface with theirCA whose frames it tunnels, and returns its name.
var tunnels = []struct {
	name     string
	rule     overlay.Encapsulation
	protocol string // as tshark calls it
	pa       providers
	start    func(t *testing.T, peer *guest, pa providers) (nic string)
}{
	{"Open vSwitch GRE", overlay.NVGRE, "gre:eth", overIPv4, func(t *testing.T, peer *guest, pa providers) string {
		// The key is VSID and FlowID (RFC 7637, section 3.2): any FlowID is taken, none is sent.
		return newTunnelOVS(t, peer, pa, "type=gre options:in_key=flow options:out_key="+strconv.Itoa(vsid<<8))
	}},
	{"Open vSwitch VXLAN", overlay.VXLAN, "udp:vxlan:eth", overIPv4, func(t *testing.T, peer *guest, pa providers) string {
		return newTunnelOVS(t, peer, pa, "type=vxlan options:key="+strconv.Itoa(vsid))
	}},
	{"Open vSwitch Geneve", overlay.Geneve, "udp:geneve:eth", overIPv4, func(t *testing.T, peer *guest, pa providers) string {
		return newTunnelOVS(t, peer, pa, "type=geneve options:key="+strconv.Itoa(vsid))
	}},
	{"kernel VXLAN", overlay.VXLAN, "udp:vxlan:eth", overIPv4, newKernelVXLAN},
	{"kernel VXLAN over IPv6", overlay.VXLAN, "udp:vxlan:eth", overIPv6, newKernelVXLAN},
}

// A guest of ours and a port of theirs talk to each other, and everything on the provider network between
// them is what tshark expects there.
func TestOverlayWithOthers(t *testing.T) {
	for _, c := range tunnels {
		t.Run(c.name, func(t *testing.T) {
			needs(t, "ping", "iperf3", "tshark", "dumpcap")
			peer, ours := newGuest(t, "peer"), newGuest(t, "ours")
			for _, g := range []*guest{peer, ours} {
				g.sysctl("net/ipv6/conf/default/disable_ipv6", "1")
				g.ip("link", "set", "lo", "up")
			}
			underlay, engine := newUnderlay(t, peer, c.pa)
			if c.pa == overIPv6 {
				peer.sysctl("net/ipv6/conf/"+provider+"/disable_ipv6", "0")
			}
			peer.ip("link", "set", provider, "up")
			theirs := c.start(t, peer, c.pa)
			peer.ip("addr", "add", theirCA+"/24", "dev", theirs)
			peer.addr, ours.addr = theirCA, ourCA

			nic, mtu := attach(t, ours, underlay, c.rule)
			peer.ip("link", "set", theirs, "mtu", strconv.Itoa(mtu))
			var mac net.HardwareAddr
			require.NoError(t, peer.inside(func() error {
				i, err := net.InterfaceByName(theirs)
				if err == nil {
					mac = i.HardwareAddr
				}
				return err
			}))
			require.NoError(t, engine.Apply([]overlay.Change{
				{Subnet: &overlay.Subnet{VSID: vsid, RDID: overlay.RDID{1}}},
				{Route: &overlay.CustomerRoute{RDID: overlay.RDID{1}, VSID: vsid, Destination: netip.MustParsePrefix("10.0.0.0/24")}},
				{Record: &overlay.LookupRecord{VSID: vsid, CA: netip.MustParseAddr(ourCA), MAC: nic, PA: netip.MustParseAddr(c.pa.ours), Rule: c.rule}},
				{Record: &overlay.LookupRecord{VSID: vsid, CA: netip.MustParseAddr(theirCA), MAC: ports.MAC(mac), PA: netip.MustParseAddr(c.pa.theirs), Rule: c.rule}},
			}))
			capture := peer.captures(provider)

			ping := func(from *guest, addr string, args ...string) {
				t.Helper()
				out, err := from.run("ping", append([]string{"-n", "-c", "5", "-i", "0.05", "-W", "5", addr}, args...)...)
				require.NoError(t, err, out)
				require.Contains(t, out, "5 received")
			}
			peer.pingsUntil(c.pa.ours) // the provider address of ours answers
			ping(ours, theirCA)
			ping(peer, ourCA)
			ping(ours, theirCA, "-M", "do", "-s", strconv.Itoa(mtu-28))
			for _, way := range []struct {
				name     string
				from, to *guest
			}{{"ours to theirs", ours, peer}, {"theirs to ours", peer, ours}} {
				rate := way.from.transfer(way.to, "-n", "4M")
				t.Logf("%s: TCP at %.2f Gbit/s", way.name, rate/1e9)
				require.Positive(t, rate)
			}
			stats := underlay.Stats()
			require.Positive(t, stats.RxFrames)
			for d, n := range stats.Drops {
				require.Contains(t, []overlay.Drop{overlay.DropNotTunnel, overlay.DropAnswered}, d, "%d frames", n)
			}
			capture.check(t, c.protocol, int(stats.RxFrames+stats.TxFrames))
		})
	}
}

// newUnderlay returns an engine and its underlay, whose device is the other end of the peer's interface.
func newUnderlay(t *testing.T, peer *guest, pa providers) (*overlay.Underlay, *overlay.Engine) {
	t.Helper()
	var device *tap.TAP
	require.NoError(t, peer.inside(func() (err error) {
		// As on a wire: what is captured has its checksums.
		device, err = tap.Open(&tap.Config{Name: provider, Disable: ports.OffloadAll, KeepDown: true})
		return err
	}))
	engine, err := overlay.NewEngine(&overlay.Config{
		Addresses: []overlay.ProviderAddress{{Address: netip.MustParsePrefix(pa.ours + pa.bits), MAC: ports.MAC{2, 0, 0, 0, 0, 0xa1}}},
	})
	require.NoError(t, err)
	u, err := overlay.NewUnderlay(engine, device)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, u.Close()) })
	return u, engine
}

// attach gives a guest a TAP, whose frames go to a vNIC and back.
func attach(t *testing.T, g *guest, u *overlay.Underlay, rule overlay.Encapsulation) (mac ports.MAC, mtu int) {
	t.Helper()
	mac = ports.MAC{2, 0, 0, 0, 0, 0x11}
	v, err := u.Attach(overlay.VNICConfig{PortConfig: overlay.PortConfig{VSID: vsid, MAC: mac}, Rule: rule, Depth: 1024})
	require.NoError(t, err)
	var near *tap.TAP
	require.NoError(t, g.inside(func() (err error) {
		near, err = tap.Open(&tap.Config{Name: nic, MAC: mac, MTU: v.Info().MTU})
		return err
	}))
	relay(t, near, v)
	g.ip("addr", "add", ourCA+"/24", "dev", nic)
	return mac, v.Info().MTU
}

// relay carries frames between two backends, and closes both at the end of the test.
func relay(t *testing.T, a, b ports.Backend) {
	t.Helper()
	var over atomic.Bool
	var ends []func()
	for _, way := range [][2]ports.Backend{{a, b}, {b, a}} {
		rx, tx := way[0].Rx(0), way[1].Tx(0)
		wait, err := arrival.New(rx)
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for batch := ports.NewBatch(64); !over.Load(); {
				if err := rx.Recv(batch); err != nil {
					return
				}
				if batch.Len() == 0 {
					wait.Wait()
					continue
				}
				for rest := batch.Frames(); len(rest) > 0; {
					n, _ := tx.Send(rest)
					rest = rest[min(n+1, len(rest)):] // what is refused is lost
				}
				batch.Reset()
				rx.Release()
			}
		}()
		ends = append(ends, wait.Wake, func() { <-done }, wait.Close)
	}
	t.Cleanup(func() {
		over.Store(true)
		for _, end := range ends {
			end()
		}
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
	})
}

// newTunnelOVS runs Open vSwitch with its datapath in user space: a bridge to the provider network, which
// has the provider address, and one for tenants with a tunnel.
func newTunnelOVS(t *testing.T, peer *guest, pa providers, tunnel string) (nic string) {
	needs(t, "ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl")
	dir, err := os.MkdirTemp("", "ovs") // not t.TempDir: the path of a socket must be short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	env := []string{"OVS_RUNDIR=" + dir, "OVS_DBDIR=" + dir, "OVS_LOGDIR=" + dir}
	const schema = "/usr/share/openvswitch/vswitch.ovsschema"
	out, err := peer.run("ovsdb-tool", "create", dir+"/conf.db", schema)
	require.NoError(t, err, out)
	start := func(socket string, args ...string) {
		peer.start("env", append(append([]string(nil), env...), args...)...)
		require.Eventually(t, func() bool {
			_, err := os.Stat(filepath.Join(dir, socket))
			return err == nil
		}, patience, 5*time.Millisecond, "%s does not start", args[0])
	}
	vsctl := func(line string) {
		t.Helper()
		out, err := peer.run("ovs-vsctl", append([]string{"--db=unix:" + dir + "/db.sock", "--timeout=20"}, strings.Fields(line)...)...)
		require.NoError(t, err, out)
	}
	start("db.sock", "ovsdb-server", dir+"/conf.db", "--remote=punix:"+dir+"/db.sock", "--unixctl="+dir+"/db.ctl", "-vconsole:off")
	vsctl("--no-wait init")
	start("vsw.ctl", "ovs-vswitchd", "unix:"+dir+"/db.sock", "-vconsole:off", "--unixctl="+dir+"/vsw.ctl")
	vsctl("add-br phy -- set bridge phy datapath_type=netdev -- add-port phy " + provider)
	peer.ip("addr", "add", pa.theirs+pa.bits, "dev", "phy")
	peer.ip("link", "set", "phy", "up")
	vsctl("add-br tenants -- set bridge tenants datapath_type=netdev -- add-port tenants tun0 -- set interface tun0 options:remote_ip=" + pa.ours + " " + tunnel)
	peer.ip("link", "set", "tenants", "up")
	return "tenants"
}

func newKernelVXLAN(t *testing.T, peer *guest, pa providers) (nic string) {
	args := []string{"addr", "add", pa.theirs + pa.bits, "dev", provider}
	if pa == overIPv6 {
		args = append(args, "nodad")
	}
	peer.ip(args...)
	if out, err := peer.run("ip", "link", "add", "vx0", "type", "vxlan", "id", strconv.Itoa(vsid),
		"local", pa.theirs, "remote", pa.ours, "dstport", "4789", "dev", provider); err != nil {
		t.Skipf("needs the VXLAN device of the kernel: %s", out)
	}
	peer.ip("link", "set", "vx0", "up")
	return "vx0"
}

// pingsUntil pings an address until it answers.
func (g *guest) pingsUntil(addr string) {
	g.t.Helper()
	require.Eventually(g.t, func() bool {
		_, err := g.run("ping", "-n", "-c", "1", "-W", "1", addr)
		return err == nil
	}, patience, 10*time.Millisecond, "%s does not answer", addr)
}

// captured is what crosses an interface.
type captured struct {
	*process
	file string
}

// captures captures everything on an interface.
func (g *guest) captures(nic string) *captured {
	g.t.Helper()
	c := &captured{file: filepath.Join(g.t.TempDir(), "provider.pcapng")}
	c.process = g.start("dumpcap", "-q", "-i", nic, "-B", "64", "-w", c.file)
	c.awaits(g.t, "File: ")
	return c
}

// check lets tshark take apart what has been captured, at least so many packets: each is encapsulated as
// protocol says, or ARP or ICMP of the provider addresses, and none is malformed.
func (c *captured) check(t *testing.T, protocol string, packets int) {
	t.Helper()
	c.awaitsPackets(t, packets)
	c.stop()
	require.Contains(t, c.said.String(), "dropped on interface 'pnet0': ", "by dumpcap")
	// What iperf3 sends looks like this or that protocol at times.
	args := []string{"-r", c.file, "-d", "tcp.port==5201,data", "-T", "fields", "-E", "separator=;", "-E", "occurrence=a", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"}
	for _, f := range []string{"frame.number", "frame.protocols", "_ws.malformed", "_ws.expert.severity", "_ws.expert.message"} {
		args = append(args, "-e", f)
	}
	out, err := execute("tshark", args...)
	require.NoError(t, err, "%s", out)
	const severityError = "8388608" // of expert information; a wrong checksum is an error
	tunnelled, rest := 0, 0
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimRight(line, "\n"), ";")
		if len(f) < 5 {
			continue // a complaint about running as root
		}
		require.Empty(t, f[2], "malformed: %s", line)
		require.NotContains(t, f[3], severityError, line)
		switch p := f[1]; {
		case strings.Contains(p, protocol):
			tunnelled++
		case strings.HasSuffix(p, ":arp"), strings.HasSuffix(p, ":ip:icmp:data"), strings.HasSuffix(p, ":ip:igmp"),
			strings.Contains(p, ":ipv6:icmpv6"), strings.HasSuffix(p, ":ipv6:ipv6.hopopts:icmpv6"):
			rest++
		default:
			require.Fail(t, "what is this", line)
		}
	}
	require.Greater(t, tunnelled, 4000, "two times 4 MiB in segments of less than 1,500 bytes")
	require.GreaterOrEqual(t, tunnelled+rest, packets, "some have not been captured")
	t.Logf("%d packets on the provider network, of which %d encapsulated", tunnelled+rest, tunnelled)
}

// awaitsPackets waits until so many packets are in the file.
func (c *captured) awaitsPackets(t *testing.T, packets int) {
	t.Helper()
	var n int
	require.Eventually(t, func() bool {
		out, err := execute("tshark", "-r", c.file, "-T", "fields", "-e", "frame.number")
		n = strings.Count(out, "\n")
		return err == nil && n >= packets
	}, 3*patience, 200*time.Millisecond, "%d packets captured of %d", n, packets)
}

// execute runs a program where the test runs, and returns what it puts out.
func execute(program string, args ...string) (string, error) {
	out, err := exec.Command(program, args...).Output()
	return string(out), err
}
