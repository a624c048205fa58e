package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The test binary is vmm itself when this is set.
const beVMM = "HVSWITCH_TEST_VMM"

func TestMain(m *testing.M) {
	if os.Getenv(beVMM) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// cacheDir is where the image is kept from one run to the next.
func cacheDir(t *testing.T) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	return filepath.Join(dir, "hvswitch-vmm")
}

func needImage(t *testing.T, netdev string) *image {
	t.Helper()
	if testing.Short() {
		t.Skip("boots guests")
	}
	if err := missing(netdev, "tcg"); err != nil {
		t.Skip(err)
	}
	img, err := newImage(t.Context(), cacheDir(t), io.Discard)
	if err != nil {
		t.Skip(err)
	}
	return img
}

func TestInterruptRemovesEverything(t *testing.T) {
	needImage(t, "vhost-user")
	dir, err := os.MkdirTemp("", "") // not that of t, whose name is too long for a socket
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), beVMM+"=1", "TMPDIR="+dir)
	stdout, err := c.StdoutPipe()
	require.NoError(t, err)
	var stderr strings.Builder
	c.Stderr = &stderr
	require.NoError(t, c.Start())
	require.Eventually(t, func() bool { return processesOf(dir) > 1 }, 20*time.Second, 10*time.Millisecond, "QEMU does not run")
	require.NoError(t, c.Process.Signal(syscall.SIGINT))
	_, err = io.Copy(io.Discard, stdout)
	require.NoError(t, err)
	_ = c.Wait()
	require.Equal(t, 1, c.ProcessState.ExitCode(), stderr.String())
	require.Contains(t, stderr.String(), "interrupt")
	require.Zero(t, processesOf(dir))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// processesOf returns how many processes have dir in their arguments.
func processesOf(dir string) (n int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if args, err := os.ReadFile(f); err == nil && bytes.Contains(args, []byte(dir)) {
			n++
		}
	}
	return n
}

func TestWrongFlagsAreNamed(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-netdev=bridge", `vmm: -netdev "bridge" is none of dgram, stream, tap, vhost-user`},
		{"-accel=xen", `vmm: -accel "xen" is none of tcg, kvm`},
		{"-time=10ms", "vmm: -time 10ms is shorter than a second"},
		{"tap", `vmm: "tap" is no flag (-help lists them)`},
	} {
		cmd := exec.Command(os.Args[0], c.args)
		cmd.Env = append(os.Environ(), beVMM+"=1")
		out, _ := cmd.CombinedOutput()
		require.Equal(t, 2, cmd.ProcessState.ExitCode())
		require.Equal(t, c.want+"\n", string(out))
	}
}

func TestMissingProgramsAreNamed(t *testing.T) {
	c := exec.Command(os.Args[0])
	c.Env = []string{beVMM + "=1", "PATH=/nowhere"}
	out, _ := c.CombinedOutput()
	require.Equal(t, 2, c.ProcessState.ExitCode())
	require.Contains(t, string(out), "apt-get install qemu-system-x86 iperf3")
	require.Equal(t, 1, strings.Count(string(out), "\n"), "one line")
}
