// Command vmm answers how QEMU guests are connected to a switch in one's own process.
//
// It boots two virtual machines on a switch that runs here, plugged in by a socket of the kind that -netdev chooses,
// and lets them talk: ping, iperf3 and round trips by TCP between the two, and a TCP download from the host, which is a
// TCP/IP stack in this process behind a management vNIC. It prints what came through.
//
//	go run ./examples/vmm                   # vhost-user: the switch works in the memory of the guests
//	go run ./examples/vmm -netdev stream    # QEMU's own format over a stream socket; or dgram
//	sudo go run ./examples/vmm -netdev tap  # QEMU opens TAPs, which the switch picks up by packet sockets
//
// The guests run Debian's kernel and a busybox, which it downloads on first use, with the iperf3 of the machine and the
// program in rtt. It needs Debian or Ubuntu on amd64, and no root but for TAPs. Whatever it starts ends with it, also
// on an interrupt. It exits with 1 when something did not come through, and with 2 when the machine lacks what it needs.
//
// What a VMM does is in netdev.go: one call opens the port, and QEMU gets the arguments that lead to it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.netdev, "netdev", "vhost-user", "how the guests are plugged in: "+strings.Join(slices.Sorted(maps.Keys(netdevs)), ", "))
	flag.StringVar(&o.accel, "accel", "tcg", "what runs the guests: tcg, which emulates a processor, or kvm")
	flag.DurationVar(&o.time, "time", 3*time.Second, "length of each TCP transfer")
	flag.StringVar(&o.cache, "dir", "", "where the kernel and the programs of the guests are kept (default in the user's cache directory)")
	flag.Parse()
	if err := o.check(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "vmm:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		fmt.Fprintln(os.Stderr, "vmm:", err)
		os.Exit(1)
	}
}

type options struct {
	netdev, accel, cache string
	time                 time.Duration
}

// check says what is wrong with the options, and what the machine lacks for them.
func (o *options) check(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("%q is no flag (-help lists them)", args[0])
	case netdevs[o.netdev] == nil:
		return fmt.Errorf("-netdev %q is none of %s", o.netdev, strings.Join(slices.Sorted(maps.Keys(netdevs)), ", "))
	case o.accel != "tcg" && o.accel != "kvm":
		return fmt.Errorf("-accel %q is none of tcg, kvm", o.accel)
	case o.time < time.Second:
		return fmt.Errorf("-time %v is shorter than a second", o.time)
	}
	return missing(o.netdev, o.accel)
}

// run boots two guests, measures what passes between them and the host, and reports to w.
func run(ctx context.Context, o options, w io.Writer) (err error) {
	if o.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		o.cache = filepath.Join(dir, "hvswitch-vmm")
	}
	img, err := newImage(ctx, o.cache, w)
	if err != nil {
		return err
	}
	l, err := newLab("vmm", o.netdev, o.accel, img)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	fmt.Fprintf(w, "Booting two guests on %s, plugged in by %s\n", o.accel, o.netdev)
	if err := l.boot(ctx, "vm1", "vm2"); err != nil {
		return err
	}
	m, err := l.measure(ctx, o.time)
	if err != nil {
		return err
	}
	m.print(w)
	return nil
}
