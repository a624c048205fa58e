package vswitch_test

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// settings returns those that are in the way of a vNIC.
func settings(obstacles []vswitch.Obstacle) []string {
	all := []string{}
	for _, o := range obstacles {
		all = append(all, o.Setting)
	}
	return all
}

// Each field of VNICConfig stands in one of the two lists.
func TestSettingsThatPassThroughAllowsAndThatItDoesNot(t *testing.T) {
	type change = func(c *vswitch.VNICConfig)
	allowed := map[string][]change{
		"ID":                  nil, // cannot be changed
		"Notes":               {func(c *vswitch.VNICConfig) { c.Notes = "fast" }},
		"Switch":              {func(c *vswitch.VNICConfig) { c.Switch = "lab" }},
		"MAC":                 {func(c *vswitch.VNICConfig) { c.MAC = stranger(9) }},
		"VLAN":                {func(c *vswitch.VNICConfig) { c.VLAN = vlan.Access(7) }},
		"BlockUnknownUnicast": {func(c *vswitch.VNICConfig) { c.BlockUnknownUnicast = true }},
		"MaxAddresses":        {func(c *vswitch.VNICConfig) { c.MaxAddresses = 1 }},
		"Addresses":           {func(c *vswitch.VNICConfig) { c.Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")} }},
		"AnyLinkLocal":        {func(c *vswitch.VNICConfig) { c.AnyLinkLocal = true }},
		"MirrorTag":           {func(c *vswitch.VNICConfig) { c.MirrorTag = true }},
		"RSS":                 {func(c *vswitch.VNICConfig) { c.RSS = &vswitch.RSSConfig{} }},
		"ExtensionState":      {func(c *vswitch.VNICConfig) { c.ExtensionState = map[string][]byte{"x": nil} }},
		"PassThrough":         {func(c *vswitch.VNICConfig) { c.PassThrough = true }},
		"ProtectedNetwork":    {func(c *vswitch.VNICConfig) { c.ProtectedNetwork = true }},
		"ACL":                 {func(c *vswitch.VNICConfig) { c.ACL = policyOf(t, acl.Config{}) }},
	}
	refused := map[string][]change{
		"Switch":     {func(c *vswitch.VNICConfig) { c.Switch = "" }, func(c *vswitch.VNICConfig) { c.Switch = "none" }, func(c *vswitch.VNICConfig) { c.Switch = "inner" }},
		"Management": {func(c *vswitch.VNICConfig) { c.Management = true }},
		"VLAN": {
			func(c *vswitch.VNICConfig) { c.VLAN = vlan.Trunk(1, vlan.AllIDs(), nil) },
			func(c *vswitch.VNICConfig) { c.VLAN = vlan.Isolated(10, 20) },
			func(c *vswitch.VNICConfig) { c.VLAN = vlan.Community(10, 21) },
			func(c *vswitch.VNICConfig) { c.VLAN = vlan.Promiscuous(10, ids("20")) },
		},
		"IEEEPriorityTag":     {func(c *vswitch.VNICConfig) { c.IEEEPriorityTag = true }},
		"AllowSpoofing":       {func(c *vswitch.VNICConfig) { c.AllowSpoofing = true }},
		"GuestTeam":           {func(c *vswitch.VNICConfig) { c.GuestTeam = "bond0" }},
		"Hairpin":             {func(c *vswitch.VNICConfig) { c.Hairpin = true }},
		"DHCPGuard":           {func(c *vswitch.VNICConfig) { c.DHCPGuard = true }},
		"RouterGuard":         {func(c *vswitch.VNICConfig) { c.RouterGuard = true }},
		"IPSourceGuard":       {func(c *vswitch.VNICConfig) { c.IPSourceGuard = true }},
		"ARPInspection":       {func(c *vswitch.VNICConfig) { c.ARPInspection = true }},
		"MaxDynamicAddresses": {func(c *vswitch.VNICConfig) { c.MaxDynamicAddresses = 1 }},
		"StormLimit":          {func(c *vswitch.VNICConfig) { c.StormLimit = 1 }},
		"Bandwidth":           {func(c *vswitch.VNICConfig) { c.Bandwidth.MaxRate = 1e9 }},
		"VSID":                nil, // needs an overlay: see below
		"ACL": {
			func(c *vswitch.VNICConfig) {
				c.ACL = policyOf(t, acl.Config{Extended: []acl.ExtendedRule{{Weight: 1, Direction: acl.Out, Action: acl.Deny}}})
			},
			func(c *vswitch.VNICConfig) {
				c.ACL = policyOf(t, acl.Config{Basic: []acl.BasicRule{{Direction: acl.In, Action: acl.Meter, Side: acl.Remote, Any: acl.AnyIP}}})
			},
		},
		"Mirror": {
			func(c *vswitch.VNICConfig) { c.Mirror = vswitch.MirrorSource },
			func(c *vswitch.VNICConfig) { c.Mirror = vswitch.MirrorDestination },
		},
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[vswitch.VNICConfig]()) {
		_, may := allowed[f.Name]
		_, mayNot := refused[f.Name]
		require.True(t, may || mayNot, "does VNICConfig.%s allow a vNIC to bypass the switch?", f.Name)
	}
	inBubble(t, func(t *testing.T) {
		l, _, vm := externalLab(t, 1)
		l.newSwitch("inner", vswitch.SwitchConfig{})
		v := vm[0].vnic
		before := v.Config()
		require.Empty(t, v.PassThrough())
		everything := before
		for setting, changes := range refused {
			for i, change := range changes {
				c := before
				change(&c)
				require.NoError(t, v.SetConfig(c), "%s %d", setting, i)
				require.Equal(t, []string{setting}, settings(v.PassThrough()))
				require.NotEmpty(t, v.PassThrough()[0].Reason)
				change(&everything)
				require.NoError(t, v.SetConfig(before))
				require.Empty(t, v.PassThrough())
			}
		}
		for setting, changes := range allowed {
			for _, change := range changes {
				c := before
				change(&c)
				require.NoError(t, v.SetConfig(c), setting)
				require.Empty(t, v.PassThrough(), setting)
				require.NoError(t, v.SetConfig(before))
			}
		}
		everything.Management = false // of a private switch
		require.NoError(t, v.SetConfig(everything))
		require.Len(t, v.PassThrough(), len(refused)-2) // without Management and VSID

		l.reconfigure(func(c *vswitch.SwitchConfig) { c.Overlay = newEngine(t) })
		require.NoError(t, v.SetConfig(before))
		require.Empty(t, v.PassThrough())
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.VSID = 5001 })
		require.Equal(t, []string{"VSID"}, settings(v.PassThrough()))
	})
}

func TestPassThroughNeedsAnExternalSwitchWithoutExtensions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _, vm := externalLab(t, 2)
		v := vm[0].vnic
		stop, err := l.host.Observe("capture", new(witness))
		require.NoError(t, err)
		l.reconfigure(func(c *vswitch.SwitchConfig) {
			c.Extensions = append(c.Extensions, bind("sees vm1", &selective{only: "vm1"}))
		})
		require.Equal(t, []vswitch.Obstacle{{"Switch", `extensions of switch "lab" see the frames: capture`}}, v.PassThrough())
		require.Equal(t, `Switch: extensions of switch "lab" see the frames: capture, sees vm1`, vm[1].vnic.PassThrough()[0].String())
		stop()
		require.Empty(t, v.PassThrough())
		require.Len(t, vm[1].vnic.PassThrough(), 1)
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.Extensions = nil })
		require.Empty(t, vm[1].vnic.PassThrough())

		l.reconfigure(func(c *vswitch.SwitchConfig) { c.Type, c.Uplink = vswitch.Internal, "" })
		require.Equal(t, []vswitch.Obstacle{{"Switch", `switch "lab" is internal, and has no NIC to pass through`}}, v.PassThrough())
		require.NoError(t, l.sw().Close())
		require.Equal(t, []vswitch.Obstacle{{"Switch", `the vNIC is not connected to switch "lab"`}}, v.PassThrough())
	})
}

func TestTheAddressOfAGuestWithAnotherPathComesByTheUplinkOnly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, wire, vm := externalLab(t, 3)
		vm[2].reconfigure(func(c *vswitch.VNICConfig) { c.AllowSpoofing = true })
		wire.sendAs(vm[0].mac, vm[1].mac, "somebody else's")
		require.Empty(t, vm[1].got())
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.PassThrough = true })
		wire.sendAs(vm[0].mac, vm[1].mac, "by the other path")
		require.Equal(t, []string{"by the other path"}, vm[1].got())
		vm[2].sendAs(vm[0].mac, vm[1].mac, "a thief")
		wire.sendAs(vm[1].mac, vm[2].mac, "has no other path")
		require.Empty(t, vm[1].got())
		require.Empty(t, vm[2].got())
		vm[1].send(vm[0].mac, "still here")
		require.Equal(t, []string{"still here"}, vm[0].got(), "the address has not moved")
		require.Equal(t, drops{vswitch.DropSourceElsewhere: 2}, wire.drops())
		require.Equal(t, drops{vswitch.DropSourceElsewhere: 1}, vm[2].drops())
	})
}
