package vswitch_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
type witness struct{ frames, fates atomic.Int64 }

func (w *witness) Capture(b *extension.Batch) { w.frames.Add(int64(b.Len())) }
func (w *witness) Fate(b *extension.Batch)    { w.fates.Add(int64(b.Len())) }

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
		require.Equal(t, []int64{2, 2}, []int64{w.frames.Load(), w.fates.Load()})
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
					drain(a, b, other) // a worker need not learn while another one does
				}
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
		vm[0].dropped(vm[1], datagram(vm[0], vm[1], 1, 66), vm[0], vswitch.DropSourceAddress)
		vm[0].passes(vm[1], datagram(vm[0], vm[1], 1, 65))
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
	ip    string // where IP packets go
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
		if _, ok := b.Flow(i); ok {
			text = d.ip
		}
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
		l := extendedLab(t, bind("director", &director{ip: "b"}))
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
		a.sendRaw(datagram(a, b, 1, 2))
		l.nobodyGot(b)
		require.Equal(t, drops{vswitch.DropNotMember: 1, vswitch.DropACLIn: 1}, b.drops())
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

func (j *injector) Start(s extension.Switch) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sw = s
	return nil
}

// handle is for those who inject while the list changes.
func (j *injector) handle() extension.Switch {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.sw
}

func (j *injector) Stop(s extension.Switch) { j.atStop = s.Inject(newFrame(make([]byte, 60))) }
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
					j.handle().Inject(newFrame(frame(vm.mac, stranger(1), name)))
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

// tenant is a filter that keeps something for each port, and writes down what it is told.
type tenant struct {
	diary
	bad string // what goes wrong
	how func() error
}

var errVeto = errors.New("no room")

func veto() error    { return errVeto }
func explode() error { panic("boom") }

func (x *tenant) do(format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	x.add("%s", what)
	if what == x.bad {
		return x.how()
	}
	return nil
}

func (x *tenant) Filter(b *extension.Batch) {
	for i := range b.Len() {
		if b.State() != "state of "+b.Port().Name && b.State() != "moved state of "+b.Port().Name {
			b.Drop(i, "the state is missing")
		}
	}
}

func (x *tenant) Connect(p *extension.Port) (any, error) {
	return "state of " + p.Name, x.do("connect %s", p.Name)
}

func (x *tenant) Change(old, new *extension.Port, state any) error {
	return x.do("change %s from %s to %s", new.Name, old.MAC, new.MAC)
}

func (x *tenant) Disconnect(p *extension.Port, state any) { x.do("disconnect %s", p.Name) }

func (x *tenant) Save(p *extension.Port, state any) ([]byte, error) {
	return []byte(state.(string)), x.do("save %s", p.Name)
}

func (x *tenant) Restore(p *extension.Port, saved []byte) (any, error) {
	return "moved " + string(saved), x.do("restore %s from %s", p.Name, saved)
}

func TestAVetoOnConnectLeavesEverythingAsItWas(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		other := new(tenant)
		x := &tenant{bad: "connect late", how: veto}
		l := extendedLab(t, bind("other", other), bind("tenant", x))
		vm := l.guests(2)
		require.Equal(t, []string{"connect vm0", "connect vm1"}, x.take(l))
		other.take(l)
		near, far := l.pipe(ports.PipeConfig{Name: "late"})
		_, err := l.host.NewVNIC("late", near, &vswitch.VNICConfig{Switch: "lab", ID: "id of late", MAC: stranger(5)})
		require.EqualError(t, err, `switch "lab": port "late": extension "tenant": no room`)
		require.ErrorIs(t, err, errVeto)
		require.Nil(t, l.host.VNIC("late"))
		require.Equal(t, []string{"connect late", "disconnect late"}, other.take(l))
		require.Equal(t, []string{"connect late"}, x.take(l))
		require.True(t, far.Link().Up, "the backend is not the host's")
		require.Len(t, l.host.Ports(), 2)
		require.Len(t, l.sw().Stats().Ports, 2)

		x.bad = ""
		v, err := l.host.NewVNIC("late", near, &vswitch.VNICConfig{Switch: "lab", ID: "id of late", MAC: stranger(5)})
		require.NoError(t, err, "name, ID and address are free")
		require.True(t, v.Connected())
		vm[0].send(stranger(5), "hello")
		require.Equal(t, []string{"hello"}, (&station{lab: l, end: far, vnic: v}).got())
	})
}

func TestAVetoOnAChangeLeavesEverythingAsItWas(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		first, x := new(tenant), &tenant{how: veto}
		l := extendedLab(t, bind("first", first), bind("tenant", x))
		a, b := l.member("a", vlan.Access(10)), l.member("b", vlan.Access(10))
		traffic := l.flow(a, b)
		traffic.goOn(50)
		was, stats := b.vnic.Config(), b.drops()
		x.bad = fmt.Sprintf("change b from %s to %s", b.mac, stranger(8))
		c := was
		c.MAC, c.VLAN, c.Notes = stranger(8), vlan.Access(20), "changed"
		err := b.vnic.SetConfig(c)
		require.EqualError(t, err, `switch "lab": port "b": extension "tenant": no room`)
		require.Equal(t, was, b.vnic.Config())
		require.Equal(t, b.mac, b.vnic.MAC())
		require.Equal(t, stats, b.drops())
		lines := first.take(l)
		require.Equal(t, []string{x.bad, fmt.Sprintf("change b from %s to %s", stranger(8), b.mac)}, lines[len(lines)-2:])
		require.Equal(t, map[uint16]string{10: "b"}, l.vlansOf(b.mac))
		require.Empty(t, l.vlansOf(stranger(8)))
		traffic.goOn(50)
		x.bad = ""
		c.VLAN, c.MAC = was.VLAN, was.MAC
		require.NoError(t, b.vnic.SetConfig(c))
		traffic.goOn(50)
		traffic.stop()
		require.Empty(t, b.drops(), "its state is the same")
	})
}

func TestAVetoOnAListLeavesTheOldOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		one, two := new(tenant), &tenant{bad: "connect vm1", how: veto}
		l := extendedLab(t, bind("one", one))
		vm := l.guests(2)
		one.take(l)
		traffic := l.flow(vm[0], vm[1])
		c := l.sw().Config()
		was := l.sw().Config()
		c.Extensions = []extension.Binding{bind("two", two)}
		c.Notes = "new"
		err := l.sw().SetConfig(c)
		require.EqualError(t, err, `switch "lab": extension "two": port "vm1": no room: invalid configuration`)
		require.ErrorIs(t, err, errVeto)
		require.Equal(t, was, l.sw().Config())
		require.Equal(t, []extension.Status{{Name: "one", Kinds: extension.KindFilter}}, l.sw().Extensions())
		require.Empty(t, one.take(l))
		for _, line := range two.take(l) {
			require.NotEqual(t, "disconnect vm1", line)
		}
		traffic.goOn(10)
		traffic.stop()
		_, err = l.host.NewSwitch("new", &vswitch.SwitchConfig{Extensions: []extension.Binding{bind("a", one), bind("a", two)}})
		require.ErrorIs(t, err, vswitch.ErrInvalid)
		require.EqualError(t, err, `switch "new": extension "a": there is another of that name: invalid configuration`)
		require.Nil(t, l.host.Switch("new"))
	})
}

func TestANewExtensionThatRefusesTheNewUplinkLeavesTheOldOnesAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		old, strict := new(tenant), new(tenant)
		l := extendedLab(t, bind("old", old))
		l.nic("eth0")
		vm := l.guests(2)
		old.take(l)
		strict.bad, strict.how = "connect eth0", veto
		before := l.sw().Config()
		c := before
		c.Type, c.Uplink, c.Extensions = vswitch.External, "eth0", []extension.Binding{bind("strict", strict)}
		require.EqualError(t, l.sw().SetConfig(c), `switch "lab": port "eth0": extension "strict": no room`)
		require.Equal(t, before, l.sw().Config())
		require.Empty(t, old.take(l), "it was not disturbed")
		require.ElementsMatch(t, []string{"connect vm0", "connect vm1", "connect eth0", "disconnect vm0", "disconnect vm1"}, strict.take(l))
		vm[0].send(vm[1].mac, "still there")
		require.Equal(t, []string{"still there"}, vm[1].got())
	})
}

func TestAVetoOnAMoveGivesStateBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		here, there := new(tenant), new(tenant)
		l := extendedLab(t, bind("tenant", here))
		l.newSwitch("two", vswitch.SwitchConfig{Extensions: []extension.Binding{bind("tenant", there)}})
		vm := l.guests(1)[0]
		here.take(l)
		there.bad, there.how = "connect vm0", veto
		c := vm.vnic.Config()
		c.Switch = "two"
		require.ErrorContains(t, vm.vnic.SetConfig(c), "no room")
		require.True(t, vm.vnic.Connected())
		require.Equal(t, []string{"save vm0", "disconnect vm0", "restore vm0 from state of vm0"}, here.take(l))
	})
}

func TestEveryConnectHasItsDisconnect(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		x, y := new(tenant), new(tenant)
		l := extendedLab(t, bind("x", x))
		l.newSwitch("two", vswitch.SwitchConfig{Extensions: []extension.Binding{bind("y", y)}})
		vm := l.member("vm", vlan.Isolated(10, 20))
		require.Equal(t, []string{"connect vm"}, x.take(l))

		near, _ := l.pipe(ports.PipeConfig{})
		_, err := l.host.NewVNIC("rival", near, &vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Isolated(10, 21)})
		require.ErrorIs(t, err, vswitch.ErrInvalid)
		require.Equal(t, []string{"connect rival", "disconnect rival"}, x.take(l), "the VLANs contradict each other")
		require.NoError(t, near.Close())

		vm.reconfigure(func(c *vswitch.VNICConfig) { c.Notes = "x" })
		require.Equal(t, []string{fmt.Sprintf("change vm from %s to %[1]s", vm.mac)}, x.take(l))
		vm.reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "two" })
		require.Equal(t, []string{"save vm", "disconnect vm"}, x.take(l), "in case the other switch refuses")
		require.Equal(t, []string{"connect vm"}, y.take(l))
		vm.reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "" })
		require.Equal(t, []string{"disconnect vm"}, y.take(l))
		vm.reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "lab" })
		require.NoError(t, l.sw().Close())
		require.NoError(t, l.host.Switch("two").Close())
		require.Equal(t, []string{"connect vm", "disconnect vm"}, x.take(l))
		require.Empty(t, y.take(l))
		l.newSwitch("lab", vswitch.SwitchConfig{Extensions: []extension.Binding{bind("y", y)}})
		require.NoError(t, vm.vnic.Close())
		require.Equal(t, []string{"connect vm", "disconnect vm"}, y.take(l))
	})
}

func TestUplinksAreToldToExtensions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var seen []extension.Port
		x := &portbook{&seen}
		l := newLab(t)
		l.nic("eth0")
		l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0", Extensions: []extension.Binding{bind("x", x)}})
		vm := l.guests(1)[0]
		l.guest("mgmt", vswitch.VNICConfig{Switch: "lab", Management: true})
		require.Len(t, seen, 3)
		require.Equal(t, "eth0", seen[0].Name)
		require.Equal(t, extension.Uplink, seen[0].Kind)
		require.Zero(t, seen[0].MAC)
		want := extension.Port{Switch: "lab", Name: "vm0", ID: vm.vnic.ID(), Kind: extension.VNIC, MAC: vm.mac, MTU: vm.end.Info().MTU, Speed: seen[1].Speed, Index: 1}
		require.Equal(t, want, seen[1])
		require.Equal(t, extension.Management, seen[2].Kind)
		require.ElementsMatch(t, seen, l.host.Ports())
		become(l, vswitch.Internal)
		require.Len(t, l.host.Ports(), 2)
	})
}

// portbook is a capture that notes the ports it is told of.
type portbook struct{ seen *[]extension.Port }

func (p *portbook) Capture(*extension.Batch) {}
func (p *portbook) Connect(o *extension.Port) (any, error) {
	*p.seen = append(*p.seen, *o)
	return nil, nil
}
func (p *portbook) Change(_, _ *extension.Port, _ any) error { return nil }
func (p *portbook) Disconnect(*extension.Port, any)          {}

func TestStateMovesToAnotherHost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		here, there := new(tenant), new(tenant)
		one, two := extendedLab(t, bind("tenant", here), bind("witness", new(witness))), extendedLab(t, bind("tenant", there), bind("new", new(tenant)))
		vm := one.guests(1)[0]
		state, err := vm.vnic.ExtensionState()
		require.NoError(t, err)
		require.Equal(t, map[string][]byte{"tenant": []byte("state of vm0")}, state)
		here.bad, here.how = "save vm0", veto
		_, err = vm.vnic.ExtensionState()
		require.EqualError(t, err, `switch "lab": vNIC "vm0": extension "tenant": no room`)

		moved := two.guest("vm0", vswitch.VNICConfig{Switch: "lab", ID: vm.vnic.ID(), MAC: vm.mac, ExtensionState: state})
		require.Equal(t, []string{"restore vm0 from state of vm0"}, there.take(two))
		require.Nil(t, moved.vnic.Config().ExtensionState)
		peer := two.guest("peer", vswitch.VNICConfig{Switch: "lab"})
		moved.send(peer.mac, "I am here")
		two.everyoneGot([]string{"I am here"}, peer)
		there.take(two)
		moved.reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "" })
		none, err := moved.vnic.ExtensionState()
		require.NoError(t, err)
		require.Empty(t, none)
		moved.reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "lab" })
		require.Equal(t, []string{"disconnect vm0", "connect vm0"}, there.take(two), "it is restored once")

		early := two.guest("early", vswitch.VNICConfig{Switch: "later", ExtensionState: map[string][]byte{"tenant": []byte("x")}})
		later := new(tenant)
		two.newSwitch("later", vswitch.SwitchConfig{Extensions: []extension.Binding{bind("tenant", later)}})
		require.Equal(t, []string{"restore early from x"}, later.take(two), "when its switch has come")
		require.Nil(t, early.vnic.Config().ExtensionState)
	})
}

func TestAnExtensionThatPanics(t *testing.T) {
	for _, open := range []bool{false, true} {
		t.Run(fmt.Sprintf("open: %t", open), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				book := new(eventbook)
				l := newLabWith(t, vswitch.HostConfig{Events: book.add})
				bad := filterOf(eachAlive(func(b *extension.Batch, i int) {
					if textOf(b.Frame(i)) == "bad" {
						panic("bad frame")
					}
				}))
				bad.Name, bad.FailOpen = "fragile", open
				l.newSwitch("lab", vswitch.SwitchConfig{Extensions: []extension.Binding{bad}})
				l.newSwitch("other", vswitch.SwitchConfig{Extensions: []extension.Binding{bad}})
				vm := l.guests(2)
				c, d := l.guest("c", vswitch.VNICConfig{Switch: "other"}), l.guest("d", vswitch.VNICConfig{Switch: "other"})
				traffic := l.flow(c, d)
				vm[0].send(vm[1].mac, "good")
				l.everyoneGot([]string{"good"}, vm[1])
				require.Empty(t, book.take(l))
				vm[0].send(vm[1].mac, "bad")
				vm[0].send(vm[1].mac, "good", "bad", "good")
				events := book.take(l)
				require.Len(t, events, 1)
				require.Equal(t, vswitch.Event{Kind: vswitch.ExtensionFailed, Switch: "lab", Extension: "fragile", Err: events[0].Err}, events[0])
				require.EqualError(t, events[0].Err, "panic: bad frame")
				require.Equal(t, "extension failed", events[0].Kind.String())
				l.requireLogged("level=ERROR", "extension failed", "switch=lab", "extension=fragile", "bad frame")
				status := extension.Status{Name: "fragile", Kinds: extension.KindFilter, Failure: "bad frame"}
				if open {
					l.everyoneGot([]string{"bad", "good", "bad", "good"}, vm[1])
					require.Empty(t, vm[0].drops())
				} else {
					l.nobodyGot(vm[1])
					require.Equal(t, drops{vswitch.DropFilterOut: 4}, vm[0].drops())
					status.Dropped = 4
				}
				require.Equal(t, []extension.Status{status}, l.sw().Extensions())
				require.Empty(t, l.host.Switch("other").Extensions()[0].Failure)
				traffic.goOn(10)

				bad.Disabled = true
				l.extend(bad)
				vm[0].send(vm[1].mac, "bad")
				l.everyoneGot([]string{"bad"}, vm[1])
				bad.Disabled = false
				l.extend(bad)
				vm[0].send(vm[1].mac, "good")
				l.everyoneGot([]string{"good"}, vm[1])
				vm[0].send(vm[1].mac, "bad")
				require.Len(t, book.take(l), 1)
				traffic.goOn(10)
				traffic.stop()
			})
		})
	}
}

func TestADestinationIsLostByAnExtensionThatPanicsThere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := extendedLab(t, filterOf(func(b *extension.Batch) {
			if b.Direction() == extension.Egress && b.Port().Name == "vm1" {
				panic(errVeto)
			}
		}))
		vm := l.guests(3)
		vm[0].send(vm[1].mac, "to vm1")
		l.nobodyGot(vm[1])
		require.Equal(t, drops{vswitch.DropFilterIn: 1}, vm[1].drops())
		require.Equal(t, "no room", l.sw().Extensions()[0].Failure)

		explodes := &tenant{bad: "connect new", how: explode}
		l.extend(bind("tenant", explodes))
		near, _ := l.pipe(ports.PipeConfig{})
		_, err := l.host.NewVNIC("new", near, &vswitch.VNICConfig{Switch: "lab"})
		require.EqualError(t, err, `switch "lab": port "new": extension "tenant": panic: boom`)
		require.NoError(t, near.Close())
	})
}

func TestAHostCanBeObserved(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := extendedLab(t, filterOf(func(b *extension.Batch) {
			if b.Direction() == extension.Ingress {
				for i := range b.Len() {
					b.Edit(i).Head()[14] = 'X'
				}
			}
		}))
		d := new(diary)
		watch := func(name string) extension.Capture {
			return &someCapture{func(b *extension.Batch) {
				d.add("%s: %s %s %s %s", name, b.Port().Switch, b.Port().Name, b.Direction(), textOf(b.Frame(0)))
			}}
		}
		vm := l.guests(2)
		stop, err := l.host.Observe("one", watch("one"))
		require.NoError(t, err)
		stopToo, err := l.host.Observe("two", watch("two"))
		require.NoError(t, err)
		for _, name := range []string{"one", "filter", ""} {
			_, err := l.host.Observe(name, watch("three"))
			require.ErrorIs(t, err, vswitch.ErrInvalid, name)
		}
		_, err = l.host.Observe("three", nil)
		require.ErrorIs(t, err, vswitch.ErrInvalid)
		_, err = l.host.NewSwitch("bad", &vswitch.SwitchConfig{Extensions: []extension.Binding{bind("one", new(witness))}})
		require.ErrorIs(t, err, vswitch.ErrInvalid)

		l.newSwitch("later", vswitch.SwitchConfig{})
		a, b := l.guest("a", vswitch.VNICConfig{Switch: "later"}), l.guest("b", vswitch.VNICConfig{Switch: "later"})
		vm[0].send(vm[1].mac, "hello")
		require.Equal(t, []string{
			"one: lab vm0 ingress hello", "two: lab vm0 ingress hello", "two: lab vm1 egress Xello", "one: lab vm1 egress Xello",
		}, d.take(l))
		a.send(b.mac, "hello")
		require.Len(t, d.take(l), 4)
		require.Equal(t, []string{"one", "two", "filter"}, names(l.sw()))
		stop()
		stop()
		require.Equal(t, []string{"two", "filter"}, names(l.sw()))
		again, err := l.host.Observe("one", watch("one"))
		require.NoError(t, err)
		stop()
		require.Equal(t, []string{"two", "one", "filter"}, names(l.sw()), "that is another")
		again()
		stopToo()
		a.send(b.mac, "hello")
		vm[0].send(vm[1].mac, "hello")
		require.Empty(t, d.take(l))
		require.Empty(t, names(l.host.Switch("later")))
	})
}

func names(s *vswitch.Switch) (l []string) {
	for _, x := range s.Extensions() {
		l = append(l, x.Name)
	}
	return l
}

func TestAHostWithoutSwitchesIsObserved(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		stop, err := l.host.Observe("w", new(witness))
		require.NoError(t, err)
		_, err = l.host.Observe("w", new(witness))
		require.ErrorIs(t, err, vswitch.ErrInvalid)
		w := new(witness)
		twin, err := l.host.Observe("twin", w)
		require.NoError(t, err)
		l.newSwitch("lab", vswitch.SwitchConfig{})
		vm := l.guests(2)
		twin()
		vm[0].send(vm[1].mac, "hello")
		l.everyoneGot([]string{"hello"}, vm[1])
		require.Zero(t, w.frames.Load())
		require.NoError(t, l.host.Close())
		stop()
		_, err = l.host.Observe("late", w)
		require.ErrorIs(t, err, vswitch.ErrClosed)
	})
}

// historian notes what it sees and what becomes of it.
type historian struct {
	diary
}

func (h *historian) Capture(b *extension.Batch) { h.note("saw", b) }
func (h *historian) Fate(b *extension.Batch)    { h.note("fate", b) }

func (h *historian) note(what string, b *extension.Batch) {
	for i := range b.Len() {
		text := textOf(b.Frame(i))
		if len(text) > 20 {
			text = "large"
		}
		line := fmt.Sprintf("%s %s %s", b.Port().Name, b.Direction(), text)
		switch {
		case what == "fate" && b.Alive(i):
			h.add("%s: passed", line)
		case what == "fate":
			h.add("%s: %s", line, b.Reason(i))
		case b.Alive(i):
			h.add("%s seen", line)
		}
	}
}

func TestTheFateOfEachFrameIsTold(t *testing.T) {
	denied := acl.Config{Extended: []acl.ExtendedRule{{Weight: 1, Direction: acl.Both, Action: acl.Deny}}}
	for name, c := range map[string]struct {
		scene func(t *testing.T, l *lab, a, b *station)
		want  []string
	}{
		"passes": {func(t *testing.T, l *lab, a, b *station) { a.send(b.mac, "x") },
			[]string{"vm0 ingress x seen", "vm1 egress x seen", "vm1 egress x: passed", "vm0 ingress x: passed"}},
		"runt": {func(t *testing.T, l *lab, a, b *station) { a.sendRaw([]byte{1, 2, 3}) },
			[]string{"vm0 ingress runt: runt"}},
		"runt and another": {func(t *testing.T, l *lab, a, b *station) { a.sendRaw([]byte{1, 2, 3}, frame(b.mac, a.mac, "x")) },
			[]string{"vm0 ingress x seen", "vm1 egress x seen", "vm1 egress x: passed", "vm0 ingress runt: runt", "vm0 ingress x: passed"}},
		"spoofed": {func(t *testing.T, l *lab, a, b *station) { a.sendAs(b.mac, b.mac, "x") },
			[]string{"vm0 ingress x seen", "vm0 ingress x: spoofed source"}},
		"same port": {func(t *testing.T, l *lab, a, b *station) { a.send(a.mac, "x") },
			[]string{"vm0 ingress x seen", "vm0 ingress x: same port"}},
		"VLAN": {func(t *testing.T, l *lab, a, b *station) { a.sendRaw(tagged(frame(b.mac, a.mac, "x"), tpidQ, 7)) },
			[]string{"vm0 ingress VLAN 7: x seen", "vm0 ingress VLAN 7: x: tagged"}},
		"no destination": {func(t *testing.T, l *lab, a, b *station) {
			require.NoError(t, b.vnic.Close())
			a.send(stranger(1), "x")
		}, []string{"vm0 ingress x seen", "vm0 ingress x: no destination"}},
		"not a member": {func(t *testing.T, l *lab, a, b *station) {
			l.extend(bind("h", l.sw().Config().Extensions[0].Extension), bind("f", &someForwarding{func(x *extension.Batch) {
				x.Send(0, &extension.Port{Switch: "lab", Name: "vm1", ID: b.vnic.ID(), Index: 1})
			}}))
			b.setMode(vlan.Access(9))
			a.send(b.mac, "x")
		}, []string{"vm0 ingress x seen", "vm1 egress x: not in the VLAN", "vm0 ingress x: passed"}},
		"ACL": {func(t *testing.T, l *lab, a, b *station) {
			a.obeys(denied)
			a.sendRaw(datagram(a, b, 1, 2))
		}, []string{"vm0 ingress large seen", "vm0 ingress large: denied by ACL, outbound"}},
		"ACL of the receiver": {func(t *testing.T, l *lab, a, b *station) {
			b.obeys(denied)
			a.sendRaw(datagram(a, b, 1, 2))
		}, []string{"vm0 ingress large seen", "vm1 egress large: denied by ACL, inbound", "vm0 ingress large: passed"}},
		"link down": {func(t *testing.T, l *lab, a, b *station) {
			b.end.SetLink(false)
			l.settle()
			a.send(b.mac, "x")
		}, []string{"vm0 ingress x seen", "vm1 egress x seen", "vm1 egress x: link down", "vm0 ingress x: passed"}},
		"filter": {func(t *testing.T, l *lab, a, b *station) {
			l.extend(bind("h", l.sw().Config().Extensions[0].Extension), bind("f", &someFilter{func(x *extension.Batch) {
				if x.Direction() == extension.Ingress {
					x.Drop(0, "in")
				} else {
					x.Drop(1, "out")
				}
			}}))
			a.send(b.mac, "x", "y", "z")
		}, []string{"vm0 ingress x seen", "vm0 ingress y seen", "vm0 ingress z seen", "vm1 egress y seen",
			"vm1 egress y: passed", "vm1 egress z: f: out", "vm0 ingress x: f: in", "vm0 ingress y: passed", "vm0 ingress z: passed"}},
		"forwarding": {func(t *testing.T, l *lab, a, b *station) {
			l.extend(bind("h", l.sw().Config().Extensions[0].Extension), bind("f", &someForwarding{func(x *extension.Batch) {
				x.Drop(0, "lost")
				x.Send(1)
			}}))
			a.send(b.mac, "x", "y")
		}, []string{"vm0 ingress x seen", "vm0 ingress y seen", "vm0 ingress x: f: lost", "vm0 ingress y: no destination"}},
		"segment": {func(t *testing.T, l *lab, a, b *station) {
			a.sendFrames(largeFrames[0].frame(b.mac, a.mac, 9*1400, 1400))
		},
			[]string{"vm0 ingress large seen", "vm1 egress large seen", "vm1 egress large: passed", "vm0 ingress large: passed"}},
		"too big": {func(t *testing.T, l *lab, a, b *station) { a.send(b.mac, string(make([]byte, 5000))) },
			[]string{"vm0 ingress large seen", "vm1 egress large seen", "vm1 egress large: too big", "vm0 ingress large: passed"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				h := new(historian)
				l := extendedLab(t, bind("h", h))
				a := l.guestOn(ports.PipeConfig{MTU: 9000, Offloads: ports.OffloadAll}, "vm0", vswitch.VNICConfig{Switch: "lab"})
				b := l.guestOn(ports.PipeConfig{MTU: 1500}, "vm1", vswitch.VNICConfig{Switch: "lab"})
				c.scene(t, l, a, b)
				require.Equal(t, c.want, h.take(l))
			})
		})
	}
}

func TestTheFateOfFramesForAStalledReceiver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := new(historian)
		l := extendedLab(t, bind("h", h))
		a := l.guestOn(ports.PipeConfig{Offloads: ports.OffloadAll}, "vm0", vswitch.VNICConfig{Switch: "lab"})
		b := l.guestOn(ports.PipeConfig{Depth: 4}, "vm1", vswitch.VNICConfig{Switch: "lab"})
		a.send(b.mac, "1", "2", "3")
		h.take(l)
		a.sendFrames(newFrame(frame(b.mac, a.mac, "4")), largeFrames[0].frame(b.mac, a.mac, 3*1400, 1400), newFrame(frame(b.mac, a.mac, "5")))
		fates := slices.DeleteFunc(h.take(l), func(line string) bool { return strings.HasSuffix(line, "seen") })
		require.Equal(t, []string{
			"vm1 egress 4: passed", "vm1 egress large: queue full", "vm1 egress 5: queue full",
			"vm0 ingress 4: passed", "vm0 ingress large: passed", "vm0 ingress 5: passed",
		}, fates)
		require.Len(t, b.received(), 4)
		a.sendFrames(newFrame(frame(b.mac, a.mac, "6")), newFrame(frame(b.mac, a.mac, "7")), largeFrames[0].frame(b.mac, a.mac, 3*1400, 1400))
		require.Contains(t, h.take(l), "vm1 egress large: queue full", "of three pieces, two arrived")
		require.Len(t, b.received(), 4)
	})
}

func TestAPortThatNoExtensionWantsCostsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := &selective{only: "vm2"}
		l := extendedLab(t, bind("w", w))
		vm := l.guests(3)
		vm[0].send(vm[1].mac, "unseen")
		vm[1].send(vm[0].mac, "unseen")
		l.settle()
		require.Zero(t, w.frames.Load())
		vm[0].send(vm[2].mac, "seen")
		vm[2].send(vm[0].mac, "seen")
		l.settle()
		require.EqualValues(t, 2, w.frames.Load())
	})
}

// selective is a witness at one port.
type selective struct {
	witness
	only string
}

func (s *selective) Connect(p *extension.Port) (any, error) {
	if p.Name != s.only {
		return nil, fmt.Errorf("%s: %w", p.Name, extension.ErrSkip)
	}
	return nil, nil
}
func (s *selective) Change(_, _ *extension.Port, _ any) error { return nil }
func (s *selective) Disconnect(*extension.Port, any)          {}

func TestExtensionsAllocateNothingPerFrame(t *testing.T) {
	for name, e := range map[string]any{
		"capture": new(raceless),
		"filter": &someFilter{func(b *extension.Batch) {
			for i := range b.Len() {
				b.Edit(i).Head()[13] = 0
			}
		}},
		"forwarding": &someForwarding{func(b *extension.Batch) {
			to := &theTarget
			for i := range b.Len() {
				b.Send(i, *to)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.newSwitch("lab", vswitch.SwitchConfig{Extensions: []extension.Binding{bind("e", e)}})
			from, to := l.guest("from", vswitch.VNICConfig{Switch: "lab"}), l.guest("to", vswitch.VNICConfig{Switch: "lab"})
			for _, p := range l.host.Ports() {
				if p.Name == "to" {
					theTarget = &p
				}
			}
			var frames []*ports.Frame
			for range 32 {
				frames = append(frames, newFrame(frame(to.mac, from.mac, "0123456789")))
			}
			b := ports.NewBatch(64)
			round := func() {
				if n, err := from.end.Tx(0).Send(frames); n != len(frames) {
					panic(err)
				}
				to.takeInto(b, len(frames))
			}
			for range 50 {
				round()
			}
			require.Zero(t, testing.AllocsPerRun(100, round))
		})
	}
}

var theTarget *extension.Port
