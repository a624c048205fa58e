package vswitch_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

func TestABadPolicyIsRefusedAndChangesNothing(t *testing.T) {
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	type change = func(c *vswitch.VNICConfig)
	for name, c := range map[string]struct {
		change change
		says   []string
	}{
		"host bits":          {func(c *vswitch.VNICConfig) { c.Addresses = prefix("10.0.0.1/24") }, []string{"address", "10.0.0.1/24", "10.0.0.0/24"}},
		"not an address":     {func(c *vswitch.VNICConfig) { c.Addresses = make([]netip.Prefix, 1) }, []string{"address", "invalid Prefix"}},
		"group address":      {func(c *vswitch.VNICConfig) { c.Addresses = prefix("224.0.0.1/32") }, []string{"address", "224.0.0.1/32", "no station"}},
		"mapped address":     {func(c *vswitch.VNICConfig) { c.Addresses = prefix("::ffff:10.0.0.1/128") }, []string{"address", "::ffff:10.0.0.1/128", "IPv4"}},
		"unspecified":        {func(c *vswitch.VNICConfig) { c.Addresses = prefix("::/128") }, []string{"address", "::/128", "no station"}},
		"negative limit":     {func(c *vswitch.VNICConfig) { c.MaxDynamicAddresses = -1 }, []string{"dynamic addresses", "-1", "1–4096"}},
		"limit too high":     {func(c *vswitch.VNICConfig) { c.MaxDynamicAddresses = 4097 }, []string{"dynamic addresses", "4097", "1–4096"}},
		"group MAC":          {func(c *vswitch.VNICConfig) { c.MAC = ports.Broadcast }, []string{"MAC", "group"}},
		"learned addresses":  {func(c *vswitch.VNICConfig) { c.MaxAddresses = -1 }, []string{"addresses", "-1", "out of"}},
		"VLAN out of bounds": {func(c *vswitch.VNICConfig) { c.VLAN = vlan.Access(4095) }, []string{"VLAN", "4095"}},
	} {
		for guard, on := range map[string]change{
			"no guard":     func(*vswitch.VNICConfig) {},
			"DHCP guard":   func(c *vswitch.VNICConfig) { c.DHCPGuard = true },
			"source guard": func(c *vswitch.VNICConfig) { c.IPSourceGuard = true },
		} {
			t.Run(name+", "+guard, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					l, vm := privateLab(t, 2)
					vm[0].obeys(clientOnly(0))
					vm[0].passes(vm[1], datagram(vm[0], vm[1], 1, 2))
					before, mac := vm[0].vnic.Config(), vm[0].mac
					wrong := vm[0].vnic.Config()
					on(&wrong)
					c.change(&wrong)
					err := vm[0].vnic.SetConfig(wrong)
					require.ErrorIs(t, err, vswitch.ErrInvalid)
					for _, part := range append(c.says, `vNIC "vm0"`) {
						require.ErrorContains(t, err, part)
					}
					require.Equal(t, before, vm[0].vnic.Config())
					require.Equal(t, mac, vm[0].vnic.MAC())
					vm[1].passes(vm[0], datagram(vm[1], vm[0], 2, 1), "its connections are as they were")

					a, b := l.pipe(ports.PipeConfig{})
					wrong.ID = ""
					_, err = l.host.NewVNIC("other", a, &wrong)
					require.ErrorIs(t, err, vswitch.ErrInvalid)
					require.ErrorContains(t, err, `vNIC "other"`)
					require.Nil(t, l.host.VNIC("other"))
					require.False(t, isClosed(b), "still the caller's")
					require.NoError(t, a.Close())
				})
			})
		}
	}
}

func TestABadACLIsRefusedByName(t *testing.T) {
	_, err := acl.Compile(&acl.Config{Extended: []acl.ExtendedRule{
		{Weight: 1, Direction: acl.In, Action: acl.Allow},
		{Name: "web", Direction: acl.In, Action: acl.Allow, LocalPorts: []acl.PortRange{{First: 90, Last: 80}}},
	}})
	for _, part := range []string{"extended rule 1", `"web"`, "LocalPorts", "first is above last"} {
		require.ErrorContains(t, err, part)
	}
}

// strict has every guard and a stateful ACL.
func strict(t testing.TB, c *vswitch.VNICConfig, addresses ...netip.Addr) {
	for _, a := range addresses {
		c.Addresses = append(c.Addresses, netip.PrefixFrom(a, a.BitLen()))
	}
	c.DHCPGuard, c.RouterGuard, c.IPSourceGuard, c.ARPInspection = true, true, true, true
	c.MaxDynamicAddresses, c.StormLimit = 16, 1<<31
	c.ACL = policyOf(t, acl.Config{
		Basic: []acl.BasicRule{{Direction: acl.Both, Action: acl.Meter, Side: acl.Remote, Any: acl.AnyIP}},
		Extended: []acl.ExtendedRule{
			{Weight: 9, Direction: acl.Out, Action: acl.Allow, Stateful: true},
			{Weight: 8, Direction: acl.In, Action: acl.Allow, Protocol: acl.UDP, LocalPorts: []acl.PortRange{{First: 1, Last: 1000}}, Stateful: true},
			{Weight: 1, Direction: acl.Both, Action: acl.Deny},
		}})
}

func TestNothingIsAllocatedForAFrameUnderAllPolicies(t *testing.T) {
	l, vm := privateLab(t, 3)
	for _, s := range vm {
		s.reconfigure(func(c *vswitch.VNICConfig) { strict(t, c, s.ip4(), s.ip6()) })
	}
	all := &station{lab: l, end: vm[1].end, mac: ports.Broadcast}
	last := datagram(vm[0], vm[1], 1000, 53)
	for _, c := range []struct {
		name    string
		wire    []byte
		arrives int // at the others, of 63
		flooded int
	}{
		{"UDP", datagram(vm[0], vm[1], 1000, 54), 63, 0},
		{"IPv6", over6(vm[0], vm[1], layers.IPProtocolUDP, &layers.UDP{SrcPort: 7, DstPort: 53}), 63, 0},
		{"flood", datagram(vm[0], all, 1000, 53), 63, 63},
		{"ARP", arp(vm[0], 1, vm[0].mac, vm[0].ip4(), vm[1].ip4()), 63, 63},
		{"denied where it comes from", tcpSegment(vm[0], vm[1], 1, 2, "A", 1, 1), 0, 0},
		{"denied where it goes", datagram(vm[0], vm[1], 1000, 2000), 0, 0},
		{"DHCP server", datagram(vm[0], vm[1], 67, 68), 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			frames := make([]*ports.Frame, 64)
			for i := range frames {
				frames[i] = newFrame(c.wire)
			}
			frames[63] = newFrame(last)
			b := ports.NewBatch(64)
			take := func(s *station, n int) { s.takeInto(b, n) }
			round := func() {
				if n, err := vm[0].end.Tx(0).Send(frames); n != len(frames) {
					panic(err)
				}
				take(vm[1], c.arrives+1)
				take(vm[2], c.flooded)
			}
			for range 32 { // each slot of a ring gets its memory when it is used first
				round()
			}
			require.Zero(t, testing.AllocsPerRun(100, round))
		})
	}
}

// Whatever two guests say under changing policies, every frame is delivered or counted, once for each
// station that it was for.
func TestNoFrameIsLostUnaccounted(t *testing.T) {
	runs := uint64(60)
	if hurried() {
		runs = 10
	}
	for seed := range runs {
		inBubble(t, func(t *testing.T) { account(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func account(t *testing.T, r *rand.Rand) {
	l, vm := privateLab(t, 4)
	all := &station{lab: l, end: vm[1].end, mac: ports.Broadcast}
	change := func(s *station) {
		s.reconfigure(func(c *vswitch.VNICConfig) {
			*c = vswitch.VNICConfig{ID: c.ID, Switch: "lab"}
			if r.IntN(2) == 0 {
				strict(t, c, s.ip4())
			}
			c.DHCPGuard, c.RouterGuard = r.IntN(2) == 0, r.IntN(2) == 0
			c.IPSourceGuard, c.ARPInspection = r.IntN(4) == 0, r.IntN(2) == 0
			c.MaxDynamicAddresses, c.StormLimit = r.IntN(3), uint32(r.IntN(8))
		})
	}
	of := func(from, to *station) []byte {
		sport, dport := uint16(60+r.IntN(10)), uint16(60+r.IntN(10))
		var b []byte
		switch r.IntN(8) {
		case 0:
			b = tcpSegment(from, to, sport, dport, []string{"S", "SA", "A", "FA", "R"}[r.IntN(5)], 1, 1)
		case 1:
			b = echo(from, to, uint8(r.IntN(16)), 1)
		case 2:
			b = arp(from, uint16(1+r.IntN(2)), from.mac, vm[r.IntN(4)].ip4(), to.ip4())
		case 3:
			b = over6(from, to, layers.IPProtocolICMPv6, make8(r.IntN(6)))
			b[54] = byte(128 + r.IntN(12))
		case 4:
			b = over6(from, to, layers.IPProtocolUDP, &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: 547}, make8(1))
		default:
			b = datagram(from, to, sport, dport)
		}
		for range r.IntN(3) { // behind the addresses
			b[12+r.IntN(len(b)-12)] = byte(r.IntN(256))
		}
		if r.IntN(4) == 0 {
			b = b[:14+r.IntN(len(b)-13)]
		}
		return b
	}
	sent := map[*station]uint64{}
	due := map[*station]uint64{} // frames for it, would none be dropped where it came from
	for range 30 {
		switch r.IntN(4) {
		case 0:
			change(vm[r.IntN(4)])
		case 1:
			time.Sleep(time.Duration(r.IntN(2e9)))
		}
		from := vm[r.IntN(4)]
		for range 1 + r.IntN(20) {
			to := vm[(int(from.number())+r.IntN(3))%4]
			// Alone, so that what it became is known.
			if r.IntN(3) == 0 {
				to = all
			}
			before := from.stats().Dropped()
			b := of(from, to)
			if b[0]&1 != 0 {
				to = all
			}
			from.sendRaw(b)
			sent[from]++
			if from.stats().Dropped() != before {
				continue
			}
			for _, s := range vm {
				if s != from && (to == all || to == s) {
					due[s]++
				}
			}
		}
		drain(vm...)
	}
	atReceivers := []vswitch.DropReason{vswitch.DropACLIn, vswitch.DropNotMember, vswitch.DropQueueFull, vswitch.DropTooBig, vswitch.DropLinkDown}
	for _, s := range vm {
		st := s.stats()
		dropped := uint64(0)
		for _, why := range atReceivers {
			dropped += st.Drops[why]
		}
		require.Equal(t, sent[s], st.RxFrames)
		require.Equal(t, due[s], st.TxFrames+dropped, "%s: %v", st.Port, st.Drops)
		require.Zero(t, st.Drops[vswitch.DropQueueFull])
	}
}
