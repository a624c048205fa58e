package vswitch_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// witness is a capture that counts what it sees.
type witness struct{ frames, fates int }

func (w *witness) Capture(b *extension.Batch) { w.frames += b.Len() }
func (w *witness) Fate(b *extension.Batch)    { w.fates += b.Len() }

// Extensions that do what the test says.
type (
	someCapture    struct{ do func(b *extension.Batch) }
	someFilter     struct{ do func(b *extension.Batch) }
	someForwarding struct{ do func(b *extension.Batch) }
	someFirewall   struct {
		ask func(c *extension.Connection) bool
	}
)

func (c *someCapture) Capture(b *extension.Batch)              { c.do(b) }
func (f *someFilter) Filter(b *extension.Batch)                { f.do(b) }
func (f *someForwarding) Forward(b *extension.Batch)           { f.do(b) }
func (f *someFirewall) Authorize(c *extension.Connection) bool { return f.ask(c) }
func filterOf(do func(b *extension.Batch)) extension.Binding   { return bind("filter", &someFilter{do}) }
func bind(name string, e any) extension.Binding                { return extension.Binding{Name: name, Extension: e} }
func captureOf(name string, do func(*extension.Batch)) extension.Binding {
	return bind(name, &someCapture{do})
}

// extendedLab is a private switch "lab" with extensions.
func extendedLab(t *testing.T, list ...extension.Binding) *lab {
	l := newLab(t)
	l.newSwitch("lab", vswitch.SwitchConfig{Extensions: list})
	return l
}

// extend changes the extensions of the switch of the lab.
func (l *lab) extend(list ...extension.Binding) {
	l.t.Helper()
	l.reconfigure(func(c *vswitch.SwitchConfig) { c.Extensions = list })
}

// diary is what has happened, in its order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// take waits until nothing moves any more and returns what has been written since the last call.
func (d *diary) take(l *lab) []string {
	l.settle()
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

// textOf is the text of a frame, with its VLAN in front where it has one.
func textOf(f *ports.Frame) string {
	if len(f.Head()) < 14 {
		return "runt"
	}
	if f.VLAN.Present() {
		return fmt.Sprintf("VLAN %d: %s", f.VLAN.VID(), f.Head()[14:])
	}
	return string(f.Head()[14:])
}

// eachAlive calls do for each frame that has not been dropped.
func eachAlive(do func(b *extension.Batch, i int)) func(*extension.Batch) {
	return func(b *extension.Batch) {
		for i := range b.Len() {
			if b.Alive(i) {
				do(b, i)
			}
		}
	}
}

func TestACaptureSeesEachFrameOnBothSides(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := new(witness)
		l := extendedLab(t, bind("witness", w))
		a, b := l.guest("a", vswitch.VNICConfig{Switch: "lab"}), l.guest("b", vswitch.VNICConfig{Switch: "lab"})
		a.send(b.mac, "hello")
		l.settle()
		require.Equal(t, []string{"hello"}, b.got())
		require.Equal(t, witness{2, 2}, *w)
	})
}

// In words: a frame passes captures, filters, firewall, the policy of its source, learning, forwarding, and then
// the policy of its destination, firewall, filters, captures.
func TestTheExactOrderOfExtensionsAndBuiltInStages(t *testing.T) {
	const in, out = "c1 in, c2 in, f1 in, f2 in, wall in", "wall out VLAN 10, f2 out VLAN 10, f1 out VLAN 10, c2 out VLAN 10, c1 out VLAN 10"
	deny := func(d acl.Direction) *acl.Config {
		return &acl.Config{Extended: []acl.ExtendedRule{
			{Weight: 10, Direction: d, Action: acl.Deny, Protocol: acl.UDP, LocalPorts: []acl.PortRange{{First: 25}}},
			{Weight: 9, Direction: acl.Both, Action: acl.Allow},
		}}
	}
	for name, c := range map[string]struct {
		wire  func(a, b *station) []byte
		drops string // by whom, beside the stages of the switch
		want  string
		why   vswitch.DropReason
	}{
		"passes":           {func(a, b *station) []byte { return datagram(a, b, 1, 2) }, "", in + ", forwarding in, " + out, 0},
		"runt":             {func(a, b *station) []byte { return []byte{1, 2, 3} }, "", "", vswitch.DropRunt},
		"VLAN":             {func(a, b *station) []byte { return tagged(datagram(a, b, 1, 2), tpidQ, 9) }, "", strings.ReplaceAll(in, "in", "in VLAN 9"), vswitch.DropTagged},
		"spoofed":          {func(a, b *station) []byte { return datagram(b, a, 1, 2) }, "", in, vswitch.DropSpoofedSource},
		"guard":            {func(a, b *station) []byte { return dhcpOffer(a, b) }, "", in, vswitch.DropDHCPServer},
		"ACL of source":    {func(a, b *station) []byte { return datagram(a, b, 25, 2) }, "", in, vswitch.DropACLOut},
		"ACL of receiver":  {func(a, b *station) []byte { return datagram(a, b, 1, 25) }, "", in + ", forwarding in", vswitch.DropACLIn},
		"first filter":     {func(a, b *station) []byte { return datagram(a, b, 1, 2) }, "f1 in", "c1 in, c2 in, f1 in", vswitch.DropFilterOut},
		"second filter":    {func(a, b *station) []byte { return datagram(a, b, 1, 2) }, "f2 in", "c1 in, c2 in, f1 in, f2 in", vswitch.DropFilterOut},
		"firewall":         {func(a, b *station) []byte { return datagram(a, b, 1, 2) }, "wall in", in, vswitch.DropFirewallOut},
		"forwarding":       {func(a, b *station) []byte { return datagram(a, b, 1, 2) }, "forwarding in", in + ", forwarding in", vswitch.DropForwarding},
		"firewall, egress": {func(a, b *station) []byte { return datagram(a, b, 1, 2) }, "wall out", in + ", forwarding in, wall out VLAN 10", vswitch.DropFirewallIn},
		"filter, egress":   {func(a, b *station) []byte { return datagram(a, b, 1, 2) }, "f2 out", in + ", forwarding in, wall out VLAN 10, f2 out VLAN 10", vswitch.DropFilterIn},
		"reserved address": {func(a, b *station) []byte { return frame(ports.MAC{1, 0x80, 0xc2}, a.mac, "x") }, "", "c1 in, c2 in, f1 in, f2 in, forwarding in", vswitch.DropReserved},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := new(diary)
				line := func(name string, b *extension.Batch, i int) string {
					side := map[extension.Direction]string{extension.Ingress: " in", extension.Egress: " out"}[b.Direction()]
					if tag := b.Frame(i).VLAN; tag.Present() {
						side += fmt.Sprintf(" VLAN %d", tag.VID())
					}
					d.add("%s", name+side)
					return name + side
				}
				say := func(name string) func(*extension.Batch) {
					return eachAlive(func(b *extension.Batch, i int) {
						if said := line(name, b, i); c.drops != "" && strings.HasPrefix(said, c.drops) {
							b.Drop(i, "for the test")
						}
					})
				}
				wall := &someFirewall{func(q *extension.Connection) bool {
					side := map[extension.Direction]string{extension.Ingress: "wall in", extension.Egress: "wall out"}[q.Opener]
					if q.VLAN != 0 {
						d.add("%s VLAN %d", side, q.VLAN)
					} else {
						d.add("%s", side)
					}
					return side != c.drops
				}}
				l := extendedLab(t,
					bind("wall", wall), bind("forwarding", &someForwarding{say("forwarding")}),
					bind("f1", &someFilter{say("f1")}), captureOf("c1", say("c1")), captureOf("c2", say("c2")), bind("f2", &someFilter{say("f2")}),
				)
				a := l.guest("vm0", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(10), DHCPGuard: true, ACL: policyOf(t, *deny(acl.Out))})
				b := l.guest("vm1", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Trunk(0, ids("10"), nil), ACL: policyOf(t, *deny(acl.In))})
				b.sendRaw(tagged(frame(ports.Broadcast, b.mac, "here I am"), tpidQ, 10))
				a.received()
				d.take(l)
				a.sendRaw(c.wire(a, b))
				require.Equal(t, c.want, strings.Join(d.take(l), ", "))
				if c.why == 0 {
					require.Len(t, b.received(), 1)
				} else {
					require.Empty(t, b.received())
					at := a
					if c.why > vswitch.DropSamePort {
						at = b
					}
					require.Equal(t, drops{c.why: 1}, at.drops())
				}
			})
		})
	}
}

func TestAnAddressIsLearnedBetweenFirewallAndForwarding(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		drop := func(b *extension.Batch) { b.Drop(0, "no") }
		l := extendedLab(t)
		vm := l.guest("vm0", vswitch.VNICConfig{Switch: "lab", AllowSpoofing: true})
		for i, c := range []struct {
			by     extension.Binding
			learns bool
		}{
			{filterOf(drop), false},
			{bind("wall", &someFirewall{func(*extension.Connection) bool { return false }}), false},
			{bind("forwarding", &someForwarding{drop}), true},
		} {
			l.extend(c.by)
			wire := datagram(vm, vm, 1, 2)
			copy(wire[0:], []byte{2, 9, 9, 9, 9, 9})
			mac := stranger(i)
			copy(wire[6:], mac[:])
			vm.sendRaw(wire)
			l.settle()
			require.Equal(t, c.learns, len(l.vlansOf(mac)) == 1, c.by.Name)
		}
	})
}

// stamp is a filter that writes into frames where it has seen them. Each frame carries a place for each stamp.
type stamp struct {
	place byte
	value byte
}

const stampedText = "stamps:" // then eight places, four for each side, then the number

func (s *stamp) Filter(b *extension.Batch) {
	for i := range b.Len() {
		if h := b.Frame(i).Head(); !b.Alive(i) || len(h) < 14+len(stampedText)+8 || string(h[14:14+len(stampedText)]) != stampedText {
			continue
		}
		at := 14 + len(stampedText) + 4*int(b.Direction()) + int(s.place)
		h := b.Edit(i).Head()
		if h[at] != '-' {
			h[at] = '?' // seen twice
		} else {
			h[at] = s.value
		}
	}
}

func TestExtensionsComeGoAndCrashUnderFullTraffic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLabWith(t, vswitch.HostConfig{Workers: 3})
		l.newSwitch("lab", vswitch.SwitchConfig{})
		vm := l.guests(4)
		deep := ports.PipeConfig{Depth: 1 << 14}
		from, to := l.guestOn(deep, "from", vswitch.VNICConfig{Switch: "lab"}), l.guestOn(deep, "to", vswitch.VNICConfig{Switch: "lab"})
		flows := []*flow{l.flow(vm[0], vm[1]), l.flow(vm[1], vm[2]), l.flow(vm[2], vm[3])}

		pair := func(value byte) []extension.Binding {
			return []extension.Binding{
				bind(fmt.Sprintf("first %c", value), &stamp{0, value}), bind(fmt.Sprintf("second %c", value), &stamp{1, value}),
			}
		}
		one, two := pair('1'), pair('2')
		crash := func() extension.Binding {
			return extension.Binding{Name: "crash", FailOpen: true, Extension: &someFilter{func(b *extension.Batch) { panic("crash") }}}
		}
		wall := bind("wall", &someFirewall{func(*extension.Connection) bool { return true }})
		watch := bind("watch", new(raceless))
		disabled := slices.Clone(one)
		disabled[0].Disabled, disabled[1].Disabled = true, true
		lists := func() [][]extension.Binding {
			return [][]extension.Binding{
				one, two, {one[1], one[0]}, nil, {two[0], crash(), watch, two[1]}, {watch, wall, two[1], two[0]}, disabled, one,
				{one[0], one[1], captureOf("bad capture", func(*extension.Batch) { panic("crash") })},
			}
		}
		total := 40 * rounds(300)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for i := range total {
				from.sendRaw(frame(to.mac, from.mac, fmt.Sprintf("%s--------%d", stampedText, i)))
				if i%8 == 7 {
					time.Sleep(time.Microsecond)
				}
			}
		}()
		changes := 0
	change:
		for {
			for _, list := range lists() {
				l.extend(list...)
				changes++
				for _, f := range flows {
					f.goOn(5)
				}
				select {
				case <-sent:
					break change
				default:
				}
			}
		}
		for _, f := range flows {
			f.stop()
		}
		require.Greater(t, changes, 9)
		seen := map[string]int{}
		for i, text := range to.got() {
			require.Equal(t, fmt.Sprint(i), text[len(stampedText)+8:], "lost, doubled or out of order")
			seen[text[len(stampedText):len(stampedText)+8]]++
		}
		n := 0
		for stamps, times := range seen {
			require.Contains(t, []string{"--------", "11--11--", "22--22--"}, stamps)
			n += times
		}
		require.Equal(t, total, n)
		require.Len(t, seen, 3, "the test does not show anything")
		for _, s := range append(vm, from, to) {
			require.Empty(t, s.drops())
		}
	})
}

// raceless is a capture that may be called by many at once.
type raceless struct{}

func (*raceless) Capture(b *extension.Batch) { _ = b.Frame(0).Head()[0] }
func (*raceless) Fate(b *extension.Batch)    { _ = b.Reason(0) }

func TestAFilterEditsWhatComesIn(t *testing.T) {
	grow := func(f *ports.Frame, n int) {
		b := make([]byte, ports.Headroom+f.Len()+n)
		f.SetHead(b[:ports.Headroom+copy(b[ports.Headroom:], f.Head())+n], ports.Headroom, f.Len()+n)
	}
	for name, c := range map[string]struct {
		edit func(f *ports.Frame, a, b, other *station)
		want string // at whom it arrives, and how
		why  vswitch.DropReason
	}{
		"nothing":            {func(f *ports.Frame, a, b, other *station) {}, "b: VLAN 10: text", 0},
		"destination":        {func(f *ports.Frame, a, b, other *station) { copy(f.Head(), other.mac[:]) }, "other: text", 0},
		"payload":            {func(f *ports.Frame, a, b, other *station) { f.Head()[14] = 'T' }, "b: VLAN 10: Text", 0},
		"VLAN":               {func(f *ports.Frame, a, b, other *station) { f.VLAN = ports.Tag{TPID: tpidQ, TCI: 20} }, "b: VLAN 20: text", 0},
		"a tag in the bytes": {func(f *ports.Frame, a, b, other *station) { f.VLAN = ports.Tag{}; retag(f, 20) }, "b: VLAN 20: text", 0},
		"longer":             {func(f *ports.Frame, a, b, other *station) { tag := f.VLAN; grow(f, 3); f.VLAN = tag }, "b: VLAN 10: text\x00\x00\x00", 0},
		"shorter":            {func(f *ports.Frame, a, b, other *station) { tag := f.VLAN; f.SetHead(f.Head(), 0, 16); f.VLAN = tag }, "b: VLAN 10: te", 0},
		"a false source":     {func(f *ports.Frame, a, b, other *station) { copy(f.Head()[6:], b.mac[:]) }, "", vswitch.DropSpoofedSource},
		"a forbidden VLAN":   {func(f *ports.Frame, a, b, other *station) { f.VLAN = ports.Tag{TPID: tpidQ, TCI: 30} }, "", vswitch.DropVLANNotAllowed},
		"an impossible VLAN": {func(f *ports.Frame, a, b, other *station) { f.VLAN = ports.Tag{TPID: tpidQ, TCI: 4095} }, "", vswitch.DropInvalidVLAN},
		"a strange tag":      {func(f *ports.Frame, a, b, other *station) { f.VLAN = ports.Tag{TPID: 7, TCI: 10} }, "", vswitch.DropWrongTPID},
		"no tag":             {func(f *ports.Frame, a, b, other *station) { f.VLAN = ports.Tag{} }, "", vswitch.DropUntagged},
		"too long":           {func(f *ports.Frame, a, b, other *station) { tag := f.VLAN; grow(f, 20_000); f.VLAN = tag }, "", vswitch.DropGiant},
		"too short":          {func(f *ports.Frame, a, b, other *station) { f.TrimFront(9) }, "", vswitch.DropFilterOut},
		"a bad offload": {func(f *ports.Frame, a, b, other *station) {
			f.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: 999}
		}, "", vswitch.DropFilterOut},
		"to itself":             {func(f *ports.Frame, a, b, other *station) { copy(f.Head(), a.mac[:]) }, "", vswitch.DropSamePort},
		"to a reserved address": {func(f *ports.Frame, a, b, other *station) { copy(f.Head(), []byte{1, 0x80, 0xc2, 0, 0, 2}) }, "", vswitch.DropReserved},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var a, b, other *station
				l := extendedLab(t, filterOf(eachAlive(func(x *extension.Batch, i int) {
					if x.Direction() == extension.Ingress && strings.HasSuffix(textOf(x.Frame(i)), "text") {
						c.edit(x.Edit(i), a, b, other)
					}
				})))
				a = l.member("a", vlan.Trunk(0, ids("10,20"), nil))
				b = l.member("b", vlan.Trunk(0, ids("10,20,30"), nil))
				other = l.member("other", vlan.Access(10))
				for _, s := range []*station{a, b} {
					for _, vid := range []uint16{10, 20} {
						s.sendRaw(tagged(frame(stranger(99), s.mac, "hello"), tpidQ, vid))
					}
				}
				drain(a, b, other)
				a.sendRaw(tagged(frame(b.mac, a.mac, "text"), tpidQ, 10), tagged(frame(b.mac, a.mac, "good"), tpidQ, 10))
				var got []string
				for who, s := range map[string]*station{"b": b, "other": other} {
					for _, text := range s.got() {
						if text != "VLAN 10: good" {
							got = append(got, who+": "+text)
						}
					}
				}
				require.Equal(t, c.want, strings.Join(got, "; "))
				want := drops{}
				if c.why != 0 {
					want[c.why] = 1
				}
				require.Equal(t, want, a.drops())
				require.Empty(t, b.drops())
			})
		})
	}
}

// retag puts a tag into the bytes of a frame.
func retag(f *ports.Frame, tci uint16) {
	h := f.Prepend(4)
	copy(h, h[4:16])
	binary.BigEndian.PutUint16(h[12:], tpidQ)
	binary.BigEndian.PutUint16(h[14:], tci)
}

func TestAnEditedIPAddressIsWhatThePolicyJudges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := extendedLab(t, filterOf(eachAlive(func(b *extension.Batch, i int) {
			if f, ok := b.Flow(i); ok && f.Destination.Port() == 66 && b.Direction() == extension.Ingress {
				b.Edit(i).Head()[14+12+3] = 77 // the source address
			}
		})))
		vm := l.guests(2)
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { strict(t, c, vm[0].ip4()) })
		vm[0].passes(vm[1], datagram(vm[0], vm[1], 1, 65))
		vm[0].dropped(vm[1], datagram(vm[0], vm[1], 1, 66), vm[0], vswitch.DropSourceAddress)
	})
}

func TestAnEditOnEgressIsForOneReceiver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		edit := func(n string, do func(f *ports.Frame)) func(*extension.Batch) {
			return eachAlive(func(b *extension.Batch, i int) {
				if b.Direction() == extension.Egress && b.Port().Name == n {
					do(b.Edit(i))
				}
			})
		}
		l := extendedLab(t,
			bind("text", &someFilter{edit("vm1", func(f *ports.Frame) { f.Head()[14] = 'X' })}),
			bind("tag", &someFilter{edit("vm2", func(f *ports.Frame) { f.VLAN = ports.Tag{TPID: tpidQ, TCI: 7} })}),
			bind("long", &someFilter{edit("vm3", func(f *ports.Frame) { f.SetHead(make([]byte, 20_000), 0, 20_000) })}),
			bind("short", &someFilter{edit("vm4", func(f *ports.Frame) { f.TrimFront(14) })}),
			bind("offload", &someFilter{edit("vm5", func(f *ports.Frame) { f.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: 7000} })}),
		)
		vm := append(l.guests(5), l.guestOn(ports.PipeConfig{Offloads: ports.OffloadAll}, "vm5", vswitch.VNICConfig{Switch: "lab"}))
		plain := l.guest("plain", vswitch.VNICConfig{Switch: "lab"})
		vm[0].send(ports.Broadcast, "one", "two")
		l.everyoneGot([]string{"one", "two"}, plain)
		l.everyoneGot([]string{"Xne", "Xwo"}, vm[1])
		l.everyoneGot([]string{"VLAN 7: one", "VLAN 7: two"}, vm[2])
		l.nobodyGot(vm[3], vm[4], vm[5])
		require.Equal(t, drops{vswitch.DropTooBig: 2}, vm[3].drops())
		require.Equal(t, drops{vswitch.DropFilterIn: 2}, vm[4].drops())
		require.Equal(t, drops{vswitch.DropFilterIn: 2}, vm[5].drops())
		require.Empty(t, vm[0].drops())
	})
}

// director is a forwarding extension that sends frames to the ports which their text names, and leaves alone those
// with the text "leave".
type director struct {
	mu    sync.Mutex
	ports map[string]*extension.Port
}

func (d *director) Connect(p *extension.Port) (any, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ports == nil {
		d.ports = map[string]*extension.Port{}
	}
	d.ports[p.Name] = p
	return nil, nil
}
func (d *director) Change(old, new *extension.Port, _ any) error { return nil }
func (d *director) Disconnect(*extension.Port, any)              {}

func (d *director) Forward(b *extension.Batch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range b.Len() {
		text := textOf(b.Frame(i))
		if !b.Alive(i) || strings.HasPrefix(text, "leave") {
			continue
		}
		var to []*extension.Port
		for _, name := range strings.Fields(text) {
			to = append(to, d.ports[name])
		}
		if text == "drop" {
			b.Drop(i, "as told")
		} else {
			b.Send(i, to...)
		}
	}
}

func TestAForwardingExtensionDecides(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := extendedLab(t, bind("director", new(director)))
		vm := l.guests(4)
		gotten := func() (all []string) {
			for _, s := range vm {
				all = append(all, strings.Join(s.got(), ", "))
			}
			return all
		}
		for _, c := range []struct {
			texts []string
			dst   ports.MAC
			want  []string
			drops drops
		}{
			{[]string{"vm2"}, vm[1].mac, []string{"", "", "vm2", ""}, drops{}},
			{[]string{"vm2"}, ports.Broadcast, []string{"", "", "vm2", ""}, drops{}},
			{[]string{"vm3 vm1"}, stranger(1), []string{"", "vm3 vm1", "", "vm3 vm1"}, drops{}},
			{[]string{"vm3 vm3"}, stranger(1), []string{"", "", "", "vm3 vm3"}, drops{}},
			{[]string{"vm2"}, ports.MAC{1, 0x80, 0xc2}, []string{"", "", "vm2", ""}, drops{}},
			{[]string{""}, vm[1].mac, []string{"", "", "", ""}, drops{vswitch.DropNoDestination: 1}},
			{[]string{"nobody"}, vm[1].mac, []string{"", "", "", ""}, drops{vswitch.DropNoDestination: 1}},
			{[]string{"vm0"}, vm[1].mac, []string{"", "", "", ""}, drops{vswitch.DropNoDestination: 1}},
			{[]string{"vm0 vm1"}, vm[1].mac, []string{"", "vm0 vm1", "", ""}, drops{}},
			{[]string{"drop"}, vm[1].mac, []string{"", "", "", ""}, drops{vswitch.DropForwarding: 1}},
			{[]string{"leave"}, vm[1].mac, []string{"", "leave", "", ""}, drops{}},
			{[]string{"leave 1", "vm2", "leave 2", "vm1", "drop", "vm3 vm2"}, vm[1].mac,
				[]string{"", "leave 1, leave 2, vm1", "vm2, vm3 vm2", "vm3 vm2"}, drops{vswitch.DropForwarding: 1}},
			{[]string{"leave", "vm1", "leave, too"}, ports.Broadcast,
				[]string{"", "leave, leave, too, vm1", "leave, leave, too", "leave, leave, too"}, drops{}},
			{[]string{"leave", "vm1"}, vm[0].mac, []string{"", "vm1", "", ""}, drops{vswitch.DropSamePort: 1}},
		} {
			before := vm[0].drops()
			vm[0].send(c.dst, c.texts...)
			require.Equal(t, c.want, gotten(), "%q to %s", c.texts, c.dst)
			after := vm[0].drops()
			for r, n := range before {
				if after[r] -= n; after[r] == 0 {
					delete(after, r)
				}
			}
			require.Equal(t, c.drops, after, "%q to %s", c.texts, c.dst)
		}
		vm[0].blast(vm[1].mac, 0)
		var many []string
		for i := range 64 {
			many = append(many, fmt.Sprintf("vm%d vm%d vm%d", 1+i%3, 1+i%3, 1+(i+1)%3))
		}
		vm[0].send(vm[1].mac, many...)
		n := 0
		for _, s := range vm {
			n += len(s.got())
		}
		require.Equal(t, 2*64, n)
	})
}

func TestThePolicyOfAChosenPortApplies(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := extendedLab(t, bind("director", new(director)))
		a, b := l.member("a", vlan.Access(10)), l.member("b", vlan.Access(10))
		other, trunk := l.member("other", vlan.Access(20)), l.member("trunk", vlan.Trunk(0, ids("10"), nil))
		bare := l.member("bare", vlan.Untagged())
		a.send(b.mac, "other b trunk bare")
		l.everyoneGot([]string{"other b trunk bare"}, b)
		l.everyoneGot([]string{"VLAN 10: other b trunk bare"}, trunk)
		l.nobodyGot(other, bare)
		require.Equal(t, drops{vswitch.DropNotMember: 1}, other.drops())
		require.Equal(t, drops{vswitch.DropNotMember: 1}, bare.drops())
		bare.send(b.mac, "b")
		l.nobodyGot(b)
		require.Equal(t, drops{vswitch.DropNotMember: 1}, b.drops())
		require.Empty(t, a.drops())

		deny := policyOf(t, acl.Config{Extended: []acl.ExtendedRule{{Weight: 1, Direction: acl.In, Action: acl.Deny}}})
		b.reconfigure(func(c *vswitch.VNICConfig) { c.ACL = deny })
		a.sendRaw(datagram(a, b, 1, 2), frame(b.mac, a.mac, "b"))
		l.settle()
		require.NotZero(t, b.drops()[vswitch.DropACLIn])
		require.Empty(t, b.got())
	})
}

func TestAChosenPortThatHasGone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := new(director)
		l := extendedLab(t, bind("director", d))
		vm := l.guests(3)
		gone := *d.ports["vm2"]
		require.NoError(t, vm[2].vnic.Close())
		next := l.guest("next", vswitch.VNICConfig{Switch: "lab"})
		require.Equal(t, gone.Index, d.ports["next"].Index, "the test shows nothing")
		vm[0].send(vm[1].mac, "vm2", "vm2 vm1", "next")
		l.everyoneGot([]string{"vm2 vm1"}, vm[1])
		l.everyoneGot([]string{"next"}, next)
		require.Equal(t, drops{vswitch.DropNoDestination: 1}, vm[0].drops())

		next.reconfigure(func(c *vswitch.VNICConfig) { c.Notes = "other settings" })
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Notes = "other settings" })
		vm[0].send(vm[1].mac, "next", "vm0")
		l.everyoneGot([]string{"next"}, next)
		l.nobodyGot(vm[0])
	})
}

func TestAFirewallAllowsAndDeniesConnections(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := new(diary)
		allow := true
		l := extendedLab(t, bind("wall", &someFirewall{func(c *extension.Connection) bool {
			d.add("%s %s %s→%s", c.Port.Name, c.Opener, c.Local, c.Remote)
			return allow && c.Remote.Port() != 23 && !(c.Port.Name == "vm1" && c.Local.Port() == 99)
		}}))
		vm := l.guests(2)
		for range 3 {
			vm[0].passes(vm[1], datagram(vm[0], vm[1], 5, 80))
			vm[1].passes(vm[0], datagram(vm[1], vm[0], 80, 5))
		}
		require.Equal(t, []string{"vm0 ingress 10.0.0.1:5→10.0.0.2:80", "vm1 egress 10.0.0.2:80→10.0.0.1:5"}, d.take(l))
		for range 2 {
			vm[0].dropped(vm[1], datagram(vm[0], vm[1], 5, 23), vm[0], vswitch.DropFirewallOut)
			vm[0].dropped(vm[1], datagram(vm[0], vm[1], 5, 99), vm[1], vswitch.DropFirewallIn)
		}
		require.Equal(t, []string{
			"vm0 ingress 10.0.0.1:5→10.0.0.2:23", "vm0 ingress 10.0.0.1:5→10.0.0.2:99", "vm1 egress 10.0.0.2:99→10.0.0.1:5",
		}, d.take(l))
		require.EqualValues(t, 4, l.sw().Extensions()[0].Dropped)
		vm[0].passes(vm[1], arp(vm[0], layers.ARPRequest, vm[0].mac, vm[0].ip4(), vm[1].ip4()))

		allow = false
		vm[0].passes(vm[1], datagram(vm[0], vm[1], 5, 80), "it was allowed")
		l.sw().Reauthorize()
		vm[0].dropped(vm[1], datagram(vm[0], vm[1], 5, 80), vm[0], vswitch.DropFirewallOut)
		allow = true
		vm[0].dropped(vm[1], datagram(vm[0], vm[1], 5, 80), vm[0], vswitch.DropFirewallOut, "it was denied")
		time.Sleep(10 * time.Minute)
		vm[0].passes(vm[1], datagram(vm[0], vm[1], 5, 80), "that is forgotten")
	})
}

// injector is a filter that injects.
type injector struct {
	do     func(b *extension.Batch)
	mu     sync.Mutex
	sw     extension.Switch
	atStop error
}

func (j *injector) Start(s extension.Switch) error { j.sw = s; return nil }
func (j *injector) Stop(s extension.Switch)        { j.atStop = s.Inject(newFrame(make([]byte, 60))) }
func (j *injector) Filter(b *extension.Batch) {
	if j.do != nil {
		j.do(b)
	}
}

func (j *injector) inject(t *testing.T, dst ports.MAC, text string, tag ports.Tag) {
	t.Helper()
	f := newFrame(frame(dst, stranger(7), text))
	f.VLAN = tag
	require.NoError(t, j.sw.Inject(f))
}

func TestAnInjectedFrame(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := new(diary)
		say := func(name string) extension.Binding {
			return bind(name, &someFilter{eachAlive(func(b *extension.Batch, i int) {
				line := name + " " + b.Direction().String()
				if b.Port() != nil {
					line += " at " + b.Port().Name
				}
				if b.Source() != nil {
					line += " from " + b.Source().Name
				}
				d.add("%s", line)
			})})
		}
		j := new(injector)
		wall := bind("wall", &someFirewall{func(c *extension.Connection) bool { d.add("wall %s", c.Opener); return true }})
		l := extendedLab(t, captureOf("capture", func(b *extension.Batch) { d.add("capture %s", b.Direction()) }),
			say("before"), bind("injector", j), say("behind"), wall)
		require.Equal(t, "lab", j.sw.Name())
		vm := l.guests(2)
		ten := l.member("ten", vlan.Access(10))
		trunk := l.member("trunk", vlan.Trunk(0, ids("10,20"), nil))
		j.inject(t, vm[1].mac, "hello", ports.Tag{})
		l.everyoneGot([]string{"hello"}, vm[1])
		l.nobodyGot(vm[0], ten, trunk)
		require.Equal(t, []string{"behind ingress", "behind egress at vm1", "before egress at vm1", "capture egress"}, d.take(l))

		j.inject(t, ports.Broadcast, "all", ports.Tag{})
		l.everyoneGot([]string{"all"}, vm...)
		j.inject(t, ports.Broadcast, "all of 10", ports.Tag{TPID: tpidQ, TCI: 10})
		l.everyoneGot([]string{"all of 10"}, ten)
		l.everyoneGot([]string{"VLAN 10: all of 10"}, trunk)
		require.NoError(t, j.sw.Inject(newFrame(tagged(frame(ports.Broadcast, stranger(7), "within"), tpidQ, 10))))
		l.everyoneGot([]string{"within"}, ten)
		j.inject(t, ports.Broadcast, "all of 20", ports.Tag{TPID: tpidQ, TCI: 20})
		l.everyoneGot([]string{"VLAN 10: within", "VLAN 20: all of 20"}, trunk)
		l.nobodyGot(append(vm, ten)...)
		require.NoError(t, j.sw.Inject(newFrame(datagram(vm[0], vm[1], 1, 2))))
		require.Len(t, vm[1].received(), 1)
		require.Equal(t, 1, strings.Count(strings.Join(d.take(l), "\n"), "wall"), "at the destination only")
		require.Empty(t, l.vlansOf(stranger(7)), "nothing is learned")
		require.EqualError(t, j.sw.Inject(newFrame(make([]byte, 13))), `switch "lab": extension "injector": frame of 13 bytes: invalid configuration`)

		c := l.sw().Config()
		c.Extensions[2].Disabled = true
		require.NoError(t, l.sw().SetConfig(c))
		require.ErrorContains(t, j.sw.Inject(newFrame(frame(vm[0].mac, vm[0].mac, "x"))), "not in use")
		c.Extensions[2].Disabled = false
		require.NoError(t, l.sw().SetConfig(c))
		j.inject(t, vm[1].mac, "again", ports.Tag{})
		l.everyoneGot([]string{"again"}, vm[1])
		l.extend()
		require.ErrorContains(t, j.atStop, `switch "lab": extension "injector": the extension is not in use`)
		require.ErrorContains(t, j.sw.Inject(newFrame(frame(vm[0].mac, vm[0].mac, "x"))), "not in use")
	})
}

func TestInjectionFromWithinAFilter(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		j := new(injector)
		j.do = eachAlive(func(b *extension.Batch, i int) {
			if b.Direction() == extension.Ingress && textOf(b.Frame(i)) == "ping" {
				answer := newFrame(b.Frame(i).Head())
				h := answer.Head()
				dst := slices.Clone(h[6:12])
				copy(h[6:12], h[0:6])
				copy(h, dst)
				copy(h[14:], "pong")
				if err := j.sw.Inject(answer); err != nil {
					panic(err)
				}
				b.Drop(i, "answered")
			}
		})
		l := newLabWith(t, vswitch.HostConfig{Workers: 1})
		l.newSwitch("lab", vswitch.SwitchConfig{Extensions: []extension.Binding{bind("ponger", j)}})
		vm := l.guests(2)
		for range 100 {
			vm[0].send(vm[1].mac, "ping")
			l.everyoneGot([]string{"pong"}, vm[0])
			l.nobodyGot(vm[1])
		}
		require.Equal(t, drops{vswitch.DropFilterOut: 100}, vm[0].drops())
		require.NoError(t, l.sw().Close())
		require.ErrorContains(t, j.atStop, "not in use")
	})
}

func TestAnInjectorIsToldWhenItsQueueIsFull(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		j, goOn := new(injector), make(chan struct{})
		l := newLabWith(t, vswitch.HostConfig{Workers: 1})
		l.newSwitch("lab", vswitch.SwitchConfig{Extensions: []extension.Binding{bind("injector", j), filterOf(func(b *extension.Batch) { <-goOn })}})
		vm := l.guestOn(ports.PipeConfig{Depth: 1024}, "vm", vswitch.VNICConfig{Switch: "lab"})
		taken := 0
		var err error
		for err == nil && taken < 2000 {
			if err = j.sw.Inject(newFrame(frame(vm.mac, stranger(1), fmt.Sprint(taken)))); err == nil {
				taken++
			}
		}
		require.EqualError(t, err, `switch "lab": extension "injector": queue full`)
		require.GreaterOrEqual(t, taken, 256)
		close(goOn)
		require.Equal(t, numbers(taken), vm.got())
	})
}

func TestInjectorsComeAndGoWhileTheyInject(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := extendedLab(t)
		deep := ports.PipeConfig{Depth: 1 << 14}
		vm := l.guestOn(deep, "vm", vswitch.VNICConfig{Switch: "lab"})
		seal := func(name string) extension.Binding { // which only frames of the injector in front of it pass
			return bind("seal "+name, &someFilter{eachAlive(func(b *extension.Batch, i int) {
				if text := textOf(b.Frame(i)); b.Direction() == extension.Ingress && text != name {
					b.Edit(i).Head()[14] = '!'
				}
			})})
		}
		a, b := new(injector), new(injector)
		var all sync.WaitGroup
		done := make(chan struct{})
		l.extend(bind("a", a), bind("b", b))
		for name, j := range map[string]*injector{"A": a, "B": b} {
			all.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-done:
						return
					default:
					}
					j.sw.Inject(newFrame(frame(vm.mac, stranger(1), name)))
					time.Sleep(time.Microsecond)
				}
			})
		}
		for range rounds(100) {
			l.extend(bind("a", a), seal("A"))
			time.Sleep(3 * time.Microsecond)
			l.extend(bind("b", b), seal("B"))
			time.Sleep(3 * time.Microsecond)
		}
		close(done)
		all.Wait()
		seen := map[string]int{}
		for _, text := range vm.got() {
			seen[text]++
		}
		require.NotZero(t, seen["A"])
		require.NotZero(t, seen["B"])
		require.Zero(t, seen["!"], "a frame passed the filters of the other injector")
	})
}

var errVeto = errors.New("no room")
