package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// Config configures a collector. A nil *Config or zero fields mean the defaults.
type Config struct {
	// SparseDrops exports a drop reason of a port only once a frame was dropped for it. By
	// default all reasons are there from the start, with 0, so that rate() and increase() see
	// the first drop: that is some 40 series for each port. With SparseDrops they miss what was
	// dropped before the first scrape that has the series.
	SparseDrops bool
}

// NewCollector returns a collector for a host, to be registered. It may be collected by several
// goroutines at once, also while the host changes. Of a host that was closed only the MAC pool is left.
func NewCollector(h *vswitch.Host, cfg *Config) prometheus.Collector {
	c := &collector{host: h, hostLabel: pair(labelHost, h.Name()), allReasons: vswitch.DropReasons()}
	if cfg != nil {
		c.cfg = *cfg
	}
	for _, r := range c.allReasons {
		c.reasons[r] = pair(labelReason, r.String())
	}
	f := &catalog{host: prometheus.Labels{labelHost: c.hostLabel.GetValue()}}
	c.hostFamilies = newHostFamilies(f)
	c.switchFamilies = newSwitchFamilies(f)
	c.extensionFamilies = newExtensionFamilies(f)
	c.classFamilies = newClassFamilies(f)
	c.portFamilies = newPortFamilies(f)
	c.aclFamilies = newACLFamilies(f)
	c.descs = f.descs
	return c
}

type collector struct {
	host       *vswitch.Host
	cfg        Config
	hostLabel  *label
	allReasons []vswitch.DropReason
	reasons    [256]*label // by reason
	descs      []*prometheus.Desc

	hostFamilies
	switchFamilies
	extensionFamilies
	classFamilies
	portFamilies
	aclFamilies

	rules atomic.Pointer[map[*acl.Policy]*policyRules] // as of the last scrape; never changed
}

// Describe implements prometheus.Collector: what Collect sends is of these and no others.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := newScrape(c, ch)
	for _, sw := range c.host.Switches() {
		s.switchOf(sw)
	}
	s.allPorts()
	s.macPool()
	c.rules.Store(&s.rules)
}
