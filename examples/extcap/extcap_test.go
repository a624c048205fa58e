package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/capture"
)

// The test binary is extcap itself when this is set.
const beExtcap = "HVSWITCH_TEST_EXTCAP"

func TestMain(m *testing.M) {
	if os.Getenv(beExtcap) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// socketDir returns a directory whose name leaves room for that of a socket, and the pattern of the
// sockets in it.
func socketDir(t *testing.T) (dir, sockets string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "extcap")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir, filepath.Join(dir, "*.sock")
}

func listen(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l.(*net.UnixListener)
}

// serve runs a VMM that serves captures on a socket, until stop is called or the test ends: the guests of
// the demo, a vNIC of another name, which is silent, and an uplink.
func serve(t *testing.T, path, vnic string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	host, err := vswitch.NewHost(nil)
	require.NoError(t, err)
	require.NoError(t, addGuests(ctx, host))

	nic, _, err := ports.Pipe(nil)
	require.NoError(t, err)
	_, err = host.AddNIC("uplink", nic)
	require.NoError(t, err)
	_, err = host.NewSwitch("wan", &vswitch.SwitchConfig{Type: vswitch.External, Uplink: "uplink"})
	require.NoError(t, err)
	card, _, err := ports.Pipe(nil)
	require.NoError(t, err)
	_, err = host.NewVNIC(vnic, card, &vswitch.VNICConfig{Switch: "wan"})
	require.NoError(t, err)

	l, served := listen(t, path), make(chan error)
	go func() {
		served <- capture.Serve(ctx, l, host, nil)
		close(served)
	}()
	stop = func() {
		cancel()
		require.NoError(t, <-served)
		require.NoError(t, host.Close())
	}
	t.Cleanup(stop)
	return stop
}

func TestAnswersThatAreAlwaysTheSame(t *testing.T) {
	const version = "extcap {version=1.0}{help=https://pkg.go.dev/github.com/hvswitch/hvswitch/vswitch/capture}\n"
	for call, want := range map[string]string{
		"--extcap-version":     version,
		"--extcap-version=4.0": version,
		"--extcap-interfaces --extcap-version=4.0 --sockets /nowhere/*":   version,
		"--extcap-dlts --extcap-interface hvswitch:vm1/lab/alice":         "dlt {number=1}{name=EN10MB}{display=Ethernet}\n",
		"--extcap-capture-filter vlan=7 --extcap-interface hvswitch:vm1":  "",
		"--extcap-capture-filter port=a --extcap-interface hvswitch:vm1":  "",
		"--extcap-capture-filter tcp --extcap-interface hvswitch:vm1/s/p": "capture filter, of the kind vlan=10 proto=tcp: term \"tcp\" is not of the form key=value\n",
		"--extcap-capture-filter port=a --extcap-interface hvswitch:v/s/p": "capture filter, of the kind vlan=10 proto=tcp: " +
			"term \"port\": it is there twice; list the values with commas\n",
	} {
		answer, err := run(strings.Fields(call))
		require.NoError(t, err, call)
		require.Equal(t, want, answer, call)
	}
	config, err := run([]string{"--extcap-config", "--extcap-interface", "hvswitch:vm1/lab/alice"})
	require.NoError(t, err)
	require.Regexp(t, `^arg \{number=0\}\{call=--snaplen\}.*\{range=1,65553\}\{default=65553\}`, config)
	require.NotContains(t, config, "%!")
}

func TestListsEveryPortOfEveryVMM(t *testing.T) {
	t.Parallel()
	dir, sockets := socketDir(t)
	serve(t, filepath.Join(dir, "vm1.sock"), "web")
	serve(t, filepath.Join(dir, "vm 2.sock"), "{a}/b\nc d")
	crashed := listen(t, filepath.Join(dir, "crashed.sock"))
	crashed.SetUnlinkOnClose(false)
	require.NoError(t, crashed.Close())
	listen(t, filepath.Join(dir, "hangs.sock"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file.sock"), nil, 0o600))

	answer, err := run([]string{"--extcap-interfaces", "--sockets", sockets})
	require.NoError(t, err)
	require.Equal(t, version+`interface {value=hvswitch:vm%202}{display=vm 2: all ports}
interface {value=hvswitch:vm%202/lab/alice}{display=vm 2: alice, vNIC of switch lab}
interface {value=hvswitch:vm%202/lab/bob}{display=vm 2: bob, vNIC of switch lab}
interface {value=hvswitch:vm%202/lab/mallory}{display=vm 2: mallory, vNIC of switch lab}
interface {value=hvswitch:vm%202/wan/uplink}{display=vm 2: uplink, uplink of switch wan}
interface {value=hvswitch:vm%202/wan/%7Ba%7D%2Fb%0Ac%20d}{display=vm 2: _a_/b_c d, vNIC of switch wan}
interface {value=hvswitch:vm1}{display=vm1: all ports}
interface {value=hvswitch:vm1/lab/alice}{display=vm1: alice, vNIC of switch lab}
interface {value=hvswitch:vm1/lab/bob}{display=vm1: bob, vNIC of switch lab}
interface {value=hvswitch:vm1/lab/mallory}{display=vm1: mallory, vNIC of switch lab}
interface {value=hvswitch:vm1/wan/uplink}{display=vm1: uplink, uplink of switch wan}
interface {value=hvswitch:vm1/wan/web}{display=vm1: web, vNIC of switch wan}
`, answer)
}

func TestTargetOfACapture(t *testing.T) {
	for _, tt := range []struct {
		o              options
		socket, filter string
	}{
		{options{port: "hvswitch:vm1"}, "/run/vm1/c", ""},
		{options{port: "hvswitch:vm%202/lab/a%7D%2F"}, "/run/vm 2/c", `switch=lab port="a}/"`},
		{options{port: "hvswitch:v/s/p", direction: "egress", dropped: true, filter: " vlan=7"}, "/run/v/c", "switch=s port=p direction=egress vlan=7 drop=any"},
	} {
		tt.o.sockets = "/run/*/c"
		if tt.o.direction == "" {
			tt.o.direction = "both"
		}
		v, f, err := tt.o.target()
		require.NoError(t, err)
		require.Equal(t, tt.socket, v.socket)
		require.Equal(t, tt.filter, f.String())
	}
}

func TestWrongCallsAreErrors(t *testing.T) {
	dir, sockets := socketDir(t)
	serve(t, filepath.Join(dir, "vm1.sock"), "web")
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, os.WriteFile(fifo, nil, 0o600))
	const record = "--capture --extcap-interface "
	for call, want := range map[string]string{
		"":                                     "for Wireshark to start",
		"--sockets /run/vm.sock --extcap-dlts": "is to have one *",
		"--sockets /run/*/*.sock":              "is to have one *",
		record + "eth0":                        `interface "eth0" is none of this program`,
		record + "hvswitch:a/b":                "is none of this program",
		record + "hvswitch:a/b/%x":             "invalid URL escape",
		record + "hvswitch:gone":               `VMM "gone": dial unix`,
		record + "hvswitch:vm1 --direction up": `"up" is neither ingress nor egress`,
		record + "hvswitch:vm1 --snaplen -1":   `VMM "vm1": capture: snap length "-1" is no positive number`,
		record + "hvswitch:vm1 --fifo /none/f": "open /none/f",
	} {
		_, err := run(append([]string{"--sockets", sockets, "--fifo", fifo}, strings.Fields(call)...))
		require.ErrorContains(t, err, want, call)
	}
}
