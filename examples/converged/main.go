// Command converged answers the question of a VMM author whose hosts have few NICs for everything: does the
// live migration leave room for the management, and what is left when a cable is pulled?
//
// It builds a converged network: a team of two NICs is the uplink of one switch, which management, live
// migration and cluster share with the VMs. The first three have vNICs of the host in VLANs of their own,
// with the weights 20, 50 and 30; the VMs have 100 together. Whoever sends wants all of the uplink. Classes
// come and go and a cable is pulled, and each second shows who got which share of what went over the wires.
//
//	go run ./examples/converged
//
// The NICs are in memory, with 50 Mbit/s each. It needs no root and touches no network of the machine. It
// exits with 1 if a share differs by more than 2 % of the uplink from what the weights say.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx, os.Stdout, classes(), story()); err != nil {
		fmt.Fprintln(os.Stderr, "converged:", err)
		os.Exit(1)
	}
}

// run builds the network, lets the story happen and tells what differs from what it says.
func run(ctx context.Context, w io.Writer, planned []class, chapters []chapter) (err error) {
	l, err := newLab(planned)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	var errs []error
	for _, c := range chapters {
		if err := l.tell(ctx, w, c); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}
