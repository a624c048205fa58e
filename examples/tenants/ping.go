package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// pingHosts lets each host ping each other one, as an operator does who has joined them. So they also know
// each other's MAC addresses: the first frame between two hosts that do not is lost, and repeated by TCP after 1 s.
func (l *lab) pingHosts(ctx context.Context, w io.Writer, r requirement) error {
	ctx, cancel := context.WithTimeout(ctx, r.within)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	var longest time.Duration
	for _, from := range l.hosts {
		all.Go(func() {
			for _, to := range l.hosts {
				if to == from {
					continue
				}
				took, err := from.sw.PingPA(ctx, to.pa.Addr())
				mu.Lock()
				longest = max(longest, took)
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", from.name, err))
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	n := len(l.hosts)
	fmt.Fprintf(w, "\nPings of provider addresses, from every host to every other: %d, of which %d failed; the longest took %v\n",
		n*(n-1), len(errs), longest.Round(time.Microsecond))
	return errors.Join(errs...)
}

// pingVMs pings in the place of a VM, as an operator does who has no access to it.
func (l *lab) pingVMs(ctx context.Context, w io.Writer, r requirement) error {
	ctx, cancel := context.WithTimeout(ctx, r.within)
	defer cancel()
	from, to := l.pair()
	fmt.Fprintf(w, "\nPings of customer addresses, by %s in the place of %s, to %s on %s\n\n",
		l.hosts[from.host].name, from.name, to.name, l.hosts[to.host].name)
	for _, ca := range to.cas {
		took, err := l.machine(from).vnic.PingCA(ctx, ca.Addr())
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "  %s: %v\n", ca.Addr(), took.Round(time.Microsecond))
	}
	return nil
}
