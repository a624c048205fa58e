package metrics_test

import (
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/metrics"
)

func compile(t testing.TB, cfg acl.Config) *acl.Policy {
	t.Helper()
	p, err := acl.Compile(&cfg)
	require.NoError(t, err)
	return p
}

// webPolicy tracks what the guest opens, and meters it.
func webPolicy(t testing.TB) *acl.Policy {
	return compile(t, acl.Config{
		Basic: []acl.BasicRule{
			{Direction: acl.Both, Action: acl.Allow, Side: acl.Remote, Any: acl.AnyMAC},
			{Name: "site", Direction: acl.Both, Action: acl.Meter, Side: acl.Remote, Prefix: netip.MustParsePrefix("10.0.0.9/8")},
			{Name: "world", Direction: acl.Out, Action: acl.Meter, Side: acl.Remote, Any: acl.AnyIP},
		},
		Extended: []acl.ExtendedRule{{Direction: acl.Out, Action: acl.Allow, Stateful: true}},
	})
}

func (g *guest) talk(port uint16) {
	g.t.Helper()
	require.NoError(g.t, g.end.WriteFrame(g.t.Context(), g.datagram(port)))
}

// datagram is one of UDP from 10.0.0.1 to 10.0.0.2 in a frame of 64 bytes.
func (g *guest) datagram(port uint16) []byte {
	g.t.Helper()
	mac := g.vnic.MAC()
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP,
		SrcIP: netip.MustParseAddr("10.0.0.1").AsSlice(), DstIP: netip.MustParseAddr("10.0.0.2").AsSlice(),
	}
	udp := &layers.UDP{SrcPort: 1000, DstPort: layers.UDPPort(port)}
	require.NoError(g.t, udp.SetNetworkLayerForChecksum(ip))
	b := gopacket.NewSerializeBuffer()
	require.NoError(g.t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: mac[:], DstMAC: ports.Broadcast[:], EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(make([]byte, 22))))
	return b.Bytes()
}

func TestMetersFollowThePolicy(t *testing.T) {
	const frames = "hvswitch_acl_meter_frames_total"
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		l.newSwitch("lab", nil)
		vm := l.guest("vm1", vswitch.VNICConfig{Switch: "lab", ACL: webPolicy(t)})
		vm.talk(80)
		vm.talk(81)
		l.hasValue(2, frames, "port", "vm1", "rule", "site", "side", "remote", "address", "10.0.0.0/8", "direction", "out")
		l.hasValue(0, frames, "port", "vm1", "rule", "site", "direction", "in")
		l.hasValue(128, "hvswitch_acl_meter_bytes_total", "port", "vm1", "rule", "site", "direction", "out")
		l.hasValue(2, "hvswitch_acl_connections", "port", "vm1")
		l.hasNo(frames, "rule", "world", "direction", "in")

		cfg := vm.vnic.Config()
		cfg.ACL = compile(t, acl.Config{
			Basic: []acl.BasicRule{{
				Name: "renamed", Direction: acl.Both, Action: acl.Meter, Side: acl.Remote, Prefix: netip.MustParsePrefix("10.0.0.0/8"),
			}},
			Connections: 10,
		})
		require.NoError(t, vm.vnic.SetConfig(cfg))
		l.hasValue(2, frames, "port", "vm1", "rule", "renamed", "direction", "out")
		l.hasNo(frames, "rule", "site")
		l.hasValue(10, "hvswitch_acl_connections_limit", "port", "vm1")

		cfg.ACL = nil
		require.NoError(t, vm.vnic.SetConfig(cfg))
		l.hasNo(frames)
		l.hasNo("hvswitch_acl_connections")
	})
}

// Two meters may differ in nothing but their direction, or their side.
func TestMetersOfOneAddressStayApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		l.newSwitch("lab", nil)
		var rules []acl.BasicRule
		for _, d := range []acl.Direction{acl.Out, acl.In} {
			for _, s := range []acl.Side{acl.Local, acl.Remote} {
				rules = append(rules, acl.BasicRule{Direction: d, Action: acl.Meter, Side: s, Any: acl.AnyIP})
			}
		}
		l.guest("vm1", vswitch.VNICConfig{Switch: "lab", ACL: compile(t, acl.Config{Basic: rules})})
		require.Len(t, l.gather()["hvswitch_acl_meter_frames_total"], len(rules))
	})
}

func TestLimitOfConnectionsByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		l.newSwitch("lab", nil)
		p := compile(t, acl.Config{Extended: []acl.ExtendedRule{{Direction: acl.Both, Action: acl.Allow, Stateful: true}}})
		l.guest("vm1", vswitch.VNICConfig{Switch: "lab", ACL: p})
		l.hasValue(65536, "hvswitch_acl_connections_limit", "port", "vm1")
	})
}

// The copy of its rules that a policy gives may be large.
func TestRulesOfAPolicyAreReadOnce(t *testing.T) {
	l := newLab(t, nil)
	l.newSwitch("lab", nil)
	cfg := acl.Config{Extended: make([]acl.ExtendedRule, 2000)}
	for i := range cfg.Extended {
		local := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
		cfg.Extended[i] = acl.ExtendedRule{Direction: acl.Out, Action: acl.Allow, Local: []netip.Prefix{local}}
	}
	l.guest("vm1", vswitch.VNICConfig{Switch: "lab", ACL: compile(t, cfg)})
	c := metrics.NewCollector(l.host, nil)
	collect(c)
	require.Less(t, testing.AllocsPerRun(10, func() { collect(c) }), 200.0)
}
