package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/examples/internal/table"
)

const (
	movePatience = time.Minute

	// atLeast is what is transferred before the move and after it, in bytes.
	atLeast = 2 << 20
)

// move moves the first VM to another host, as the live migration of a VMM does it, while it sends to a VM in
// another subnet and elsewhere.
func (l *lab) move(ctx context.Context, w io.Writer, r requirement) (err error) {
	v := l.plan.vms[0]
	peer := l.first(func(o *vm) bool { return o.in.of == v.in.of && o.in != v.in })
	from, to := l.hosts[v.host], l.hosts[len(l.hosts)-1]
	if to == l.hosts[peer.host] && len(l.hosts) > minHosts {
		to = l.hosts[len(l.hosts)-2]
	}
	fromScope, toScope := from.scope, to.scope
	fmt.Fprintf(w, "\n%s moves from %s to %s, while it sends to %s on %s by TCP\n\n",
		v.name, from.name, to.name, peer.name, l.hosts[peer.host].name)

	patience, cancel := context.WithTimeout(ctx, movePatience)
	defer cancel()
	m := l.machine(v)
	t, err := startTransfer(patience, m, l.machine(peer))
	if err != nil {
		return err
	}
	wrong := func(err error) error { return fmt.Errorf("%s sends to %s: %w", v.name, peer.name, err) }
	if err := t.await(patience, atLeast); err != nil {
		return wrong(errors.Join(err, t.finish()))
	}
	usual := t.gap()
	unplugged, err := l.migrate(patience, m, to)
	if err == nil {
		err = t.await(patience, atLeast)
	}
	gap := t.gap()
	if err := errors.Join(err, t.finish()); err != nil {
		return wrong(err)
	}
	from.follow(l.plan.scope(l.hostIndex(from))) // no longer the network of the VM, if that was its last one
	if err := l.awaitPolicy(patience, l.hosts...); err != nil {
		return err
	}

	carried := m.vnic.Stats()
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }
	out := table.New("what", "value")
	out.Row("without a vNIC", ms(unplugged))
	out.Row("longest gap at the receiver during the move", ms(gap))
	out.Row("longest gap before", ms(usual))
	out.Row("sent, received", fmt.Sprintf("%.1f MB, %.1f MB, the same by SHA-256 and by count", float64(t.sent)/1e6, float64(t.received)/1e6))
	out.Row("frames of the VM since at "+to.name, carried.RxFrames)
	for _, h := range []struct {
		*host
		before []*tenant
	}{{from, fromScope}, {to, toScope}} {
		if !slices.Equal(h.scope, h.before) {
			out.Row("networks that "+h.name+" follows", fmt.Sprintf("%s; before: %s", names(h.scope), names(h.before)))
		}
	}
	out.Print(w)

	again := l.ask(ctx, r, func(asker *vm, ca netip.Addr) bool { return asker == v || v.has(ca) })
	if err := again.err(v); err != nil {
		return fmt.Errorf("after the move: %w", err)
	}
	fmt.Fprintf(w, "\n  All of its network reach %s, it reaches all of them, and nobody else, as before: %d connections tried\n", v.name, len(again.asked))
	return nil
}

// migrate takes a VM from its host and gives it to another. It returns how long it had no vNIC.
func (l *lab) migrate(ctx context.Context, m *machine, to *host) (unplugged time.Duration, err error) {
	// Before, the other host has to know the network of the VM, which may be new there.
	if !slices.Contains(to.scope, m.vm.in.of) {
		to.follow(slices.DeleteFunc(slices.Clone(l.plan.tenants), func(t *tenant) bool {
			return t != m.vm.in.of && !slices.Contains(to.scope, t)
		}))
	}
	if err := l.awaitPolicy(ctx, to); err != nil {
		return 0, err
	}
	// The VM is stopped, and goes on elsewhere with the same card as soon as that host has its records: what it
	// sends would be dropped there before. Hosts that have not got them yet are told by the old host.
	start := time.Now()
	if err := m.vnic.Close(); err != nil {
		return 0, err
	}
	m.vm.host = l.hostIndex(to)
	if _, err := l.store.Commit(ctx, l.records(m.vm)); err != nil {
		return 0, err
	}
	if err := l.awaitPolicy(ctx, to); err != nil {
		return 0, err
	}
	err = l.plug(m)
	return time.Since(start), err
}

func (l *lab) hostIndex(h *host) int { return slices.Index(l.hosts, h) }
