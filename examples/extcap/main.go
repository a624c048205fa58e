// Command extcap answers the question of whoever debugs a VM: can I watch its vNIC in Wireshark?
//
// It is an extcap program, with which Wireshark and tshark list every vNIC and uplink of each VMM
// that serves captures on a Unix socket, and capture there like on any interface of the machine.
// Frames that the switch dropped are among them; the packet comment says why. Capture filters are
// those of package capture, such as
//
//	vlan=10-20 proto=tcp l4port=443
//
// Wireshark looks for it in the personal extcap path, see Help, About Wireshark, Folders; before
// Wireshark 4.2 that is ~/.config/wireshark/extcap. To install it:
//
//	mkdir -p ~/.local/lib/wireshark/extcap
//	go build -o ~/.local/lib/wireshark/extcap/hvswitch ./examples/extcap
//
// A VMM that is called vm1 serves its captures so. Whoever may open the socket sees all traffic.
//
//	const path = "/run/hvswitch/vm1.sock"
//	os.Remove(path) // which is left there after a crash
//	l, err := net.Listen("unix", path)
//	err = os.Chmod(path, 0o600)
//	err = capture.Serve(ctx, l, host, nil)
//
// If the sockets are elsewhere, the environment variable HVSWITCH_SOCKETS says where, for example
// $HOME/vms/*/capture.sock; the * stands for the name of the VMM.
//
// To try it without a VMM, let it play one, with guests that talk to each other, and start
// Wireshark or tshark:
//
//	go run ./examples/extcap -demo /tmp/demo.sock &
//	export HVSWITCH_SOCKETS='/tmp/*.sock'
//	tshark -D
//	tshark -i hvswitch:demo/lab/alice
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/hvswitch/hvswitch/vswitch/capture"
)

func main() {
	answer, err := run(os.Args[1:])
	fmt.Print(answer)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hvswitch:", err) // Wireshark shows it
		os.Exit(1)
	}
}

// options are what the program is called with: what it is to do, and where and how it does it.
type options struct {
	version, interfaces, dlts, config, capture bool
	demo                                       string

	sockets, port, filter, fifo, direction string
	snapLen                                int
	dropped                                bool
}

// Answers of the protocol, https://www.wireshark.org/docs/man-pages/extcap.html
const (
	version  = "extcap {version=1.0}{help=https://pkg.go.dev/github.com/hvswitch/hvswitch/vswitch/capture}\n"
	dlts     = "dlt {number=1}{name=EN10MB}{display=Ethernet}\n" // LINKTYPE_ETHERNET
	settings = `arg {number=0}{call=--snaplen}{display=Snap length}{type=integer}{range=1,%[1]d}{default=%[1]d}{tooltip=Bytes recorded of each frame}
arg {number=1}{call=--direction}{display=Direction}{type=selector}{tooltip=As the switch sees it}
value {arg=1}{value=both}{display=Both}{default=true}
value {arg=1}{value=ingress}{display=What the port sends to the switch}
value {arg=1}{value=egress}{display=What the switch sends to the port}
arg {number=2}{call=--dropped}{display=Dropped frames only}{type=boolflag}{tooltip=The packet comment says why a frame was dropped}
`
)

func run(args []string) (answer string, err error) {
	var o options
	f := flag.NewFlagSet("extcap", flag.ExitOnError)
	f.BoolFunc("extcap-version", "print the version of this program; a value is that of Wireshark", func(string) error {
		o.version = true
		return nil
	})
	f.BoolVar(&o.interfaces, "extcap-interfaces", false, "list the ports of all VMMs")
	f.BoolVar(&o.dlts, "extcap-dlts", false, "list the link types of a port")
	f.BoolVar(&o.config, "extcap-config", false, "list the settings of a capture")
	f.BoolVar(&o.capture, "capture", false, "capture at -extcap-interface to -fifo")
	f.StringVar(&o.demo, "demo", "", "play a VMM with guests that serves captures on this `socket`")
	f.StringVar(&o.sockets, "sockets", cmp.Or(os.Getenv("HVSWITCH_SOCKETS"), "/run/hvswitch/*.sock"),
		"`path` of the sockets, where * stands for the name of the VMM; the default is HVSWITCH_SOCKETS, if that is set")
	f.StringVar(&o.port, "extcap-interface", "", "`value` of an interface in the list")
	f.StringVar(&o.filter, "extcap-capture-filter", "", "`filter`, such as vlan=10; without another task, print what is wrong with it")
	f.StringVar(&o.fifo, "fifo", "", "`path` of the fifo to write to")
	f.IntVar(&o.snapLen, "snaplen", capture.MaxSnapLen, "`bytes` to record of each frame")
	f.StringVar(&o.direction, "direction", "both", "ingress, egress or both")
	f.BoolVar(&o.dropped, "dropped", false, "capture only frames that are dropped")
	f.Parse(args)

	if strings.Count(o.sockets, "*") != 1 || strings.ContainsAny(o.sockets, "?[") {
		return "", fmt.Errorf("path %q of the sockets is to have one *, for the name of the VMM, and neither ? nor [", o.sockets)
	}
	switch {
	case o.interfaces:
		return o.list()
	case o.dlts:
		return dlts, nil
	case o.config:
		return fmt.Sprintf(settings, capture.MaxSnapLen), nil
	case o.capture:
		return "", o.record()
	case o.demo != "":
		return "", demo(o.demo)
	case o.version:
		return version, nil
	case o.port == "":
		return "", errors.New("this program is for Wireshark to start; -h shows how")
	}
	// The answer is what is wrong with the filter; the exit status is 0 all the same.
	if _, _, err := o.target(); err != nil {
		return err.Error() + "\n", nil
	}
	return "", nil
}
