package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The test binary is livenet itself when this is set.
const beLivenet = "HVSWITCH_TEST_LIVENET"

func TestMain(m *testing.M) {
	if os.Getenv(beLivenet) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func needMachine(t *testing.T) {
	t.Helper()
	if err := missing(); err != nil {
		t.Skip(err)
	}
}

// requireGone checks that nothing is left of what a report says was made.
func requireGone(t *testing.T, report string) {
	t.Helper()
	prefix := regexp.MustCompile(`livenet-[0-9a-f]+`).FindString(report)
	require.NotEmpty(t, prefix, report)
	left, err := ip(context.Background(), "netns", "list")
	require.NoError(t, err)
	require.NotContains(t, left, prefix)
	require.Contains(t, report, "Removed "+prefix)
}

func TestLivenet(t *testing.T) {
	needMachine(t)
	var report bytes.Buffer
	m, err := run(t.Context(), &report, 1)
	require.NoError(t, err, report.String())
	t.Log(report.String())
	require.Len(t, m.paths, 6)
	for _, p := range m.paths {
		require.Equal(t, pings, p.replies, "%s to %s", p.from.name, p.to.name)
		require.Greater(t, p.rate, rate(10e6), "%s to %s", p.from.name, p.to.name)
	}
	require.Greater(t, m.betweenVMs, uint64(100))
	require.LessOrEqual(t, m.leaked(), m.broadcasts)
	require.Positive(t, m.before.kernelTx, "the pings to the outside")
	requireGone(t, report.String())
}

func TestInterruptRemovesEverything(t *testing.T) {
	needMachine(t)
	for name, tt := range map[string]struct {
		signal syscall.Signal
		after  string // this has been printed
		delay  time.Duration
	}{
		"at once":                {syscall.SIGINT, "Making", 0},
		"while it makes things":  {syscall.SIGTERM, "Making", 30 * time.Millisecond},
		"when all is made":       {syscall.SIGTERM, "attached by", 0},
		"during the pings":       {syscall.SIGINT, "attached by", 300 * time.Millisecond},
		"during the TCP runs":    {syscall.SIGTERM, "attached by", 4 * time.Second},
		"when the terminal goes": {syscall.SIGHUP, "attached by", 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := exec.Command(os.Args[0], "-t", "10")
			c.Env = append(os.Environ(), beLivenet+"=1")
			var report bytes.Buffer
			stdout, err := c.StdoutPipe()
			require.NoError(t, err)
			stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
			require.NoError(t, err)
			defer stderr.Close()
			c.Stderr = stderr
			require.NoError(t, c.Start())
			for buf := make([]byte, 4096); !strings.Contains(report.String(), tt.after); {
				n, err := stdout.Read(buf)
				report.Write(buf[:n])
				require.NoError(t, err, report.String())
			}
			time.Sleep(tt.delay)
			require.NoError(t, c.Process.Signal(tt.signal))
			rest, err := io.ReadAll(stdout)
			require.NoError(t, err)
			report.Write(rest)
			_ = c.Wait()
			said, err := os.ReadFile(stderr.Name())
			require.NoError(t, err)
			require.Equal(t, 1, c.ProcessState.ExitCode(), string(said))
			require.Contains(t, string(said), "livenet: interrupted: ")
			requireGone(t, report.String())
		})
	}
}

func TestFailureRemovesEverything(t *testing.T) {
	needMachine(t)
	l := newLab()
	taken := "/run/netns/" + l.prefix + "-outside"
	require.NoError(t, os.WriteFile(taken, nil, 0))
	defer os.Remove(taken)
	require.ErrorContains(t, l.build(t.Context()), "File exists")
	require.NoError(t, l.remove())
	left, err := ip(t.Context(), "netns", "list")
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(left, l.prefix), "what it did not make: %s", left)
}

func TestMissingProgramsAreNamed(t *testing.T) {
	c := exec.Command(os.Args[0])
	c.Env = []string{beLivenet + "=1", "PATH=/nowhere"}
	out, _ := c.CombinedOutput()
	require.Equal(t, 2, c.ProcessState.ExitCode())
	require.Contains(t, string(out), "apt-get install iproute2 iputils-ping iperf3")
	require.Equal(t, 1, strings.Count(string(out), "\n"), "one line")
}
