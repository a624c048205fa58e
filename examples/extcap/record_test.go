//go:build unix

package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asExtcap is the environment in which the test binary is extcap. The race detector makes programs sleep
// before they exit, which Wireshark would wait for.
func asExtcap() []string {
	return append(os.Environ(), beExtcap+"=1", "GORACE=atexit_sleep_ms=0")
}

// program is extcap as a process.
type program struct {
	t *testing.T
	*exec.Cmd
	stderr bytes.Buffer
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{t: t, Cmd: exec.Command(os.Args[0], args...)}
	p.Env = asExtcap()
	p.Stderr = &p.stderr
	require.NoError(t, p.Start())
	t.Cleanup(func() { p.Process.Kill() })
	return p
}

// ends waits for the end of the program and returns what it said.
func (p *program) ends(code int) string {
	p.t.Helper()
	defer time.AfterFunc(10*time.Second, func() { p.Process.Kill() }).Stop()
	_ = p.Wait()
	require.Equal(p.t, code, p.ProcessState.ExitCode(), p.stderr.String())
	return p.stderr.String()
}

// recording starts a capture, as Wireshark does, and returns the fifo to read from and what ends the VMM.
func recording(t *testing.T, port string) (p *program, fifo string, stopVMM func()) {
	t.Helper()
	dir, sockets := socketDir(t)
	stopVMM = serve(t, filepath.Join(dir, "vm1.sock"), "web")
	fifo = filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	return start(t, "--sockets", sockets, "--capture", "--extcap-interface", port, "--fifo", fifo), fifo, stopVMM
}

func open(t *testing.T, fifo string) *os.File {
	t.Helper()
	f, err := os.Open(fifo)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = io.ReadFull(f, make([]byte, 4))
	require.NoError(t, err)
	return f
}

func TestSignalEndsTheCaptureWithItsStatistics(t *testing.T) {
	t.Parallel()
	p, fifo, _ := recording(t, "hvswitch:vm1/wan/web")
	f := open(t, fifo)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	rest, err := io.ReadAll(f)
	require.NoError(t, err)
	require.Empty(t, p.ends(0))
	length := int(binary.NativeEndian.Uint32(rest[len(rest)-4:]))
	const interfaceStatistics = 5 // type of the block
	require.Equal(t, uint32(interfaceStatistics), binary.NativeEndian.Uint32(rest[len(rest)-length:]))
}

func TestSignalBeforeWiresharkReads(t *testing.T) {
	t.Parallel()
	p, _, _ := recording(t, "hvswitch:vm1/wan/web")
	time.Sleep(100 * time.Millisecond)
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Empty(t, p.ends(-1), "the signal ends it")
}

func TestWiresharkThatStopsReadingEndsTheCapture(t *testing.T) {
	t.Parallel()
	for _, port := range []string{"hvswitch:vm1/lab/bob", "hvswitch:vm1/wan/web"} { // with traffic, without
		p, fifo, _ := recording(t, port)
		require.NoError(t, open(t, fifo).Close())
		require.Empty(t, p.ends(0))
	}
}

func TestEndOfTheVMMIsAnError(t *testing.T) {
	t.Parallel()
	p, fifo, stopVMM := recording(t, "hvswitch:vm1/lab/bob")
	f := open(t, fifo)
	go stopVMM()
	_, err := io.ReadAll(f)
	require.NoError(t, err)
	require.Equal(t, "hvswitch: VMM \"vm1\": it has ended the capture\n", p.ends(1))
}

func TestDemo(t *testing.T) {
	t.Parallel()
	dir, sockets := socketDir(t)
	socket := filepath.Join(dir, "demo.sock")
	p := start(t, "-demo", socket)
	require.Eventually(t, func() bool {
		list, err := run([]string{"--extcap-interfaces", "--sockets", sockets})
		return err == nil && bytes.Contains([]byte(list), []byte("{value=hvswitch:demo/lab/mallory}"))
	}, 10*time.Second, 10*time.Millisecond)
	info, err := os.Stat(socket)
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o600, info.Mode())
	require.NoError(t, p.Process.Signal(os.Interrupt))
	require.Equal(t, "Serving captures on "+socket+" until interrupted\n", p.ends(0))
	require.NoFileExists(t, socket)
}
