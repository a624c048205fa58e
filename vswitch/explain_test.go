package vswitch_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// explained is what the switch says of a frame on the wire of a station.
func (s *station) explained(wire []byte) *vswitch.Explanation {
	f := new(ports.Frame)
	f.SetHead(wire, 0, len(wire))
	e, err := s.lab.sw().Explain(s.stats().Port, f)
	require.NoError(s.lab.t, err)
	return e
}

func TestExplainInWords(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		l.newSwitch("lab", vswitch.SwitchConfig{})
		policy, err := acl.Compile(&acl.Config{Extended: []acl.ExtendedRule{
			{Name: "no mail", Weight: 10, Direction: acl.Out, Action: acl.Deny, Protocol: acl.TCP, RemotePorts: []acl.PortRange{{First: 25}}},
			{Name: "out", Weight: 1, Direction: acl.Out, Action: acl.Allow, Stateful: true},
		}})
		require.NoError(t, err)
		mac := func(n byte) ports.MAC { return ports.MAC{2, 0, 0, 0, 0, n} }
		a := l.guest("vm0", vswitch.VNICConfig{Switch: "lab", MAC: mac(1), VLAN: vlan.Access(10), ACL: policy, DHCPGuard: true})
		b := l.guest("vm1", vswitch.VNICConfig{Switch: "lab", MAC: mac(2), VLAN: vlan.Access(10)})
		l.guest("vm2", vswitch.VNICConfig{Switch: "lab", MAC: mac(3), VLAN: vlan.Trunk(0, vlan.AllIDs(), nil)})
		for _, c := range []struct {
			wire []byte
			text string
		}{
			{tcpSegment(a, b, 4000, 80, "S", 1, 0), `switch "lab", from port "vm0"
  frame          60 bytes, 02:00:00:00:00:01 to 02:00:00:00:00:02
  VLAN           VLAN 10, priority 0
  source         passes
  guards         passes
  ACL            allowed: new connection: extended rule 1 "out" (weight 1)
  forwarding     to port "vm1"
to port "vm1"
  VLAN           passes
  sending        without a tag
sent to one port
`},
			{tcpSegment(a, b, 4000, 25, "S", 1, 0), `switch "lab", from port "vm0"
  frame          60 bytes, 02:00:00:00:00:01 to 02:00:00:00:00:02
  VLAN           VLAN 10, priority 0
  source         passes
  guards         passes
  ACL            dropped: denied by ACL, outbound (denied: rule: extended rule 0 "no mail" (weight 10))
dropped: denied by ACL, outbound
`},
			{frame(ports.Broadcast, a.mac, "to all"), `switch "lab", from port "vm0"
  frame          20 bytes, 02:00:00:00:00:01 to ff:ff:ff:ff:ff:ff
  VLAN           VLAN 10, priority 0
  source         passes
  guards         passes
  ACL            allowed: not IP
  forwarding     flooded: a group address
to port "vm1"
  VLAN           passes
  sending        without a tag
to port "vm2"
  VLAN           passes
  sending        with tag 8100 of VLAN 10, priority 0
sent to 2 ports
`},
		} {
			require.Equal(t, c.text, a.explained(c.wire).String())
		}
		text, err := json.Marshal(a.explained(frame(b.mac, mac(9), "forged")))
		require.NoError(t, err)
		require.JSONEq(t, `{"Switch": "lab", "Port": "vm0", "Drop": "spoofed source", "Steps": [
			{"Stage": "frame", "Decision": "20 bytes, 02:00:00:00:00:09 to 02:00:00:00:00:02"},
			{"Stage": "VLAN", "Decision": "VLAN 10, priority 0"},
			{"Stage": "source", "Decision": "dropped: spoofed source"}]}`, string(text))
		_, err = l.sw().Explain("vm9", newFrame(frame(b.mac, a.mac, "x")))
		require.ErrorIs(t, err, vswitch.ErrNotFound)
		require.ErrorContains(t, err, `switch "lab": port "vm9"`)
	})
}

// What Explain says of a frame is what then happens to it, whatever the settings, and asking has no effect.
func TestExplainTellsTheTruth(t *testing.T) {
	for seed := range uint64(60) {
		inBubble(t, func(t *testing.T) { tellTheTruth(t, rand.New(rand.NewPCG(seed, 9))) })
	}
}

func tellTheTruth(t *testing.T, r *rand.Rand) {
	l := newLab(t)
	l.newSwitch("lab", vswitch.SwitchConfig{})
	var all []*station
	for i := range 6 {
		cable := ports.PipeConfig{MTU: []int{1500, 1500, 9000}[r.IntN(3)]}
		if r.IntN(2) == 0 {
			cable.Offloads = ports.OffloadAll
		}
		s := l.guestOn(cable, fmt.Sprintf("vm%d", i), vswitch.VNICConfig{Switch: "lab"})
		all = append(all, s)
	}
	for range 150 {
		if r.IntN(12) == 0 {
			randomSettings(t, r, all[r.IntN(len(all))])
		}
		if r.IntN(8) == 0 {
			time.Sleep(time.Duration(r.IntN(40)) * time.Second)
		}
		from, f := randomFrame(r, all)
		if cable := from.end.Info(); cable.Offloads&f.Offload.Needs() != f.Offload.Needs() || f.Offload.IsZero() && !f.Fits(cable.MTU) {
			continue
		}
		said := make([]*vswitch.Explanation, 2)
		before := totals(all)
		for i := range said {
			var err error
			said[i], err = l.sw().Explain(from.stats().Port, f)
			require.NoError(t, err)
		}
		require.Equal(t, said[0], said[1])
		require.Equal(t, before, totals(all), "explaining has no effect")
		from.sendFrames(f)
		requireTrue(t, said[0], all, from, before)
	}
}

// totals are the drops of stations, by name.
func totals(all []*station) map[string]map[vswitch.DropReason]uint64 {
	m := map[string]map[vswitch.DropReason]uint64{}
	for _, s := range all {
		m[s.stats().Port] = s.drops()
	}
	return m
}

// requireTrue compares what was said of a frame with what has happened.
func requireTrue(t *testing.T, e *vswitch.Explanation, all []*station, from *station, before map[string]map[vswitch.DropReason]uint64) {
	want := map[string][]ports.Tag{}
	drops := before
	if e.Drop != 0 {
		drops[e.Port][e.Drop]++
	}
	for _, d := range e.Deliveries {
		if d.TooBig > 0 {
			drops[d.Port][vswitch.DropTooBig] += uint64(d.TooBig)
		} else if d.Drop != 0 {
			drops[d.Port][d.Drop]++
		}
		for range d.Frames {
			want[d.Port] = append(want[d.Port], d.Tag)
		}
	}
	got := map[string][]ports.Tag{}
	for _, s := range all {
		for _, f := range s.received() {
			got[s.stats().Port] = append(got[s.stats().Port], f.VLAN)
		}
	}
	require.Equal(t, want, got, "%s", e)
	require.Equal(t, drops, totals(all), "%s", e)
}

// randomSettings gives a vNIC other settings.
func randomSettings(t *testing.T, r *rand.Rand, s *station) {
	c := s.vnic.Config()
	chance := func() bool { return r.IntN(3) == 0 }
	modes := []vlan.Mode{
		vlan.Untagged(), vlan.Access(10), vlan.Access(20), vlan.Trunk(10, vlan.AllIDs(), nil), vlan.Trunk(0, vlan.MustParseSet("10,20"), nil),
		vlan.Isolated(30, 31), vlan.Community(30, 32), vlan.Promiscuous(30, vlan.MustParseSet("31,32")),
	}
	c.VLAN = modes[r.IntN(len(modes))]
	c.IEEEPriorityTag, c.AllowSpoofing, c.BlockUnknownUnicast, c.Hairpin = chance(), chance(), chance(), chance()
	c.DHCPGuard, c.RouterGuard, c.IPSourceGuard, c.ARPInspection = chance(), chance(), chance(), chance()
	c.Addresses = []netip.Prefix{netip.PrefixFrom(s.ip4(), 32)}
	c.MaxDynamicAddresses = []int{0, 0, 1, 2}[r.IntN(4)]
	c.StormLimit = []uint32{0, 0, 1, 3}[r.IntN(4)]
	c.ACL = nil
	if chance() {
		rules := &acl.Config{}
		for i := range 1 + r.IntN(4) {
			rules.Extended = append(rules.Extended, acl.ExtendedRule{
				Weight: uint16(i), Direction: acl.Direction(1 + r.IntN(3)), Action: []acl.Action{acl.Allow, acl.Deny}[r.IntN(2)],
				Protocol: []acl.Protocol{0, acl.TCP, acl.UDP, acl.ICMP}[r.IntN(4)],
			})
			x := &rules.Extended[i]
			x.Stateful = x.Action == acl.Allow && chance()
		}
		var err error
		c.ACL, err = acl.Compile(rules)
		require.NoError(t, err)
		c.Hairpin = false // what the VM sends to itself would find the connection that it has made
	}
	require.NoError(t, s.vnic.SetConfig(c))
}

// randomFrame returns a frame and who sends it.
func randomFrame(r *rand.Rand, all []*station) (*station, *ports.Frame) {
	from, to := all[r.IntN(len(all))], all[r.IntN(len(all))]
	src := from
	if r.IntN(8) == 0 {
		src = all[r.IntN(len(all))]
	}
	var wire []byte
	port := uint16(1 + r.IntN(3))
	switch r.IntN(10) {
	case 0:
		wire = frame(ports.Broadcast, src.mac, "to all")
	case 1:
		wire = frame(stranger(r.IntN(3)), src.mac, "to a stranger")
	case 2:
		wire = frame(to.mac, stranger(r.IntN(3)), "from a stranger")
	case 3:
		wire = datagram(src, to, port, port)
	case 4, 5:
		wire = tcpSegment(src, to, port, port, []string{"S", "SA", "A", "F", "R"}[r.IntN(5)], r.Uint32N(3), r.Uint32N(3))
	case 6:
		wire = echo(src, to, []uint8{0, 8}[r.IntN(2)], port)
	case 7:
		wire = dhcpOffer(src, to)
	case 8:
		wire = arp(src, uint16(1+r.IntN(2)), src.mac, to.ip4(), src.ip4())
	case 9:
		wire = tcp4(to.mac, src.mac, r.IntN(6000))
	}
	large := len(wire) > 1000
	if r.IntN(4) == 0 {
		wire = tagged(wire, []uint16{tpidQ, tpidQ, tpidAD}[r.IntN(3)], []uint16{0, 10, 20, 0x600a, 4095, 30}[r.IntN(6)])
		if r.IntN(6) == 0 {
			wire = tagged(wire, tpidQ, 10)
		}
	} else if large && r.IntN(2) == 0 {
		f := newFrame(wire)
		f.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, Segment: ports.SegmentTCP4, SegmentSize: uint16(500 + r.IntN(2000)), HeaderLen: 54}
		return from, f
	}
	if r.IntN(30) == 0 {
		wire = wire[:r.IntN(len(wire))]
	}
	return from, newFrame(wire)
}
