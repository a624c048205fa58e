package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hvswitch/hvswitch/vlan"
)

// outcome is what happened in the lab, and what should have.
type outcome struct {
	required requirement
	contacts [][]contact
	trunks   []*trunk
	took     time.Duration
}

// err tells all differences.
func (o *outcome) err() error {
	var errs []error
	for _, row := range o.contacts {
		for _, c := range row {
			errs = append(errs, c.err())
		}
	}
	for _, t := range o.trunks {
		if got := t.vlans(); got != o.required.trunk.String() {
			errs = append(errs, fmt.Errorf("trunk of %s must carry VLANs %s: carried %s", t.host, o.required.trunk, got))
		}
	}
	return errors.Join(errs...)
}

// vlans lists the VLANs seen.
func (t *trunk) vlans() string {
	var ids vlan.Set
	var list []string
	for vid := range t.seen.framesOf() {
		if ids.Add(vid) != nil {
			list = []string{"untagged"}
		}
	}
	if !ids.IsZero() {
		list = append([]string{ids.String()}, list...)
	}
	return strings.Join(list, " and ")
}

// Cells of the matrices.
const (
	reached    = "✓"
	notReached = "·"
	different  = "✗"
)

func (o *outcome) print(w io.Writer) {
	fmt.Fprintf(w, "Who reaches whom (row to column): %s yes, %s no, %s different from what is required\n\n", reached, notReached, different)
	o.printMatrices(w)
	fmt.Fprintln(w)
	for _, t := range o.trunks {
		t.print(w)
	}
	o.printTotals(w)
}

// printMatrices prints what was measured and what is required side by side. Each column has a letter,
// which the row of its machine has, too.
func (o *outcome) printMatrices(w io.Writer) {
	var letters strings.Builder
	for i := range o.contacts {
		fmt.Fprintf(&letters, "%c ", 'a'+i)
	}
	line := func(machine, letter, measured, required string) {
		s := fmt.Sprintf("  %-12s %1s  %-*s  %s", machine, letter, letters.Len(), measured, required)
		fmt.Fprintln(w, strings.TrimRight(s, " "))
	}
	line("", "", "measured", "required")
	line("", "", letters.String(), letters.String())
	for i, row := range o.contacts {
		var measured, required strings.Builder
		for _, c := range row {
			m, r := c.cells()
			measured.WriteString(m + " ")
			required.WriteString(r + " ")
		}
		line(row[i].from, letters.String()[2*i:2*i+1], measured.String(), required.String())
	}
}

// print prints what was seen on the trunk.
func (t *trunk) print(w io.Writer) {
	frames := t.seen.framesOf()
	var counts []string
	for _, vid := range slices.Sorted(maps.Keys(frames)) {
		name := fmt.Sprint("VLAN ", vid)
		if vid == 0 {
			name = "untagged"
		}
		counts = append(counts, fmt.Sprintf("%s: %d frames", name, frames[vid]))
	}
	fmt.Fprintf(w, "Seen on the trunk of %s: %s (%s)\n", t.host, t.vlans(), strings.Join(counts, ", "))
}

func (o *outcome) printTotals(w io.Writer) {
	cells := map[string]int{}
	for _, row := range o.contacts {
		for _, c := range row {
			measured, _ := c.cells()
			cells[measured]++
		}
	}
	fmt.Fprintf(w, "Total: %d pairs by ping and TCP in %v: %d reach, %d do not, %d differences\n",
		cells[reached]+cells[notReached]+cells[different], o.took.Round(10*time.Millisecond),
		cells[reached], cells[notReached], cells[different])
}

// cells returns what the matrices show of the contact.
func (c *contact) cells() (measured, required string) {
	if c.self() {
		return " ", " "
	}
	required = notReached
	if c.required {
		required = reached
	}
	if c.err() != nil {
		return different, required
	}
	return required, required
}
