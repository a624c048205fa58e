// Command livenet answers the second question of a VMM author: does the switch carry what real
// kernels send, and how fast?
//
// On Linux, as root, it makes five network namespaces: two that play VMs, one that plays the host,
// one that plays the world outside, and one that holds the switch and its uplink, so the network of
// the machine itself is not touched. The VMs and the host are attached by TAPs, the outside by a veth
// pair on a packet socket. The machine's own ping and iperf3 run between them. A table tells what
// reached whom at what rate; counters of the kernel and of the switch show that frames between VMs
// never touch the uplink.
//
//	sudo go run ./examples/livenet
//
// Everything it makes is named livenet-… (ip netns list) and removed at the end, also after a failure
// or an interrupt. It exits with 1 when something did not arrive, and with 2 when the machine lacks
// what it needs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	seconds := flag.Int("t", 2, "length of each iperf3 run, in seconds")
	flag.Parse()
	if err := missing(); err != nil {
		fmt.Fprintln(os.Stderr, "livenet:", err)
		os.Exit(2)
	}
	// A closed pipe is among them because its signal would end the program before it has
	// removed what it made. Signals after the first are ignored.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	if _, err := run(ctx, os.Stdout, *seconds); err != nil {
		fmt.Fprintln(os.Stderr, "livenet:", err)
		os.Exit(1)
	}
}

// run makes the network, measures it, reports to w and removes the network.
func run(ctx context.Context, w io.Writer, seconds int) (m *measurement, err error) {
	l := newLab()
	fmt.Fprintf(w, "Making network namespaces %s-*\n", l.prefix)
	defer func() {
		err = errors.Join(err, l.remove())
		fmt.Fprintf(w, "\nRemoved %s-*\n", l.prefix)
	}()
	if err := l.build(ctx); err != nil {
		return nil, interrupted(ctx, err)
	}
	l.print(w)
	m, err = l.measure(ctx, seconds)
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	m.print(w)
	return m, m.err()
}

// interrupted tells a failure from what follows from the end of ctx.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	return err
}
