package capture

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// run runs a program and returns what it prints; it must not warn of anything.
func run(t *testing.T, stdin io.Reader, program string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "HOME="+t.TempDir())
	var out, warnings bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &warnings
	require.NoError(t, cmd.Run(), "%s", &warnings)
	for line := range strings.Lines(warnings.String()) {
		if !strings.HasPrefix(line, "Running as user") { // says tshark to root
			require.Fail(t, "warning of "+program, line)
		}
	}
	return out.String()
}

func fileForWireshark(t *testing.T) (path string) {
	filter, err := ParseFilter(`port=web,db,"größe"`)
	require.NoError(t, err)
	s := newScene(t, &Config{Filter: filter}, "web", "db", "größe", "other")
	query := udp("10.0.0.1", "10.0.0.53", 4000, 53)
	long := tagged(arp("10.0.0.1", "10.0.0.2"), 10)
	long.AppendBody(make([]byte, 60000))
	s.pass(in, "web", func(b *extension.Batch) {
		s.pass(out, "db", drop("denied by ACL, inbound", 0), query)
		b.Drop(1, "spoofed source")
	}, query, long)
	s.pass(out, "größe", nil, numbered(60, 1))
	b := s.batch(in, "web", numbered(5, 1), &ports.Frame{})
	b.Drop(0, "runt")
	b.Drop(1, "runt")
	s.c.Fate(b)
	s.close()
	path = filepath.Join(t.TempDir(), "capture.pcapng")
	require.NoError(t, os.WriteFile(path, s.file.Bytes(), 0o600))
	return path
}

func TestTsharkReadsWhatWasCaptured(t *testing.T) {
	path := fileForWireshark(t)
	got := run(t, nil, "tshark", "-r", path, "-T", "fields", "-E", "separator=|",
		"-e", "frame.interface_name", "-e", "frame.packet_flags_direction", "-e", "frame.len", "-e", "frame.cap_len", "-e", "vlan.id", "-e", "frame.comment")
	require.Equal(t, strings.Join([]string{
		"prod/web|0x00000001|42|42||",
		"prod/web|0x00000001|60046|128|10|dropped: spoofed source",
		"prod/db|0x00000002|42|42||dropped: denied by ACL, inbound",
		"prod/größe|0x00000002|60|60||",
		"prod/web|0x00000001|5|5||dropped: runt",
		"prod/web|0x00000001|0|0||dropped: runt",
		"",
	}, "\n"), got)
}

func TestCapinfosReadsWhatWasCaptured(t *testing.T) {
	got := run(t, nil, "capinfos", fileForWireshark(t))
	for _, want := range []string{
		"pcapng", "Ethernet", "nanoseconds (9)", "Number of packets:   6",
		"Strict time order:   True", "Number of interfaces in file: 3",
		"Name = prod/web", `Description = vNIC "web" of switch "prod"`, "Speed = 10000000000",
		"Number of stat entries = 1", "Number of packets = 4", "Capture application: hvswitch",
	} {
		require.Contains(t, got, want)
	}
}

// A reader that sees the stream grow, as Wireshark does.
func TestTsharkReadsAStream(t *testing.T) {
	h := newHost(t)
	address, _ := h.serve(nil)
	s, err := Open(h.dial(address), nil, 0)
	require.NoError(t, err)
	<-h.changed
	h.pass(1)
	require.NoError(t, s.Stop())
	got := run(t, s, "tshark", "-r", "-", "-T", "fields", "-e", "frame.interface_name")
	require.Equal(t, "prod/web\nprod/db\n", got)
}

func TestWiresharkReadsACaptureOfNothing(t *testing.T) {
	for _, names := range [][]string{{}, {"web"}} {
		s := newScene(t, nil, names...)
		s.close()
		path := filepath.Join(t.TempDir(), "empty.pcapng")
		require.NoError(t, os.WriteFile(path, s.file.Bytes(), 0o600))
		require.Empty(t, run(t, nil, "tshark", "-r", path))
		run(t, nil, "capinfos", path)
	}
}
