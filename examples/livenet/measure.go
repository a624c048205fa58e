package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hvswitch/hvswitch/examples/internal/table"
)

// measurement is what reached whom, and what the uplink saw of traffic between VMs.
type measurement struct {
	paths                  []path
	before, after          uplinkCounters // around the runs between VMs
	betweenVMs, broadcasts uint64         // frames meanwhile
}

// path is a direction between two machines.
type path struct {
	from, to *machine
	replies  int
	rtt      time.Duration
	rate     rate
	err      error
}

// uplinkCounters are frames in and out of the switch by its uplink, as the kernel counts them at the
// interface and as the switch counts them at the port.
type uplinkCounters struct{ kernelRx, kernelTx, switchRx, switchTx uint64 }

func (l *lab) measure(ctx context.Context, seconds int) (*measurement, error) {
	m := &measurement{}
	for _, p := range [][2]*machine{
		{l.vm1, l.vm2}, {l.vm2, l.vm1},
		{l.vm1, l.mgmt}, {l.mgmt, l.vm1},
		{l.vm1, l.outside}, {l.outside, l.vm1},
	} {
		m.paths = append(m.paths, path{from: p[0], to: p[1]})
	}
	// All pings come first, so that later nobody has to ask for an address by a broadcast.
	for i := range m.paths {
		p := &m.paths[i]
		p.replies, p.rtt, p.err = ping(ctx, p.from, p.to)
		if p.err == nil && p.replies < pings {
			p.err = fmt.Errorf("%d of %d pings unanswered", pings-p.replies, pings)
		}
	}
	vmPaths, others := m.paths[:2], m.paths[2:]
	if err := l.watchUplink(ctx, m, func() { iperfAll(ctx, vmPaths, seconds) }); err != nil {
		return nil, err
	}
	iperfAll(ctx, others, seconds)
	return m, ctx.Err()
}

func iperfAll(ctx context.Context, paths []path, seconds int) {
	for i := range paths {
		if p := &paths[i]; p.err == nil {
			p.rate, p.err = iperf(ctx, p.from, p.to, seconds)
		}
	}
}

// watchUplink takes the counters before and after traffic between the VMs.
func (l *lab) watchUplink(ctx context.Context, m *measurement, traffic func()) (err error) {
	sum := func() (vms, floods uint64) {
		for _, vm := range []*machine{l.vm1, l.vm2} {
			vms += l.host.VNIC(vm.name).Stats().RxFrames
		}
		return vms, l.sw.Stats().Flooded
	}
	vms, floods := sum()
	if m.before, err = l.uplinkCounters(ctx); err != nil {
		return err
	}
	traffic()
	if m.after, err = l.uplinkCounters(ctx); err != nil {
		return err
	}
	vmsNow, floodsNow := sum()
	m.betweenVMs, m.broadcasts = vmsNow-vms, floodsNow-floods
	return nil
}

func (l *lab) uplinkCounters(ctx context.Context) (uplinkCounters, error) {
	out, err := l.switchNS.ip(ctx, "-json", "-stats", "link", "show", "dev", uplink)
	if err != nil {
		return uplinkCounters{}, err
	}
	var links []struct {
		Stats64 struct {
			Rx, Tx struct{ Packets uint64 }
		}
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil || len(links) != 1 {
		return uplinkCounters{}, fmt.Errorf("ip -json -stats link show dev %s: %d links, %v", uplink, len(links), err)
	}
	k, s := links[0].Stats64, l.uplink.Stats()
	return uplinkCounters{k.Rx.Packets, k.Tx.Packets, s.RxFrames, s.TxFrames}, nil
}

// err tells what did not arrive, and what took the wrong way.
func (m *measurement) err() error {
	var errs []error
	for _, p := range m.paths {
		if p.err != nil {
			errs = append(errs, fmt.Errorf("%s did not reach %s: %w", p.from.name, p.to.name, p.err))
		}
	}
	if n := m.leaked(); n > m.broadcasts {
		errs = append(errs, fmt.Errorf("%d frames left by the uplink while only VMs talked to each other, %d of them broadcasts", n, m.broadcasts))
	}
	return errors.Join(errs...)
}

// leaked returns how many frames left by the uplink while the VMs talked to each other.
func (m *measurement) leaked() uint64 {
	return max(m.after.kernelTx-m.before.kernelTx, m.after.switchTx-m.before.switchTx)
}

func (m *measurement) print(w io.Writer) {
	fmt.Fprintln(w, "\nWho reached whom")
	t := table.New("from", "to", "pings answered", "average", "TCP", "")
	for _, p := range m.paths {
		failure := ""
		if p.err != nil {
			failure = p.err.Error()
		}
		t.Row(p.from.name, p.to.name, fmt.Sprintf("%d of %d", p.replies, pings), p.rtt, p.rate, failure)
	}
	t.Print(w)

	fmt.Fprintln(w, "\nFrames at the uplink around the TCP runs between VMs")
	t = table.New("counted by", "way", "before", "after")
	t.Row("kernel", "in", m.before.kernelRx, m.after.kernelRx)
	t.Row("kernel", "out", m.before.kernelTx, m.after.kernelTx)
	t.Row("switch", "in", m.before.switchRx, m.after.switchRx)
	t.Row("switch", "out", m.before.switchTx, m.after.switchTx)
	t.Print(w)
	fmt.Fprintf(w, "The VMs sent %d frames meanwhile; %d of them left by the uplink.\n", m.betweenVMs, m.leaked())
}
