package acl

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// ConfigError says what is wrong with a Config.
type ConfigError struct {
	List   string // "basic rule", "extended rule", or "" when it is not about a rule
	Index  int    // of the rule in its list
	Name   string // of the rule
	Field  string // such as "LocalPorts"
	Value  string
	Reason string
}

// Error returns, for example:
//
//	acl: extended rule 3 "web": LocalPorts 90-80: first is above last
func (e *ConfigError) Error() string {
	s := "acl: "
	if e.List != "" {
		s += e.List + " " + strconv.Itoa(e.Index)
		if e.Name != "" {
			s += " " + strconv.Quote(e.Name)
		}
		s += ": "
	}
	s += e.Field
	if e.Value != "" {
		s += " " + e.Value
	}
	return s + ": " + e.Reason
}

func (c *Config) validate() error {
	wrong := func(field string, value any, reason string) error {
		return &ConfigError{Field: field, Value: fmt.Sprint(value), Reason: reason}
	}
	if n := len(c.Basic); n > maxBasic {
		return wrong("Basic", strconv.Itoa(n)+" rules", fmt.Sprintf("more than %d", maxBasic))
	}
	if n := len(c.Extended); n > maxExtended {
		return wrong("Extended", strconv.Itoa(n)+" rules", fmt.Sprintf("more than %d", maxExtended))
	}
	if n := c.Connections; n < 0 || n > maxConns {
		return wrong("Connections", n, fmt.Sprintf("is out of 1–%d", maxConns))
	}
	t := &c.Timeouts
	for _, d := range []struct {
		name string
		of   time.Duration
	}{
		{"TCP", t.TCP}, {"TCPHandshake", t.TCPHandshake}, {"TCPClosing", t.TCPClosing},
		{"UDP", t.UDP}, {"ICMP", t.ICMP}, {"Other", t.Other},
	} {
		if reason := checkDelay(d.of); reason != "" {
			return wrong("Timeouts."+d.name, d.of, reason)
		}
	}
	seen := make(map[basicKey]int, len(c.Basic))
	for i := range c.Basic {
		if err := c.Basic[i].validate(i, seen); err != nil {
			return err
		}
	}
	for i := range c.Extended {
		if err := c.Extended[i].validate(i); err != nil {
			return err
		}
	}
	return nil
}

func checkDelay(d time.Duration) string {
	if d != 0 && (d < shortestDelay || d > longestDelay) {
		return "is out of 1s–720h"
	}
	return ""
}

// basicKey is what two basic rules must not have in common.
type basicKey struct {
	meter     bool
	direction Direction
	side      Side
	prefix    netip.Prefix
	mac       ports.MAC
	any       Kind
}

func (r *BasicRule) key(d Direction) basicKey {
	k := basicKey{r.Action == Meter, d, r.Side, r.Prefix, r.MAC, r.Any}
	if r.Prefix.IsValid() {
		k.prefix = r.Prefix.Masked()
	}
	return k
}

func (r *BasicRule) address() string {
	switch {
	case r.Prefix.IsValid():
		return r.Prefix.String()
	case r.Any != 0:
		return r.Any.String()
	}
	return r.MAC.String()
}

func (r *BasicRule) validate(i int, seen map[basicKey]int) error {
	wrong := func(field string, value any, reason string) error {
		return &ConfigError{"basic rule", i, r.Name, field, fmt.Sprint(value), reason}
	}
	if r.Direction == 0 || r.Direction > Both {
		return wrong("Direction", uint8(r.Direction), "is not In, Out or Both")
	}
	if r.Action == 0 || r.Action > Meter {
		return wrong("Action", uint8(r.Action), "is not Allow, Deny or Meter")
	}
	if r.Side == 0 || r.Side > Remote {
		return wrong("Side", uint8(r.Side), "is not Local or Remote")
	}
	if r.Any > AnyMAC {
		return wrong("Any", uint8(r.Any), "is not AnyIP or AnyMAC")
	}
	set := 0
	for _, b := range []bool{r.Prefix != netip.Prefix{}, !r.MAC.IsZero(), r.Any != 0} {
		if b {
			set++
		}
	}
	if set != 1 {
		return wrong("Prefix, MAC, Any", strconv.Itoa(set)+" set", "exactly one is needed")
	}
	if r.Prefix != (netip.Prefix{}) && !r.Prefix.IsValid() {
		return wrong("Prefix", r.Prefix, "is not an IP prefix")
	}
	if r.Action == Meter && (r.Any == AnyMAC || !r.MAC.IsZero()) {
		return wrong("Action", r.Action, "a meter needs an IP address")
	}
	for _, d := range []Direction{Out, In} {
		if r.Direction&d == 0 {
			continue
		}
		if j, ok := seen[r.key(d)]; ok {
			return wrong(r.Side.String()+" address", r.address(),
				fmt.Sprintf("is that of basic rule %d, direction %v too", j, d))
		}
		seen[r.key(d)] = i
	}
	return nil
}

func (r *ExtendedRule) validate(i int) error {
	wrong := func(field string, value any, reason string) error {
		return &ConfigError{"extended rule", i, r.Name, field, fmt.Sprint(value), reason}
	}
	if r.Direction == 0 || r.Direction > Both {
		return wrong("Direction", uint8(r.Direction), "is not In, Out or Both")
	}
	if r.Action != Allow && r.Action != Deny {
		return wrong("Action", r.Action, "is not Allow or Deny")
	}
	for _, s := range []struct {
		name string
		list []netip.Prefix
	}{{"Local", r.Local}, {"Remote", r.Remote}} {
		for _, p := range s.list {
			if !p.IsValid() {
				return wrong(s.name, p, "is not an IP prefix")
			}
		}
	}
	if !r.in(v4) && !r.in(v6) {
		return wrong("Local, Remote", "", "one is IPv4 and the other is IPv6")
	}
	for _, s := range []struct {
		name string
		list []PortRange
	}{{"LocalPorts", r.LocalPorts}, {"RemotePorts", r.RemotePorts}} {
		for _, p := range s.list {
			if p.First > p.last() {
				return wrong(s.name, p, "first is above last")
			}
		}
		if len(s.list) > 0 && r.Protocol != 0 && !hasPorts(r.Protocol) {
			return wrong(s.name, s.list[0], r.Protocol.String()+" has no ports")
		}
	}
	if r.Isolation > maxIsolation {
		return wrong("Isolation", r.Isolation, "is above 16777215")
	}
	if r.Stateful && r.Action != Allow {
		return wrong("Stateful", r.Stateful, "only a rule that allows can be")
	}
	if r.IdleTimeout != 0 && !r.Stateful {
		return wrong("IdleTimeout", r.IdleTimeout, "the rule is not stateful")
	}
	if reason := checkDelay(r.IdleTimeout); reason != "" {
		return wrong("IdleTimeout", r.IdleTimeout, reason)
	}
	return nil
}

// in reports whether packets of a family can match the addresses of the rule.
func (r *ExtendedRule) in(f family) bool {
	return hasFamily(r.Local, f) && hasFamily(r.Remote, f)
}

func hasFamily(list []netip.Prefix, f family) bool {
	for _, p := range list {
		if p.Addr().Is4() == (f == v4) {
			return true
		}
	}
	return len(list) == 0
}

// portless reports whether the rule matches regardless of ports.
func (r *ExtendedRule) portless() bool { return len(r.LocalPorts) == 0 && len(r.RemotePorts) == 0 }

// hasPorts reports whether the parser reads ports of the protocol.
func hasPorts(p Protocol) bool { return p == TCP || p == UDP || p == SCTP }
