package sflow

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// Config describes an Agent. Fields that are zero have the default named beside them.
type Config struct {
	// Collectors get the datagrams, each of them all: one datagram with each Write. Usual are connections that
	// net.Dial("udp", "192.0.2.10:6343") returns. An error of Write loses the datagram for that collector
	// and is counted; while it blocks, samples are dropped and Agent.Stop waits. The caller closes them
	// after Agent.Stop. There is at least one.
	Collectors []io.Writer

	// Agent is the address that collectors know the host by, IPv4 or IPv6. It has no default.
	Agent netip.Addr

	// SubAgent is to be different for each switch that is exported under the same Agent.
	SubAgent uint32

	// Rate is N when one packet of N is sampled, 1 … 2,147,483,647; by default 1000.
	Rate int

	// Egress samples what leaves by a port as well.
	Egress bool

	// HeaderLen is how many bytes of a frame are sent, 16 … 256; by default 128.
	HeaderLen int

	// MaxRate is the number of flow samples a second that are sent, at least 1; by default 10,000. Those
	// beyond are counted as drops.
	MaxRate int

	// Counters returns the counters of a port, or false when it has none now. It is called on the
	// agent's goroutine and may call the switch. With nil there are no counter samples.
	Counters func(p *extension.Port) (Counters, bool)

	// CounterInterval is the time between two counter samples of a port, at least 1 s; by default 20 s.
	CounterInterval time.Duration
}

const (
	minHeaderLen = 16 // Ethernet and the beginning of something
	maxHeaderLen = 256
)

// complete returns a copy of c with the defaults filled in, or an error that says what is wrong with c.
func (c *Config) complete() (Config, error) {
	if c == nil || len(c.Collectors) == 0 {
		return Config{}, errors.New("sflow: Collectors: none, and nobody else would get the samples")
	}
	d := *c
	d.Collectors = slices.Clone(c.Collectors)
	for i, w := range d.Collectors {
		if w == nil {
			return d, fmt.Errorf("sflow: Collectors[%d]: nil is no writer", i)
		}
	}
	if !d.Agent.IsValid() {
		return d, errors.New("sflow: Agent: no address, and collectors know the host by it")
	}
	d.Agent = d.Agent.Unmap()
	for _, n := range []struct {
		name                  string
		value                 *int
		standard, least, most int
	}{
		{"Rate", &d.Rate, 1000, 1, math.MaxInt32},
		{"HeaderLen", &d.HeaderLen, 128, minHeaderLen, maxHeaderLen},
		{"MaxRate", &d.MaxRate, 10_000, 1, math.MaxInt32},
	} {
		if *n.value == 0 {
			*n.value = n.standard
		}
		if *n.value < n.least || *n.value > n.most {
			return d, fmt.Errorf("sflow: %s: %d is out of %d–%d", n.name, *n.value, n.least, n.most)
		}
	}
	if d.CounterInterval == 0 {
		d.CounterInterval = 20 * time.Second
	}
	if d.CounterInterval < time.Second {
		return d, fmt.Errorf("sflow: CounterInterval: %v is shorter than 1s", d.CounterInterval)
	}
	return d, nil
}
