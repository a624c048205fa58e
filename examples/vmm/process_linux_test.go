package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// The switch is a process of its own, examples/vhostswitch. It is killed and started again while the guests run: they
// have the link again soon, and a transfer by TCP goes on as if nothing had been.
func TestSwitchProcessIsKilled(t *testing.T) {
	img := needImage(t, "vhost-user")
	program := filepath.Join(t.TempDir(), "vhostswitch")
	out, err := exec.Command("go", "build", "-o", program, "../vhostswitch").CombinedOutput()
	require.NoError(t, err, string(out))
	for name, c := range map[string]struct{ chardev, flag string }{
		"QEMU connects":       {"reconnect=1", "-client=false"},
		"the switch connects": {"server=on,wait=off", "-client=true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "vmm")
			require.NoError(t, err)
			s := sceneOf(t, &lab{netdev: "vhost-user", accel: "tcg", image: img, dir: dir})
			sockets := []string{filepath.Join(dir, "vm1.sock"), filepath.Join(dir, "vm2.sock")}
			start := func() (kill func()) {
				return startProgram(t, program, c.flag, "-sockets", strings.Join(sockets, ","))
			}
			kill := start()
			s.vm1, s.vm2 = s.outside(t, 1, sockets[0], c.chardev), s.outside(t, 2, sockets[1], c.chardev)
			s.ready(t)
			s.watch(t)
			s.transferBegins(t)
			s.gap(t, func() {
				kill()
				start()
			})
			before := s.received(t)
			require.Eventually(t, func() bool { return s.received(t) > before+1<<20 }, long, 10*time.Millisecond, "the transfer does not go on")
			s.transferEnds(t)
		})
	}
}

// outside starts the n-th VM with a card that is plugged in somewhere else.
func (s *scene) outside(t *testing.T, n int, socket, chardev string) *vm {
	t.Helper()
	m := machine{
		name: "vm" + strconv.Itoa(n), addr: address(n), mac: ports.MAC{0x52, 0x54, 0, 0, 0, byte(n)},
		accel: s.accel, image: s.image, dir: s.dir,
	}
	m.args = append(m.args, "-chardev", "socket,id=switch,path="+socket+","+chardev, "-netdev", "vhost-user,id=net,chardev=switch")
	m.args = append(m.args, card(s.netdev, s.accel, m.mac)...)
	require.NoError(t, s.lab.start(m))
	return s.vms[len(s.vms)-1]
}

// startProgram starts a program that ends with the test at the latest.
func startProgram(t *testing.T, name string, args ...string) (kill func()) {
	t.Helper()
	kill, err := launch(t, name, args...)
	require.NoError(t, err)
	return kill
}

func launch(t *testing.T, name string, args ...string) (kill func(), err error) {
	c := exec.Command(name, args...)
	c.Stderr = os.Stderr
	dieWithUs(c)
	if err := c.Start(); err != nil {
		return nil, err
	}
	kill = func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	t.Cleanup(kill)
	return kill, nil
}

// transferBegins has vm1 send to vm2 without pause by one TCP connection.
func (s *scene) transferBegins(t *testing.T) {
	t.Helper()
	_, err := s.vm1.run(s.ctx, "mkfifo /tmp/copy; md5sum </tmp/copy >/tmp/sum & sum=$!; "+
		"until [ -e /tmp/end ]; do cat /bin/busybox; done | tee /tmp/copy | nc -l -p 99 >/dev/null &")
	require.NoError(t, err)
	// What nc reads from never ends, or it would end itself.
	_, err = s.vm2.run(s.ctx, "mkfifo /tmp/idle; until nc %v 99 <>/tmp/idle; do usleep 50000; done | md5sum >/tmp/sum & sum=$!", s.vm1.addr.Addr())
	require.NoError(t, err)
	before := s.received(t)
	require.Eventually(t, func() bool { return s.received(t) > before+1<<20 }, long, 10*time.Millisecond, "the transfer does not begin")
}

// transferEnds has vm1 end, and compares what was sent and what arrived.
func (s *scene) transferEnds(t *testing.T) {
	t.Helper()
	_, err := s.vm1.run(s.ctx, "touch /tmp/end")
	require.NoError(t, err)
	var sums [2]string
	for i, v := range []*vm{s.vm1, s.vm2} {
		said, err := v.run(s.ctx, "wait $sum && cat /tmp/sum")
		require.NoError(t, err)
		sums[i] = checksum(said)
	}
	require.NotEmpty(t, sums[0])
	require.Equal(t, sums[0], sums[1], "what was sent, and what arrived")
}

// received returns how many bytes the card of vm2 has received.
func (s *scene) received(t *testing.T) int {
	t.Helper()
	said, err := s.vm2.run(s.ctx, "cat /sys/class/net/eth0/statistics/rx_bytes")
	require.NoError(t, err)
	for _, l := range said {
		if n, err := strconv.Atoi(l.text); err == nil {
			return n
		}
	}
	require.Fail(t, "no number of bytes", s.vm2.tail())
	return 0
}
