package interop

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// newACLGuests returns guests with different rules: client may open connections but takes none, server
// and open have no ACL. What the rules keep from client or cost it, open shows.
func newACLGuests(t *testing.T) (client, server, open *guest) {
	t.Helper()
	policy, err := acl.Compile(&acl.Config{Extended: []acl.ExtendedRule{
		{Weight: 10, Direction: acl.Out, Action: acl.Allow, Stateful: true},
		{Weight: 1, Direction: acl.In, Action: acl.Deny},
	}})
	require.NoError(t, err)
	g := newGuests(t, false, "client", "server", "open")
	g[0].configure(func(c *vswitch.VNICConfig) { c.ACL = policy })
	return g[0], g[1], g[2]
}

func TestStatefulACLThroughput(t *testing.T) {
	needs(t, "iperf3")
	client, server, open := newACLGuests(t)
	const rounds = 2 // of which the best counts
	for _, way := range []struct {
		name string
		args []string
	}{{"to", nil}, {"from", []string{"-R"}}} {
		var without, with float64
		for range rounds {
			without = max(without, open.iperf(server, way.args...))
			with = max(with, client.iperf(server, way.args...))
		}
		t.Logf("TCP %s the server: %.2f Gbit/s without ACL, %.2f with it (%.0f %%)",
			way.name, without/1e9, with/1e9, 100*with/without)
		require.Greater(t, min(without, with), 10e6)
	}
	require.Zero(t, client.drops(vswitch.DropACLIn), "of connections that the client opened")
	require.Zero(t, client.drops(vswitch.DropACLOut))
	require.Equal(t, uint64(2*2*rounds), client.vnic.Connections().Created, "control and data of each run")
}

func TestStatefulACLPassesThousandsOfConnections(t *testing.T) {
	needs(t)
	const connections = 4000
	client, server, _ := newACLGuests(t)
	addr := server.echoes()
	start := time.Now()
	require.NoError(t, client.inside(func() error {
		for i := range connections {
			if err := exchange("tcp", addr, patience); err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
		}
		return nil
	}))
	t.Logf("%d connections in %v", connections, time.Since(start).Round(time.Millisecond))
	require.Equal(t, uint64(connections), client.vnic.Connections().Created)
	require.Zero(t, client.vnic.Connections().Refused)
	require.Zero(t, client.drops(vswitch.DropACLIn))
}

func TestStatefulACLDeniesConnectionsTheOtherWay(t *testing.T) {
	needs(t)
	client, server, open := newACLGuests(t)
	connect := func(network, addr string, patience time.Duration) error {
		return server.inside(func() error { return exchange(network, addr, patience) })
	}
	toClient, toOpen := client.echoes(), open.echoes()
	for _, network := range []string{"tcp", "udp"} {
		require.NoError(t, connect(network, toOpen, patience), network)
		before := client.drops(vswitch.DropACLIn)
		err := connect(network, toClient, 300*time.Millisecond)
		require.True(t, os.IsTimeout(err), "%s: %v", network, err)
		require.Greater(t, client.drops(vswitch.DropACLIn), before, network)
	}
	// That the client talks to the server opens no way back.
	addr := server.echoes()
	require.NoError(t, client.inside(func() error { return exchange("tcp", addr, patience) }))
	err := connect("tcp", toClient, 300*time.Millisecond)
	require.True(t, os.IsTimeout(err), "%v", err)
}

func TestStatefulACLDeniesForgedFrames(t *testing.T) {
	needs(t)
	client, server, open := newACLGuests(t)
	addr := netip.MustParseAddrPort(client.echoes())
	segment := func(flags byte) func(*guest, uint16) []byte {
		return func(to *guest, port uint16) []byte { return server.tcpTo(to, port, addr.Port(), flags) }
	}
	for name, forge := range map[string]func(to *guest, port uint16) []byte{
		"ACK":     segment(tcpACK),
		"SYN ACK": segment(tcpSYN | tcpACK),
		"SYN":     segment(tcpSYN),
		"FIN ACK": segment(tcpFIN | tcpACK),
		"RST":     segment(tcpRST),
		"port unreachable": func(to *guest, port uint16) []byte {
			return server.unreachableTo(to, port, addr.Port())
		},
	} {
		t.Run(name, func(t *testing.T) {
			const frames = 100
			atClient, atOpen := client.counts(server), open.counts(server)
			before := client.drops(vswitch.DropACLIn)
			for _, to := range []*guest{client, open} {
				for i := range frames {
					server.injects(forge(to, uint16(20000+i)))
				}
			}
			reached := 0
			require.Eventually(t, func() bool { reached += atOpen(); return reached >= frames },
				patience, 5*time.Millisecond, "without ACL they arrive")
			require.Eventually(t, func() bool { return client.drops(vswitch.DropACLIn) == before+frames },
				patience, 5*time.Millisecond, "denied")
			require.Zero(t, atClient(), "arrived at the client")
		})
	}
	require.Zero(t, client.vnic.Connections().Created, "by forged frames")
}

func TestStatefulACLPassesUDPAndPingWithReplies(t *testing.T) {
	needs(t, "ping")
	client, server, _ := newACLGuests(t)
	addr := server.echoes()
	for range 100 {
		require.NoError(t, client.inside(func() error { return exchange("udp", addr, patience) }))
	}
	out, err := client.run("ping", "-n", "-c", "5", "-i", "0.05", "-W", "2", server.addr)
	require.NoError(t, err, out)
	require.Contains(t, out, "5 received")
	require.Zero(t, client.drops(vswitch.DropACLIn))

	out, err = server.run("ping", "-n", "-c", "3", "-i", "0.05", "-W", "1", client.addr)
	require.Error(t, err, out)
	require.Contains(t, out, " 0 received", "the other way")
	require.Equal(t, uint64(3), client.drops(vswitch.DropACLIn))
}

func TestStatefulACLPassesRelatedErrors(t *testing.T) {
	needs(t, "ping")
	client, server, _ := newACLGuests(t)
	// From the station itself: nobody listens at the port.
	err := client.inside(func() error { return exchange("udp", server.addr+":9", patience) })
	require.ErrorIs(t, err, unix.ECONNREFUSED)

	// From a router on the way, which knows no way on (192.0.2.0/24 is for documentation).
	server.sysctl("net/ipv4/conf/all/forwarding", "1")
	server.ip("route", "add", "unreachable", "192.0.2.0/24")
	client.ip("route", "add", "192.0.2.0/24", "via", server.addr)
	out, err := client.run("ping", "-n", "-c", "1", "-W", "2", "192.0.2.1")
	require.Error(t, err, out)
	require.Contains(t, out, "From "+server.addr+" icmp_seq=1 Destination Host Unreachable")
	require.Zero(t, client.drops(vswitch.DropACLIn))
}

// iperf runs one TCP flow to another guest for a second, or from it with -R, and returns its bit/s.
func (g *guest) iperf(to *guest, args ...string) float64 {
	g.t.Helper()
	return g.transfer(to, append([]string{"-t", "1"}, args...)...)
}

// transfer is iperf for a time or an amount that args say.
func (g *guest) transfer(to *guest, args ...string) float64 {
	g.t.Helper()
	server := to.start("iperf3", "-s", "-1", "--forceflush")
	server.awaits(g.t, "Server listening")
	// Some systems make BBR the default, which paces; CUBIC goes as fast as it can.
	out, err := g.run("iperf3", append([]string{"-c", to.addr, "-C", "cubic", "-J"}, args...)...)
	require.NoError(g.t, err, out)
	require.NoError(g.t, server.Wait())
	return g.received(out)
}

// received returns what iperf3 says that has arrived, in bit/s of payload.
func (g *guest) received(report string) float64 {
	g.t.Helper()
	var r struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	require.NoError(g.t, json.Unmarshal([]byte(report), &r), report)
	return r.End.Received.BitsPerSecond
}

// echoes starts a server for TCP and UDP that sends back what it gets, and returns its address.
func (g *guest) echoes() string {
	g.t.Helper()
	var l net.Listener
	var u net.PacketConn
	var port string
	require.NoError(g.t, g.inside(func() (err error) {
		if l, err = net.Listen("tcp4", ":0"); err != nil {
			return err
		}
		_, port, _ = net.SplitHostPort(l.Addr().String())
		u, err = net.ListenPacket("udp4", ":"+port)
		return err
	}))
	g.t.Cleanup(func() {
		l.Close()
		u.Close()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo(b[:n], from)
		}
	}()
	return net.JoinHostPort(g.addr, port)
}

// exchange connects to an echo server, sends a few bytes and gets them back.
func exchange(network, addr string, patience time.Duration) error {
	c, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != "hello" {
		return fmt.Errorf("got %q back", b)
	}
	return nil
}
