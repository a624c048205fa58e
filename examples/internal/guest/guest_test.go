package guest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// pair returns two guests on the ends of one cable.
func pair(t *testing.T, cable ports.PipeConfig, a, b string) (*Guest, *Guest) {
	t.Helper()
	pa, pb, err := ports.Pipe(&cable)
	require.NoError(t, err)
	ga, err := New("a", pa, ports.MAC{2, 0, 0, 0, 0, 1}, netip.MustParsePrefix(a))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ga.Close()) })
	gb, err := New("b", pb, ports.MAC{2, 0, 0, 0, 0, 2}, netip.MustParsePrefix(b))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, gb.Close()) })
	return ga, gb
}

func addrPort(g *Guest, port uint16) string { return netip.AddrPortFrom(g.Addr(), port).String() }

func TestGuestsReachEachOther(t *testing.T) {
	const v4a, v4b, v6a, v6b = "10.0.0.1/24", "10.0.0.2/24", "fd00::1/64", "fd00::2/64"
	for name, tt := range map[string]struct {
		cable ports.PipeConfig
		a, b  string
	}{
		"IPv4":              {ports.PipeConfig{}, v4a, v4b},
		"IPv6":              {ports.PipeConfig{}, v6a, v6b},
		"IPv4 segmentation": {ports.PipeConfig{Offloads: ports.OffloadAll}, v4a, v4b},
		"IPv6 segmentation": {ports.PipeConfig{Offloads: ports.OffloadAll}, v6a, v6b},
		"jumbo frames":      {ports.PipeConfig{MTU: 9000}, v4a, v4b},
		"short queue":       {ports.PipeConfig{Depth: 2}, v4a, v4b},
		"dropping queue":    {ports.PipeConfig{Depth: 8, Drop: true}, v4a, v4b},
		"many queues":       {ports.PipeConfig{Queues: 4}, v4a, v4b},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			a, b := pair(t, tt.cable, tt.a, tt.b)

			rtt, err := a.Ping(ctx, b.Addr())
			require.NoError(t, err)
			require.Positive(t, rtt)
			_, err = b.Ping(ctx, a.Addr())
			require.NoError(t, err)
			_, err = a.Ping(ctx, a.Addr())
			require.NoError(t, err, "itself")

			echoTCP(ctx, t, a, b)
			echoUDP(ctx, t, b, a)
		})
	}
}

// b has both IP versions, and an address of each that a reaches by the router that b is.
func TestGuestHasManyAddresses(t *testing.T) {
	pa, pb, err := ports.Pipe(nil)
	require.NoError(t, err)
	a, err := New("a", pa, ports.MAC{2, 0, 0, 0, 0, 1}, netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	var own []netip.Prefix
	for _, s := range []string{"fd00::2/64", "10.0.0.2/24", "10.0.5.2/32", "fd00:0:0:5::2/128"} {
		own = append(own, netip.MustParsePrefix(s))
	}
	b, err := New("b", pb, ports.MAC{2, 0, 0, 0, 0, 2}, own[0], own[1:]...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	require.Equal(t, "fd00::2", b.Addr().String())

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err = a.DialContext(ctx, "tcp", "10.0.5.2:7")
	require.Error(t, err, "no way there yet")
	a.SetRouters(own[0].Addr(), own[1].Addr())
	for _, p := range own {
		at := netip.AddrPortFrom(p.Addr(), 7)
		_, err := a.Ping(ctx, p.Addr())
		require.NoError(t, err)
		l, err := b.ListenAt(at)
		require.NoError(t, err)
		c, err := a.DialContext(ctx, "tcp", at.String())
		require.NoError(t, err)
		require.Equal(t, at.String(), c.RemoteAddr().String())
		require.NoError(t, c.Close())
		require.NoError(t, l.Close())
	}
}

func echoTCP(ctx context.Context, t *testing.T, from, to *Guest) {
	l, err := to.Listen(7)
	require.NoError(t, err)
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	c, err := from.DialContext(ctx, "tcp", addrPort(to, 7))
	require.NoError(t, err)
	defer c.Close()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<15)
	go func() {
		_, _ = c.Write(sent)
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got), "%d bytes of %d returned", len(got), len(sent))
}

func echoUDP(ctx context.Context, t *testing.T, from, to *Guest) {
	s, err := to.ListenPacket(7)
	require.NoError(t, err)
	defer s.Close()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := s.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = s.WriteTo(buf[:n], from)
		}
	}()
	c, err := from.DialContext(ctx, "udp", addrPort(to, 7))
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
	buf := make([]byte, 16)
	n, err := c.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "hello", string(buf[:n]))
}

func TestPingSaysWhoDidNotAnswer(t *testing.T) {
	a, _ := pair(t, ports.PipeConfig{}, "10.0.0.1/24", "10.0.0.2/24")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := a.Ping(ctx, netip.MustParseAddr("10.0.0.99"))
	require.EqualError(t, err, `guest "a": ping 10.0.0.99: context deadline exceeded`)
}

func TestFramesForOthersAreIgnored(t *testing.T) {
	pa, pb, err := ports.Pipe(nil)
	require.NoError(t, err)
	g, err := New("a", pa, ports.MAC{2, 0, 0, 0, 0, 1}, netip.MustParsePrefix("10.0.0.1/24"))
	require.NoError(t, err)
	frame := append(bytes.Repeat([]byte{2}, 12), make([]byte, 48)...)
	require.NoError(t, pb.WriteFrame(t.Context(), frame))
	require.NoError(t, pb.WriteFrame(t.Context(), []byte("short")))
	require.Never(t, func() bool { return g.stack.Stats().NICs.Rx.Packets.Value() > 0 }, 20*time.Millisecond, time.Millisecond)
	require.NoError(t, g.Close())
}

func TestCloseEndsConnectionsAndLeavesNothing(t *testing.T) {
	before := guestGoroutines()
	a, b := pair(t, ports.PipeConfig{}, "10.0.0.1/24", "10.0.0.2/24")
	l, err := b.Listen(7)
	require.NoError(t, err)
	c, err := a.DialContext(t.Context(), "tcp", addrPort(b, 7))
	require.NoError(t, err)
	served, err := l.Accept()
	require.NoError(t, err)

	ended := make(chan error, 4)
	go func() { _, err := l.Accept(); ended <- err }()
	for _, c := range []net.Conn{c, served} {
		go func() { _, err := c.Read(make([]byte, 1)); ended <- err }()
	}
	go func() { _, err := a.Ping(t.Context(), netip.MustParseAddr("10.0.0.99")); ended <- err }()
	time.Sleep(10 * time.Millisecond) // let them block

	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	require.NoError(t, b.Close(), "again")
	for range cap(ended) {
		select {
		case err := <-ended:
			require.Error(t, err)
		case <-time.After(5 * time.Second):
			require.FailNow(t, "still blocked after Close", "%s", guestGoroutines())
		}
	}
	require.Eventually(t, func() bool { return len(guestGoroutines()) <= len(before) },
		5*time.Second, 10*time.Millisecond, "%s", strings.Join(guestGoroutines(), "\n\n"))
}

func TestNewRefuses(t *testing.T) {
	prefix, mac := netip.MustParsePrefix("10.0.0.1/24"), ports.MAC{2}
	for name, tt := range map[string]struct {
		mac    ports.MAC
		prefix netip.Prefix
		want   string
	}{
		"no address": {mac, netip.Prefix{}, `guest "vm1": address invalid Prefix is not a prefix`},
		"group MAC":  {ports.Broadcast, prefix, `guest "vm1": MAC ff:ff:ff:ff:ff:ff is not that of one station`},
	} {
		t.Run(name, func(t *testing.T) {
			nic, far, err := ports.Pipe(nil)
			require.NoError(t, err)
			_, err = New("vm1", nic, tt.mac, tt.prefix)
			require.EqualError(t, err, tt.want)
			require.ErrorIs(t, far.WriteFrame(t.Context(), make([]byte, 60)), ports.ErrClosed)
		})
	}
}

// guestGoroutines returns the stacks of goroutines that run code of guests.
func guestGoroutines() []string {
	buf := make([]byte, 1<<20)
	var found []string
	for _, s := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(s, "gvisor.dev/gvisor") || strings.Contains(s, "guest.(*link)") {
			found = append(found, s)
		}
	}
	return found
}
