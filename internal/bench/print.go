package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

type printer struct {
	w     io.Writer
	json  *json.Encoder // nil: a table
	group string
}

func newPrinter(w io.Writer, o options) *printer {
	p := &printer{w: w}
	if o.json {
		p.json = json.NewEncoder(w)
		p.json.SetEscapeHTML(false)
	}
	return p
}

const line = "%-58s %10s %-8s %7s %9s %7s %9s %7s %9s  %s\n"

func (p *printer) print(r result) {
	if p.json != nil {
		p.json.Encode(r)
		return
	}
	group, _, _ := strings.Cut(r.Name, "/")
	if group != p.group {
		if p.group != "" {
			fmt.Fprintln(p.w)
		}
		p.group = group
		fmt.Fprintf(p.w, line, group, "ours", "unit", "allocs", "peer", "ratio", "limit", "ratio", "copy", "")
	}
	if why := r.Skipped + r.Failed; why != "" {
		how := "skipped: "
		if r.Failed != "" {
			how = "FAILED: "
		}
		fmt.Fprintf(p.w, "%-58s %s\n", r.Name, how+why)
		return
	}
	var rest []string
	if r.Over != nil {
		rest = append(rest, fmt.Sprintf("%+.2f %s", *r.Over, r.Unit))
	}
	for _, s := range []string{r.Peer, r.Limit, r.Note} {
		if s != "" {
			rest = append(rest, s)
		}
	}
	fmt.Fprintf(p.w, line, r.Name, figure(r.Value), r.Unit, allocs(r.Allocs), figure(r.PeerValue), times(r.Ratio),
		figure(r.LimitValue), times(r.LimitRatio), figure(r.CopyValue), strings.Join(rest, "; "))
}

// figure keeps three to four digits, which is more than the figures are worth.
func figure(v *float64) string {
	switch {
	case v == nil:
		return "-"
	case *v >= 1000:
		return fmt.Sprintf("%.0f", *v)
	case *v >= 100:
		return fmt.Sprintf("%.1f", *v)
	}
	return fmt.Sprintf("%.2f", *v)
}

func allocs(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", *v)
}

func times(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f×", *v)
}
