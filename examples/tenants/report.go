package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hvswitch/hvswitch/examples/internal/table"
	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
)

// printPlan prints the virtual networks.
func printPlan(w io.Writer, p *plan, e overlay.Encapsulation) {
	fmt.Fprintf(w, "%d hosts, joined by a provider network with an MTU of %d bytes; between them %s\n\n", p.hosts, providerMTU, e)
	t := table.New("tenant", "subnet", "VSID", "prefixes", "routers", "VMs")
	for _, s := range p.subnets {
		var prefixes, routers []string
		for _, p := range s.prefixes {
			prefixes = append(prefixes, p.String())
			routers = append(routers, (&overlay.CustomerRoute{Destination: p}).Router().String())
		}
		n := 0
		for _, v := range p.vms {
			if v.in == s {
				n++
			}
		}
		t.Row(s.of.name, s.name, s.vsid, strings.Join(prefixes, ", "), strings.Join(routers, ", "), n)
	}
	t.Print(w)
}

// fewHosts have all their tables printed.
const fewHosts = 5

// printRecords prints what the hosts know of where VMs are.
func (l *lab) printRecords(w io.Writer) {
	fmt.Fprint(w, "\nWhat the store has told each host\n\n")
	t := table.New("host", "provider address", "VMs here", "follows", "records")
	for i, h := range l.hosts {
		records := 0
		for range h.engine.Records() {
			records++
		}
		t.Row(h.name, h.pa, len(l.plan.at(i)), names(h.scope), records)
	}
	t.Print(w)
	for i, h := range l.hosts {
		if len(l.hosts) <= fewHosts || i == 0 {
			fmt.Fprintf(w, "\nRecords of %s\n\n", h.name)
			l.printRecordsOf(w, h)
		}
	}
}

func names(all []*tenant) string {
	if len(all) == 0 {
		return "none"
	}
	var list []string
	for _, t := range all {
		list = append(list, t.name)
	}
	return strings.Join(list, ", ")
}

// printRecordsOf prints the records of a host, those of one VM in one row.
func (l *lab) printRecordsOf(w io.Writer, h *host) {
	type key struct {
		vsid overlay.VSID
		mac  ports.MAC
	}
	rows := map[key][]overlay.LookupRecord{}
	for r := range h.engine.Records() {
		k := key{r.VSID, r.MAC}
		rows[k] = append(rows[k], r)
	}
	t := table.New("VM", "VSID", "MAC", "customer addresses", "provider address", "")
	for _, v := range l.plan.vms {
		all := rows[key{v.in.vsid, v.mac}]
		if len(all) == 0 {
			continue
		}
		slices.SortFunc(all, func(a, b overlay.LookupRecord) int { return a.CA.Compare(b.CA) })
		var cas []string
		for _, r := range all {
			cas = append(cas, r.CA.String())
		}
		here := ""
		if all[0].PA == h.pa.Addr() {
			here = "here"
		}
		t.Row(v.name, v.in.vsid, v.mac, strings.Join(cas, ", "), all[0].PA, here)
	}
	t.Print(w)
}

// Cells of the matrices.
const (
	reached    = "✓"
	notReached = "·"
	namesake   = "="
	different  = "✗"
)

// letters name the columns of a matrix of VMs.
const letters = "abcdefghijklmnopqrstuvwxyz"

func (m *matrix) print(w io.Writer) {
	if len(m.plan.vms) <= len(letters) {
		fmt.Fprintf(w, `
Who reaches whom (row to column), by the name that answers at its addresses
  %s it answers
  %s nobody answers: no VM in the network of the row has these addresses
  %s not it: a VM in the network of the row has the same addresses, or the row itself
  %s different from what is required

`, reached, notReached, namesake, different)
		m.printVMs(w)
	} else {
		fmt.Fprint(w, "\nPairs of VMs that reach each other (row to column), by the name that answers: measured/required\n\n")
		m.printSubnets(w)
	}
	n, wrong := 0, 0
	for _, a := range m.plan.vms {
		for _, b := range m.plan.vms {
			if m.reached(a, b) {
				n++
			}
			if m.differences(a, b) != nil {
				wrong++
			}
		}
	}
	m.printShared(w)
	pairs := len(m.plan.vms) * (len(m.plan.vms) - 1)
	fmt.Fprintf(w, "\n%d TCP connections tried in %.1f s: of %d pairs %d reach, %d do not, %d differ from what is required\n",
		len(m.asked), m.took.Seconds(), pairs, n, pairs-n, wrong)
}

// fewShared is for how many addresses of both tenants it is told who answers.
const fewShared = 6

// printShared prints who answers at addresses that several tenants have.
func (m *matrix) printShared(w io.Writer) {
	titles := []string{"address"}
	for _, t := range m.plan.tenants {
		titles = append(titles, "asked by "+t.name)
	}
	out := table.New(titles...)
	rows, more := 0, 0
	for _, ca := range m.plan.addresses() {
		row, shared := []any{ca}, true
		for _, t := range m.plan.tenants {
			var answers []string
			for _, v := range m.plan.vms {
				if q, asked := m.asked[asker{v, ca}]; asked && v.in.of == t && !slices.Contains(answers, q.answer) {
					answers = append(answers, q.answer)
				}
			}
			row = append(row, strings.Join(answers, ", "))
			shared = shared && slices.ContainsFunc(m.plan.vms, func(v *vm) bool { return v.in.of == t && v.has(ca) })
		}
		switch {
		case !shared:
		case rows < fewShared:
			out.Row(row...)
			rows++
		default:
			more++
		}
	}
	fmt.Fprint(w, "\nWho answers at addresses that both tenants have\n\n")
	out.Print(w)
	if more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
}

// printVMs prints what was measured and what is required side by side. Each column has a letter, which the row
// of its VM has, too.
func (m *matrix) printVMs(w io.Writer) {
	line := func(name, letter, measured, required string) {
		s := fmt.Sprintf("  %-10s %1s  %-*s   %s", name, letter, 2*len(m.plan.vms), measured, required)
		fmt.Fprintln(w, strings.TrimRight(s, " "))
	}
	var titles strings.Builder
	for i := range m.plan.vms {
		titles.WriteString(letters[i:i+1] + " ")
	}
	line("", "", "measured", "required")
	line("", "", titles.String(), titles.String())
	for i, a := range m.plan.vms {
		var measured, required strings.Builder
		for _, b := range m.plan.vms {
			got, want := m.cells(a, b)
			measured.WriteString(got + " ")
			required.WriteString(want + " ")
		}
		line(a.name, letters[i:i+1], measured.String(), required.String())
	}
}

// cells returns what the matrices show of a VM and another one.
func (m *matrix) cells(a, b *vm) (measured, required string) {
	if a == b {
		return " ", " "
	}
	required = notReached
	if m.required.reach(a, b) {
		required = reached
	}
	switch {
	case m.differences(a, b) != nil:
		return different, required
	case required == notReached && m.another(a, b):
		return namesake, required
	}
	return required, required
}

// printSubnets prints numbers of pairs, for more VMs than a line has room for.
func (m *matrix) printSubnets(w io.Writer) {
	titles := []string{""}
	for _, s := range m.plan.subnets {
		titles = append(titles, s.of.name+" "+s.name)
	}
	t := table.New(titles...)
	for i, from := range m.plan.subnets {
		row := []any{titles[i+1]}
		for _, to := range m.plan.subnets {
			n, required := 0, 0
			for _, a := range m.plan.vms {
				for _, b := range m.plan.vms {
					if a == b || a.in != from || b.in != to {
						continue
					}
					if m.reached(a, b) {
						n++
					}
					if m.required.reach(a, b) {
						required++
					}
				}
			}
			row = append(row, fmt.Sprintf("%d/%d", n, required))
		}
		t.Row(row...)
	}
	t.Print(w)
}
