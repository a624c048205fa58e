package ipfix

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Config describes an Exporter. Fields that are zero have the default named beside them.
type Config struct {
	// Collectors get the messages, each of them all: one message with each Write. Usual are connections that
	// net.Dial("udp", "192.0.2.10:4739") returns. An error of Write loses the message for that collector
	// and is counted; while it blocks, flows are not reported and Exporter.Stop waits. The caller closes them
	// after Exporter.Stop. There is at least one.
	Collectors []io.Writer

	// Domain is the observation domain identifier (RFC 7011, section 3.1). It is to be different for
	// each switch that one host exports from.
	Domain uint32

	// MaxFlows is the number of flows that are metered at a time, 1 … 16,777,216; by default
	// 65,536. A flow takes about 200 bytes, and only while it is metered.
	MaxFlows int

	// MaxPortFlows is how many of MaxFlows one port may have, so that a guest does not crowd out the flows
	// of others; by default an eighth of MaxFlows, at least 1. A port with that many reports one of its
	// oldest early for each new one. A port that has none, when others have all, reports each packet as a
	// flow.
	MaxPortFlows int

	// MaxRate is how many flows a second are reported early, at least 1; by default 50,000. The others
	// are lost and counted: a guest whose every packet is a flow does not get to flood the collectors.
	MaxRate int

	// ActiveTimeout is how long a flow lasts before it is reported, at least 1 s; by default 60 s.
	ActiveTimeout time.Duration

	// IdleTimeout is how long a flow is without packets before it is reported, at least 1 s; by
	// default 15 s.
	IdleTimeout time.Duration

	// TemplateInterval is how often templates and interface names are repeated, at least 1 s; by default
	// 10 min. They are repeated after 1,000 messages in any case.
	TemplateInterval time.Duration
}

const (
	maxMaxFlows      = 1 << 24
	templateMessages = 1000
)

// complete returns a copy of c with the defaults filled in, or an error that says what is wrong with c.
func (c *Config) complete() (Config, error) {
	if c == nil || len(c.Collectors) == 0 {
		return Config{}, errors.New("ipfix: Collectors: none, and nobody else would get the flows")
	}
	d := *c
	d.Collectors = slices.Clone(c.Collectors)
	for i, w := range d.Collectors {
		if w == nil {
			return d, fmt.Errorf("ipfix: Collectors[%d]: nil is no writer", i)
		}
	}
	if d.MaxFlows == 0 {
		d.MaxFlows = 65536
	}
	if d.MaxFlows < 1 || d.MaxFlows > maxMaxFlows {
		return d, fmt.Errorf("ipfix: MaxFlows: %d is out of 1–%d", d.MaxFlows, maxMaxFlows)
	}
	if d.MaxPortFlows == 0 {
		d.MaxPortFlows = max(d.MaxFlows/8, 1)
	}
	if d.MaxPortFlows < 1 || d.MaxPortFlows > d.MaxFlows {
		return d, fmt.Errorf("ipfix: MaxPortFlows: %d is out of 1–%d (MaxFlows)", d.MaxPortFlows, d.MaxFlows)
	}
	if d.MaxRate == 0 {
		d.MaxRate = 50_000
	}
	if d.MaxRate < 0 {
		return d, fmt.Errorf("ipfix: MaxRate: %d is less than 1", d.MaxRate)
	}
	for _, t := range []struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{
		{"ActiveTimeout", &d.ActiveTimeout, time.Minute},
		{"IdleTimeout", &d.IdleTimeout, 15 * time.Second},
		{"TemplateInterval", &d.TemplateInterval, 10 * time.Minute},
	} {
		if *t.value == 0 {
			*t.value = t.standard
		}
		if *t.value < time.Second {
			return d, fmt.Errorf("ipfix: %s: %v is shorter than 1s", t.name, *t.value)
		}
	}
	return d, nil
}
