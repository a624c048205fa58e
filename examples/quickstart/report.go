package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/examples/internal/table"
	"github.com/hvswitch/hvswitch/vswitch"
)

// outcome is what happened in the lab.
type outcome struct {
	visits    []visit
	stats     vswitch.SwitchStats
	addresses []vswitch.Address
}

// err tells what did not arrive.
func (o *outcome) err() error {
	var errs []error
	for _, v := range o.visits {
		if v.err != nil {
			errs = append(errs, fmt.Errorf("%s did not reach %s: %w", v.from, v.to, v.err))
		}
	}
	return errors.Join(errs...)
}

func (o *outcome) print(w io.Writer) {
	fmt.Fprintln(w, "Who reached whom")
	t := table.New("from", "to", "ping", "page over HTTP", "")
	for _, v := range o.visits {
		if v.err != nil {
			t.Row(v.from, v.to, v.rtt, v.took, v.err)
			continue
		}
		t.Row(v.from, v.to, v.rtt.Round(time.Microsecond), v.took.Round(time.Microsecond), fmt.Sprint(v.page, " bytes"))
	}
	t.Print(w)

	fmt.Fprintln(w, "\nWhere the switch sends frames to an address")
	t = table.New("address", "port", "known from")
	for _, a := range slices.SortedFunc(slices.Values(o.addresses), byPort) {
		from := "traffic (learned)"
		if a.Static {
			from = "the vNIC's settings"
		}
		t.Row(a.MAC, a.Port, from)
	}
	t.Print(w)

	fmt.Fprintln(w, "\nWhat each port carried (rx: from the guest, tx: to the guest)")
	t = table.New("port", "rx frames", "rx bytes", "tx frames", "tx bytes", "dropped")
	var received uint64
	for _, p := range o.stats.Ports {
		t.Row(p.Port, p.RxFrames, p.RxBytes, p.TxFrames, p.TxBytes, p.Dropped())
		received += p.RxFrames
	}
	t.Print(w)

	fmt.Fprintf(w, "\nFlooded to every other port: %d of %d frames received\n", o.stats.Flooded, received)

	fmt.Fprintln(w, "\nWhat was dropped")
	t = table.New("port", "reason", "frames")
	for _, p := range o.stats.Ports {
		for _, r := range slices.Sorted(maps.Keys(p.Drops)) {
			t.Row(p.Port, r.String(), p.Drops[r])
		}
	}
	t.Print(w)
}

func byPort(a, b vswitch.Address) int {
	return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.MAC.String(), b.MAC.String()))
}
