package natsstore

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// serverVariable makes the test binary a server of its own, to be killed: "address directory".
const serverVariable = "HVSWITCH_NATSSTORE_SERVER"

func TestMain(m *testing.M) {
	if v := os.Getenv(serverVariable); v != "" {
		serve(v)
		return
	}
	os.Exit(m.Run())
}

func serve(v string) {
	var port int
	var dir string
	if _, err := fmt.Sscanf(v, "%d %q", &port, &dir); err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)) // the server would only log that it cannot
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = l.Close()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, SyncAlways: true, NoSigs: true, NoLog: true})
	if err != nil {
		panic(err)
	}
	s.SetLoggerV2(serverLog{slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(long / 2) {
		fmt.Println("not ready")
		return
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test
}

// process is a server that can be killed.
type process struct {
	t    *testing.T
	dir  string
	port int
	cmd  *exec.Cmd
	in   io.Closer
}

func newProcess(t *testing.T) *process {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &process{t: t, dir: t.TempDir(), port: l.Addr().(*net.TCPAddr).Port}
	require.NoError(t, l.Close())
	t.Cleanup(p.kill)
	p.start()
	return p
}

func (p *process) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", p.port) }

// start starts the server, again if its port is taken or it does not get ready.
func (p *process) start() {
	for deadline := time.Now().Add(2 * long); ; {
		answer := p.try()
		if answer == "ready" {
			return
		}
		p.kill()
		p.t.Log("server:", answer)
		require.True(p.t, time.Now().Before(deadline))
		time.Sleep(50 * time.Millisecond)
	}
}

func (p *process) try() (answer string) {
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %q", serverVariable, p.port, p.dir))
	in, err := p.cmd.StdinPipe()
	require.NoError(p.t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(p.t, err)
	p.in, p.cmd.Stderr = in, os.Stderr
	require.NoError(p.t, p.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

// copyTo copies the files of a server that does not run.
func (p *process) copyTo(dir string) {
	require.Nil(p.t, p.cmd)
	require.NoError(p.t, os.CopyFS(dir, os.DirFS(p.dir)))
}

// restore puts a copy in place of the files.
func (p *process) restore(dir string) {
	require.Nil(p.t, p.cmd)
	require.NoError(p.t, os.RemoveAll(p.dir))
	require.NoError(p.t, os.CopyFS(p.dir, os.DirFS(dir)))
}
