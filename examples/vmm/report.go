package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hvswitch/hvswitch/examples/internal/table"
)

func (m *measurement) print(w io.Writer) {
	fmt.Fprintln(w, "\nGuests")
	t := table.New("guest", "booted in", "link", "TCP segmentation left to the switch")
	for _, g := range m.guests {
		t.Row(g.name, g.booted.Round(100*time.Millisecond), "up", map[bool]string{true: "yes", false: "no"}[g.segmentation])
	}
	t.Print(w)

	fmt.Fprintln(w, "\nWhat passed, and the seconds of a processor that a gigabit by TCP took: of the switch and the host, and of the guests")
	t = table.New("from", "to", "ping min", "average", "max", "TCP", "switch s/Gbit", "QEMU s/Gbit")
	for _, p := range m.flows {
		low, mean, high := spread(p.rtt)
		t.Row(p.from, p.to, low, mean, high, p.rate, fmt.Sprintf("%.3f", p.perGigabit(p.ours)), fmt.Sprintf("%.3f", p.perGigabit(p.qemu)))
	}
	t.Print(w)

	fmt.Fprintln(w, "\nHow long 64 bytes by TCP took there and back")
	t = table.New("from", "to", "round trips", "p50", "p90", "p99")
	t.Row(m.guests[0].name, m.guests[1].name, m.trips.n, m.trips.p50, m.trips.p90, m.trips.p99)
	t.Print(w)

	fmt.Fprintln(w, "\nWhat each port carried (rx: from the machine, tx: to the machine)")
	t = table.New("port", "rx frames", "rx bytes", "tx frames", "tx bytes", "dropped")
	for _, p := range m.ports {
		var drops []string
		for _, r := range slices.Sorted(maps.Keys(p.Drops)) {
			drops = append(drops, fmt.Sprintf("%d %s", p.Drops[r], r))
		}
		t.Row(p.Port, p.RxFrames, p.RxBytes, p.TxFrames, p.TxBytes, strings.Join(drops, ", "))
	}
	t.Print(w)
}

// spread returns the least, the mean and the greatest.
func spread(all []time.Duration) (low, mean, high time.Duration) {
	for _, d := range all {
		mean += d / time.Duration(len(all))
	}
	const unit = 10 * time.Microsecond
	return slices.Min(all).Round(unit), mean.Round(unit), slices.Max(all).Round(unit)
}
