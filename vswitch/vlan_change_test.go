package vswitch_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
)

// setMode changes the mode of a guest.
func (s *station) setMode(m vlan.Mode) {
	s.lab.t.Helper()
	s.reconfigure(func(c *vswitch.VNICConfig) { c.VLAN = m })
}

// While a port goes to and fro between modes and everyone speaks, it hears only VLANs that it has in
// one of the modes, tagged as in that mode, and is heard in those only, each frame in one VLAN.
func TestAModeChangesInOneStepUnderTraffic(t *testing.T) {
	for name, c := range map[string]struct {
		modes  []vlan.Mode
		hears  []string // what the port may get
		speaks []string // what may be on the wire of what it sends
		always []string // VLANs that it has in all modes, of which it misses nothing
	}{
		"access to access": {
			[]vlan.Mode{vlan.Access(10), vlan.Access(20)},
			[]string{"10", "20"}, []string{"VLAN 10", "VLAN 20"},
			nil,
		},
		"untagged to access": {
			[]vlan.Mode{vlan.Untagged(), vlan.Access(10)},
			[]string{"0", "10"}, []string{"", "VLAN 10"},
			nil,
		},
		"access to native": {
			[]vlan.Mode{vlan.Access(10), vlan.Trunk(20, ids("10"), nil)},
			[]string{"10", "20", "VLAN 10: 10"}, []string{"VLAN 10", "VLAN 20"},
			[]string{"10"},
		},
		"trunk to trunk": {
			[]vlan.Mode{vlan.Trunk(10, ids("20"), nil), vlan.Trunk(20, ids("10"), nil)},
			[]string{"10", "20", "VLAN 10: 10", "VLAN 20: 20"}, []string{"VLAN 10", "VLAN 20"},
			[]string{"10", "20"},
		},
		"isolated to community": {
			[]vlan.Mode{vlan.Isolated(10, 20), vlan.Community(11, 21)},
			[]string{"10", "11", "21"}, []string{"VLAN 20", "VLAN 21"},
			nil,
		},
		"isolated to promiscuous": {
			[]vlan.Mode{vlan.Isolated(10, 20), vlan.Promiscuous(10, ids("21"))},
			[]string{"10", "21"}, []string{"VLAN 20", "VLAN 10"},
			[]string{"10"},
		},
		"isolated to access, the association coming and going": {
			[]vlan.Mode{vlan.Isolated(10, 20), vlan.Access(20)},
			[]string{"10", "20"}, []string{"VLAN 20"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := newLab(t)
				deep := ports.PipeConfig{Depth: 1 << 14}
				wire := l.nicOn(deep, "eth0")
				l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
				p := l.guestOn(deep, "port", vswitch.VNICConfig{Switch: "lab", VLAN: c.modes[0]})
				speakers := map[string]*station{"0": l.guestOn(deep, "in 0", vswitch.VNICConfig{Switch: "lab"})}
				for _, vid := range []uint16{10, 11, 20, 21, 30} {
					speakers[fmt.Sprint(vid)] = l.guestOn(deep, fmt.Sprintf("in %d", vid), vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(vid)})
				}
				rounds := rounds(300)
				var all sync.WaitGroup
				speak := func(s *station, text string) {
					all.Go(func() {
						for range rounds {
							s.send(ports.Broadcast, text)
							s.send(p.mac, text)
							s.send(stranger(3), text)
							time.Sleep(time.Microsecond)
						}
					})
				}
				for text, s := range speakers {
					speak(s, text)
				}
				all.Go(func() {
					for i := range rounds {
						b := frame(ports.Broadcast, p.mac, fmt.Sprintf("port %d", i))
						p.sendRaw(b)
						time.Sleep(time.Microsecond)
					}
				})
				all.Go(func() {
					for i := range 2*rounds + 1 {
						p.setMode(c.modes[i%2])
						if i%3 == 0 {
							time.Sleep(time.Microsecond)
						}
					}
				})
				all.Wait()

				heard := map[string]int{}
				for _, text := range p.got() {
					require.Contains(t, c.hears, text)
					heard[text[strings.LastIndex(text, " ")+1:]]++
				}
				for _, vid := range c.always {
					require.Equal(t, 3*rounds, heard[vid], "frames of VLAN %s", vid)
				}
				onWire := map[string]int{}
				for _, text := range wire.got() {
					if tag, number, ok := strings.Cut(text, "port "); ok {
						require.Contains(t, c.speaks, strings.TrimSuffix(tag, ": "), text)
						onWire[number]++
					}
				}
				require.Len(t, onWire, rounds, "frames of the port were lost")
				for number, times := range onWire {
					require.Equal(t, 1, times, "frame %s", number)
				}
				heardIn := map[string]string{}
				for vid, s := range speakers {
					for _, text := range s.got() {
						if number, ok := strings.CutPrefix(text, "port "); ok {
							require.Empty(t, heardIn[number], "frame %s was heard in %s, too", number, vid)
							heardIn[number] = vid
						}
					}
				}
			})
		})
	}
}

func TestTrafficOfOthersFlowsWhileAModeChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := privateLab(t, 0)
		a, b := l.member("a", vlan.Isolated(10, 20)), l.member("b", vlan.Promiscuous(10, ids("20")))
		other := l.member("other", vlan.Untagged())
		f := l.flow(a, b)
		for i := range 50 {
			other.setMode([]vlan.Mode{vlan.Community(10, 21), vlan.Access(10), vlan.Isolated(11, 30), vlan.Untagged()}[i%4])
			f.goOn(20)
		}
		f.stop()
	})
}

func TestAPortIsInItsNewVLANAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := privateLab(t, 0)
		vm, ten, twenty := l.member("vm", vlan.Access(10)), l.member("ten", vlan.Access(10)), l.member("twenty", vlan.Access(20))
		more := l.member("more", vlan.Access(10))
		vm.setMode(vlan.Access(20))
		twenty.send(vm.mac, "welcome")
		ten.send(vm.mac, "unknown here")
		ten.send(ports.Broadcast, "to 10")
		l.everyoneGot([]string{"welcome"}, vm)
		l.everyoneGot([]string{"unknown here", "to 10"}, more)
		require.True(t, isKnown(twenty, vm.mac))
		drain(vm)
		vm.send(twenty.mac, "thanks")
		vm.send(ten.mac, "lost")
		l.everyoneGot([]string{"thanks", "lost"}, twenty)
		l.everyoneGot(nil, ten, more)
	})
}

func TestAddressesLearnedAtAPortGoWithItsVLAN(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := privateLab(t, 0)
		host := l.guest("host", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Access(10), AllowSpoofing: true})
		ten, twenty := l.member("ten", vlan.Access(10)), l.member("twenty", vlan.Access(20))
		host.sendAs(stranger(1), ports.Broadcast, "nested")
		l.settle()
		require.Equal(t, map[string]int{"host": 1}, learned(l.sw()))
		require.True(t, isKnown(ten, stranger(1)))
		host.setMode(vlan.Access(20))
		require.Empty(t, learned(l.sw()))
		require.False(t, isKnown(ten, stranger(1)))
		require.False(t, isKnown(twenty, stranger(1)))
		host.sendAs(stranger(1), ports.Broadcast, "nested")
		l.settle()
		require.True(t, isKnown(twenty, stranger(1)))
		require.False(t, isKnown(ten, stranger(1)))
	})
}

func TestWhatATrunkSpokeInIsForgottenWhenItIsNoTrunk(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := privateLab(t, 0)
		vm, ten := l.member("vm", vlan.Trunk(0, ids("10,20"), nil)), l.member("ten", vlan.Access(10))
		vm.sendRaw(tagged(frame(ports.Broadcast, vm.mac, "x"), tpidQ, 10), tagged(frame(ports.Broadcast, vm.mac, "x"), tpidQ, 20))
		l.settle()
		require.Equal(t, map[string]int{"vm": 2}, learned(l.sw()))
		vm.setMode(vlan.Access(20))
		require.Empty(t, learned(l.sw()))
		require.False(t, isKnown(ten, vm.mac))
		require.Contains(t, l.sw().Addresses(), vswitch.Address{MAC: vm.mac, VLAN: 20, Port: "vm", Static: true})
		vm.setMode(vlan.Trunk(0, ids("10,20"), nil))
		require.NotContains(t, l.sw().Addresses(), vswitch.Address{MAC: vm.mac, VLAN: 20, Port: "vm", Static: true})
	})
}

// vlansOf returns where the switch of the lab knows an address: VLAN to port.
func (l *lab) vlansOf(mac ports.MAC) map[uint16]string {
	m := map[uint16]string{}
	for _, a := range l.sw().Addresses() {
		if a.MAC == mac {
			m[a.VLAN] = a.Port
		}
	}
	return m
}

func TestAddressesMoveWhenAVLANBecomesASecondary(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, _ := externalLab(t, 0)
		s := l.member("s", vlan.Access(20))
		m := l.member("m", vlan.Access(10))
		p := l.member("p", vlan.Untagged())
		wire.sendRaw(
			tagged(frame(ports.Broadcast, stranger(10), "x"), tpidQ, 10),
			tagged(frame(ports.Broadcast, stranger(20), "x"), tpidQ, 20),
			tagged(frame(ports.Broadcast, stranger(21), "x"), tpidQ, 21),
		)
		drain(s, m, p)
		apart := func() {
			t.Helper()
			require.Equal(t, map[uint16]string{20: "s"}, l.vlansOf(s.mac))
			require.Equal(t, map[uint16]string{10: "m"}, l.vlansOf(m.mac))
		}
		apart()
		require.Equal(t, map[uint16]string{20: "eth0"}, l.vlansOf(stranger(20)))

		p.setMode(vlan.Promiscuous(10, ids("20")))
		require.Equal(t, map[uint16]string{10: "s"}, l.vlansOf(s.mac))
		require.Equal(t, map[uint16]string{10: "m"}, l.vlansOf(m.mac))
		require.Equal(t, map[uint16]string{10: "p"}, l.vlansOf(p.mac))
		require.Empty(t, l.vlansOf(stranger(20)), "it is learned anew in the place of the primary VLAN")
		require.Equal(t, map[uint16]string{10: "eth0"}, l.vlansOf(stranger(10)))
		require.Equal(t, map[uint16]string{21: "eth0"}, l.vlansOf(stranger(21)), "who is not concerned stays")
		s.send(p.mac, "one port")
		l.everyoneGot([]string{"one port"}, p)
		l.nobodyGot(wire)
		wire.sendRaw(tagged(frame(p.mac, stranger(20), "x"), tpidQ, 20))
		l.settle()
		require.Equal(t, map[uint16]string{10: "eth0"}, l.vlansOf(stranger(20)))
		drain(p)

		p.setMode(vlan.Promiscuous(10, ids("20-21")))
		require.Empty(t, l.vlansOf(stranger(21)))
		require.Equal(t, map[uint16]string{10: "eth0"}, l.vlansOf(stranger(20)), "who is not concerned stays")

		require.NoError(t, p.vnic.Close())
		apart()
		require.Empty(t, l.vlansOf(stranger(20)))
		require.Equal(t, map[uint16]string{}, l.vlansOf(p.mac))
		wire.sendRaw(tagged(frame(s.mac, stranger(20), "to s"), tpidQ, 20), tagged(frame(s.mac, stranger(20), "nobody's"), tpidQ, 10))
		l.everyoneGot([]string{"to s"}, s)
		l.everyoneGot([]string{"nobody's"}, m)
	})
}

func TestAddressesMoveWhenASecondaryGetsAnotherPrimary(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := privateLab(t, 0)
		vm, s := l.member("vm", vlan.Community(10, 20)), l.member("s", vlan.Access(20))
		require.Equal(t, map[uint16]string{10: "s"}, l.vlansOf(s.mac))
		vm.setMode(vlan.Community(11, 20))
		require.Equal(t, map[uint16]string{11: "s"}, l.vlansOf(s.mac))
		require.Equal(t, map[uint16]string{11: "vm"}, l.vlansOf(vm.mac))
		vm.send(s.mac, "x")
		l.everyoneGot([]string{"x"}, s)
		vm.setMode(vlan.Access(20))
		require.Equal(t, map[uint16]string{20: "s"}, l.vlansOf(s.mac))
		require.Equal(t, map[uint16]string{20: "vm"}, l.vlansOf(vm.mac))
	})
}

func TestADisconnectedPortTakesItsAssociationAlong(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := privateLab(t, 0)
		l.newSwitch("other", vswitch.SwitchConfig{})
		vm, s := l.member("vm", vlan.Isolated(10, 20)), l.member("s", vlan.Access(20))
		vm.reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "other" })
		require.Equal(t, map[uint16]string{20: "s"}, l.vlansOf(s.mac))
		l.member("now allowed", vlan.Isolated(10, 21))
		cfg := vm.vnic.Config()
		cfg.Switch = "lab"
		require.ErrorContains(t, vm.vnic.SetConfig(cfg), `primary VLAN 10 is to have the isolated VLAN 20, but has 21 at port "now allowed"`)
		require.True(t, vm.vnic.Connected())
		require.Equal(t, "other", vm.vnic.Config().Switch)
	})
}

// staticLab has vm, at which stranger(1) was added in VLAN vid, before vm went to VLAN 66; peer and
// other are in vid.
func staticLab(t *testing.T, was vlan.Mode, vid uint16) (l *lab, vm, peer, other *station) {
	l, _ = privateLab(t, 0)
	in := vlan.Untagged()
	if vid != 0 {
		in = vlan.Access(vid)
	}
	vm, peer = l.member("vm", was), l.member("peer", in)
	other = l.guest("other", vswitch.VNICConfig{Switch: "lab", VLAN: in, AllowSpoofing: true})
	require.NoError(t, l.sw().AddAddress(stranger(1), vid, "vm"))
	peer.send(stranger(1), "before")
	if m := vm.vnic.Config().VLAN; m.Receives(vid) {
		require.Len(t, vm.received(), 1)
	}
	vm.setMode(vlan.Access(66))
	drain(other)
	return l, vm, peer, other
}

var staticCases = map[string]struct {
	was vlan.Mode
	vid uint16
}{
	"untagged":  {vlan.Untagged(), 0},
	"access":    {vlan.Access(10), 10},
	"trunk":     {vlan.Trunk(0, ids("10-11"), nil), 10},
	"isolated":  {vlan.Isolated(10, 20), 20},
	"community": {vlan.Community(10, 20), 20},
}

func TestAStaticAddressIsNoWayIntoAnotherVLAN(t *testing.T) {
	for name, c := range staticCases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, vm, peer, _ := staticLab(t, c.was, c.vid)
				peer.send(stranger(1), "is anybody there?")
				l.nobodyGot(vm)
			})
		})
	}
}

func TestAStaticAddressGoesWithTheVLANOfItsPort(t *testing.T) {
	for name, c := range staticCases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, _, peer, other := staticLab(t, c.was, c.vid)
				require.Empty(t, l.vlansOf(stranger(1)))
				peer.send(stranger(1), "is anybody there?")
				l.everyoneGot([]string{"is anybody there?"}, other)
				other.sendAs(stranger(1), peer.mac, "I am now")
				l.everyoneGot([]string{"I am now"}, peer)
			})
		})
	}
}

func TestAStaticAddressMovesWithItsVLAN(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := privateLab(t, 0)
		vm, p := l.member("vm", vlan.Access(20)), l.member("p", vlan.Untagged())
		require.NoError(t, l.sw().AddAddress(stranger(1), 20, "vm"))
		p.setMode(vlan.Promiscuous(10, ids("20")))
		require.Equal(t, map[uint16]string{10: "vm"}, l.vlansOf(stranger(1)))
		p.setMode(vlan.Access(10))
		require.Equal(t, map[uint16]string{20: "vm"}, l.vlansOf(stranger(1)))
		vm.reconfigure(func(c *vswitch.VNICConfig) { c.Hairpin = true })
		require.NoError(t, l.sw().RemoveAddress(stranger(1), 20))
	})
}

func TestContradictingPrivateVLANsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		is, wants vlan.Mode
		says      string
	}{
		"a second isolated secondary": {
			vlan.Isolated(10, 20), vlan.Isolated(10, 21),
			"primary VLAN 10 is to have the isolated VLAN 21, but has 20",
		},
		"a primary that is a secondary": {
			vlan.Isolated(10, 20), vlan.Promiscuous(20, ids("30")),
			"VLAN 20 is to be a primary VLAN, but is a secondary one",
		},
		"a secondary that is a primary": {
			vlan.Community(10, 20), vlan.Community(30, 10),
			"VLAN 10 is to be a secondary VLAN, but is a primary one",
		},
		"a listed secondary that is a primary": {
			vlan.Community(10, 20), vlan.Promiscuous(30, ids("10-11")),
			"VLAN 10 is to be a secondary VLAN, but is a primary one",
		},
		"a secondary of another primary": {
			vlan.Promiscuous(10, ids("20")), vlan.Isolated(11, 20),
			"VLAN 20 is to be a secondary VLAN of 11, but is one of 10",
		},
		"an isolated VLAN that is a community": {
			vlan.Community(10, 20), vlan.Isolated(10, 20),
			"VLAN 20 is to be an isolated VLAN, but is a community",
		},
		"a community that is an isolated VLAN": {
			vlan.Isolated(10, 20), vlan.Community(10, 20),
			"VLAN 20 is to be a community, but is an isolated VLAN",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := newLab(t)
				l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.Internal})
				first := l.member("first", c.is)
				vm := l.guest("vm", vswitch.VNICConfig{Switch: "lab", AllowSpoofing: true})
				peer := l.guest("peer", vswitch.VNICConfig{Switch: "lab"})
				vm.sendAs(stranger(1), peer.mac, "learn me")
				l.everyoneGot([]string{"learn me"}, peer)
				before, addresses := vm.vnic.Config(), l.sw().Addresses()
				refused := func(err error, port string) {
					t.Helper()
					require.ErrorIs(t, err, vswitch.ErrInvalid)
					require.EqualError(t, err, fmt.Sprintf(`switch "lab": port %q: %s at port "first": invalid configuration`, port, c.says))
					var conflict *vlan.ConflictError
					require.ErrorAs(t, err, &conflict)
					require.Equal(t, "first", conflict.Other)

					require.True(t, before.VLAN.Equal(vm.vnic.Config().VLAN))
					require.Equal(t, before.MAC, vm.vnic.Config().MAC)
					require.Equal(t, before.Notes, vm.vnic.Config().Notes)
					require.Equal(t, vm.mac, vm.vnic.MAC())
					require.True(t, vm.vnic.Connected())
					require.True(t, first.vnic.Connected())
					require.Equal(t, addresses, l.sw().Addresses())
					vm.send(peer.mac, "out")
					l.everyoneGot([]string{"out"}, peer)
					peer.send(vm.mac, "in")
					peer.send(stranger(1), "nested")
					l.everyoneGot([]string{"in", "nested"}, vm)
					l.nobodyGot(first)
				}

				cfg := before
				cfg.VLAN, cfg.MAC, cfg.Notes, cfg.AllowSpoofing = c.wants, stranger(5), "changed", false
				refused(vm.vnic.SetConfig(cfg), "vm")

				a, b := l.pipe(ports.PipeConfig{})
				_, err := l.host.NewVNIC("new", a, &vswitch.VNICConfig{ID: "id", Switch: "lab", VLAN: c.wants, MAC: stranger(5)})
				refused(err, "new")
				require.Nil(t, l.host.VNIC("new"))
				require.False(t, isClosed(b), "the backend is still the caller's")

				// Once nothing speaks against it, everything is as if it had never been refused.
				first.setMode(vlan.Untagged())
				drain(first)
				v, err := l.host.NewVNIC("new", a, &vswitch.VNICConfig{ID: "id", Switch: "lab", VLAN: c.wants, MAC: stranger(5)})
				require.NoError(t, err)
				require.True(t, v.Connected())
				cfg = before
				cfg.VLAN = c.wants
				require.NoError(t, vm.vnic.SetConfig(cfg))
			})
		})
	}
}

func TestAMoveToASwitchThatRefusesChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := privateLab(t, 0)
		l.newSwitch("away", vswitch.SwitchConfig{})
		l.guest("first", vswitch.VNICConfig{Switch: "away", VLAN: vlan.Isolated(10, 21)})
		vm := l.guest("vm", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Isolated(10, 20), AllowSpoofing: true, MAC: stranger(7)})
		p := l.member("p", vlan.Promiscuous(10, ids("20")))
		before := vm.vnic.Config()

		f := l.flow(p, vm)
		cfg := before
		cfg.Switch, cfg.MAC = "away", ports.MAC{}
		for range 10 {
			err := vm.vnic.SetConfig(cfg)
			require.EqualError(t, err, `switch "away": port "vm": primary VLAN 10 is to have the isolated VLAN 20, but has 21 at port "first": invalid configuration`)
			f.goOn(10)
		}
		f.stop()
		require.Equal(t, before.Switch, vm.vnic.Config().Switch)
		require.Equal(t, before.MAC, vm.vnic.Config().MAC)
		require.Equal(t, stranger(7), vm.vnic.MAC())
		require.True(t, vm.vnic.Connected())
		require.Len(t, l.host.Switch("away").Addresses(), 1, "only the first is there")
		cfg.VLAN = vlan.Access(7)
		require.NoError(t, vm.vnic.SetConfig(cfg))
		require.Empty(t, l.vlansOf(stranger(7)))
	})
}

func TestARefusedMoveForgetsNoAddresses(t *testing.T) {
	for name, move := range map[string]func(c *vswitch.VNICConfig){
		"to another switch":         func(c *vswitch.VNICConfig) { c.Switch = "away" },
		"to a port of its own sort": func(c *vswitch.VNICConfig) { c.Management, c.VLAN = true, vlan.Isolated(10, 22) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := newLab(t)
				for _, sw := range []string{"lab", "away"} {
					l.newSwitch(sw, vswitch.SwitchConfig{Type: vswitch.Internal})
				}
				l.guest("first", vswitch.VNICConfig{Switch: "away", VLAN: vlan.Isolated(10, 21)})
				l.guest("second", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Isolated(10, 20)})
				vm := l.guest("vm", vswitch.VNICConfig{Switch: "lab", VLAN: vlan.Isolated(10, 20), AllowSpoofing: true})
				p := l.member("p", vlan.Promiscuous(10, ids("20")))
				vm.sendAs(stranger(1), p.mac, "learn me")
				require.NoError(t, l.sw().AddAddress(stranger(2), 20, "vm"))
				l.everyoneGot([]string{"learn me"}, p)
				addresses := l.sw().Addresses()
				cfg := vm.vnic.Config()
				move(&cfg)
				require.ErrorIs(t, vm.vnic.SetConfig(cfg), vswitch.ErrInvalid)
				require.Equal(t, addresses, l.sw().Addresses())
			})
		})
	}
}

func TestARefusedChangeTakesNoAddressOfThePoolForLong(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLabWith(t, vswitch.HostConfig{MACPool: vswitch.MACRange{First: ports.MAC{2}, Last: ports.MAC{2, 0, 0, 0, 0, 1}}})
		l.newSwitch("lab", vswitch.SwitchConfig{})
		l.member("first", vlan.Isolated(10, 20))
		vm := l.guest("vm", vswitch.VNICConfig{Switch: "lab", MAC: stranger(7)})
		cfg := vm.vnic.Config()
		cfg.MAC, cfg.VLAN = ports.MAC{}, vlan.Isolated(10, 21)
		for range 5 {
			require.ErrorIs(t, vm.vnic.SetConfig(cfg), vswitch.ErrInvalid)
		}
		cfg.VLAN = vlan.Isolated(10, 20)
		require.NoError(t, vm.vnic.SetConfig(cfg))
		require.Equal(t, ports.MAC{2, 0, 0, 0, 0, 1}, vm.vnic.MAC())
	})
}

func TestWaitingVNICsThatContradictStayDisconnected(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		a := l.member("a", vlan.Isolated(10, 20))
		b := l.member("b", vlan.Isolated(10, 21))
		c := l.member("c", vlan.Promiscuous(10, ids("20-21")))
		l.newSwitch("lab", vswitch.SwitchConfig{})
		require.True(t, a.vnic.Connected())
		require.False(t, b.vnic.Connected())
		require.True(t, c.vnic.Connected())
		l.requireLogged("vNIC not connected", "vnic=b", "switch=lab", `the isolated VLAN 21, but has 20 at port \"a\"`)
		a.send(ports.Broadcast, "from a")
		b.send(ports.Broadcast, "from b")
		l.everyoneGot([]string{"from a"}, c)
		l.nobodyGot(a, b)

		// What it sent meanwhile is not lost, but it has to ask again.
		cfg := b.vnic.Config()
		require.ErrorIs(t, b.vnic.SetConfig(cfg), vswitch.ErrInvalid)
		require.False(t, b.vnic.Connected())
		cfg.VLAN = vlan.Isolated(10, 20)
		require.NoError(t, b.vnic.SetConfig(cfg))
		require.True(t, b.vnic.Connected())
		l.everyoneGot([]string{"from b"}, c)
	})
}

func TestManagementVNICsThatComeBackCanContradict(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.Internal})
		host := l.guest("host", vswitch.VNICConfig{Switch: "lab", Management: true, VLAN: vlan.Isolated(10, 20)})
		s := l.member("s", vlan.Access(20))
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.Type = vswitch.Private })
		require.False(t, host.vnic.Connected())
		require.Equal(t, map[uint16]string{20: "s"}, l.vlansOf(s.mac), "its association has gone with it")
		vm := l.member("vm", vlan.Isolated(10, 21))
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.Type = vswitch.Internal })
		require.False(t, host.vnic.Connected())
		require.True(t, vm.vnic.Connected())
		l.requireLogged("vNIC not connected", "vnic=host", `at port \"vm\"`)
	})
}

func TestAnAssociationEndsWithItsLastPort(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := privateLab(t, 0)
		a, b := l.member("a", vlan.Isolated(10, 20)), l.member("b", vlan.Isolated(10, 20))
		vm := l.member("vm", vlan.Untagged())
		cfg := vm.vnic.Config()
		cfg.VLAN = vlan.Isolated(10, 21)
		require.ErrorContains(t, vm.vnic.SetConfig(cfg), `at port "a"`)
		require.NoError(t, a.vnic.Close())
		require.ErrorContains(t, vm.vnic.SetConfig(cfg), `at port "b"`)
		b.setMode(vlan.Community(10, 20))
		require.NoError(t, vm.vnic.SetConfig(cfg))
	})
}
