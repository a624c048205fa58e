package afpacket

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

// The ends of the veth pair of a test.
const (
	near = "near" // has the backend
	far  = "far"  // has the peer
)

// newNamespace moves the goroutine of the test for good to a thread of its own in a network
// namespace of its own, which goes with it.
func newNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs root for a network namespace: %v", err)
	}
	// No router solicitations between the frames of the test. Where there is no IPv6, there is no file.
	for _, f := range []string{"all", "default"} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+f+"/disable_ipv6", []byte("1"), 0)
	}
}

func ip(t testing.TB, args string) {
	t.Helper()
	tool, err := exec.LookPath("ip")
	if err != nil {
		t.Skipf("needs the ip command of iproute2: %v", err)
	}
	out, err := exec.Command(tool, strings.Fields(args)...).CombinedOutput()
	require.NoError(t, err, "ip %s: %s", args, out)
}

// newCable makes a veth pair in a new namespace, both ends up.
func newCable(t testing.TB) {
	t.Helper()
	newNamespace(t)
	ip(t, "link add "+near+" type veth peer name "+far)
	ip(t, "link set "+near+" up")
	ip(t, "link set "+far+" up")
}

// open opens the near end of a cable.
func open(t testing.TB, cfg *Config) *Interface {
	t.Helper()
	i, err := Open(near, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { i.Close() })
	return i
}

func macOf(t testing.TB, name string) ports.MAC {
	t.Helper()
	i, err := net.InterfaceByName(name)
	require.NoError(t, err)
	return ports.MAC(i.HardwareAddr)
}

// rig puts an Interface at one end of a cable and a raw socket at the other.
func rig(t *testing.T, cfg *Config) portstest.Rig {
	return portstest.Rig{
		Backend: open(t, cfg),
		Peer:    portstest.Interface(t, far),
		Depth:   256,
		SetLink: func(up bool) {
			ip(t, "link set "+far+" "+map[bool]string{true: "up", false: "down"}[up])
		},
		Puts:  ports.OffloadAll,
		Takes: ports.OffloadAll,
		Lacks: portstest.Lacks{
			portstest.Backpressure: "a veth pair drops what the far end has no room for",
			portstest.Runts:        "the kernel sends no frame without a whole Ethernet header",
		},
	}
}

// scene is a rig with the receive queue of its Interface.
type scene struct {
	*testing.T
	portstest.Rig
	i     *Interface
	batch *ports.Batch
}

func newScene(t *testing.T, cfg *Config) *scene {
	newCable(t)
	r := rig(t, cfg)
	return &scene{T: t, Rig: r, i: r.Backend.(*Interface), batch: ports.NewBatch(64)}
}

// put sends wire from the far end.
func (s *scene) put(wire []byte, o ports.Offload) {
	s.Helper()
	require.NoError(s, s.Peer.Put(portstest.Packet{Bytes: wire, Offload: o}))
}

// recv receives until n frames are in the batch, which it empties before, and then once more.
func (s *scene) recv(n int) []*ports.Frame {
	s.Helper()
	q := s.i.Rx(0)
	s.release()
	for end := time.Now().Add(5 * time.Second); s.batch.Len() < n && time.Now().Before(end); {
		require.NoError(s, q.Recv(s.batch))
	}
	require.NoError(s, q.Recv(s.batch))
	require.Len(s, s.batch.Frames(), n)
	return s.batch.Frames()
}

func (s *scene) release() {
	s.batch.Reset()
	s.i.Rx(0).Release()
}

func (s *scene) send(f *ports.Frame) {
	s.Helper()
	n, err := s.i.Tx(0).Send([]*ports.Frame{f})
	require.NoError(s, err)
	require.Equal(s, 1, n)
}

func (s *scene) take() portstest.Packet {
	s.Helper()
	p, ok := s.Peer.Take(5 * time.Second)
	require.True(s, ok, "nothing arrived at the far end")
	return p
}

// eventually waits for what happens soon.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end), what)
	}
}

// frameTo is a frame of a protocol for experiments.
func frameTo(dst ports.MAC, payload int) []byte {
	b := append(dst[:], 2, 0, 0, 0, 0, 1, 0x88, 0xb5)
	return append(b, bytes.Repeat([]byte{0xa5}, payload)...)
}

func frameOf(wire []byte) *ports.Frame {
	f := &ports.Frame{}
	f.SetHead(append(make([]byte, ports.Headroom), wire...), ports.Headroom, len(wire))
	return f
}

// tcpSegment is a frame of so many bytes that asks to be cut into segments of 1,448.
func tcpSegment(n int) ([]byte, ports.Offload) {
	b := make([]byte, n)
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0})
	copy(b[14:], []byte{0x45, 0, byte((n - 14) >> 8), byte(n - 14), 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2})
	copy(b[34:], []byte{4, 0, 4, 1, 0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, 0x10, 0xff, 0xff, 0, 0, 0, 0})
	for i := 54; i < n; i++ {
		b[i] = byte(i ^ i>>8)
	}
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[24:], ^uint16(sum+sum>>16))
	sum = 10<<8 + 10<<8 + 1 + 2 + 6 + uint32(n-34) // of the pseudo header
	binary.BigEndian.PutUint16(b[50:], uint16(sum>>16+sum&0xffff))
	return b, ports.Offload{
		NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16,
		Segment: ports.SegmentTCP4, SegmentSize: 1448, HeaderLen: 54,
	}
}
