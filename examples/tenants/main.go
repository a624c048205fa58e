// Command tenants answers the question of a VMM author whose VMs belong to many: how do I give tenants networks of
// their own, over any hosts?
//
// It builds hosts whose external switches have an overlay, and joins their uplinks by a provider network. Two
// tenants, red and blue, have a virtual network each, of two subnets, with VMs on several hosts, and both use
// the same addresses. The policy comes from a store, to each host what concerns the VMs that it has. All VMs have
// TCP/IP stacks of their own, with IPv4 and IPv6; the router of each subnet is the overlay of the host they are on.
//
// Every VM asks at every address who is there, and who answered is compared with what is required. A VM moves to
// another host while a TCP transfer from it runs. Pings and an explanation show where frames go.
//
//	go run ./examples/tenants
//	go run ./examples/tenants -hosts 20 -encapsulation geneve -pcap wire.pcapng
//
// It needs no root and touches no network of the machine. It exits with 1 on any difference.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hvswitch/hvswitch/overlay"
)

func main() {
	var o options
	var encapsulation string
	flag.IntVar(&o.hosts, "hosts", minHosts, fmt.Sprintf("number of hosts, %d to %d", minHosts, maxHosts))
	flag.StringVar(&encapsulation, "encapsulation", "nvgre", "how frames travel between hosts: nvgre, vxlan or geneve")
	flag.StringVar(&o.pcap, "pcap", "", "file for what crosses the provider network, in pcapng")
	flag.Parse()
	if err := o.check(encapsulation, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "tenants:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := newPlan(o.hosts)
	if err := run(ctx, os.Stdout, o, p, p.tenantsApart()); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		fmt.Fprintln(os.Stderr, "tenants:", err)
		os.Exit(1)
	}
}

type options struct {
	hosts         int
	encapsulation overlay.Encapsulation
	pcap          string // a file name; empty for none
}

const minHosts, maxHosts = 2, 100

// check reads the encapsulation and says what is wrong with the options.
func (o *options) check(encapsulation string, rest []string) error {
	if o.hosts < minHosts || o.hosts > maxHosts {
		return fmt.Errorf("-hosts %d: is out of %d–%d", o.hosts, minHosts, maxHosts)
	}
	known := false
	for _, e := range []overlay.Encapsulation{overlay.NVGRE, overlay.VXLAN, overlay.Geneve} {
		if strings.EqualFold(e.String(), encapsulation) {
			o.encapsulation, known = e, true
		}
	}
	switch {
	case !known:
		return fmt.Errorf("-encapsulation %s: is none of nvgre, vxlan and geneve", encapsulation)
	case len(rest) > 0:
		return fmt.Errorf("argument %q: there are none but flags", rest[0])
	}
	return nil
}

// run builds what is planned, tells what happens there, and returns an error unless it is as required.
func run(ctx context.Context, w io.Writer, o options, p *plan, r requirement) (err error) {
	var wire *recording
	if o.pcap != "" {
		if wire, err = newRecording(o.pcap); err != nil {
			return fmt.Errorf("-pcap %s: %w", o.pcap, err)
		}
		defer func() { err = errors.Join(err, wire.finish(w)) }()
	}
	l, err := newLab(p, o.encapsulation, wire)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	printPlan(w, p, o.encapsulation)

	if err := l.awaitPolicy(ctx, l.hosts...); err != nil {
		return err
	}
	l.printRecords(w)

	var different error
	for _, chapter := range []func(context.Context, io.Writer, requirement) error{
		l.pingHosts, l.meet, l.pingVMs, l.explain, l.move,
	} {
		different = errors.Join(different, chapter(ctx, w, r))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if different == nil {
		fmt.Fprintln(w, "\nAll is as required.")
	}
	return different
}
