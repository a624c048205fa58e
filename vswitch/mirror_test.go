package vswitch_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

func (s *station) mirrors(role vswitch.MirrorRole) {
	s.lab.t.Helper()
	s.reconfigure(func(c *vswitch.VNICConfig) { c.Mirror = role })
}

// mirrorLab is a private switch "lab" with vm0, vm1, … and a destination of mirroring, which sees no traffic of its
// own: it is alone in a VLAN.
func mirrorLab(t *testing.T, guests int, roles ...vswitch.MirrorRole) (*lab, []*station, *station) {
	l, vm := privateLab(t, guests)
	for i, r := range roles {
		vm[i].mirrors(r)
	}
	return l, vm, l.guest("mirror", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(4000), Mirror: vswitch.MirrorDestination})
}

const (
	none = vswitch.MirrorNone
	src  = vswitch.MirrorSource
	dst  = vswitch.MirrorDestination
)

func TestEachFrameOfASourceIsMirroredOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		roles []vswitch.MirrorRole // of vm0, vm1, vm2
		want  []string             // of: vm0 to vm1, vm1 to vm0, vm0 to all, vm2 to all, vm1 to vm2
	}{
		{"nobody is a source", nil, nil},
		{"sender", []vswitch.MirrorRole{src}, []string{"0→1", "1→0", "0→*", "2→*"}},
		{"receiver", []vswitch.MirrorRole{none, src}, []string{"0→1", "1→0", "0→*", "2→*", "1→2"}},
		{"both", []vswitch.MirrorRole{src, src}, []string{"0→1", "1→0", "0→*", "2→*", "1→2"}},
		{"all", []vswitch.MirrorRole{src, src, src}, []string{"0→1", "1→0", "0→*", "2→*", "1→2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, vm, mirror := mirrorLab(t, 3, c.roles...)
				send := func(from int, to ports.MAC, text string) {
					vm[from].send(to, text)
					l.settle()
				}
				send(0, vm[1].mac, "0→1")
				send(1, vm[0].mac, "1→0")
				send(0, ports.Broadcast, "0→*")
				send(2, ports.Broadcast, "2→*")
				send(1, vm[2].mac, "1→2")
				l.everyoneGot(c.want, mirror)
				l.everyoneGot([]string{"1→0", "2→*"}, vm[0])
				l.everyoneGot([]string{"0→1", "0→*", "2→*"}, vm[1])
				l.everyoneGot([]string{"0→*", "1→2"}, vm[2])
				require.EqualValues(t, len(c.want), mirror.stats().TxFrames)
				require.Empty(t, mirror.drops())
			})
		})
	}
}

func TestABatchIsMirroredInItsOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm, mirror := mirrorLab(t, 3, src, src)
		var want []string
		var wire [][]byte
		for i := range 60 {
			want = append(want, fmt.Sprint(i))
			wire = append(wire, frame([]ports.MAC{vm[1].mac, vm[2].mac, ports.Broadcast, stranger(4)}[i%4], vm[0].mac, want[i]))
		}
		vm[0].sendRaw(wire...)
		l.everyoneGot(want, mirror)
	})
}

func TestWhatIsMirrored(t *testing.T) {
	for name, c := range map[string]struct {
		send  func(a, b *station)
		want  []string
		extra func(t *testing.T, l *lab, a, b *station)
	}{
		"to nobody":          {send: func(a, b *station) { a.send(ports.MAC{1, 0x80, 0xc2}, "x") }, want: []string{"x"}},
		"to itself":          {send: func(a, b *station) { a.send(a.mac, "x") }, want: []string{"x"}},
		"runt":               {send: func(a, b *station) { a.sendRaw([]byte{1}) }},
		"spoofed":            {send: func(a, b *station) { a.sendAs(stranger(1), b.mac, "x") }},
		"tagged":             {send: func(a, b *station) { a.sendRaw(tagged(frame(b.mac, a.mac, "x"), tpidQ, 5)) }},
		"one of two is good": {send: func(a, b *station) { a.sendRaw([]byte{1}, frame(b.mac, a.mac, "x")) }, want: []string{"x"}},
		"denied": {send: func(a, b *station) { a.sendRaw(datagram(a, b, 1, 2)) }, extra: func(t *testing.T, l *lab, a, b *station) {
			a.obeys(acl.Config{Extended: []acl.ExtendedRule{{Weight: 1, Direction: acl.Both, Action: acl.Deny}}})
		}},
		"filtered": {send: func(a, b *station) { a.send(b.mac, "x", "y") }, want: []string{"y"}, extra: func(t *testing.T, l *lab, a, b *station) {
			l.extend(filterOf(func(x *extension.Batch) {
				if x.Direction() == extension.Ingress {
					x.Drop(0, "no")
				}
			}))
		}},
		"chosen": {send: func(a, b *station) { a.send(stranger(1), "vm1", "nobody") }, want: []string{"vm1", "nobody"}, extra: func(t *testing.T, l *lab, a, b *station) {
			l.extend(bind("director", new(director)))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, vm, mirror := mirrorLab(t, 2, src)
				if c.extra != nil {
					c.extra(t, l, vm[0], vm[1])
				}
				c.send(vm[0], vm[1])
				l.everyoneGot(c.want, mirror)
			})
		})
	}
}

func TestWhatAReceiverIsDeniedIsNotMirrored(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm, mirror := mirrorLab(t, 3, none, src, none)
		vm[1].obeys(acl.Config{Extended: []acl.ExtendedRule{{Weight: 1, Direction: acl.Both, Action: acl.Deny}}})
		vm[0].sendRaw(datagram(vm[0], vm[1], 1, 2))
		l.nobodyGot(mirror, vm[1])
		vm[1].end.SetLink(false)
		vm[0].send(vm[1].mac, "it is down")
		l.nobodyGot(mirror)
		vm[1].end.SetLink(true)
		vm[0].send(vm[1].mac, "it is up")
		l.everyoneGot([]string{"it is up"}, mirror)
	})
}

func TestMirroringCrossesVLANsWithTheTagThatIsWanted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		l.newSwitch("lab", vswitch.SwitchConfig{})
		guest := func(name string, m vlan.Mode, change func(c *vswitch.VNICConfig)) *station {
			c := vswitch.VNICConfig{Switch: "lab", VLAN: m}
			if change != nil {
				change(&c)
			}
			return l.guest(name, c)
		}
		source := func(c *vswitch.VNICConfig) { c.Mirror, c.IEEEPriorityTag = src, true }
		access := guest("access", vlan.Access(10), source)
		trunk := guest("trunk", vlan.Trunk(0, ids("10,20"), nil), source)
		bare := guest("bare", vlan.Untagged(), source)
		isolated := guest("isolated", vlan.Isolated(30, 31), source)
		plain := guest("plain", vlan.Access(999), func(c *vswitch.VNICConfig) { c.Mirror = dst })
		tagging := guest("tagging", vlan.Isolated(30, 31), func(c *vswitch.VNICConfig) { c.Mirror, c.MirrorTag = dst, true })

		late := guest("late", vlan.Access(998), func(c *vswitch.VNICConfig) { c.Mirror = dst })
		send := func(s *station, tci int) ports.Tag {
			t.Helper()
			wire := frame(stranger(77), s.mac, "x")
			if tci >= 0 {
				wire = tagged(wire, tpidQ, uint16(tci))
			}
			s.sendRaw(wire)
			a, b, c := plain.received(), tagging.received(), late.received()
			require.Len(t, a, 1)
			require.Len(t, b, 1)
			require.Len(t, c, 1)
			require.Zero(t, a[0].VLAN)
			require.Zero(t, c[0].VLAN)
			require.Equal(t, "x", string(a[0].Head()[14:]))
			require.Equal(t, "x", string(b[0].Head()[14:]))
			return b[0].VLAN
		}
		require.Equal(t, ports.Tag{TPID: tpidQ, TCI: 10}, send(access, -1))
		require.Equal(t, ports.Tag{TPID: tpidQ, TCI: 5<<13 | 10}, send(access, 5<<13))
		require.Equal(t, ports.Tag{TPID: tpidQ, TCI: 3<<13 | 20}, send(trunk, 3<<13|20))
		require.Equal(t, ports.Tag{}, send(bare, -1))
		require.Equal(t, ports.Tag{TPID: tpidQ, TCI: 6 << 13}, send(bare, 6<<13))
		require.Equal(t, ports.Tag{TPID: tpidQ, TCI: 31}, send(isolated, -1), "as in its secondary VLAN")
		require.Len(t, trunk.received(), 2, "VLAN 10 has not been harmed")

		tagging.reconfigure(func(c *vswitch.VNICConfig) { c.MirrorTag = false })
		require.Equal(t, ports.Tag{}, send(access, -1))
	})
}

// The receivers behind a destination in the order of delivery get their own tags all the same.
func TestMirroringDoesNotChangeWhatOthersGet(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		l.newSwitch("lab", vswitch.SwitchConfig{})
		guest := func(name string, m vlan.Mode, role vswitch.MirrorRole) *station {
			return l.guest(name, vswitch.VNICConfig{Switch: "lab", VLAN: m, Mirror: role, MirrorTag: role == dst})
		}
		a := guest("a", vlan.Access(10), src)
		mirror := guest("mirror", vlan.Access(20), dst)
		b := guest("b", vlan.Access(10), src)
		c := guest("c", vlan.Trunk(0, ids("10"), nil), src)
		d := guest("d", vlan.Access(10), none)
		e := guest("e", vlan.Untagged(), src)
		f := guest("f", vlan.Untagged(), none)
		a.send(ports.Broadcast, "x", "y")
		l.everyoneGot([]string{"x", "y"}, b, d)
		l.everyoneGot([]string{"VLAN 10: x", "VLAN 10: y"}, c, mirror)
		e.send(ports.Broadcast, "z")
		l.everyoneGot([]string{"z"}, f, mirror)
		l.nobodyGot(b, c, d)
	})
}

func TestEveryDestinationGetsACopyButNotOfItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm, mirror := mirrorLab(t, 3, src, dst)
		vm[0].send(vm[2].mac, "copied")
		l.everyoneGot([]string{"copied"}, mirror, vm[1], vm[2])
		vm[1].send(vm[0].mac, "by a destination")
		l.everyoneGot([]string{"by a destination"}, mirror, vm[0])
		l.nobodyGot(vm[1])
		vm[1].send(vm[2].mac, "of no source")
		l.nobodyGot(mirror, vm[1])
		vm[0].send(vm[1].mac, "to a destination")
		l.everyoneGot([]string{"to a destination"}, mirror)
		l.everyoneGot([]string{"to a destination", "to a destination"}, vm[1])
	})
}

func TestADestinationThatIsReflectedMakesNoLoop(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 2)
		vm[0].mirrors(src)
		vm[1].mirrors(src)
		mirror := l.guest("mirror", vswitch.VNICConfig{Switch: "lab", AllowSpoofing: true, Mirror: dst})
		n := 0
		vm[0].send(vm[1].mac, "an echo")
		for range 10 {
			for _, f := range mirror.received() {
				n++
				mirror.sendFrames(f)
			}
		}
		require.Equal(t, 1, n)
		require.Equal(t, drops{vswitch.DropSourceElsewhere: 1}, mirror.drops())
		mirror.send(vm[0].mac, "of its own")
		l.everyoneGot([]string{"of its own"}, vm[0])
		l.nobodyGot(mirror)
	})
}

func TestLargeSegmentsAreCutForADestination(t *testing.T) {
	for _, role := range []string{"sender", "receiver"} {
		t.Run(role, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, from, able, _ := offloadLab(t)
				if role == "sender" {
					from.mirrors(src)
				} else {
					able.mirrors(src)
				}
				plain := l.guest("mirror", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(9), Mirror: dst})
				large := l.guestOn(ports.PipeConfig{Offloads: ports.OffloadAll}, "large", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(9), Mirror: dst})
				for _, k := range largeFrames {
					f := k.frame(able.mac, from.mac, 5*1000, 1000)
					want := slices.Clone(f.Head()[k.head:])
					from.sendFrames(f)
					cut, whole, arrived := plain.received(), large.received(), able.received()
					require.Len(t, cut, 5)
					require.Equal(t, want, payloads(t, cut))
					require.Len(t, whole, 1)
					require.Equal(t, k.kind, whole[0].Offload.Segment)
					require.Len(t, arrived, 1)
					require.Equal(t, k.kind, arrived[0].Offload.Segment)
					require.Equal(t, want, arrived[0].Head()[k.head:])
				}
			})
		})
	}
}

func TestADestinationThatStopsReadingHurtsOnlyItself(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := newLabWith(t, vswitch.HostConfig{Workers: workers})
				l.newSwitch("lab", vswitch.SwitchConfig{})
				vm := l.guests(3)
				vm[0].mirrors(src)
				stalled := l.guest("stalled", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(9), Mirror: dst})
				down := l.guest("down", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(9), Mirror: dst})
				down.end.SetLink(false)
				small := l.guestOn(ports.PipeConfig{MTU: 68}, "small", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(9), Mirror: dst})
				flows := []*flow{l.flow(vm[0], vm[1]), l.flow(vm[1], vm[2]), l.flow(vm[2], vm[0])}
				sent := 0
				for range 10 {
					for _, f := range flows {
						f.goOn(200)
					}
				}
				for i, f := range flows {
					if n := f.stop(); i != 1 {
						sent += n
					}
				}
				vm[0].sendRaw(frame(vm[2].mac, vm[0].mac, string(make([]byte, 1000))))
				sent++
				require.Equal(t, drops{vswitch.DropQueueFull: uint64(sent - pipeDepth)}, stalled.drops())
				require.Equal(t, drops{vswitch.DropLinkDown: uint64(sent)}, down.drops())
				require.EqualValues(t, 1, small.drops()[vswitch.DropTooBig])
				for _, s := range vm {
					require.Empty(t, s.drops())
				}
				require.Len(t, stalled.got(), pipeDepth)
			})
		})
	}
}

func TestRolesChangeUnderTraffic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		l.newSwitch("lab", vswitch.SwitchConfig{})
		vm := l.guests(3)
		deep := ports.PipeConfig{Depth: 1 << 14}
		from, to := l.guestOn(deep, "from", vswitch.VNICConfig{Switch: "lab"}), l.guestOn(deep, "to", vswitch.VNICConfig{Switch: "lab"})
		mirror := l.guestOn(deep, "mirror", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(9)})
		other := l.flow(vm[0], vm[1])
		total := 20 * rounds(200)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range total {
				from.send(to.mac, fmt.Sprint(i))
				if i%4 == 3 {
					time.Sleep(time.Microsecond)
				}
			}
		}()
	change:
		for i := 0; ; i++ {
			r := [][3]vswitch.MirrorRole{
				{src, none, dst}, {src, src, dst}, {none, src, dst}, {none, none, dst}, {src, none, none}, {src, none, dst},
			}[i%6]
			from.mirrors(r[0])
			to.mirrors(r[1])
			mirror.mirrors(r[2])
			vm[2].mirrors([]vswitch.MirrorRole{none, src, dst}[i%3])
			other.goOn(3)
			select {
			case <-done:
				break change
			default:
			}
		}
		other.stop()
		require.Equal(t, numbers(total), to.got())
		last, copies := -1, 0
		for _, text := range mirror.got() {
			var n int
			if _, err := fmt.Sscan(text, &n); err != nil {
				continue // of the other flow
			}
			require.Greater(t, n, last, "doubled or out of order")
			last = n
			copies++
		}
		require.NotZero(t, copies)
		require.Less(t, copies, total)
	})
}

func TestADestinationThatGoesLeavesTheMirror(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm, mirror := mirrorLab(t, 2, src)
		vm[0].send(vm[1].mac, "one")
		l.everyoneGot([]string{"one"}, mirror)
		mirror.reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "" })
		vm[0].send(vm[1].mac, "two")
		l.nobodyGot(mirror)
		next := l.guest("next", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(7)}) // has its place
		vm[0].send(vm[1].mac, "three")
		l.nobodyGot(mirror, next)
		l.extend(filterOf(func(*extension.Batch) {}))
		mirror.reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "lab" })
		l.extend()
		vm[0].send(vm[1].mac, "four")
		l.everyoneGot([]string{"four"}, mirror)
		l.everyoneGot([]string{"one", "two", "three", "four"}, vm[1])
		require.Equal(t, []string{"none", "source", "destination", "mirror role 7"},
			[]string{none.String(), src.String(), dst.String(), vswitch.MirrorRole(7).String()})
		require.ErrorIs(t, vm[0].vnic.SetConfig(vswitch.VNICConfig{Switch: "lab", Mirror: 7}), vswitch.ErrInvalid)
	})
}

func TestWhatAFilterKeepsFromAReceiverIsNotMirrored(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm, mirror := mirrorLab(t, 3, none, src, src)
		l.extend(filterOf(eachAlive(func(b *extension.Batch, i int) {
			if b.Direction() == extension.Egress && b.Port().Name == "vm2" {
				b.Drop(i, "not for it")
			}
		})))
		vm[0].send(vm[2].mac, "to vm2")
		l.nobodyGot(mirror, vm[2])
		vm[0].send(ports.Broadcast, "to all")
		l.everyoneGot([]string{"to all"}, mirror, vm[1])
	})
}

func TestMirroringAllocatesNothingPerFrame(t *testing.T) {
	for name, roles := range map[string][2]vswitch.MirrorRole{"sender": {src, none}, "receiver": {none, src}, "both": {src, src}, "unused": {none, none}} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.newSwitch("lab", vswitch.SwitchConfig{})
			from, to := l.guest("from", vswitch.VNICConfig{Switch: "lab", Mirror: roles[0]}), l.guest("to", vswitch.VNICConfig{Switch: "lab", Mirror: roles[1]})
			mirror := l.guest("mirror", vswitch.VNICConfig{Switch: "lab", Mirror: dst})
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
				if name != "unused" {
					mirror.takeInto(b, len(frames))
				}
			}
			for range 50 {
				round()
			}
			require.Zero(t, testing.AllocsPerRun(100, round))
			require.Equal(t, name == "unused", mirror.vnic.Stats().TxFrames == 0)
		})
	}
}
