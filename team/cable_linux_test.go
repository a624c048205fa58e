package team_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/afpacket"
	"github.com/hvswitch/hvswitch/ports/portstest"
	"github.com/hvswitch/hvswitch/team"
)

// newNamespace moves the goroutine of the test for good to a thread of its own in a network namespace of
// its own, which goes with it.
func newNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs root for a network namespace: %v", err)
	}
	for _, f := range []string{"all", "default"} { // no router solicitations between the frames
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+f+"/disable_ipv6", []byte("1"), 0)
	}
}

func ip(t testing.TB, format string, args ...any) {
	t.Helper()
	tool, err := exec.LookPath("ip")
	if err != nil {
		t.Skipf("needs the ip command of iproute2: %v", err)
	}
	line := fmt.Sprintf(format, args...)
	out, err := exec.Command(tool, strings.Fields(line)...).CombinedOutput()
	require.NoError(t, err, "ip %s: %s", line, out)
}

// veths makes cables near0–far0, near1–far1 … and opens the near ends.
func veths(t testing.TB, n int) (members []team.Member) {
	t.Helper()
	for i := range n {
		ip(t, "link add near%d type veth peer name far%d", i, i)
		ip(t, "link set near%d up", i)
		ip(t, "link set far%d up", i)
		b, err := afpacket.Open(fmt.Sprintf("near%d", i), nil)
		require.NoError(t, err)
		members = append(members, team.Member{Backend: b})
	}
	return members
}

func TestTeamOfInterfacesConforms(t *testing.T) {
	portstest.Run(t, func(t *testing.T) portstest.Rig {
		newNamespace(t)
		members := veths(t, 2)
		tm, err := team.New(members, &team.Config{Mode: team.Static, Distribution: team.HyperVPort, UpDelay: -1})
		require.NoError(t, err)
		f := &far{peers: []portstest.Peer{portstest.Interface(t, "far0"), portstest.Interface(t, "far1")}}
		return portstest.Rig{
			Backend: turn(tm),
			Peer:    turnedPeer{f},
			Depth:   128,
			SetLink: func(up bool) {
				for i := range 2 {
					ip(t, "link set far%d %s", i, map[bool]string{true: "up", false: "down"}[up])
				}
				// The kernel tells of a link with a delay, and the other may have changed again.
				for _, m := range members {
					await(t, 5*time.Second, "a link does not change", func() bool { return ports.LinkOf(m.Backend).Up == up })
				}
			},
			Puts: ports.OffloadAll, Takes: ports.OffloadAll,
			Lacks: portstest.Lacks{
				portstest.Backpressure: "a veth pair drops what the far end has no room for",
				portstest.Runts:        "the kernel sends no frame without a whole Ethernet header",
				portstest.Spread:       "an interface of a veth pair has one queue",
			},
		}
	})
}

// One member is an interface, the other is in memory: frames of both wake the receiver.
func TestMembersOfBothKinds(t *testing.T) {
	newNamespace(t)
	members := veths(t, 1)
	x, y, err := ports.Pipe(nil)
	require.NoError(t, err)
	tm, err := team.New(append(members, team.Member{Backend: x}), &team.Config{Mode: team.Static})
	require.NoError(t, err)
	defer tm.Close()
	q := tm.Rx(0)
	fd := q.(ports.Pollable).Descriptor()
	readable := func(wait time.Duration) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, int(wait.Milliseconds()))
		return err == nil && n == 1
	}
	b := ports.NewBatch(8)
	peer := portstest.Interface(t, "far0")
	for range 100 {
		for readable(0) {
			drain(b, q)
		}
		_, err := y.Tx(0).Send(flowFrames(1))
		require.NoError(t, err)
		require.True(t, readable(5*time.Second))
		require.Equal(t, 1, drain(b, q))
		require.NoError(t, peer.Put(portstest.Packet{Bytes: flowFrames(1)[0].Head()}))
		require.True(t, readable(5*time.Second))
		require.Equal(t, 1, drain(b, q))
	}
}

func TestFailoverOfInterfacesTakesLessThan50ms(t *testing.T) {
	newNamespace(t)
	tm, err := team.New(veths(t, 2), &team.Config{Distribution: team.HyperVPort, UpDelay: -1})
	require.NoError(t, err)
	defer tm.Close()
	flow := flowFrames(1)
	at := where(t, tm, flow)[0]
	start := time.Now()
	ip(t, "link set far%d down", at) // the time that this takes is in the result
	for other := tm.Stats().Members[1-at].TxFrames; tm.Stats().Members[1-at].TxFrames == other; {
		_, err := tm.Tx(0).Send(flow) // which may find no room, or lose the frame
		require.NoError(t, err)
		require.Less(t, time.Since(start), time.Second)
	}
	require.Less(t, time.Since(start), 100*time.Millisecond, "of which the command takes a part")
	t.Logf("the first frame left by the other member %v after the command was given", time.Since(start))
}
