// Command departments answers the question of a VMM author whose VMs are not all to talk to one
// another: do VLANs keep them apart, on one host, across hosts and on the physical LAN?
//
// It builds the usual case: two hosts whose external switches are joined by trunks to a physical
// switch; departments in VLANs of their own, with VMs on both hosts and a server on the physical LAN;
// a department on a private switch; and the hosts' management on NICs of its own. All machines have
// TCP/IP stacks of their own and are in one IP subnet, so nothing but the switches separates them.
// Then every machine pings every other and connects to it by TCP, and what happened is compared with
// what is required. It needs no root and touches no network of the machine.
//
//	go run ./examples/departments
//
// It exits with 1 on any difference.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fmt.Print(picture, "\n")
	if err := run(ctx, os.Stdout, plan(), policy()); err != nil {
		fmt.Fprintln(os.Stderr, "departments:", err)
		os.Exit(1)
	}
}

// run builds what is planned, prints who reaches whom, and returns an error unless it is as required.
func run(ctx context.Context, w io.Writer, planned []place, required requirement) (err error) {
	l, err := newLab(planned)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	start := time.Now()
	o := &outcome{required: required, contacts: l.meetAll(ctx, required), trunks: l.trunks}
	o.took = time.Since(start)
	o.print(w)
	return o.err()
}
