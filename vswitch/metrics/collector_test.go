package metrics_test

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/extension"
	"github.com/hvswitch/hvswitch/vswitch/metrics"
)

// prodLab has one of everything that can be exported.
func prodLab(t *testing.T, cfg *metrics.Config) *lab {
	l := newLab(t, cfg)
	wire := l.nic("eth0", ports.PipeConfig{Speed: 10_000_000_000})
	l.nic("eth1", ports.PipeConfig{}).SetLink(false)
	l.newSwitch("prod", &vswitch.SwitchConfig{
		Type: vswitch.External, Uplink: "eth0", MaxAddresses: 1000, QoS: &vswitch.QoSConfig{},
		Extensions: []extension.Binding{
			{Name: "sieve", Extension: sieve{}},
			{Name: "mine", Extension: mine{}, FailOpen: true},
			{Name: "off", Extension: mine{}, Disabled: true},
		},
	})
	vm1 := l.guest("vm1", vswitch.VNICConfig{Switch: "prod", ACL: webPolicy(t)})
	vm2 := l.guest("vm2", vswitch.VNICConfig{
		Switch: "prod", MAC: ports.MAC{6, 0, 0, 0, 0, 2},
		AllowSpoofing: true, MaxDynamicAddresses: 4, StormLimit: 1000,
		Bandwidth: vswitch.Bandwidth{MinWeight: 10, MaxRate: 80_000_000},
	})
	l.guest("vm3", vswitch.VNICConfig{Switch: "later"})

	time.Sleep(time.Second) // the uplink may send a burst then
	vm1.send(ports.Broadcast)
	synctest.Wait() // one at a time, so that counters do not depend on who comes first
	vm1.send(vm2.vnic.MAC())
	synctest.Wait()
	send(t, vm1.end, ports.Broadcast, ports.MAC{6, 0, 0, 0, 0, 9}) // spoofed
	synctest.Wait()
	send(t, vm2.end, ports.MAC{6, 0, 0, 0, 0, 7}, ports.MAC{6, 0, 0, 0, 0, 3}) // to nobody known, from behind vm2
	synctest.Wait()
	send(t, wire, sieveMAC, ports.MAC{6, 0, 0, 0, 0, 4})
	synctest.Wait()
	vm1.talk(80)
	synctest.Wait()
	return l
}

func TestExpositionOfASmallHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := prodLab(t, &metrics.Config{SparseDrops: true})
		want, err := os.Open("testdata/small_host.prom")
		require.NoError(t, err)
		defer want.Close()
		require.NoError(t, testutil.GatherAndCompare(l.reg, want))
	})
}

func TestNamesFollowTheConventions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		problems, err := testutil.GatherAndLint(prodLab(t, nil).reg)
		require.NoError(t, err)
		require.Empty(t, problems)
	})
}

func TestDescribeIsWhatCollectSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := prodLab(t, nil)
		ch := make(chan *prometheus.Desc, 100)
		metrics.NewCollector(l.host, nil).Describe(ch)
		close(ch)
		all := l.gather()
		n := 0
		for d := range ch {
			n++
			found := false
			for name := range all {
				found = found || strings.Contains(d.String(), `"`+name+`"`)
			}
			require.True(t, found, "%v", d)
		}
		require.Len(t, all, n, "the pedantic registry refuses what is not described")
	})
}

func TestEveryFamilyIsDocumented(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		doc, err := os.ReadFile("doc.go")
		require.NoError(t, err)
		for name := range prodLab(t, nil).gather() {
			require.Regexp(t, `\b`+name+`\b`, string(doc))
		}
	})
}

func TestVNICComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		sw := l.newSwitch("lab", nil)
		l.hasValue(0, "hvswitch_switch_ports", "switch", "lab")

		vm := l.guest("vm1", vswitch.VNICConfig{Switch: "lab"})
		vm.send(ports.Broadcast)
		l.hasValue(1, "hvswitch_switch_ports", "switch", "lab")
		l.hasValue(1, "hvswitch_port_receive_frames_total", "port", "vm1", "switch", "lab")
		l.hasValue(1, "hvswitch_host_mac_pool_used_addresses")

		require.NoError(t, sw.Close())
		l.hasNo("hvswitch_switch_ports")
		l.hasValue(0, "hvswitch_port_connected", "port", "vm1", "switch", "lab")
		l.hasValue(1, "hvswitch_port_receive_frames_total", "port", "vm1", "switch", "lab")

		require.NoError(t, vm.vnic.Close())
		l.hasNo("hvswitch_port_connected")
		l.hasValue(0, "hvswitch_host_mac_pool_used_addresses")

		l.newSwitch("lab", nil)
		l.guest("vm1", vswitch.VNICConfig{Switch: "lab"})
		l.hasValue(0, "hvswitch_port_receive_frames_total", "port", "vm1", "switch", "lab")
	})
}

func TestUplinkComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		wire := l.nic("eth0", ports.PipeConfig{})
		l.hasValue(0, "hvswitch_port_connected", "port", "eth0", "switch", "")
		l.hasNo("hvswitch_port_link_speed_bytes_per_second")

		l.newSwitch("prod", &vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
		l.hasValue(1, "hvswitch_port_connected", "port", "eth0", "switch", "prod")
		l.hasValue(1, "hvswitch_port_link_up", "port", "eth0")
		wire.SetLink(false)
		l.hasValue(0, "hvswitch_port_link_up", "port", "eth0")
	})
}

func TestClosedHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		l.newSwitch("lab", nil)
		l.guest("vm1", vswitch.VNICConfig{Switch: "lab"})
		require.NoError(t, l.host.Close())
		require.Len(t, l.gather(), 2, "the MAC pool is left")
	})
}

func TestHostsShareARegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLabNamed(t, "", nil)
		l.newSwitch("lab", nil)
		other := newLabNamed(t, "host2", nil)
		other.newSwitch("lab", nil)
		require.NoError(t, l.reg.Register(metrics.NewCollector(other.host, nil)))
		l.hasValue(0, "hvswitch_switch_ports", "host", "", "switch", "lab")
		l.hasValue(0, "hvswitch_switch_ports", "host", "host2", "switch", "lab")

		err := l.reg.Register(metrics.NewCollector(other.host, nil))
		require.ErrorAs(t, err, new(prometheus.AlreadyRegisteredError))
	})
}

// Series share their labels, so what others add to one must not show at another.
func TestLabelsAddedByARegisterer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		l.newSwitch("lab", nil)
		l.guest("vm1", vswitch.VNICConfig{Switch: "lab"})
		l.reg = prometheus.NewPedanticRegistry()
		c := metrics.NewCollector(l.host, nil)
		for _, zone := range []string{"a", "b"} {
			labels := prometheus.Labels{"zone": zone, "building": zone}
			require.NoError(t, prometheus.WrapRegistererWith(labels, l.reg).Register(c))
		}
		for _, zone := range []string{"a", "b"} {
			l.hasValue(1, "hvswitch_port_connected", "building", zone, "port", "vm1", "switch", "lab", "zone", zone)
		}
		problems, err := testutil.GatherAndLint(l.reg)
		require.NoError(t, err)
		require.Empty(t, problems)
	})
}

func TestOddNamesStayApart(t *testing.T) {
	names := []string{
		`quote"back\slash`, "new\nline", "Größe 円", "\x00", " ", "{}=,",
		"\xff", "\xfe", "\xff\xfe", "�", "�00", "�ff", "�00ff", "��", "\xff00", "a\xe5\x86", "a\xe5",
	}
	synctest.Test(t, func(t *testing.T) {
		l := newLabNamed(t, "\xff", nil)
		for _, name := range names {
			l.newSwitch(name, &vswitch.SwitchConfig{Extensions: []extension.Binding{{Name: name + "x", Extension: mine{}}}})
			l.guest(name, vswitch.VNICConfig{Switch: name})
		}
		all := l.gather()
		require.Len(t, all["hvswitch_port_connected"], len(names))
		require.Len(t, all["hvswitch_extension_failed"], len(names))
		for _, name := range names[:6] {
			_, ok := all.value("hvswitch_port_connected", "port", name, "switch", name, "host", "�ff")
			require.True(t, ok, "%q", name)
		}
		v, ok := all.value("hvswitch_port_connected", "port", "�ff�fe")
		require.True(t, ok)
		require.Equal(t, 1.0, v)
	})
}
