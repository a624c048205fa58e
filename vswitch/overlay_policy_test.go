package vswitch_test

import (
	"fmt"
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

// observer writes down what frames look like where they pass, and what becomes of them.
type observer struct{ diary }

func (o *observer) Capture(b *extension.Batch) {
	for i := range b.Len() {
		o.note("sees", b, i, "")
	}
}

func (o *observer) Fate(b *extension.Batch) {
	for i := range b.Len() {
		o.note("fate of", b, i, ": "+b.Reason(i))
	}
}

func (o *observer) note(what string, b *extension.Batch, i int, end string) {
	f := new(ports.Frame)
	f.CopyFrom(b.Frame(i))
	var e overlay.Encapsulated
	how := ""
	if new(overlay.Decoder).Decap(f, &e) == 0 {
		how = fmt.Sprintf("%s %s ", e.Encapsulation, e.VSID)
	}
	o.add("%s %s %s %s%s%s", b.Port().Name, b.Direction(), what, how, spoken(f), end)
}

func TestThePolicyOfAMemberSeesInnerFrames(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCloud(t)
		c.subnet(red, 5001, "10.0.0.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(1, "b", 5001, "10.0.0.12")
		c.meet(a, b)
		deny := func(d acl.Direction, isolation uint32) *acl.Policy {
			p, err := acl.Compile(&acl.Config{Extended: []acl.ExtendedRule{
				{Weight: 1, Direction: d, Action: acl.Deny, Protocol: acl.UDP, Isolation: isolation},
			}})
			require.NoError(t, err)
			return p
		}
		for _, x := range []struct {
			name   string
			of     *member
			acl    *acl.Policy
			passes bool
			reason vswitch.DropReason
		}{
			{"out", a, deny(acl.Out, 5001), false, vswitch.DropACLOut},
			{"in", b, deny(acl.In, 5001), false, vswitch.DropACLIn},
			{"of another network", a, deny(acl.Out, 6001), true, 0},
			{"of another network", b, deny(acl.In, 6001), true, 0},
		} {
			x.of.reconfigure(func(c *vswitch.VNICConfig) { c.ACL = x.acl })
			a.says(b, "hello")
			if x.passes {
				require.Equal(t, []string{"hello"}, b.hears(), x.name)
			} else {
				require.Empty(t, b.hears(), x.name)
				require.EqualValues(t, 1, x.of.drops()[x.reason], x.name)
			}
			x.of.reconfigure(func(c *vswitch.VNICConfig) { c.ACL = nil })
		}
	})
}

func TestExtensionsSeeBothSidesOfATunnel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCloud(t)
		c.subnet(red, 5001, "10.0.0.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(1, "b", 5001, "10.0.0.12")
		c.meet(a, b)
		var saw [2]observer
		for i, n := range c.nodes {
			n.reconfigure(func(c *vswitch.SwitchConfig) { c.Extensions = []extension.Binding{bind("observer", &saw[i])} })
		}
		a.says(b, "hello")
		require.Equal(t, []string{"hello"}, b.hears())
		require.Equal(t, []string{
			"a ingress sees hello", "eth0 egress sees NVGRE 5001 hello", "eth0 egress fate of NVGRE 5001 hello: ", "a ingress fate of hello: ",
		}, saw[0].take(c.nodes[0].lab))
		require.Equal(t, []string{
			"eth0 ingress sees NVGRE 5001 hello", "b egress sees hello", "b egress fate of hello: ", "eth0 ingress fate of NVGRE 5001 hello: ",
		}, saw[1].take(c.nodes[1].lab))

		a.sendRaw(packet(stranger(5), a.mac, a.ca, addr("10.0.0.77"), "nobody"))
		require.Equal(t, []string{"a ingress sees nobody", "a ingress fate of nobody: no lookup record"}, saw[0].take(c.nodes[0].lab))
		b.reconfigure(func(c *vswitch.VNICConfig) { c.VSID = 0 })
		saw[1].take(c.nodes[1].lab)
		a.says(b, "gone")
		require.Equal(t, []string{"eth0 ingress sees NVGRE 5001 gone", "eth0 ingress fate of NVGRE 5001 gone: VM not on this host"}, saw[1].take(c.nodes[1].lab))
	})
}

// A forwarding extension has no say in what is of virtual subnets, and sends nothing there.
func TestAForwardingExtensionDoesNotCrossIntoVirtualSubnets(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(0, "b", 5001, "10.0.0.12")
		plain := n.guest("plain", vswitch.VNICConfig{Switch: "lab"})
		var asked diary
		all := n.host.Ports()
		everywhere := &someForwarding{func(b *extension.Batch) {
			for i := range b.Len() {
				var to []*extension.Port
				for k := range all {
					to = append(to, &all[k])
				}
				asked.add("%s", b.Port().Name)
				b.Send(i, to...)
			}
		}}
		n.reconfigure(func(c *vswitch.SwitchConfig) { c.Extensions = []extension.Binding{bind("everywhere", everywhere)} })
		plain.send(a.mac, "hello")
		require.Empty(t, a.received())
		require.Equal(t, []string{"hello"}, n.wire.got())
		require.Equal(t, drops{vswitch.DropNotMember: 1}, a.drops())
		a.says(b, "hello")
		require.Equal(t, []string{"hello"}, b.hears())
		require.Empty(t, plain.received())
		require.Equal(t, []string{"plain"}, asked.take(n.lab))
	})
}

func TestMembersAreMirroredOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCloud(t)
		c.subnet(red, 5001, "10.0.0.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(0, "b", 5001, "10.0.0.12")
		far := c.vm(1, "far", 5001, "10.0.0.13")
		c.meet(a, b, far)
		mirror := c.nodes[0].guest("mirror", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(4000), Mirror: vswitch.MirrorDestination})
		for _, v := range []*member{a, b} {
			v.mirrors(vswitch.MirrorSource)
		}
		heard := func() (texts []string) {
			for _, f := range mirror.received() {
				texts = append(texts, spoken(f))
			}
			return texts
		}
		a.says(b, "here")
		require.Equal(t, []string{"here"}, heard())
		a.says(far, "away")
		require.Equal(t, []string{"away"}, heard())
		far.says(b, "back")
		require.Equal(t, []string{"back"}, heard())
		a.sendRaw(packet(ports.Broadcast, a.mac, a.ca, addr("255.255.255.255"), "all"))
		require.Equal(t, []string{"all"}, heard())
		a.sendRaw(arp(a.station, 1, a.mac, a.ca, addr("10.0.0.1")))
		require.Len(t, heard(), 2, "question and answer")
	})
}

func TestAMemberIsGuardedAndLimited(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, _ := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		a := c.vmWith(0, "a", "10.0.0.11", ports.PipeConfig{}, vswitch.VNICConfig{VSID: 5001, DHCPGuard: true, StormLimit: 5})
		b := c.vm(0, "b", 5001, "10.0.0.12")
		a.sendRaw(dhcpOffer(a.station, b.station))
		require.Empty(t, b.received())
		require.EqualValues(t, 1, a.drops()[vswitch.DropDHCPServer])
		for range 10 {
			a.sendRaw(packet(ports.Broadcast, a.mac, a.ca, addr("255.255.255.255"), "all"))
			a.says(b, "one")
		}
		require.Len(t, b.hears(), 15)
		require.EqualValues(t, 5, a.drops()[vswitch.DropStormLimit])
		time.Sleep(time.Second)
		a.sendRaw(packet(ports.Broadcast, a.mac, a.ca, addr("255.255.255.255"), "all"))
		require.Equal(t, []string{"all"}, b.hears())

		require.NoError(t, b.end.Close())
		a.says(b, "deaf")
		require.EqualValues(t, 1, b.drops()[vswitch.DropLinkDown])
	})
}

// A segment of 64 KiB crosses to another host in pieces, and to a VM on the same host as a whole.
func TestALargeSegmentCrossesTheOverlay(t *testing.T) {
	for _, fates := range []bool{false, true} {
		inBubble(t, func(t *testing.T) { largeSegmentCrosses(t, fates) })
	}
}

func largeSegmentCrosses(t *testing.T, fates bool) {
	able := ports.PipeConfig{Offloads: ports.OffloadAll, Depth: 1024}
	c := newCloudOn(t, ports.PipeConfig{Depth: 1024}, 0)
	c.subnet(red, 5001, "198.18.0.0/24")
	c.subnet(red, 5002, "198.18.1.0/24")
	a := c.vmWith(0, "a", "198.18.0.11", able, vswitch.VNICConfig{VSID: 5001})
	here := c.vmWith(0, "here", "198.18.0.12", able, vswitch.VNICConfig{VSID: 5001})
	away := c.vmWith(1, "away", "198.18.0.13", able, vswitch.VNICConfig{VSID: 5001})
	c.meet(a, here, away)
	c.nodes[0].reconfigure(func(c *vswitch.SwitchConfig) { // who is told fates sees other frames than those that leave
		if fates {
			c.Extensions = []extension.Binding{bind("observer", new(observer))}
		}
	})
	for _, to := range []*member{here, away} {
		f := largeFrames[0].frame(to.mac, a.mac, 60_000, 1400)
		setAddrs(f.Head(), a.ca.As4(), to.ca.As4())
		a.sendFrames(f)
		got := to.received()
		if to == here {
			require.Len(t, got, 1)
			require.Equal(t, ports.SegmentTCP4, got[0].Offload.Segment)
			continue
		}
		require.Len(t, got, (60_000+1399)/1400)
		require.Equal(t, appendPayload(nil, 60_000), payloads(t, got))
	}
	require.Equal(t, drops{vswitch.DropUnresolved: 1}, a.drops(), "when the hosts met")

	// What is longer than the way allows is cut shorter.
	f := largeFrames[0].frame(away.mac, a.mac, 60_000, 1460)
	setAddrs(f.Head(), a.ca.As4(), away.ca.As4())
	a.sendFrames(f)
	got := away.received()
	require.Equal(t, appendPayload(nil, 60_000), payloads(t, got))
	for _, g := range got {
		require.LessOrEqual(t, g.Len(), 14+1458)
	}
}
