package vswitch_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// chained is what the second host says to what the first one sends.
func (c *cloud) chained(first *vswitch.Explanation, host int) (all []*vswitch.Explanation) {
	c.t.Helper()
	for _, d := range first.Deliveries {
		for _, wire := range d.Encapsulated {
			e, err := c.nodes[host].sw().Explain("eth0", newFrame(wire))
			require.NoError(c.t, err)
			all = append(all, e)
		}
	}
	return all
}

func TestExplainAcrossHosts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCloudOn(t, ports.PipeConfig{}, 9)
		c.subnet(red, 5001, "10.0.0.0/24")
		c.subnet(red, 5002, "10.0.1.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(1, "b", 5002, "10.0.1.12")
		wire := packet(routerMAC(5001), a.mac, a.ca, b.ca, "hello")

		require.Equal(t, `switch "lab", from port "a"
  frame          47 bytes, 02:13:89:00:00:0b to 02:76:73:00:13:89
  VLAN           untagged
  source         passes
  overlay        dropped: next hop not resolved (VSID 5001 of {ed000000-0000-0000-0000-000000000000}; sender: record 10.0.0.11: MAC 02:13:89:00:00:0b on host 192.0.2.1, by NVGRE; router: 10.0.1.12 is on-link in VSID 5002; receiver: record 10.0.1.12: MAC 02:13:8a:00:01:0c on host 192.0.2.2, by NVGRE; sending: from host 192.0.2.1 to 192.0.2.2 by NVGRE, VSID 5002; next hop: 192.0.2.2 is not known, and would be asked for)
dropped: next hop not resolved
`, a.explained(wire).String())

		c.introduce(9)
		first := a.explained(wire)
		require.Equal(t, `switch "lab", from port "a"
  frame          47 bytes, 02:13:89:00:00:0b to 02:76:73:00:13:89
  VLAN           untagged
  source         passes
  overlay        VSID 5001 of {ed000000-0000-0000-0000-000000000000}; sender: record 10.0.0.11: MAC 02:13:89:00:00:0b on host 192.0.2.1, by NVGRE; router: 10.0.1.12 is on-link in VSID 5002; receiver: record 10.0.1.12: MAC 02:13:8a:00:01:0c on host 192.0.2.2, by NVGRE; sending: from host 192.0.2.1 to 192.0.2.2 by NVGRE, VSID 5002; next hop: 192.0.2.2 is at 0e:00:00:00:00:02
to port "eth0"
  VLAN           passes
  sending        with tag 8100 of VLAN 9, priority 0
sent to one port
`, first.String())
		second := c.chained(first, 1)
		require.Len(t, second, 1)
		require.Equal(t, `switch "lab", from port "eth0"
  frame          89 bytes, 0e:00:00:00:00:01 to 0e:00:00:00:00:02; tag of VLAN 9, priority 0
  VLAN           VLAN 9, priority 0
  source         passes
  overlay        NVGRE from host 192.0.2.1 to 192.0.2.2, VSID 5002 of {ed000000-0000-0000-0000-000000000000}; sender: record 10.0.0.11: MAC 02:13:89:00:00:0b on host 192.0.2.1, by NVGRE; receiver: MAC 02:13:8a:00:01:0c is here
to port "b"
  VLAN           passes
  sending        without a tag
sent to one port
`, second[0].String())
		require.Empty(t, b.received(), "nothing has been sent")
		require.Empty(t, a.drops())
		a.sendRaw(wire)
		require.Equal(t, []string{"hello"}, b.hears())
	})
}

// What Explain says of members comes true.
func TestExplanationsOfTheOverlayComeTrue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		able := ports.PipeConfig{Offloads: ports.OffloadAll}
		c := newCloud(t)
		c.subnet(red, 5001, "10.0.0.0/24")
		a := c.vmWith(0, "a", "10.0.0.11", able, vswitch.VNICConfig{VSID: 5001})
		near := c.vmWith(0, "near", "10.0.0.12", able, vswitch.VNICConfig{VSID: 5001})
		far := c.vmWith(1, "far", "10.0.0.13", able, vswitch.VNICConfig{VSID: 5001})
		c.introduce(0)
		large := largeFrames[0].frame(far.mac, a.mac, 20_000, 1400)
		setAddrs(large.Head(), a.ca.As4(), far.ca.As4())
		for _, x := range []struct {
			name  string
			frame *ports.Frame
		}{
			{"near", newFrame(packet(near.mac, a.mac, a.ca, near.ca, "hello"))},
			{"far", newFrame(packet(far.mac, a.mac, a.ca, far.ca, "hello"))},
			{"all", newFrame(packet(ports.Broadcast, a.mac, a.ca, addr("255.255.255.255"), "hello"))},
			{"large", large},
			{"nobody", newFrame(packet(stranger(1), a.mac, a.ca, addr("10.0.0.77"), "hello"))},
			{"nowhere", newFrame(packet(routerMAC(5001), a.mac, a.ca, addr("172.16.0.1"), "hello"))},
			{"forged", newFrame(packet(far.mac, near.mac, near.ca, far.ca, "hello"))},
			{"forged address", newFrame(packet(far.mac, a.mac, near.ca, far.ca, "hello"))},
			{"router", newFrame(arp(a.station, 1, a.mac, a.ca, addr("10.0.0.1")))},
			{"tagged", newFrame(tagged(packet(far.mac, a.mac, a.ca, far.ca, "hello"), tpidQ, 5))},
			{"reserved", newFrame(frame(ports.MAC{1, 0x80, 0xc2}, a.mac, "hello"))},
		} {
			said, err := c.nodes[0].sw().Explain("a", x.frame)
			require.NoError(t, err)
			want := map[string]int{}
			for _, d := range said.Deliveries {
				require.Zero(t, d.Drop)
				if d.Port != "eth0" {
					want[d.Port] += d.Frames
				}
				require.Len(t, d.Encapsulated, map[bool]int{true: d.Frames}[d.Port == "eth0"])
			}
			for _, e := range c.chained(said, 1) {
				for _, d := range e.Deliveries {
					want[d.Port] += d.Frames
				}
			}
			before := a.drops()
			a.sendFrames(x.frame)
			got := map[string]int{}
			for _, v := range []*member{a, near, far} {
				if n := len(v.received()); n > 0 {
					got[v.end.Info().Name] = n
				}
			}
			require.Equal(t, want, got, "%s\n%s", x.name, said)
			if said.Drop != 0 {
				before[said.Drop]++
			}
			require.Equal(t, before, a.drops(), "%s\n%s", x.name, said)
		}
		require.Len(t, a.drops(), 6)
	})
}

func TestExplainOfOtherFramesOnAWireWithAnOverlay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		a := c.vm(0, "a", 5001, "10.0.0.11")
		plain := n.guest("plain", vswitch.VNICConfig{Switch: "lab"})
		said := n.wire.explained(frame(plain.mac, n.wire.mac, "hello"))
		require.Len(t, said.Deliveries, 1)
		require.Equal(t, "plain", said.Deliveries[0].Port)
		require.Contains(t, said.Steps, vswitch.Step{Stage: "overlay", Decision: "passes"})

		said = n.wire.explained(arp(n.wire, 1, n.wire.mac, paOf(2), n.pa))
		require.Len(t, said.Deliveries, 1)
		require.Equal(t, "eth0", said.Deliveries[0].Port)
		said = n.wire.explained(arp(n.wire, 1, n.wire.mac, paOf(2), paOf(77)))
		require.Len(t, said.Deliveries, 1)
		require.Equal(t, "plain", said.Deliveries[0].Port)

		said = n.wire.explained(n.tunnel(t, paOf(5), 5001, packet(a.mac, stranger(1), addr("10.0.0.12"), a.ca, "hello")))
		require.Equal(t, vswitch.DropTunnelSource, said.Drop)
		require.Contains(t, said.String(), "unknown provider address")
		require.Empty(t, a.received())
	})
}
