package main

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// rule allows connections to a service.
type rule struct {
	from netip.Prefix
	to   netip.AddrPort
	why  string
}

// firewall is an extension of the switch that allows the connections of its rules, and no other. The switch asks
// it for the first packet of each connection and remembers the answer for the others, in both directions.
type firewall struct {
	mu    sync.Mutex
	rules []rule
	log   []string // of what was denied
	sw    extension.Switch
}

var (
	_ extension.Firewall  = (*firewall)(nil)
	_ extension.Starter   = (*firewall)(nil)
	_ extension.Explainer = (*firewall)(nil)
)

// Authorize implements extension.Firewall. Several workers of the switch may call it at once.
func (f *firewall) Authorize(c *extension.Connection) bool {
	if c.Opener == extension.Egress {
		return true // it has been asked where the packet came from
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.allows(c.Local, c.Remote) {
		return true
	}
	f.log = append(f.log, fmt.Sprintf("%s: %s to %s", c.Port.Name, c.Local.Addr(), c.Remote))
	return false
}

func (f *firewall) allows(from, to netip.AddrPort) bool {
	for _, r := range f.rules {
		if r.from.Contains(from.Addr()) && r.to == to {
			return true
		}
	}
	return false
}

// Explain implements extension.Explainer: what Authorize would say, for Switch.Explain.
func (f *firewall) Explain(b *extension.Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range b.Len() {
		if flow, ok := b.Flow(i); ok && b.Direction() == extension.Ingress && !f.allows(flow.Source, flow.Destination) {
			b.Drop(i, "no rule allows it")
		}
	}
}

// Start and Stop implement extension.Starter.
func (f *firewall) Start(s extension.Switch) error { f.sw = s; return nil }
func (f *firewall) Stop(extension.Switch)          {}

// setRules changes the rules while traffic flows. Connections are judged anew.
func (f *firewall) setRules(rules []rule) {
	f.mu.Lock()
	f.rules = rules
	f.mu.Unlock()
	f.sw.Reauthorize()
}

// denied returns what has been denied since it was called last.
func (f *firewall) denied() (log []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	log, f.log = f.log, nil
	return log
}
