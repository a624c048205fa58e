package tap

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// patience is how long something that must happen may take, on a busy machine too.
const patience = 10 * time.Second

// aside gives the rest of the test a network namespace and a thread of its own. The thread ends with
// the test.
func aside(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(cloneDevice); err != nil {
		t.Skipf("needs TAP devices of the kernel: %v", err)
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs the right to make a network namespace (CAP_SYS_ADMIN): %v", err)
	}
	// Nobody shall speak unasked. Without IPv6 there is nothing to switch off.
	err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// must opens a TAP that is closed after the test.
func must(t testing.TB, cfg *Config) *TAP {
	t.Helper()
	p, err := Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// setLink returns a function that sets the interface up or down from any thread.
func setLink(t testing.TB, name string) func(up bool) {
	t.Helper()
	sock := inet(t)
	return func(up bool) {
		ifr, err := unix.NewIfreq(name)
		require.NoError(t, err)
		require.NoError(t, unix.IoctlIfreq(sock, unix.SIOCGIFFLAGS, ifr))
		flags := ifr.Uint16() &^ unix.IFF_UP
		if up {
			flags |= unix.IFF_UP
		}
		ifr.SetUint16(flags)
		require.NoError(t, unix.IoctlIfreq(sock, unix.SIOCSIFFLAGS, ifr))
	}
}

// inet returns a socket for ioctls in the namespace of the test.
func inet(t testing.TB) int {
	t.Helper()
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(sock) })
	return sock
}

// setAddr gives the interface an address in 10.0.0.0/8.
func setAddr(t testing.TB, name string, host byte) {
	t.Helper()
	ifr, err := unix.NewIfreq(name)
	require.NoError(t, err)
	require.NoError(t, ifr.SetInet4Addr([]byte{10, 0, 0, host}))
	require.NoError(t, unix.IoctlIfreq(inet(t), unix.SIOCSIFADDR, ifr))
}

func isUp(t testing.TB, name string) bool {
	t.Helper()
	i, err := net.InterfaceByName(name)
	require.NoError(t, err)
	return i.Flags&net.FlagUp != 0
}

func exists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

// openFiles counts the descriptors of the process.
func openFiles(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// frame makes a frame of its bytes, with n of them at most in its head.
func frame(b []byte, n int) *ports.Frame {
	n = min(n, len(b))
	f := new(ports.Frame)
	h := append(make([]byte, ports.Headroom), b[:n]...)
	f.SetHead(h, ports.Headroom, n)
	f.AppendBody(b[n:])
	return f
}

// ether returns a frame of n bytes for an unknown station with an unknown protocol, which the kernel
// drops.
func ether(n int) []byte {
	b := make([]byte, n)
	copy(b, []byte{0x02, 0xaa, 0, 0, 0, 1, 0x02, 0xaa, 0, 0, 0, 2, 0x88, 0xb5})
	return b
}

// tcpSegment returns an IPv4 TCP frame of n bytes that asks to be cut.
func tcpSegment(n int) ([]byte, ports.Offload) {
	b := ether(n)
	b[12], b[13] = 0x08, 0
	ip := b[14:]
	ip[0], ip[2], ip[3], ip[8], ip[9] = 0x45, byte((n-14)>>8), byte(n-14), 64, 6
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	ip[32] = 5 << 4
	return b, ports.Offload{
		NeedsChecksum: true, Segment: ports.SegmentTCP4, SegmentSize: 1448,
		HeaderLen: 54, ChecksumStart: 34, ChecksumOffset: 16,
	}
}

// packetSocket sends to the interface without a queueing discipline.
func packetSocket(t testing.TB, name string) int {
	t.Helper()
	i, err := net.InterfaceByName(name)
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1))
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 256<<20))
	require.NoError(t, unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index}))
	return fd
}
