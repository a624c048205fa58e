package vswitch_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
)

func TestTagsAreInsertedOnTheUplinkAndRemovedAtAccessPorts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, plain := externalLab(t, 1)
		red, blue := l.member("red", vlan.Access(10)), l.member("blue", vlan.Access(20))

		red.send(ports.Broadcast, "red")
		blue.send(ports.Broadcast, "blue")
		plain[0].send(ports.Broadcast, "plain")
		require.ElementsMatch(t, []string{"VLAN 10: red", "VLAN 20: blue", "plain"}, wire.got())
		l.nobodyGot(red, blue, plain[0])

		wire.sendRaw(
			tagged(frame(ports.Broadcast, wire.mac, "in 10"), tpidQ, 10),
			tagged(frame(blue.mac, wire.mac, "in 20"), tpidQ, 20),
			tagged(frame(blue.mac, wire.mac, "in 10 to whom 20 is"), tpidQ, 10),
			tagged(frame(ports.Broadcast, wire.mac, "in 30"), tpidQ, 30),
			frame(ports.Broadcast, wire.mac, "in none"),
		)
		l.everyoneGot([]string{"in 10", "in 10 to whom 20 is"}, red)
		l.everyoneGot([]string{"in 20"}, blue)
		l.everyoneGot([]string{"in none"}, plain[0])
		require.Equal(t, drops{vswitch.DropNoDestination: 1}, wire.drops())

		red.send(wire.mac, "known in 10")
		l.settle()
		blue.send(wire.mac, "known in 20")
		require.Equal(t, []string{"VLAN 10: known in 10", "VLAN 20: known in 20"}, wire.got())
	})
}

func TestATrunkCarriesWhatItAllowsAndItsNativeVLANUntagged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, plain := externalLab(t, 1)
		trunk := l.member("trunk", vlan.Trunk(5, ids("10-11"), nil))
		five, ten, twelve := l.member("five", vlan.Access(5)), l.member("ten", vlan.Access(10)), l.member("twelve", vlan.Access(12))

		for _, s := range []*station{five, ten, twelve, plain[0]} {
			s.send(ports.Broadcast, "of "+s.end.Info().Name)
			l.settle()
		}
		require.Equal(t, []string{"of five", "VLAN 10: of ten"}, trunk.got())
		drain(wire)

		all := func(text string) []byte { return frame(ports.Broadcast, trunk.mac, text) }
		trunk.sendRaw(
			all("native"),
			tagged(all("priority is no VLAN"), tpidQ, 6<<13),
			tagged(all("allowed"), tpidQ, 10),
			tagged(all("allowed, but nobody is there"), tpidQ, 11),
			tagged(all("not allowed"), tpidQ, 12),
			tagged(all("the native VLAN is not among the allowed"), tpidQ, 5),
			tagged(all("reserved"), tpidQ, 4095),
			tagged(all("a service tag"), tpidAD, 10),
		)
		l.everyoneGot([]string{"native", "priority is no VLAN"}, five)
		l.everyoneGot([]string{"allowed"}, ten)
		l.nobodyGot(twelve, plain[0])
		require.Equal(t, []string{"VLAN 5: native", "VLAN 5: priority is no VLAN", "VLAN 10: allowed", "VLAN 11: allowed, but nobody is there"}, wire.got())
		require.Equal(t, drops{
			vswitch.DropVLANNotAllowed: 2, vswitch.DropInvalidVLAN: 1, vswitch.DropWrongTPID: 1,
		}, trunk.drops())
	})
}

func TestATrunkWithoutANativeVLANTakesTagsOnly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, plain := externalLab(t, 1)
		trunk := l.member("trunk", vlan.Trunk(0, ids("10"), nil))
		trunk.sendRaw(
			frame(ports.Broadcast, trunk.mac, "untagged"),
			tagged(frame(ports.Broadcast, trunk.mac, "priority"), tpidQ, 7<<13),
			tagged(frame(ports.Broadcast, trunk.mac, "tagged"), tpidQ, 10),
		)
		require.Equal(t, []string{"VLAN 10: tagged"}, wire.got())
		require.Equal(t, drops{vswitch.DropUntagged: 2}, trunk.drops())
		plain[0].send(ports.Broadcast, "untagged")
		l.nobodyGot(trunk)
	})
}

func TestATrunkCanJoinTheUntaggedVLAN(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 1)
		trunk := l.member("trunk", vlan.Trunk(0, ids("10"), &vlan.TrunkOptions{Untagged: true}))
		trunk.send(vm[0].mac, "down")
		vm[0].send(trunk.mac, "up")
		l.everyoneGot([]string{"down"}, vm[0])
		l.everyoneGot([]string{"up"}, trunk)
	})
}

// A trunk has its address in each VLAN in which it has spoken.
func TestATrunkIsKnownInEveryVLANItSpeaksIn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := privateLab(t, 0)
		trunk := l.member("trunk", vlan.Trunk(0, ids("10,20"), nil))
		ten, twenty, more := l.member("ten", vlan.Access(10)), l.member("twenty", vlan.Access(20)), l.member("more", vlan.Access(20))
		trunk.sendRaw(tagged(frame(ports.Broadcast, trunk.mac, "hello"), tpidQ, 10))
		l.everyoneGot([]string{"hello"}, ten)
		require.True(t, isKnown(ten, trunk.mac))
		require.False(t, isKnown(twenty, trunk.mac))
		trunk.sendRaw(tagged(frame(twenty.mac, trunk.mac, "hello"), tpidQ, 20))
		l.settle()
		drain(more)
		twenty.send(trunk.mac, "to you alone")
		l.nobodyGot(more)
	})
}

func TestQinQTrunksCarryInnerTagsUntouched(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, _ := externalLab(t, 0)
		o := &vlan.TrunkOptions{QinQ: true}
		a, b := l.member("a", vlan.Trunk(0, ids("10"), o)), l.member("b", vlan.Trunk(0, ids("10"), o))
		customer := l.member("customer", vlan.Trunk(0, ids("10,33"), nil))
		access := l.member("access", vlan.Access(10))
		a.sendRaw(tagged(frame(ports.Broadcast, a.mac, "x"), tpidAD, 10, tpidQ, 33))
		l.nobodyGot(wire, customer, access)
		got := b.received()
		require.Len(t, got, 1)
		require.Equal(t, ports.Tag{TPID: tpidAD, TCI: 10}, got[0].VLAN)
		require.Equal(t, tagged(frame(ports.Broadcast, a.mac, "x"), tpidQ, 33), got[0].Head())
		for _, s := range []*station{wire, customer, access} {
			require.Equal(t, drops{vswitch.DropNotMember: 1}, s.drops(), s.end.Info().Name)
		}
	})
}

func TestPriorityIsKeptOrZeroedByThePort(t *testing.T) {
	const prio = 5<<13 | 1<<12 // PCP and DEI
	for _, c := range []struct {
		name     string
		from     vlan.Mode
		sent     uint16 // TCI of the tag
		keep     bool
		to       vlan.Mode
		tell     bool
		received ports.Tag
	}{
		{"zeroed between untagged", vlan.Untagged(), prio, false, vlan.Untagged(), true, ports.Tag{}},
		{"kept between untagged", vlan.Untagged(), prio, true, vlan.Untagged(), true, ports.Tag{TPID: tpidQ, TCI: prio}},
		{"kept, not told, between untagged", vlan.Untagged(), prio, true, vlan.Untagged(), false, ports.Tag{}},
		{"zeroed between access", vlan.Access(10), prio, false, vlan.Access(10), true, ports.Tag{}},
		{"kept between access", vlan.Access(10), prio, true, vlan.Access(10), true, ports.Tag{TPID: tpidQ, TCI: prio}},
		{"kept, not told, between access", vlan.Access(10), prio, true, vlan.Access(10), false, ports.Tag{}},
		{"kept, from access to trunk", vlan.Access(10), prio, true, vlan.Trunk(0, ids("10"), nil), false, ports.Tag{TPID: tpidQ, TCI: prio | 10}},
		{"zeroed, from access to trunk", vlan.Access(10), prio, false, vlan.Trunk(0, ids("10"), nil), false, ports.Tag{TPID: tpidQ, TCI: 10}},
		{"kept, from trunk to trunk", vlan.Trunk(0, ids("10"), nil), prio | 10, true, vlan.Trunk(0, ids("10"), nil), false, ports.Tag{TPID: tpidQ, TCI: prio | 10}},
		{"zeroed, from trunk to trunk", vlan.Trunk(0, ids("10"), nil), prio | 10, false, vlan.Trunk(0, ids("10"), nil), false, ports.Tag{TPID: tpidQ, TCI: 10}},
		{"kept, to the native VLAN", vlan.Trunk(0, ids("10"), nil), prio | 10, true, vlan.Trunk(10, ids("11"), nil), true, ports.Tag{TPID: tpidQ, TCI: prio}},
		{"kept, isolated to promiscuous", vlan.Isolated(10, 20), prio, true, vlan.Promiscuous(10, ids("20")), true, ports.Tag{TPID: tpidQ, TCI: prio}},
		{"no priority makes no tag", vlan.Access(10), 0, true, vlan.Access(10), true, ports.Tag{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, _ := privateLab(t, 0)
				from := l.guest("from", vswitch.VNICConfig{Switch: "lab", VLAN: c.from, IEEEPriorityTag: c.keep})
				to := l.guest("to", vswitch.VNICConfig{Switch: "lab", VLAN: c.to, IEEEPriorityTag: c.tell})
				from.sendRaw(tagged(frame(to.mac, from.mac, "x"), tpidQ, c.sent))
				from.sendRaw(tagged(frame(ports.Broadcast, from.mac, "x"), tpidQ, c.sent))
				got := to.received()
				require.Len(t, got, 2)
				require.Equal(t, c.received, got[0].VLAN)
				require.Equal(t, c.received, got[1].VLAN)
			})
		})
	}
}

func TestPriorityOfTheUplinkIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, _ := externalLab(t, 0)
		vm := l.guest("vm", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(10), IEEEPriorityTag: true})
		wire.sendRaw(tagged(frame(vm.mac, wire.mac, "in"), tpidQ, 6<<13|10))
		got := vm.received()
		require.Len(t, got, 1)
		require.Equal(t, ports.Tag{TPID: tpidQ, TCI: 6 << 13}, got[0].VLAN)
		vm.sendRaw(tagged(frame(wire.mac, vm.mac, "out"), tpidQ, 3<<13))
		got = wire.received()
		require.Len(t, got, 1)
		require.Equal(t, ports.Tag{TPID: tpidQ, TCI: 3<<13 | 10}, got[0].VLAN)
	})
}

// A burst mixes frames with and without VLAN, priority and destination; each leaves with its own tag.
func TestFramesOfABurstKeepTheirOwnTags(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, plain := externalLab(t, 1)
		trunk := l.guest("trunk", vswitch.VNICConfig{
			Switch: "lab", VLAN: vlan.Trunk(0, ids("10,20"), &vlan.TrunkOptions{Untagged: true}), IEEEPriorityTag: true,
		})
		ten, twenty := l.member("ten", vlan.Access(10)), l.member("twenty", vlan.Access(20))
		var burst [][]byte
		var want []string
		for i := range 20 {
			dst := []ports.MAC{ports.Broadcast, wire.mac, stranger(7)}[i%3]
			b := frame(dst, trunk.mac, fmt.Sprint(i))
			switch i % 5 {
			case 0, 3:
				want = append(want, fmt.Sprint(i))
			case 1, 4:
				b = tagged(b, tpidQ, uint16(i)<<13|10)
				want = append(want, fmt.Sprintf("VLAN 10: %d", i))
			case 2:
				b = tagged(b, tpidQ, 20)
				want = append(want, fmt.Sprintf("VLAN 20: %d", i))
			}
			burst = append(burst, b)
		}
		wire.sendRaw(frame(trunk.mac, wire.mac, "known"), tagged(frame(ports.Broadcast, wire.mac, "known"), tpidQ, 10))
		drain(trunk, ten, twenty, plain[0])
		trunk.sendRaw(burst...)
		require.Equal(t, want, wire.got())
		require.ElementsMatch(t, []string{"6", "9", "11", "14"}, ten.got(), "1, 4, 16 and 19 go to the wire alone")
		require.ElementsMatch(t, []string{"2", "7", "12", "17"}, twenty.got())
		require.ElementsMatch(t, []string{"0", "3", "5", "8", "15", "18"}, plain[0].got(), "10 and 13 go to the wire alone")
	})
}

func TestTheVLANOfAManagementVNICIsItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 1)
		host := l.guest("host", vswitch.VNICConfig{Switch: "lab", Management: true, VLAN: vlan.Access(10)})
		second := l.guest("second", vswitch.VNICConfig{Switch: "lab", Management: true, VLAN: vlan.Access(20)})
		host.send(ports.Broadcast, "management")
		vm[0].send(ports.Broadcast, "guest")
		require.ElementsMatch(t, []string{"VLAN 10: management", "guest"}, wire.got())
		l.nobodyGot(vm[0], host, second)

		host.reconfigure(func(c *vswitch.VNICConfig) { c.VLAN = vlan.Untagged() })
		vm[0].send(host.mac, "now together")
		l.everyoneGot([]string{"now together"}, host)
		l.nobodyGot(second, wire)
	})
}

// A hop is what a guest could send to get a frame into a VLAN that is not its own, here 66.
func TestNoTrickCrossesVLANs(t *testing.T) {
	hops := map[string][]uint16{
		"the victim's tag":                   {tpidQ, 66},
		"the victim's service tag":           {tpidAD, 66},
		"a double tag of the own VLAN":       {tpidQ, 10, tpidQ, 66},
		"a double tag of VLAN 1":             {tpidQ, 1, tpidQ, 66},
		"a service tag in front":             {tpidAD, 10, tpidQ, 66},
		"a service tag behind":               {tpidQ, 10, tpidAD, 66},
		"a priority tag in front":            {tpidQ, 7 << 13, tpidQ, 66},
		"a service priority tag in front":    {tpidAD, 7 << 13, tpidQ, 66},
		"two priority tags in front":         {tpidQ, 0, tpidQ, 0, tpidQ, 66},
		"three tags":                         {tpidQ, 10, tpidQ, 10, tpidQ, 66},
		"VLAN 4095":                          {tpidQ, 4095},
		"VLAN 4095 in front":                 {tpidQ, 4095, tpidQ, 66},
		"the DEI bit in the tag":             {tpidQ, 1<<12 | 66},
		"all priority bits in the tag":       {tpidQ, 0xf<<12 | 66},
		"a native tag in front":              {tpidQ, 5, tpidQ, 66},
		"a native service tag in front":      {tpidAD, 5, tpidQ, 66},
		"an old QinQ tag in front":           {0x9100, 10, tpidQ, 66},
		"the primary VLAN in front":          {tpidQ, 30, tpidQ, 66},
		"the own secondary VLAN in front":    {tpidQ, 31, tpidQ, 66},
		"two tags of the victim":             {tpidQ, 66, tpidQ, 66},
		"a priority tag behind the victim's": {tpidQ, 66, tpidQ, 7 << 13},
	}
	senders := map[string]vlan.Mode{
		"untagged":                          vlan.Untagged(),
		"access":                            vlan.Access(10),
		"isolated":                          vlan.Isolated(30, 31),
		"community":                         vlan.Community(30, 32),
		"promiscuous":                       vlan.Promiscuous(30, ids("31-32")),
		"trunk":                             vlan.Trunk(5, ids("10"), nil),
		"trunk that allows its native VLAN": vlan.Trunk(5, ids("5,10"), nil),
		"trunk of tags only":                vlan.Trunk(0, ids("5,10"), nil),
		"trunk of VLAN 1":                   vlan.Trunk(1, ids("1,10"), nil),
		"QinQ trunk":                        vlan.Trunk(5, ids("5,10"), &vlan.TrunkOptions{QinQ: true}),
		"QinQ trunk of customer tags":       vlan.Trunk(5, ids("5,10"), &vlan.TrunkOptions{QinQ: true, TPID: tpidQ}),
	}
	for from, mode := range senders {
		t.Run(from, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, wire, plain := externalLab(t, 1)
				attacker := l.member("attacker", mode)
				victim := l.member("victim", vlan.Access(66))
				victims := l.member("victims", vlan.Trunk(66, ids("66-67"), nil))
				bystanders := []*station{
					plain[0], wire, l.member("ten", vlan.Access(10)), l.member("primary", vlan.Access(30)),
					l.member("native", vlan.Trunk(10, ids("5,66"), nil)), l.member("tags", vlan.Trunk(0, ids("5,10,66"), nil)),
					l.member("native five", vlan.Trunk(5, ids("5,10,66"), nil)),
				}
				for hop, tags := range hops {
					for _, dst := range []ports.MAC{ports.Broadcast, victim.mac, stranger(5)} {
						attacker.sendRaw(tagged(frame(dst, attacker.mac, "hop"), tags...))
					}
					require.Empty(t, victim.got(), hop)
					require.Empty(t, victims.got(), hop)
					for _, s := range bystanders {
						for _, f := range s.received() {
							requireNotInVLAN(t, 66, f, "%s: at %s", hop, s.end.Info().Name)
						}
					}
				}
				attacker.reconfigure(func(c *vswitch.VNICConfig) { c.VLAN = vlan.Access(66) })
				attacker.send(victim.mac, "the victim is there")
				l.everyoneGot([]string{"the victim is there"}, victim)
			})
		})
	}
}

// requireNotInVLAN checks that whoever reads a frame from the outside in takes it for one of another
// VLAN, and that it does not show an inner tag outermost.
func requireNotInVLAN(t *testing.T, vid uint16, f *ports.Frame, format string, args ...any) {
	t.Helper()
	b := f.Head()
	outer := f.VLAN.TCI
	if f.VLAN.TPID == 0 || f.VLAN.VID() == 0 {
		ethertype := binary.BigEndian.Uint16(b[12:])
		require.False(t, vlan.IsTPID(ethertype), "%s: % x shows a tag", fmt.Sprintf(format, args...), b)
		return
	}
	require.NotEqual(t, vid, vlan.VID(outer), fmt.Sprintf(format, args...))
}

func TestTaggedFramesOfGuestsAreDroppedAndCounted(t *testing.T) {
	for name, c := range map[string]struct {
		mode vlan.Mode
		tags []uint16
		why  vswitch.DropReason
	}{
		"tag at untagged":               {vlan.Untagged(), []uint16{tpidQ, 10}, vswitch.DropTagged},
		"its own tag at access":         {vlan.Access(10), []uint16{tpidQ, 10}, vswitch.DropTagged},
		"double tag at access":          {vlan.Access(10), []uint16{tpidQ, 10, tpidQ, 66}, vswitch.DropTagged},
		"behind priority at access":     {vlan.Access(10), []uint16{tpidQ, 0, tpidQ, 66}, vswitch.DropNestedTag},
		"VLAN 4095 at access":           {vlan.Access(10), []uint16{tpidQ, 4095}, vswitch.DropTagged},
		"primary at isolated":           {vlan.Isolated(10, 20), []uint16{tpidQ, 10}, vswitch.DropTagged},
		"its own secondary at isolated": {vlan.Isolated(10, 20), []uint16{tpidQ, 20}, vswitch.DropTagged},
		"secondary at promiscuous":      {vlan.Promiscuous(10, ids("20")), []uint16{tpidQ, 20}, vswitch.DropTagged},
		"double tag at trunk":           {vlan.Trunk(10, ids("10"), nil), []uint16{tpidQ, 10, tpidQ, 66}, vswitch.DropNestedTag},
		"VLAN 4095 at trunk":            {vlan.Trunk(10, vlan.AllIDs(), nil), []uint16{tpidQ, 4095}, vswitch.DropInvalidVLAN},
		"service tag at trunk":          {vlan.Trunk(10, vlan.AllIDs(), nil), []uint16{tpidAD, 10}, vswitch.DropWrongTPID},
		"customer tag at QinQ":          {vlan.Trunk(10, vlan.AllIDs(), &vlan.TrunkOptions{QinQ: true}), []uint16{tpidQ, 10}, vswitch.DropWrongTPID},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, wire, _ := externalLab(t, 0)
				vm, ten := l.member("vm", c.mode), l.member("ten", vlan.Access(10))
				vm.sendRaw(tagged(frame(ports.Broadcast, vm.mac, "x"), c.tags...))
				l.nobodyGot(wire, ten)
				require.Equal(t, drops{c.why: 1}, vm.drops())
			})
		})
	}
}

func TestBadModesAreRefusedByVNICAndField(t *testing.T) {
	for _, c := range []struct {
		mode vlan.Mode
		says string
	}{
		{vlan.Access(0), `vNIC "vm": VLAN: access: VLAN 0 is out of 1–4094`},
		{vlan.Access(4095), `vNIC "vm": VLAN: access: VLAN 4095 is out of 1–4094`},
		{vlan.Access(65535), `vNIC "vm": VLAN: access: VLAN 65535 is out of 1–4094`},
		{vlan.Trunk(4095, ids("1"), nil), `vNIC "vm": VLAN: trunk: native VLAN 4095 is out of 1–4094`},
		{vlan.Trunk(0, vlan.Set{}, nil), `vNIC "vm": VLAN: trunk: allowed VLANs are missing, and there is no native VLAN`},
		{vlan.Trunk(5, ids("1"), &vlan.TrunkOptions{Untagged: true}), `vNIC "vm": VLAN: trunk: native VLAN 5 excludes the untagged VLAN`},
		{vlan.Trunk(5, ids("1"), &vlan.TrunkOptions{TPID: 0x9100}), `vNIC "vm": VLAN: trunk: TPID 0x9100 is neither 0x8100 nor 0x88a8`},
		{vlan.Isolated(0, 20), `vNIC "vm": VLAN: isolated: primary VLAN 0 is out of 1–4094`},
		{vlan.Isolated(10, 4095), `vNIC "vm": VLAN: isolated: secondary VLAN 4095 is out of 1–4094`},
		{vlan.Community(10, 10), `vNIC "vm": VLAN: community: secondary VLAN 10 is the primary VLAN too`},
		{vlan.Promiscuous(10, vlan.Set{}), `vNIC "vm": VLAN: promiscuous: secondary VLANs are missing`},
		{vlan.Promiscuous(10, ids("9-11")), `vNIC "vm": VLAN: promiscuous: secondary VLAN 10 is the primary VLAN too`},
	} {
		t.Run(c.says, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, _ := privateLab(t, 0)
				other := l.member("other", vlan.Access(7))
				a, b := l.pipe(ports.PipeConfig{})
				for _, sw := range []string{"lab", "", "of tomorrow"} {
					_, err := l.host.NewVNIC("vm", a, &vswitch.VNICConfig{Switch: sw, VLAN: c.mode})
					require.EqualError(t, err, c.says+": invalid configuration")
					require.ErrorIs(t, err, vswitch.ErrInvalid)
					var of *vlan.ModeError
					require.ErrorAs(t, err, &of)
				}
				require.Nil(t, l.host.VNIC("vm"))
				require.False(t, isClosed(b), "the backend is still the caller's")

				vm, err := l.host.NewVNIC("vm", a, &vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(7)})
				require.NoError(t, err)
				before := vm.Config()
				bad := before
				bad.VLAN, bad.Notes = c.mode, "changed"
				require.EqualError(t, vm.SetConfig(bad), c.says+": invalid configuration")
				require.True(t, before.VLAN.Equal(vm.Config().VLAN))
				require.Empty(t, vm.Config().Notes)
				other.send(vm.MAC(), "still in VLAN 7")
				l.everyoneGot([]string{"still in VLAN 7"}, &station{lab: l, end: b, vnic: vm})
			})
		})
	}
}

func TestThePriorityOfAnUntaggedFrameReachesTheWire(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		host, err := vswitch.NewHost(&vswitch.HostConfig{Workers: 1})
		require.NoError(t, err)
		defer host.Close()
		wire, uplink, err := ports.Pipe(nil)
		require.NoError(t, err)
		_, err = host.AddNIC("eth0", uplink)
		require.NoError(t, err)
		_, err = host.NewSwitch("lab", &vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
		require.NoError(t, err)
		guest, port, err := ports.Pipe(nil)
		require.NoError(t, err)
		vm, err := host.NewVNIC("vm", port, &vswitch.VNICConfig{Switch: "lab", IEEEPriorityTag: true})
		require.NoError(t, err)

		mac := vm.MAC()
		sent := append(append(ports.Broadcast[:], mac[:]...), 0x81, 0x00, 0xa0, 0x00, 0x88, 0xb5, 'p')
		require.NoError(t, guest.WriteFrame(t.Context(), sent))
		buf := make([]byte, 64)
		n, err := wire.ReadFrame(t.Context(), buf)
		require.NoError(t, err)
		require.Equal(t, sent, buf[:n], "with the tag of priority 5 and no VLAN")
	})
}
