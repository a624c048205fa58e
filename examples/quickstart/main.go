// Command quickstart answers the first question of a VMM author: how do I connect my VMs?
//
// It makes a host, a private switch and three guests, each with a TCP/IP stack of its own on an
// in-memory card, lets all of them ping and fetch a page from one another, and prints what the
// switch knows and did. It needs no root and touches no network of the machine. A VMM does the same
// with its own ports.Backend in the place of the pipe.
//
//	go run ./examples/quickstart
//
// It exits with 1 if anything did not arrive.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o, err := run(ctx)
	if o != nil {
		o.print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// run builds the lab, lets its guests visit one another and tells what happened.
func run(ctx context.Context) (o *outcome, err error) {
	l, err := newLab()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	o = &outcome{visits: l.visitAll(ctx)}
	forgery := l.forge(ctx)
	o.stats, o.addresses = l.sw.Stats(), l.sw.Addresses()
	if err := o.err(); err != nil {
		return o, err
	}
	return o, forgery
}
