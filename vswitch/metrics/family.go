package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// family is all series of one name.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// catalog notes every family that is made, for Describe.
type catalog struct {
	host  prometheus.Labels // on all series
	descs []*prometheus.Desc
}

func (c *catalog) counter(name, help string, labels ...string) family {
	return c.add(name+"_total", help, prometheus.CounterValue, labels)
}

func (c *catalog) gauge(name, help string, labels ...string) family {
	return c.add(name, help, prometheus.GaugeValue, labels)
}

func (c *catalog) add(name, help string, kind prometheus.ValueType, labels []string) family {
	d := prometheus.NewDesc("hvswitch_"+name, help, labels, c.host)
	c.descs = append(c.descs, d)
	return family{d, kind}
}

// sample is a value of a series. It shares its labels with others and is allocated with others: for
// 10,000 ports, prometheus.NewConstMetric allocates two hundred times as often.
type sample struct {
	family
	labels []*label
	value  float64
}

var _ prometheus.Metric = &sample{}

// Desc implements prometheus.Metric.
func (s *sample) Desc() *prometheus.Desc { return s.desc }

// Write implements prometheus.Metric. The labels have no room behind them, so whoever adds some to m
// gets a copy.
func (s *sample) Write(m *dto.Metric) error {
	m.Label = s.labels
	if s.kind == prometheus.CounterValue {
		m.Counter = &dto.Counter{Value: &s.value}
	} else {
		m.Gauge = &dto.Gauge{Value: &s.value}
	}
	return nil
}
