package vswitch_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// everyFieldSet fails when a field of a configuration has its zero value, so that a new setting
// cannot be forgotten here.
func everyFieldSet(t *testing.T, cfg any, except ...string) {
	v := reflect.ValueOf(cfg)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() {
			require.Contains(t, except, name, "the test does not set %T.%s", cfg, name)
		}
	}
}

func TestEverySettingIsReadBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		l.nic("eth0")
		sw := vswitch.SwitchConfig{
			ID: "sw-1", Type: vswitch.External, Uplink: "eth0", Notes: "to the world",
			Ageing: 17 * time.Second, MaxAddresses: 1234, Overlay: newEngine(t),
			QoS:        &vswitch.QoSConfig{LinkRate: 1e9, QueueBytes: 1 << 16},
			Extensions: []extension.Binding{{Name: "witness", Extension: &witness{}}},
		}
		everyFieldSet(t, sw)
		require.Equal(t, sw, l.newSwitch("lab", sw).Config())

		policy, err := acl.Compile(nil)
		require.NoError(t, err)
		vnic := vswitch.VNICConfig{
			ID: "vnic-1", Switch: "lab", Management: true, MAC: stranger(1), AllowSpoofing: true,
			BlockUnknownUnicast: true, Hairpin: true, MaxAddresses: 99, Notes: "of the host",
			VLAN: vlan.Access(7), IEEEPriorityTag: true, DHCPGuard: true, RouterGuard: true,
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32")}, IPSourceGuard: true, ARPInspection: true,
			AnyLinkLocal: true, MaxDynamicAddresses: 3, StormLimit: 1000, ACL: policy, ProtectedNetwork: true,
			Mirror: vswitch.MirrorDestination, MirrorTag: true, PassThrough: true, GuestTeam: "bond0",
			Bandwidth: vswitch.Bandwidth{MinWeight: 7, MaxRate: 1e9, Burst: 1 << 20},
			RSS:       &vswitch.RSSConfig{Key: make([]byte, 40), Table: []int{0, 0}, Hash: vswitch.RSSTCP4},
		}
		everyFieldSet(t, *vnic.RSS)
		everyFieldSet(t, vnic, "ExtensionState", "VSID") // the one is used up, the other does not go with a VLAN
		made := l.guest("made", vnic)
		require.Equal(t, vnic, made.vnic.Config())
		virtual := l.guest("virtual", vswitch.VNICConfig{Switch: "lab", VSID: 5001})
		require.Equal(t, overlay.VSID(5001), virtual.vnic.Config().VSID)
		require.NoError(t, virtual.vnic.Close())

		changed := l.guest("changed", vswitch.VNICConfig{})
		vnic.ID, vnic.MAC = changed.vnic.ID(), stranger(2)
		require.NoError(t, changed.vnic.SetConfig(vnic))
		require.Equal(t, vnic, changed.vnic.Config())

		for _, s := range []*station{made, changed} {
			s.reconfigure(func(c *vswitch.VNICConfig) { c.Bandwidth = vswitch.Bandwidth{} })
		}
		sw = vswitch.SwitchConfig{ID: "sw-1", Type: vswitch.Internal, Notes: "to the host", Ageing: time.Hour, MaxAddresses: 7}
		require.NoError(t, l.sw().SetConfig(sw))
		require.Equal(t, sw, l.sw().Config())
	})
}

func TestDefaultsAreReadBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		s, err := l.host.NewSwitch("lab", nil)
		require.NoError(t, err)
		require.Equal(t, vswitch.SwitchConfig{ID: s.ID(), Ageing: 300 * time.Second, MaxAddresses: 65536}, s.Config())
		a, _ := l.pipe(ports.PipeConfig{})
		v, err := l.host.NewVNIC("vm0", a, nil)
		require.NoError(t, err)
		require.Equal(t, vswitch.VNICConfig{ID: v.ID(), MaxAddresses: 1024}, v.Config())
	})
}

func TestAFailingChangeOfASwitchChangesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *vswitch.SwitchConfig)
		is     error
		says   string
	}{
		"ID":                 {func(c *vswitch.SwitchConfig) { c.ID = "another" }, vswitch.ErrInvalid, "cannot be changed"},
		"type":               {func(c *vswitch.SwitchConfig) { c.Type = 3 }, vswitch.ErrInvalid, "type"},
		"external alone":     {func(c *vswitch.SwitchConfig) { c.Uplink = "" }, vswitch.ErrInvalid, "an external switch needs an uplink"},
		"internal uplink":    {func(c *vswitch.SwitchConfig) { c.Type = vswitch.Internal }, vswitch.ErrInvalid, `uplink "eth0": a switch of type internal has none`},
		"private uplink":     {func(c *vswitch.SwitchConfig) { c.Type = vswitch.Private }, vswitch.ErrInvalid, `uplink "eth0": a switch of type private has none`},
		"unknown uplink":     {func(c *vswitch.SwitchConfig) { c.Uplink = "eth9" }, vswitch.ErrNotFound, `"eth9"`},
		"uplink in use":      {func(c *vswitch.SwitchConfig) { c.Uplink = "eth1" }, vswitch.ErrInUse, `uplink "eth1" is bound to switch "other"`},
		"uplink that cannot": {func(c *vswitch.SwitchConfig) { c.Uplink = "deaf" }, nil, `"deaf"`},
		"uplink of nonsense": {func(c *vswitch.SwitchConfig) { c.Uplink = "nonsense" }, vswitch.ErrInvalid, `uplink "nonsense"`},
		"ageing too short":   {func(c *vswitch.SwitchConfig) { c.Ageing = time.Millisecond }, vswitch.ErrInvalid, "ageing 1ms is out of 1 s–1,000,000 s"},
		"ageing too long":    {func(c *vswitch.SwitchConfig) { c.Ageing = 1_000_001 * time.Second }, vswitch.ErrInvalid, "out of 1 s–1,000,000 s"},
		"ageing negative":    {func(c *vswitch.SwitchConfig) { c.Ageing = -time.Second }, vswitch.ErrInvalid, "out of 1 s–1,000,000 s"},
		"no addresses":       {func(c *vswitch.SwitchConfig) { c.MaxAddresses = -1 }, vswitch.ErrInvalid, "maximum of -1 addresses"},
		"too many addresses": {func(c *vswitch.SwitchConfig) { c.MaxAddresses = 1<<22 + 1 }, vswitch.ErrInvalid, "out of 1–4194304"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, wire, vm := externalLab(t, 2)
				host := l.management("host")
				l.nic("eth1")
				l.newSwitch("other", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth1"})
				for name, b := range map[string]*stub{"deaf": newDeafStub(), "nonsense": {info: ports.Info{MTU: 1500, TxQueues: 1}}} {
					_, err := l.host.AddNIC(name, b)
					require.NoError(t, err)
				}
				wire.send(vm[0].mac, "learn me")
				l.settle()
				drain(vm[0])
				before, addresses := l.sw().Config(), l.sw().Addresses()

				cfg := before
				c.change(&cfg)
				cfg.Notes = "changed"
				err := l.sw().SetConfig(cfg)
				require.ErrorContains(t, err, c.says)
				require.ErrorContains(t, err, `switch "lab"`)
				if c.is != nil {
					require.ErrorIs(t, err, c.is)
				}

				require.Equal(t, before, l.sw().Config())
				require.Equal(t, addresses, l.sw().Addresses())
				require.Same(t, l.sw(), wire.nic.Switch())
				require.True(t, host.vnic.Connected())
				wire.send(ports.Broadcast, "in")
				l.everyoneGot([]string{"in"}, vm[0], vm[1], host)
				vm[0].send(wire.mac, "out")
				l.everyoneGot([]string{"out"}, wire)
				host.send(vm[0].mac, "host")
				l.everyoneGot([]string{"host"}, vm[0])
			})
		})
	}
}

func TestAFailingChangeOfAVNICChangesNothing(t *testing.T) {
	pool := vswitch.MACRange{First: ports.MAC{2, 0, 0, 0, 0, 0}, Last: ports.MAC{2, 0, 0, 0, 0, 3}}
	for name, c := range map[string]struct {
		change func(c *vswitch.VNICConfig)
		is     error
		says   string
	}{
		"ID":                 {func(c *vswitch.VNICConfig) { c.ID = "another" }, vswitch.ErrInvalid, "cannot be changed"},
		"group MAC":          {func(c *vswitch.VNICConfig) { c.MAC = ports.MAC{1} }, vswitch.ErrInvalid, "MAC 01:00:00:00:00:00 is a group address"},
		"MAC of the pool":    {func(c *vswitch.VNICConfig) { c.MAC = ports.MAC{2, 0, 0, 0, 0, 2} }, vswitch.ErrInvalid, "lies in the host's pool 02:00:00:00:00:00–02:00:00:00:00:03"},
		"MAC of another":     {func(c *vswitch.VNICConfig) { c.MAC = stranger(9) }, vswitch.ErrInUse, `MAC 0a:00:00:00:00:09 is that of vNIC "other"`},
		"no addresses":       {func(c *vswitch.VNICConfig) { c.MaxAddresses = -1 }, vswitch.ErrInvalid, "maximum of -1 addresses"},
		"too many addresses": {func(c *vswitch.VNICConfig) { c.MaxAddresses = 1<<22 + 1 }, vswitch.ErrInvalid, "out of 1–4194304"},
		"host on private":    {func(c *vswitch.VNICConfig) { c.Switch, c.Management = "private", true }, vswitch.ErrInvalid, `switch "private"`},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := newLabWith(t, vswitch.HostConfig{MACPool: pool})
				l.newSwitch("lab", vswitch.SwitchConfig{})
				l.newSwitch("private", vswitch.SwitchConfig{})
				vm := l.guests(2)
				l.guest("other", vswitch.VNICConfig{MAC: stranger(9)})
				before := vm[0].vnic.Config()

				cfg := before
				c.change(&cfg)
				cfg.Notes = "changed"
				err := vm[0].vnic.SetConfig(cfg)
				require.ErrorIs(t, err, c.is)
				require.ErrorContains(t, err, c.says)
				require.ErrorContains(t, err, `vNIC "vm0"`)

				require.Equal(t, before, vm[0].vnic.Config())
				require.Equal(t, vm[0].mac, vm[0].vnic.MAC())
				require.True(t, vm[0].vnic.Connected())
				vm[1].send(vm[0].mac, "in")
				l.everyoneGot([]string{"in"}, vm[0])
				vm[0].send(vm[1].mac, "out")
				l.everyoneGot([]string{"out"}, vm[1])

				a, b := l.pipe(ports.PipeConfig{})
				cfg.ID = ""
				if name != "ID" {
					_, err = l.host.NewVNIC("new", a, &cfg)
					require.ErrorContains(t, err, c.says)
				}
				require.Nil(t, l.host.VNIC("new"))
				require.False(t, isClosed(b))
				a.Close()
			})
		})
	}
}

func TestTheMACPoolIsGivenOutAndTakenBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		pool := vswitch.MACRange{First: ports.MAC{2, 0, 0, 0, 0, 0xfe}, Last: ports.MAC{2, 0, 0, 0, 1, 1}}
		l := newLabWith(t, vswitch.HostConfig{MACPool: pool})
		require.Equal(t, pool, l.host.MACPool())
		vm := l.guests(4)
		seen := map[ports.MAC]bool{}
		for _, s := range vm {
			seen[s.mac] = true
			require.True(t, s.vnic.Config().MAC.IsZero(), "it was not chosen")
		}
		require.Equal(t, map[ports.MAC]bool{
			{2, 0, 0, 0, 0, 0xfe}: true, {2, 0, 0, 0, 0, 0xff}: true, {2, 0, 0, 0, 1, 0}: true, {2, 0, 0, 0, 1, 1}: true,
		}, seen)

		a, _ := l.pipe(ports.PipeConfig{})
		_, err := l.host.NewVNIC("vm4", a, nil)
		require.ErrorIs(t, err, vswitch.ErrExhausted)
		require.EqualError(t, err, `vNIC "vm4": MAC pool 02:00:00:00:00:fe–02:00:00:00:01:01: all 4 addresses are in use: exhausted`)
		a.Close()

		fixed := l.guest("fixed", vswitch.VNICConfig{MAC: stranger(1)})
		require.ErrorIs(t, fixed.vnic.SetConfig(vswitch.VNICConfig{}), vswitch.ErrExhausted)
		require.Equal(t, stranger(1), fixed.vnic.MAC())

		require.NoError(t, vm[2].vnic.Close())
		require.Equal(t, vm[2].mac, l.guest("vm5", vswitch.VNICConfig{}).mac)

		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.MAC = stranger(2) })
		require.NoError(t, fixed.vnic.SetConfig(vswitch.VNICConfig{}))
		require.Equal(t, vm[0].mac, fixed.vnic.MAC(), "a static address gave back the dynamic one")
		l.guest("vm6", vswitch.VNICConfig{MAC: stranger(1)})
	})
}

func TestARefusedVNICTakesNoAddressOfThePool(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		one := ports.MAC{2, 0, 0, 0, 0, 1}
		l := newLabWith(t, vswitch.HostConfig{MACPool: vswitch.MACRange{First: one, Last: one}})
		l.newSwitch("lab", vswitch.SwitchConfig{})
		for range 3 {
			_, err := l.host.NewVNIC("vm0", newDeafStub(), &vswitch.VNICConfig{Switch: "lab"})
			require.Error(t, err)
			_, err = l.host.NewVNIC("vm0", newStub(), &vswitch.VNICConfig{Switch: "lab", Management: true})
			require.Error(t, err)
		}
		require.Equal(t, one, l.guests(1)[0].mac)
	})
}

func TestTheDefaultPoolHas256LocalAddresses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, m := newLab(t), newLab(t)
		require.NotEqual(t, l.host.MACPool(), m.host.MACPool(), "two hosts on one network differ")
		for i := range 256 {
			s := l.guest(fmt.Sprint(i), vswitch.VNICConfig{})
			require.EqualValues(t, 2, s.mac[0]&3, "%s is not a local unicast address", s.mac)
		}
		_, err := l.host.NewVNIC("one too many", newStub(), nil)
		require.ErrorIs(t, err, vswitch.ErrExhausted)
	})
}

func TestAddressReleasedLongestAgoIsUsedFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		first := l.guest("vm0", vswitch.VNICConfig{})
		require.NoError(t, first.vnic.Close())
		for range 200 {
			s := l.guest("vm0", vswitch.VNICConfig{})
			require.NotEqual(t, first.mac, s.mac)
			require.NoError(t, s.vnic.Close())
		}
	})
}

func TestImpossibleHostsAreRefused(t *testing.T) {
	r := func(a, b ports.MAC) vswitch.HostConfig {
		return vswitch.HostConfig{MACPool: vswitch.MACRange{First: a, Last: b}}
	}
	for says, cfg := range map[string]vswitch.HostConfig{
		"-1 workers are out of 1–256":                {Workers: -1},
		"257 workers are out of 1–256":               {Workers: 257},
		"both ends must be unicast addresses":        r(ports.MAC{}, ports.MAC{2}),
		"both ends must be unicast":                  r(ports.MAC{2}, ports.Broadcast),
		"the first address is behind the last":       r(ports.MAC{2, 9}, ports.MAC{2, 8}),
		"the first octets differ":                    r(ports.MAC{2}, ports.MAC{4}),
		"host \"h\": MAC pool 03:00:00:00:00:00–03:": r(ports.MAC{3}, ports.MAC{3, 1}),
	} {
		cfg.Name = "h"
		_, err := vswitch.NewHost(&cfg)
		require.ErrorIs(t, err, vswitch.ErrInvalid)
		require.ErrorContains(t, err, says)
	}
}

func TestNamesOfTypesAndReasonsAreReadable(t *testing.T) {
	require.Equal(t, "switch type 7", vswitch.SwitchType(7).String())
	names := map[string]bool{}
	for r := vswitch.DropRunt; r <= vswitch.DropBackendError; r++ {
		text, err := r.MarshalText()
		require.NoError(t, err)
		require.NotContains(t, r.String(), "drop reason")
		require.False(t, names[string(text)], "%s is the name of two reasons", text)
		names[string(text)] = true
	}
	require.Equal(t, "drop reason 200", vswitch.DropReason(200).String())
}
