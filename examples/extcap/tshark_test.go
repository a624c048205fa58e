//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// wireshark is tshark of a user who has installed extcap, and a VMM that serves captures as vm1.
type wireshark struct {
	t   *testing.T
	env []string
}

func newWireshark(t *testing.T) *wireshark {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed (apt-get install tshark)")
	}
	dir, sockets := socketDir(t)
	serve(t, filepath.Join(dir, "vm1.sock"), "web {1}")
	self, err := os.Executable()
	require.NoError(t, err)
	for _, where := range []string{".local/lib/wireshark/extcap", ".config/wireshark/extcap"} { // 4.2 and later, before
		where = filepath.Join(dir, where)
		require.NoError(t, os.MkdirAll(where, 0o700))
		require.NoError(t, os.Symlink(self, filepath.Join(where, "hvswitch")))
	}
	return &wireshark{t, append(asExtcap(), "HVSWITCH_SOCKETS="+sockets,
		"HOME="+dir, "XDG_CONFIG_HOME=", "TMPDIR="+dir, "LC_ALL=C.UTF-8")}
}

// tshark returns what it prints on its outputs.
func (w *wireshark) tshark(args ...string) (out, messages string, err error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "tshark", args...)
	var stdout, stderr bytes.Buffer
	c.Env, c.Stdout, c.Stderr, c.WaitDelay = w.env, &stdout, &stderr, time.Second
	err = c.Run()
	return stdout.String(), stderr.String(), err
}

// capture returns the lines for n frames: interface, direction, captured length and comment.
func (w *wireshark) capture(n string, args ...string) []string {
	w.t.Helper()
	args = append(args, "-c", n, "-l", "-T", "fields", "-e", "frame.interface_name", "-e", "frame.packet_flags_direction",
		"-e", "frame.cap_len", "-e", "frame.comment")
	out, messages, err := w.tshark(args...)
	require.NoError(w.t, err, messages)
	require.NotContains(w.t, messages, "Error by extcap")
	return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
}

func TestTsharkListsEveryPort(t *testing.T) {
	t.Parallel()
	list, messages, err := newWireshark(t).tshark("-D")
	require.NoError(t, err, messages)
	for _, want := range []string{
		"hvswitch:vm1 (vm1: all ports)",
		"hvswitch:vm1/lab/alice (vm1: alice, vNIC of switch lab)",
		"hvswitch:vm1/lab/bob (vm1: bob, vNIC of switch lab)",
		"hvswitch:vm1/lab/mallory (vm1: mallory, vNIC of switch lab)",
		"hvswitch:vm1/wan/uplink (vm1: uplink, uplink of switch wan)",
		"hvswitch:vm1/wan/web%20%7B1%7D (vm1: web _1_, vNIC of switch wan)",
	} {
		require.Equal(t, 1, strings.Count(list, ". "+want+"\n"), "%s in %s", want, list)
	}
}

func TestTsharkCapturesAtAVNIC(t *testing.T) {
	t.Parallel()
	lines := newWireshark(t).capture("4", "-i", "hvswitch:vm1/lab/bob", "-f", "proto=icmp")
	require.Len(t, lines, 4)
	in, out := 0, 0
	for _, l := range lines {
		switch l {
		case "lab/bob\t0x00000001\t98\t":
			in++
		case "lab/bob\t0x00000002\t98\t":
			out++
		}
	}
	require.Equal(t, 4, in+out, lines)
	require.Positive(t, in)
}

func TestTsharkShowsWhyFramesAreDropped(t *testing.T) {
	t.Parallel()
	lines := newWireshark(t).capture("2", "-i", "hvswitch:vm1/lab/mallory")
	for _, l := range lines {
		require.Equal(t, "lab/mallory\t0x00000001\t42\tdropped: spoofed source", l)
	}
}

func TestSettingsOfWiresharkAreObeyed(t *testing.T) {
	t.Parallel()
	lines := newWireshark(t).capture("2", "-i", "hvswitch:vm1", "-o", "extcap.hvswitch_vm1.dropped:true", "-o", "extcap.hvswitch_vm1.snaplen:20")
	for _, l := range lines {
		require.Equal(t, "lab/mallory\t0x00000001\t20\tdropped: spoofed source", l)
	}
}

func TestTsharkShowsErrors(t *testing.T) {
	t.Parallel()
	_, messages, err := newWireshark(t).tshark("-i", "hvswitch:vm1", "-c", "1", "-f", "tcp port 80")
	require.Error(t, err)
	require.Contains(t, messages, `hvswitch: capture filter, of the kind vlan=10 proto=tcp: term "tcp" is not of the form key=value`)
}
