package metrics_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/metrics"
)

// atMoment is a collector during which something happens: before the first sample of a family leaves it.
type atMoment struct {
	prometheus.Collector
	family string
	happen func()
}

func (c *atMoment) Collect(ch chan<- prometheus.Metric) {
	own := make(chan prometheus.Metric)
	go func() {
		c.Collector.Collect(own)
		close(own)
	}()
	for m := range own {
		if c.happen != nil && strings.Contains(m.Desc().String(), `"`+c.family+`"`) {
			c.happen()
			c.happen = nil
		}
		ch <- m
	}
}

// gatherWhile is gather with something that happens when a family comes for the first time.
func (l *lab) gatherWhile(family string, happen func()) families {
	l.t.Helper()
	l.reg = prometheus.NewPedanticRegistry()
	c := &atMoment{metrics.NewCollector(l.host, nil), family, happen}
	require.NoError(l.t, l.reg.Register(c))
	all := l.gather()
	require.Nil(l.t, c.happen)
	return all
}

func TestNICLeavesItsNameToAVNIC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		l.nic("net0", ports.PipeConfig{})
		all := l.gatherWhile("hvswitch_port_link_up", func() {
			require.NoError(t, l.host.NIC("net0").Close())
			l.guest("net0", vswitch.VNICConfig{})
		})
		require.Len(t, all["hvswitch_port_connected"], 1)
		require.Len(t, l.gather()["hvswitch_port_connected"], 1)
	})
}

func TestReadingsOfAnotherPolicyAreLeftOut(t *testing.T) {
	const frames = "hvswitch_acl_meter_frames_total"
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		vm := l.guest("vm1", vswitch.VNICConfig{ACL: webPolicy(t)})
		all := l.gatherWhile("hvswitch_acl_connections", func() {
			cfg := vm.vnic.Config()
			cfg.ACL = compile(t, acl.Config{Basic: []acl.BasicRule{
				{Direction: acl.In, Action: acl.Deny, Side: acl.Remote, Any: acl.AnyIP},
				{Name: "new", Direction: acl.In, Action: acl.Meter, Side: acl.Local, Prefix: netip.MustParsePrefix("::/0")},
			}})
			require.NoError(t, vm.vnic.SetConfig(cfg))
		})
		require.Empty(t, all[frames])
		require.Len(t, all["hvswitch_acl_connections"], 1)
		l.hasValue(0, frames, "rule", "new", "address", "::/0")
	})
}
