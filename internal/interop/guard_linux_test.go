package interop

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch"
)

func TestDHCPGuardStopsDnsmasq(t *testing.T) {
	needs(t, "dnsmasq", "udhcpc")
	t.Parallel()
	g := newGuests(t, false, "server", "client")
	server, client := g[0], g[1]
	client.ip("addr", "flush", "dev", nic)
	server.configure(func(c *vswitch.VNICConfig) { c.DHCPGuard = true })
	startDnsmasq(server, "--dhcp-range=10.0.0.100,10.0.0.199,255.255.255.0", "--dhcp-authoritative", "--no-ping")

	require.False(t, client.leases(), "from behind the guard")
	require.NotContains(t, client.ip("addr"), "10.0.0.")
	held := server.drops(vswitch.DropDHCPServer)
	require.Positive(t, held, "the server did answer")

	server.configure(func(c *vswitch.VNICConfig) { c.DHCPGuard = false })
	require.True(t, client.leases(), "without the guard")
	require.Contains(t, client.ip("addr"), "inet 10.0.0.1", "of the range")
	require.Equal(t, held, server.drops(vswitch.DropDHCPServer))

	server.configure(func(c *vswitch.VNICConfig) { c.DHCPGuard = true })
	require.False(t, client.leases(), "with the guard again: not even what it knows already")
}

func TestDHCPGuardStopsDnsmasqDHCPv6(t *testing.T) {
	needs(t, "dnsmasq")
	t.Parallel()
	g := newGuests(t, true, "server", "client")
	server, client := g[0], g[1]
	server.ip("addr", "add", "2001:db8::1/64", "dev", nic)
	server.configure(func(c *vswitch.VNICConfig) { c.DHCPGuard = true })
	startDnsmasq(server, "--dhcp-range=2001:db8::100,2001:db8::1ff,64,2m")

	require.False(t, client.solicitsDHCPv6(), "from behind the guard")
	require.Positive(t, server.drops(vswitch.DropDHCPServer), "the server did answer")

	server.configure(func(c *vswitch.VNICConfig) { c.DHCPGuard = false })
	require.True(t, client.solicitsDHCPv6(), "without the guard")
}

func TestRouterGuardStopsRouters(t *testing.T) {
	for name, start := range map[string]func(*guest){
		"radvd": startRadvd,
		"dnsmasq": func(g *guest) {
			startDnsmasq(g, "--dhcp-range=2001:db8::,ra-only,64,10m", "--enable-ra")
		},
	} {
		t.Run(name, func(t *testing.T) {
			needs(t, name)
			t.Parallel()
			g := newGuests(t, true, "router", "host")
			router, host := g[0], g[1]
			router.sysctl("net/ipv6/conf/all/forwarding", "1")
			router.ip("addr", "add", "2001:db8::1/64", "dev", nic)
			router.configure(func(c *vswitch.VNICConfig) { c.RouterGuard = true })
			start(router)

			// One is what the router says by itself, the other an answer.
			for n := range uint64(2) {
				host.solicitsRouter()
				require.Eventually(t, func() bool { return router.drops(vswitch.DropRouterMessage) > n },
					patience, 5*time.Millisecond, "the router does advertise")
			}
			require.Never(t, host.hasPrefix, 300*time.Millisecond, 50*time.Millisecond, "from behind the guard")
			require.Empty(t, host.ip("-6", "route", "show", "default"))

			router.configure(func(c *vswitch.VNICConfig) { c.RouterGuard = false })
			host.solicitsRouter()
			require.Eventually(t, host.hasPrefix, patience, 20*time.Millisecond, "without the guard")
			require.Contains(t, host.ip("-6", "route", "show", "default"), "via fe80:")
		})
	}
}

func startDnsmasq(g *guest, args ...string) {
	g.t.Helper()
	g.start("dnsmasq", append([]string{
		// Without it dnsmasq changes its group, upon which it would outlive a test that is killed.
		"--no-daemon",
		"--conf-file=/dev/null",
		"--dhcp-leasefile=" + filepath.Join(g.t.TempDir(), "leases"),
		"--port=0", "--interface=" + nic, "--bind-interfaces",
	}, args...)...).awaits(g.t, "started")
}

func startRadvd(g *guest) {
	g.t.Helper()
	dir := g.t.TempDir()
	file := filepath.Join(dir, "radvd.conf")
	require.NoError(g.t, os.WriteFile(file, []byte(`interface eth0 {
		AdvSendAdvert on;
		MinRtrAdvInterval 3;
		MaxRtrAdvInterval 4;
		prefix 2001:db8::/64 {};
	};`), 0o600))
	g.start("radvd", "--nodaemon", "--logmethod=stderr", "--config="+file, "--pidfile="+filepath.Join(dir, "pid"))
}

// leases reports whether udhcpc gets a lease, and then gives the interface its address.
func (g *guest) leases() bool {
	g.t.Helper()
	// That of the package would change the resolv.conf of the machine.
	script := filepath.Join(g.t.TempDir(), "script")
	require.NoError(g.t, os.WriteFile(script, []byte("#!/bin/sh\n"+
		`[ "$1" != bound ] || ip addr replace "$ip/$mask" dev "$interface"`+"\n"), 0o700))
	out, err := g.run("udhcpc", "-i", nic, "-f", "-q", "-n", "-t", "2", "-T", "1", "-s", script)
	leased := strings.Contains(out, "obtained")
	require.Equal(g.t, leased, err == nil, "udhcpc: %v: %s", err, out)
	return leased
}

// solicitsDHCPv6 reports whether a server answers a Solicit (RFC 8415, section 18.2.1), asked twice.
func (g *guest) solicitsDHCPv6() bool {
	g.t.Helper()
	const solicit, advertise = 1, 2
	transaction := []byte{0x12, 0x34, 0x56}
	message := slices.Concat([]byte{solicit}, transaction,
		[]byte{0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1},       // client identifier: DUID-LL
		[]byte{0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, // IA_NA
		[]byte{0, 8, 0, 2, 0, 0},                                // elapsed time
	)
	answered := false
	require.NoError(g.t, g.inside(func() error {
		c, err := net.ListenUDP("udp6", &net.UDPAddr{Port: 546})
		if err != nil {
			return err
		}
		defer c.Close()
		for range 2 {
			// By number, as package net caches names, and for all namespaces together.
			i, err := net.InterfaceByName(nic)
			if err != nil {
				return err
			}
			to := &net.UDPAddr{IP: net.ParseIP("ff02::1:2"), Port: 547, Zone: strconv.Itoa(i.Index)}
			if _, err := c.WriteTo(message, to); err != nil {
				return err
			}
			c.SetReadDeadline(time.Now().Add(time.Second))
			b := make([]byte, 1500)
			n, err := c.Read(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if err != nil {
				return err
			}
			answered = n > 4 && b[0] == advertise && slices.Equal(b[1:4], transaction)
			break
		}
		return nil
	}))
	return answered
}

// solicitsRouter makes the kernel ask for routers, as it does when the link comes up.
func (g *guest) solicitsRouter() {
	g.t.Helper()
	g.ip("link", "set", nic, "down")
	g.ip("link", "set", nic, "up")
}

// hasPrefix reports whether the kernel has made itself an address from an advertised prefix.
func (g *guest) hasPrefix() bool {
	out, err := g.run("ip", "-6", "addr", "show", "dev", nic, "scope", "global", "dynamic")
	return err == nil && strings.Contains(out, "2001:db8:")
}
