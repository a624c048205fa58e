package metrics_test

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/metrics"
)

// BenchmarkPorts measures a host with 10,000 ports: collect is the part of this package, gather adds
// that of the registry, and text that of the exposition.
func BenchmarkPorts(b *testing.B) {
	sparse := &metrics.Config{SparseDrops: true}
	for _, c := range []struct {
		name string
		cfg  *metrics.Config
		acl  *acl.Policy
	}{
		{"all drops", nil, nil},
		{"sparse drops", sparse, nil},
		{"sparse drops, ACL with two meters", sparse, webPolicy(b)},
	} {
		b.Run(c.name, func(b *testing.B) {
			cfg := c.cfg
			l := newLab(b, cfg)
			l.newSwitch("lab", nil)
			for i := range 10_000 {
				l.guest(fmt.Sprintf("vm%d", i), vswitch.VNICConfig{Switch: "lab", ACL: c.acl})
			}
			b.Run("collect", func(b *testing.B) {
				c := metrics.NewCollector(l.host, cfg)
				b.ReportAllocs()
				series := 0
				for b.Loop() {
					series = collect(c)
				}
				b.ReportMetric(float64(series), "series")
			})
			b.Run("gather", func(b *testing.B) {
				reg := prometheus.NewRegistry()
				reg.MustRegister(metrics.NewCollector(l.host, cfg))
				b.ReportAllocs()
				for b.Loop() {
					_, err := reg.Gather()
					require.NoError(b, err)
				}
			})
			b.Run("text", func(b *testing.B) {
				list, err := l.reg.Gather()
				require.NoError(b, err)
				var size counter
				for b.Loop() {
					size = 0
					for _, f := range list {
						_, err := expfmt.MetricFamilyToText(&size, f)
						require.NoError(b, err)
					}
				}
				b.ReportMetric(float64(size), "bytes/scrape")
			})
		})
	}
}

// collect returns the number of series.
func collect(c prometheus.Collector) (n int) {
	ch := make(chan prometheus.Metric, 1000)
	go func() {
		c.Collect(ch)
		close(ch)
	}()
	for range ch {
		n++
	}
	return n
}

type counter int

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
