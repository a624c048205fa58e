package portstest

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// veth makes a pair of connected interfaces.
func veth(t *testing.T) (a, b string) {
	t.Helper()
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("needs the command ip (iproute2)")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network interfaces")
	}
	a, b = "portstest0", "portstest1"
	run := func(args ...string) error {
		out, err := exec.Command(ip, args...).CombinedOutput()
		t.Logf("ip %q: %s", args, out)
		return err
	}
	run("link", "del", a) // left behind by a test that was killed
	if run("link", "add", a, "type", "veth", "peer", b) != nil {
		t.Skip("needs the right to make veth interfaces (CAP_NET_ADMIN)")
	}
	t.Cleanup(func() { run("link", "del", a) })
	require.NoError(t, run("link", "set", a, "up"))
	require.NoError(t, run("link", "set", b, "up"))
	return a, b
}

// What one end of a veth pair puts on the cable, the other takes as it was.
func TestInterface(t *testing.T) {
	nameA, nameB := veth(t)
	a, b := Interface(t, nameA), Interface(t, nameB)
	next := func() Packet {
		for {
			p, ok := b.Take(patience)
			require.True(t, ok, "nothing arrives")
			if ours(p.Bytes) {
				return p
			}
		}
	}
	for i, stack := range tagStacks {
		s := spec{seq: i, tags: stack.tags, len: 1400}
		require.NoError(t, a.Put(Packet{Bytes: s.wire()}))
		require.NoError(t, differ(next().Bytes, s.wire()), stack.name)
	}
	for _, q := range requests {
		require.NoError(t, a.Put(q.packet(1500)), q.name)
		q.check(t, next(), 1500)
	}
	require.Error(t, a.Put(Packet{Bytes: spec{}.wire()[:13]}), "a packet socket refuses runts")

	require.NoError(t, a.Put(Packet{Bytes: spec{}.wire()}))
	require.Zero(t, next().Offload)

	for ok := true; ok; { // the kernel's own
		_, ok = a.Take(silence)
	}
}
