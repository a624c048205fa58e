package vswitch_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

func TestKnownUnicastGoesToOnePortAndNeverToTheUplink(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 3)
		for range 10 {
			vm[0].send(vm[1].mac, "one", "two")
			l.everyoneGot([]string{"one", "two"}, vm[1])
		}
		l.nobodyGot(vm[0], vm[2], wire)
		require.EqualValues(t, 20, vm[0].stats().RxFrames)
		require.EqualValues(t, 20, vm[1].stats().TxFrames)
		require.EqualValues(t, 20*17, vm[1].stats().TxBytes)
		require.Zero(t, vm[0].stats().TxFrames)
		require.Zero(t, vm[2].stats().TxFrames)
		require.Zero(t, wire.stats().TxFrames)
		require.Zero(t, l.sw().Stats().Flooded)
	})
}

func TestAGuestThatNeverSpokeIsKnownFromItsConfiguration(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 3)
		require.Equal(t, 3, l.sw().Stats().Addresses)
		vm[0].send(vm[2].mac, "hello")
		l.nobodyGot(vm[1])
		l.everyoneGot([]string{"hello"}, vm[2])
	})
}

func TestUnknownUnicastAndGroupsFloodButNotBackToTheSource(t *testing.T) {
	for _, dst := range []ports.MAC{ports.Broadcast, stranger(1), {0x33, 0x33, 0, 0, 0, 1}, {1, 0, 0x5e, 0, 0, 1}} {
		t.Run(dst.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, wire, vm := externalLab(t, 3)
				vm[1].send(dst, "to all")
				l.everyoneGot([]string{"to all"}, vm[0], vm[2], wire)
				wire.send(dst, "from outside")
				l.everyoneGot([]string{"from outside"}, vm...)
				l.nobodyGot(wire)
				require.EqualValues(t, 2, l.sw().Stats().Flooded)
			})
		})
	}
}

func TestAStationBehindTheUplinkIsLearned(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		wire.send(vm[0].mac, "ping")
		l.everyoneGot([]string{"ping"}, vm[0])
		vm[0].send(wire.mac, "pong")
		l.everyoneGot([]string{"pong"}, wire)
		l.nobodyGot(vm[1])
	})
}

func TestBlockUnknownUnicastKeepsOnlyThatAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 3)
		vm[2].reconfigure(func(c *vswitch.VNICConfig) { c.BlockUnknownUnicast = true })
		vm[0].send(stranger(1), "unknown")
		vm[0].send(ports.Broadcast, "broadcast")
		vm[0].send(vm[2].mac, "known")
		l.everyoneGot([]string{"unknown", "broadcast"}, vm[1])
		l.everyoneGot([]string{"broadcast", "known"}, vm[2])

		vm[1].reconfigure(func(c *vswitch.VNICConfig) { c.BlockUnknownUnicast = true })
		vm[0].send(stranger(1), "unknown")
		l.nobodyGot(vm...)
		require.Equal(t, drops{vswitch.DropNoDestination: 1}, vm[0].drops())

		vm[2].reconfigure(func(c *vswitch.VNICConfig) { c.BlockUnknownUnicast = false })
		vm[0].send(stranger(1), "unknown again")
		l.everyoneGot([]string{"unknown again"}, vm[2])
	})
}

func TestHairpinLetsFramesGoBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 2)
		vm[0].send(vm[0].mac, "to myself")
		l.nobodyGot(vm...)
		require.Equal(t, drops{vswitch.DropSamePort: 1}, vm[0].drops())

		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Hairpin = true })
		vm[0].send(ports.Broadcast, "to all")
		vm[0].send(stranger(1), "to anybody")
		l.everyoneGot([]string{"to all", "to anybody"}, vm...)
		vm[0].send(vm[0].mac, "to myself")
		vm[0].send(ports.Broadcast, "and to all")
		l.everyoneGot([]string{"to myself", "and to all"}, vm[0])
		l.everyoneGot([]string{"and to all"}, vm[1])
		vm[1].send(ports.Broadcast, "others as ever")
		l.nobodyGot(vm[1])
	})
}

func TestReservedAddressesAreNeverForwarded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		for last := range 16 {
			reserved := ports.MAC{1, 0x80, 0xc2, 0, 0, byte(last)}
			vm[0].send(reserved, "slow protocol")
			wire.send(reserved, "slow protocol")
		}
		l.nobodyGot(append(vm, wire)...)
		require.Equal(t, drops{vswitch.DropReserved: 16}, vm[0].drops())
		require.Equal(t, drops{vswitch.DropReserved: 16}, wire.drops())

		vm[0].send(ports.MAC{1, 0x80, 0xc2, 0, 0, 0x10}, "an ordinary group")
		l.everyoneGot([]string{"an ordinary group"}, vm[1], wire)
	})
}

func TestInvalidSourcesAreDropped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 3)
		vm[1].reconfigure(func(c *vswitch.VNICConfig) { c.AllowSpoofing = true })
		for _, s := range []*station{vm[0], vm[1], wire} {
			s.sendAs(ports.MAC{}, vm[2].mac, "from nobody")
			s.sendAs(ports.Broadcast, vm[2].mac, "from everybody")
			s.sendAs(ports.MAC{1, 2, 3, 4, 5, 6}, vm[2].mac, "from a group")
			l.nobodyGot(vm[2])
			require.Equal(t, drops{vswitch.DropInvalidSource: 3}, s.drops())
		}
		require.Equal(t, 3, l.sw().Stats().Addresses, "nothing was learned")
	})
}

func TestSpoofingIsAllowedByTheVNICAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 3)
		vm[0].sendAs(stranger(1), vm[1].mac, "spoofed")
		vm[0].sendAs(vm[2].mac, vm[1].mac, "spoofed")
		l.nobodyGot(vm[1])
		require.Equal(t, drops{vswitch.DropSpoofedSource: 2}, vm[0].drops())

		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.AllowSpoofing = true })
		vm[0].sendAs(stranger(1), vm[1].mac, "nested")
		l.everyoneGot([]string{"nested"}, vm[1])
		vm[1].send(stranger(1), "answer")
		l.everyoneGot([]string{"answer"}, vm[0])
		l.nobodyGot(vm[2])

		vm[0].sendAs(vm[2].mac, vm[1].mac, "the address of another vNIC")
		l.nobodyGot(vm[1])
		require.Equal(t, drops{vswitch.DropSpoofedSource: 2, vswitch.DropSourceElsewhere: 1}, vm[0].drops())

		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.AllowSpoofing = false })
		vm[0].sendAs(stranger(1), vm[1].mac, "nested")
		l.nobodyGot(vm[1])
	})
}

func TestTheUplinkCannotSpeakAsAGuest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		wire.sendAs(vm[0].mac, vm[1].mac, "I am vm0")
		l.nobodyGot(vm...)
		require.Equal(t, drops{vswitch.DropSourceElsewhere: 1}, wire.drops())
	})
}

func TestAFrameWithNobodyToGoToIsCounted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, vm := privateLab(t, 1)
		vm[0].send(ports.Broadcast, "anybody there?")
		require.Equal(t, drops{vswitch.DropNoDestination: 1}, vm[0].drops())
	})
}

func TestOrderIsKeptAcrossUnicastAndFloods(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 3)
		var want, wantOther []string
		var batch [][]byte
		for i := range 60 {
			text := fmt.Sprint("frame ", i)
			dst := []ports.MAC{vm[1].mac, ports.Broadcast, stranger(1), vm[2].mac, {1, 0, 0x5e, 1, 1, 1}}[i%5]
			if dst != vm[2].mac {
				want = append(want, text)
			}
			if dst != vm[1].mac {
				wantOther = append(wantOther, text)
			}
			batch = append(batch, frame(dst, vm[0].mac, text))
		}
		vm[0].sendRaw(batch...)
		l.everyoneGot(want, vm[1])
		l.everyoneGot(wantOther, vm[2])
	})
}

func TestFramesOfVLANsStayOutOfUntaggedGuests(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		wire.sendRaw(
			tagged(frame(vm[0].mac, wire.mac, "unicast in VLAN 5"), tpidQ, 5),
			tagged(frame(ports.Broadcast, wire.mac, "broadcast in VLAN 5"), tpidQ, 5),
			tagged(frame(ports.Broadcast, wire.mac, "in VLAN 4095"), tpidQ, 4095),
		)
		l.nobodyGot(vm...)
		require.Equal(t, drops{vswitch.DropNoDestination: 2, vswitch.DropInvalidVLAN: 1}, wire.drops())

		wire.sendRaw(tagged(frame(vm[0].mac, wire.mac, "priority only"), tpidQ, 7<<13))
		l.everyoneGot([]string{"priority only"}, vm[0])
		require.EqualValues(t, 14+len("priority only"), vm[0].stats().TxBytes, "without the tag")
	})
}

func TestGuestsCannotHopToAVLAN(t *testing.T) {
	short := func(b []byte) []byte { return b[:16] } // the wire pads it, and then its tag is whole
	for name, hop := range map[string]func(b []byte) []byte{
		"a tag":                         func(b []byte) []byte { return tagged(b, tpidQ, 5) },
		"a service tag":                 func(b []byte) []byte { return tagged(b, tpidAD, 5) },
		"two tags":                      func(b []byte) []byte { return tagged(b, tpidQ, 5, tpidQ, 6) },
		"a tag behind a priority tag":   func(b []byte) []byte { return tagged(b, tpidQ, 7<<13, tpidQ, 5) },
		"a tag behind two of priority":  func(b []byte) []byte { return tagged(b, tpidQ, 0, tpidQ, 0, tpidQ, 5) },
		"a service tag behind priority": func(b []byte) []byte { return tagged(b, tpidAD, 0, tpidAD, 5) },
		"a tag in a frame cut off":      func(b []byte) []byte { return short(tagged(b, tpidQ, 5)) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				_, wire, vm := externalLab(t, 2)
				vm[0].sendRaw(hop(frame(ports.Broadcast, vm[0].mac, "hop")))
				for _, s := range []*station{vm[1], wire} {
					for _, f := range s.received() {
						b := make([]byte, 64)
						f.CopyTo(b)
						require.Equal(t, uint16(etherTypeText), binary.BigEndian.Uint16(b[12:]), "%x left by %s", b, s.end.Info().Name)
					}
				}
				require.EqualValues(t, 1, vm[0].stats().Dropped())
			})
		})
	}
}

func TestATagBesideTheBytesHidesNoneAmongThem(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		f := newFrame(tagged(frame(ports.Broadcast, vm[0].mac, "hop"), tpidQ, 5))
		f.VLAN = ports.Tag{TPID: tpidQ, TCI: 7 << 13}
		vm[0].sendFrames(f)
		l.nobodyGot(wire, vm[1])
		require.EqualValues(t, 1, vm[0].stats().Dropped())
	})
}

func TestAVNICAndItsSettingsChangeInOneStep(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 2)
		old, next := vm[1].mac, stranger(7)
		vm[1].reconfigure(func(c *vswitch.VNICConfig) { c.MAC = next })
		require.Equal(t, next, vm[1].vnic.MAC())

		vm[1].send(vm[0].mac, "as before")
		l.nobodyGot(vm[0])
		vm[1].sendAs(next, vm[0].mac, "as now")
		l.everyoneGot([]string{"as now"}, vm[0])
		vm[0].send(next, "known")
		vm[0].send(old, "unknown")
		l.everyoneGot([]string{"known", "unknown"}, vm[1])
		require.EqualValues(t, 1, l.sw().Stats().Flooded)
	})
}

func TestFramesUpToTheMTUPass(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		l.newSwitch("lab", vswitch.SwitchConfig{})
		big := l.guestOn(ports.PipeConfig{MTU: 9000}, "big", vswitch.VNICConfig{Switch: "lab"})
		mid := l.guestOn(ports.PipeConfig{MTU: 9000}, "mid", vswitch.VNICConfig{Switch: "lab"})
		small := l.guestOn(ports.PipeConfig{MTU: 1500}, "small", vswitch.VNICConfig{Switch: "lab"})
		text := func(n int) string { return string(make([]byte, n)) }

		big.send(mid.mac, text(9000))
		l.everyoneGot([]string{text(9000)}, mid)
		big.send(small.mac, "first", text(1501), text(1500), text(9000), "last")
		l.everyoneGot([]string{"first", text(1500), "last"}, small)
		require.Equal(t, drops{vswitch.DropTooBig: 2}, small.drops())

		trusting := newStub() // takes what it is given
		careless := l.guestOnStub("careless", trusting)
		big.send(careless.mac, text(1501), text(1500))
		require.Equal(t, drops{vswitch.DropTooBig: 1}, careless.drops())
		require.EqualValues(t, 1, trusting.sent.Load())

		big.send(ports.Broadcast, text(1501))
		l.everyoneGot([]string{text(1501)}, mid)
		l.nobodyGot(small)
	})
}
