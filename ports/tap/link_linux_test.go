package tap

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// history is what a watcher was told.
type history struct {
	mu  sync.Mutex
	all []bool
}

func (h *history) told(l ports.Link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, l.Up)
}

func (h *history) is(want ...bool) func() bool {
	return func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return assert.ObjectsAreEqual(want, h.all)
	}
}

func remember(t *testing.T, p *TAP) *history {
	h := &history{}
	p.WatchLink(h.told)
	t.Cleanup(func() { p.WatchLink(nil) })
	return h
}

func TestLinkIsToldOncePerChange(t *testing.T) {
	aside(t)
	p := must(t, &Config{Name: "vm1", KeepDown: true})
	h := remember(t, p)
	set := setLink(t, "vm1")
	set(false)
	set(true)
	eventually(t, "it is not told that the link is up", h.is(true))
	setMTU(t, "vm1", 2000) // a change, but not of the link
	set(false)
	eventually(t, "it is not told that the link is down", h.is(true, false))
	set(true)
	eventually(t, "it is not told that the link is up again", h.is(true, false, true))
	require.NoError(t, p.Close())
	eventually(t, "it is not told of Close", h.is(true, false, true, false))
}

func TestWatcherMayUseTheTAP(t *testing.T) {
	aside(t)
	p := must(t, &Config{Name: "vm1"})
	done := make(chan struct{})
	p.WatchLink(func(ports.Link) {
		p.Link()
		p.WatchLink(nil)
		p.Close()
		close(done)
	})
	setLink(t, "vm1")(false)
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("it is not told, or hangs")
	}
}

// A worker that waits for the descriptor must sleep while the link is down.
func TestDownIsNotReadable(t *testing.T) {
	aside(t)
	p := must(t, &Config{Name: "vm1"})
	readable := func() bool {
		fds := []unix.PollFd{{Fd: int32(p.Rx(0).(ports.Pollable).Descriptor()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		require.NoError(t, err)
		return n > 0
	}
	b := ports.NewBatch(1)
	f := []*ports.Frame{frame(ether(64), 64)}
	set := setLink(t, "vm1")
	for range 3 {
		set(false)
		assert.False(t, readable())
		assert.NoError(t, p.Rx(0).Recv(b))
		n, err := p.Tx(0).Send(f)
		assert.Zero(t, n)
		assert.Equal(t, ports.ErrLinkDown, err)
		set(true)
		assert.False(t, readable())
		n, err = p.Tx(0).Send(f)
		assert.Equal(t, 1, n)
		assert.NoError(t, err)
	}
}

func TestDeletedInterface(t *testing.T) {
	aside(t)
	p := must(t, &Config{Name: "vm1"})
	h := remember(t, p)
	ip(t, "link", "delete", "vm1")
	eventually(t, "it is not told that the link is down", h.is(false))
	err := p.Rx(0).Recv(ports.NewBatch(1))
	require.ErrorIs(t, err, unix.EBADFD)
	assert.EqualError(t, err, `tap "vm1": the interface is gone: link is down (file descriptor in bad state)`)
	n, err := p.Tx(0).Send([]*ports.Frame{frame(ether(64), 64)})
	assert.Zero(t, n)
	assert.ErrorIs(t, err, ports.ErrLinkDown)
	assert.NoError(t, p.Close())
	assert.ErrorIs(t, p.Rx(0).Recv(ports.NewBatch(1)), ports.ErrClosed)
}

func TestRenamedInterface(t *testing.T) {
	aside(t)
	p := must(t, &Config{Name: "vm1", KeepDown: true})
	h := remember(t, p)
	ip(t, "link", "set", "vm1", "name", "other")
	setLink(t, "other")(true)
	eventually(t, "it is not told of a link under another name", h.is(true))
}

// An interface is moved, as for a container, and set up and down there.
func TestMovedInterface(t *testing.T) {
	aside(t)
	p := must(t, &Config{Name: "vm1"})
	h := remember(t, p)
	stay := must(t, &Config{Name: "stay", KeepDown: true})
	h2 := remember(t, stay)
	setStay := setLink(t, "stay")
	here, err := os.Open(threadNS)
	require.NoError(t, err)
	defer here.Close()
	require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
	there, err := os.Open(threadNS)
	require.NoError(t, err)
	defer there.Close()
	setThere := setLink(t, "vm1")

	enter(t, here)
	move(t, "vm1", there)
	eventually(t, "it is not told that the move took the link down", h.is(false))
	assert.False(t, p.Link().Up)
	setThere(true)
	eventually(t, "it is not told that the link is up there", h.is(false, true))
	n, err := p.Tx(0).Send([]*ports.Frame{frame(ether(64), 64)})
	assert.NoError(t, err)
	assert.Equal(t, 1, n)
	setThere(false)
	eventually(t, "it is not told that the link is down there", h.is(false, true, false))

	setStay(true)
	eventually(t, "who stayed is not told any more", h2.is(true))

	// And back.
	enter(t, there)
	move(t, "vm1", here)
	enter(t, here)
	setLink(t, "vm1")(true)
	eventually(t, "it is not told that the link is up at home", h.is(false, true, false, true))
}

func TestListenersEndWithTheirLastTAP(t *testing.T) {
	aside(t)
	count := func() int {
		listeners.mu.Lock()
		defer listeners.mu.Unlock()
		return len(listeners.byNS)
	}
	before := count()
	a, b := must(t, nil), must(t, nil)
	a.WatchLink(func(ports.Link) {})
	b.WatchLink(func(ports.Link) {})
	assert.Equal(t, before+1, count(), "one listener for a namespace")
	a.WatchLink(nil)
	assert.Equal(t, before+1, count())
	require.NoError(t, b.Close())
	assert.Equal(t, before, count())
}

func enter(t *testing.T, ns *os.File) {
	t.Helper()
	require.NoError(t, unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET))
}

// ip runs iproute2 in the namespace of the test.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the program ip of iproute2")
	}
	out, err := exec.Command("ip", args...).CombinedOutput()
	require.NoError(t, err, "ip %v: %s", args, out)
}

func move(t *testing.T, name string, to *os.File) {
	t.Helper()
	ip(t, "link", "set", name, "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), to.Fd()))
}
