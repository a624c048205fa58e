package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports/tap"
	"github.com/hvswitch/hvswitch/vswitch"
)

const (
	nic      = "eth0"           // of every guest
	patience = 10 * time.Second // for what must happen, on a busy machine too
)

// packages are the Debian packages of the programs that tests run.
var packages = map[string]string{
	"ip":      "iproute2",
	"ping":    "iputils-ping",
	"iperf3":  "iperf3",
	"dnsmasq": "dnsmasq-base",
	"radvd":   "radvd",
	"udhcpc":  "udhcpc",
	"tshark":  "tshark",
	"dumpcap": "wireshark-common",

	"ovs-vswitchd": "openvswitch-switch",
	"ovs-vsctl":    "openvswitch-switch",
	"ovsdb-server": "openvswitch-switch",
	"ovsdb-tool":   "openvswitch-switch",
}

// needs skips the test when the machine lacks a program or TAP devices.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	var missing []string
	for _, p := range append(programs, "ip") {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, packages[p])
		}
	}
	if missing != nil {
		t.Skipf("needs Debian packages: apt-get install %s", strings.Join(missing, " "))
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("needs TAP devices of the kernel: %v", err)
	}
}

// guest is a network namespace with one interface, which is a TAP on the switch.
type guest struct {
	t     *testing.T
	name  string
	addr  string      // IPv4
	calls chan func() // run on the thread that is in the namespace
	vnic  *vswitch.VNIC
	raw   int // packet socket for injects, once there is one
}

// newGuests puts guests with IPv4 (10.0.0.1, 10.0.0.2 …) or, if ipv6 is set, IPv6 alone on a switch.
func newGuests(t *testing.T, ipv6 bool, names ...string) []*guest {
	t.Helper()
	var guests []*guest
	for _, name := range names {
		guests = append(guests, newGuest(t, name))
	}
	host := newHost(t)
	_, err := host.NewSwitch("lab", &vswitch.SwitchConfig{Type: vswitch.Private})
	require.NoError(t, err)
	for i, g := range guests {
		disable := "1"
		if ipv6 {
			disable = "0"
			g.sysctl("net/ipv6/conf/default/accept_dad", "0") // its addresses are usable at once
			g.sysctl("net/ipv6/conf/default/router_solicitation_delay", "0")
		}
		g.sysctl("net/ipv6/conf/default/disable_ipv6", disable)
		g.attach(host)
		if ipv6 {
			g.up("")
		} else {
			g.up(fmt.Sprintf("10.0.0.%d", i+1))
		}
	}
	return guests
}

// newHost makes a host that is closed, and so lets go of its TAPs, before the namespaces go that exist already.
func newHost(t *testing.T) *vswitch.Host {
	t.Helper()
	host, err := vswitch.NewHost(&vswitch.HostConfig{Name: "interop"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, host.Close()) })
	return host
}

// up brings the interfaces up, with an IPv4 address unless that is empty.
func (g *guest) up(addr string) {
	g.t.Helper()
	if g.addr = addr; addr != "" {
		g.ip("addr", "add", addr+"/24", "dev", nic)
	}
	g.ip("link", "set", "lo", "up")
	g.ip("link", "set", nic, "up")
}

func newGuest(t *testing.T, name string) *guest {
	t.Helper()
	g := &guest{t: t, name: name, calls: make(chan func())}
	entered, left := make(chan error), make(chan struct{})
	go func() {
		defer close(left)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		entered <- unix.Unshare(unix.CLONE_NEWNET)
		for call := range g.calls {
			call()
		}
	}()
	err := <-entered
	t.Cleanup(func() {
		close(g.calls)
		<-left
	})
	if err != nil {
		t.Skipf("needs the right to make a network namespace (CAP_SYS_ADMIN): %v", err)
	}
	return g
}

// inside runs f in the namespace. Sockets that f makes stay there.
func (g *guest) inside(f func() error) error {
	done := make(chan error)
	g.calls <- func() { done <- f() }
	return <-done
}

// tap makes the interface of the namespace.
func (g *guest) tap() (p *tap.TAP) {
	g.t.Helper()
	require.NoError(g.t, g.inside(func() (err error) {
		p, err = tap.Open(&tap.Config{Name: nic, KeepDown: true})
		return err
	}))
	return p
}

// attach makes the interface of the namespace that of a vNIC.
func (g *guest) attach(host *vswitch.Host) {
	g.t.Helper()
	p := g.tap()
	var err error
	if g.vnic, err = host.NewVNIC(g.name, p, &vswitch.VNICConfig{Switch: "lab"}); err != nil {
		require.NoError(g.t, errors.Join(err, p.Close()))
	}
	require.NoError(g.t, p.SetMAC(g.vnic.MAC()))
}

// configure changes the vNIC while the guest runs.
func (g *guest) configure(change func(*vswitch.VNICConfig)) {
	g.t.Helper()
	c := g.vnic.Config()
	change(&c)
	require.NoError(g.t, g.vnic.SetConfig(c))
}

func (g *guest) drops(r vswitch.DropReason) uint64 { return g.vnic.Stats().Drops[r] }

// sysctl sets a variable of the namespace. A kernel without IPv6 has none of IPv6, nor needs them to
// keep silent.
func (g *guest) sysctl(name, value string) {
	g.t.Helper()
	err := g.inside(func() error {
		return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0)
	})
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(name, "net/ipv6/") {
		if strings.HasSuffix(name, "/disable_ipv6") && value == "1" {
			return
		}
		g.t.Skipf("needs IPv6 of the kernel: %v", err)
	}
	require.NoError(g.t, err)
}

// ip runs the program ip in the namespace.
func (g *guest) ip(args ...string) string {
	g.t.Helper()
	out, err := g.run("ip", args...)
	require.NoError(g.t, err, "%s: ip %s: %s", g.name, strings.Join(args, " "), out)
	return out
}

// run runs a program in the namespace and returns what it said.
func (g *guest) run(program string, args ...string) (string, error) {
	p, err := g.launch(program, args...)
	if err != nil {
		return "", err
	}
	defer p.stop()
	err = p.Wait()
	return p.said.String(), err
}

// start starts a program in the namespace that runs until the end of the test.
func (g *guest) start(program string, args ...string) *process {
	g.t.Helper()
	p, err := g.launch(program, args...)
	require.NoError(g.t, err)
	g.t.Cleanup(func() {
		p.stop()
		if g.t.Failed() {
			g.t.Logf("%s of %s said:\n%s", program, g.name, p.said)
		}
	})
	return p
}

// process is a program in the namespace of a guest.
type process struct {
	*exec.Cmd
	said *transcript
	stop func()
}

func (g *guest) launch(program string, args ...string) (*process, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	p := &process{Cmd: exec.CommandContext(ctx, program, args...), said: new(transcript)}
	p.Env = append(os.Environ(), "LC_ALL=C")
	p.Stdout, p.Stderr = p.said, p.said
	p.Cancel = func() error { return p.Process.Signal(syscall.SIGTERM) } // radvd ends a process of its own, too
	p.WaitDelay = time.Second
	// It ends with the thread that starts it, which lives as long as the test.
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.stop = sync.OnceFunc(func() {
		cancel()
		p.Wait()
	})
	err := g.inside(p.Start)
	if err != nil {
		cancel()
	}
	return p, err
}

// awaits waits until the program has said what.
func (p *process) awaits(t *testing.T, what string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(p.said.String(), what) },
		patience, 5*time.Millisecond, "%s has not said %q", p.Path, what)
}

// transcript is what a program said so far.
type transcript struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
