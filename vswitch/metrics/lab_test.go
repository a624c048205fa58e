package metrics_test

import (
	"encoding/binary"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/metrics"
)

// lab is a host with a registry that knows it. What hangs on the host is on a Pipe whose other end is in
// the hands of the test.
type lab struct {
	t    testing.TB
	host *vswitch.Host
	reg  *prometheus.Registry
}

func newLab(t testing.TB, cfg *metrics.Config) *lab { return newLabNamed(t, "host1", cfg) }

func newLabNamed(t testing.TB, name string, cfg *metrics.Config) *lab {
	h, err := vswitch.NewHost(&vswitch.HostConfig{
		Name: name, Workers: 2,
		MACPool: vswitch.MACRange{First: ports.MAC{2, 0, 0, 0, 0, 0}, Last: ports.MAC{2, 0, 0, 0, 0xff, 0xff}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	l := &lab{t: t, host: h, reg: prometheus.NewPedanticRegistry()}
	require.NoError(t, l.reg.Register(metrics.NewCollector(h, cfg)))
	return l
}

func (l *lab) newSwitch(name string, cfg *vswitch.SwitchConfig) *vswitch.Switch {
	l.t.Helper()
	s, err := l.host.NewSwitch(name, cfg)
	require.NoError(l.t, err)
	return s
}

func (l *lab) pipe(cfg ports.PipeConfig) (switchEnd, testEnd *ports.PipeEnd) {
	l.t.Helper()
	a, b, err := ports.Pipe(&cfg)
	require.NoError(l.t, err)
	return a, b
}

func (l *lab) nic(name string, cfg ports.PipeConfig) *ports.PipeEnd {
	l.t.Helper()
	a, b := l.pipe(cfg)
	_, err := l.host.AddNIC(name, a)
	require.NoError(l.t, err)
	return b
}

func (l *lab) guest(name string, cfg vswitch.VNICConfig) *guest {
	l.t.Helper()
	a, b := l.pipe(ports.PipeConfig{Name: name})
	v, err := l.host.NewVNIC(name, a, &cfg)
	require.NoError(l.t, err)
	return &guest{t: l.t, end: b, vnic: v}
}

// gather waits until nothing moves any more, in a bubble only, and returns the families.
func (l *lab) gather() families {
	l.t.Helper()
	synctest.Wait()
	return l.gatherNow()
}

func (l *lab) gatherNow() families {
	l.t.Helper()
	list, err := l.reg.Gather()
	require.NoError(l.t, err)
	all := families{}
	for _, f := range list {
		all[f.GetName()] = f.GetMetric()
	}
	return all
}

// families are series by name.
type families map[string][]*dto.Metric

// value returns the value of a series that has these labels, given as names and values in turn, and
// whether there is one.
func (f families) value(name string, labels ...string) (value float64, ok bool) {
	for _, m := range f[name] {
		has := map[string]string{}
		for _, l := range m.GetLabel() {
			has[l.GetName()] = l.GetValue()
		}
		fits := true
		for i := 0; i < len(labels); i += 2 {
			fits = fits && has[labels[i]] == labels[i+1]
		}
		if fits {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue(), true
		}
	}
	return 0, false
}

func (l *lab) hasValue(want float64, name string, labels ...string) {
	l.t.Helper()
	v, ok := l.gather().value(name, labels...)
	require.True(l.t, ok, "%s %q is missing", name, labels)
	require.Equal(l.t, want, v, "%s %q", name, labels)
}

func (l *lab) hasNo(name string, labels ...string) {
	l.t.Helper()
	_, ok := l.gather().value(name, labels...)
	require.False(l.t, ok, "%s %q", name, labels)
}

type guest struct {
	t    testing.TB
	end  *ports.PipeEnd
	vnic *vswitch.VNIC
}

// send sends 64 bytes.
func (g *guest) send(dst ports.MAC) { send(g.t, g.end, dst, g.vnic.MAC()) }

func send(t testing.TB, end *ports.PipeEnd, dst, src ports.MAC) {
	t.Helper()
	b := append(dst[:], src[:]...)
	b = binary.BigEndian.AppendUint16(b, 0x88b5) // local experimental EtherType 1 (IEEE 802)
	require.NoError(t, end.WriteFrame(t.Context(), append(b, make([]byte, 50)...)))
}
