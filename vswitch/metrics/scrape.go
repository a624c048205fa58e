package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// scrape is one run of Collect.
type scrape struct {
	*collector
	ch       chan<- prometheus.Metric
	samples  []sample // to be used
	lists    []*label // of labels, to be used
	switches map[string]*label
	known    map[*acl.Policy]*policyRules // from the scrape before
	rules    map[*acl.Policy]*policyRules
	poolUsed int // vNICs with an address of the pool
}

func newScrape(c *collector, ch chan<- prometheus.Metric) *scrape {
	s := &scrape{collector: c, ch: ch, switches: map[string]*label{}, rules: map[*acl.Policy]*policyRules{}}
	if p := c.rules.Load(); p != nil {
		s.known = *p
	}
	return s
}

// samplesAtOnce and labelsAtOnce are allocated together.
const (
	samplesAtOnce = 256
	labelsAtOnce  = 1024
)

// send exports a value. The labels are in the order of their names and all that the family has.
func (s *scrape) send(f family, value float64, labels []*label) {
	if len(s.samples) == 0 {
		s.samples = make([]sample, samplesAtOnce)
	}
	m := &s.samples[0]
	s.samples = s.samples[1:]
	*m = sample{f, labels, value}
	s.ch <- m
}

// labels returns a list of labels for send.
func (s *scrape) labels(list ...*label) []*label {
	if len(s.lists) < len(list) {
		s.lists = make([]*label, labelsAtOnce)
	}
	n := copy(s.lists, list)
	l := s.lists[:n:n]
	s.lists = s.lists[n:]
	return l
}

func (s *scrape) sendBool(f family, value bool, labels []*label) {
	if value {
		s.send(f, 1, labels)
	} else {
		s.send(f, 0, labels)
	}
}

// switchLabel returns the label of a switch, the same one each time.
func (s *scrape) switchLabel(name string) *label {
	l := s.switches[name]
	if l == nil {
		l = pair(labelSwitch, name)
		s.switches[name] = l
	}
	return l
}
