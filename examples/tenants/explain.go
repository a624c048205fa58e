package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// pair returns two VMs of one tenant, in different subnets and on different hosts.
func (l *lab) pair() (from, to *vm) {
	from = l.plan.vms[0]
	return from, l.first(func(v *vm) bool { return v.in.of == from.in.of && v.in != from.in && v.host != from.host })
}

// explain asks the switches what would become of two frames: one to a VM of the tenant on another host, one to an
// address that only another tenant has.
func (l *lab) explain(_ context.Context, w io.Writer, _ requirement) error {
	from, to := l.pair()
	fmt.Fprintf(w, "\nWhat would become of a frame of %s to %s at %s\n", from.name, to.name, to.cas[0].Addr())
	first, hop, err := l.explainTo(from, to.cas[0].Addr())
	if err != nil {
		return err
	}
	printExplanation(w, l.hosts[from.host], first)
	arrived := false
	for _, d := range first.Deliveries {
		for _, wire := range d.Encapsulated {
			there := l.hostAt(hop.Record.PA)
			if there == nil {
				return fmt.Errorf("no host has the provider address %s", hop.Record.PA)
			}
			second, err := there.sw.Explain(uplinkName, frameOf(wire))
			if err != nil {
				return err
			}
			printExplanation(w, there, second)
			for _, d := range second.Deliveries {
				arrived = arrived || d.Drop == 0 && d.Port == to.name
			}
		}
	}
	if !arrived {
		return fmt.Errorf("a frame of %s to %s would not arrive", from.name, to.name)
	}

	stranger := l.first(func(v *vm) bool {
		return v.in.of != from.in.of && nil == l.first(func(own *vm) bool { return own.in.of == from.in.of && own.has(v.cas[0].Addr()) })
	})
	if stranger == nil {
		return fmt.Errorf("there is no address that %s does not have", from.in.of.name)
	}
	fmt.Fprintf(w, "\nWhat would become of a frame of %s to %s, which only %s has\n", from.name, stranger.cas[0].Addr(), stranger.name)
	said, _, err := l.explainTo(from, stranger.cas[0].Addr())
	if err != nil {
		return err
	}
	printExplanation(w, l.hosts[from.host], said)
	for _, d := range said.Deliveries {
		if d.Port != from.name { // what its router tells it
			return fmt.Errorf("a frame of %s to %s would be sent to %s", from.name, stranger.cas[0].Addr(), d.Port)
		}
	}
	return nil
}

// explainTo explains an ICMP echo request of a VM to an address in another subnet, and says where the router of
// the VM sends it.
func (l *lab) explainTo(from *vm, to netip.Addr) (*vswitch.Explanation, overlay.NextHop, error) {
	h := l.hosts[from.host]
	hop, _ := h.engine.NextHop(from.in.vsid, from.cas[0].Addr(), to) // has the router also when it leads nowhere
	request := overlay.NewPing(from.cas[0].Addr(), to).Request(hop.Router, from.mac)
	said, err := h.sw.Explain(from.name, request)
	return said, hop, err
}

func (l *lab) hostAt(pa netip.Addr) *host {
	for _, h := range l.hosts {
		if h.pa.Addr() == pa {
			return h
		}
	}
	return nil
}

// frameOf returns what was on the wire as a frame.
func frameOf(wire []byte) *ports.Frame {
	f := new(ports.Frame)
	n := min(len(wire), ports.HeadLen)
	f.SetHead(append(make([]byte, ports.Headroom), wire[:n]...), ports.Headroom, n)
	f.AppendBody(wire[n:])
	return f
}

// printExplanation prints each step of the overlay on a line of its own.
func printExplanation(w io.Writer, h *host, e *vswitch.Explanation) {
	fmt.Fprintf(w, "\n  %s\n", h.name)
	for line := range strings.Lines(strings.ReplaceAll(e.String(), "; ", "\n"+strings.Repeat(" ", 17))) {
		fmt.Fprint(w, "    ", line)
	}
}
