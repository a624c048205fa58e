package vswitch_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// isKnown reports whether a frame to mac goes to one port only, as seen from a guest that is not it.
func isKnown(from *station, mac ports.MAC) bool {
	sw := from.lab.sw()
	before := sw.Stats().Flooded
	from.send(mac, "are you there?")
	from.lab.settle()
	return sw.Stats().Flooded == before
}

// drain throws away what has arrived.
func drain(who ...*station) {
	for _, s := range who {
		s.received()
	}
}

// nested makes the first guest one that hosts others, whose addresses are learned.
func nested(vm []*station) *station {
	vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.AllowSpoofing = true })
	return vm[0]
}

func TestAnAddressIsForgottenAfterFiveMinutesOfSilence(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		wire.send(vm[0].mac, "hello")
		time.Sleep(200 * time.Second)
		wire.send(vm[0].mac, "still here")
		l.settle()
		time.Sleep(299 * time.Second)
		require.True(t, isKnown(vm[0], wire.mac))
		time.Sleep(2 * time.Second)
		require.False(t, isKnown(vm[0], wire.mac), "being sent to keeps no address alive")
		time.Sleep(20 * time.Second)
		require.EqualValues(t, 1, l.sw().Stats().Aged)
		require.Equal(t, 2, l.sw().Stats().Addresses)

		time.Sleep(3 * time.Hour)
		require.True(t, isKnown(vm[0], vm[1].mac), "a configured address does not age")
		wire.send(vm[0].mac, "back")
		l.settle()
		require.True(t, isKnown(vm[0], wire.mac))
	})
}

func TestAgeingChangesLive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 1)
		wire.send(vm[0].mac, "hello")
		l.settle()
		time.Sleep(10 * time.Second)
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.Ageing = 20 * time.Second })
		require.True(t, isKnown(vm[0], wire.mac))
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.Ageing = 5 * time.Second })
		require.False(t, isKnown(vm[0], wire.mac))
	})
}

func TestAddressesAreLearnedInEachVLAN(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 1)
		a := stranger(1)
		for _, vid := range []uint16{10, 20} {
			wire.sendRaw(tagged(frame(ports.Broadcast, a, "hello"), tpidQ, vid))
		}
		wire.sendAs(a, vm[0].mac, "untagged")
		l.settle()
		require.Equal(t, []vswitch.Address{
			{MAC: vm[0].mac, Port: "vm0", Static: true},
			{MAC: a, Port: "eth0"},
			{MAC: a, VLAN: 10, Port: "eth0"},
			{MAC: a, VLAN: 20, Port: "eth0"},
		}, l.sw().Addresses())

		l.sw().FlushVLAN(10)
		require.Len(t, l.sw().Addresses(), 3)
		require.True(t, isKnown(vm[0], a))
		l.sw().FlushVLAN(0)
		require.False(t, isKnown(vm[0], a))
		require.Equal(t, []vswitch.Address{
			{MAC: vm[0].mac, Port: "vm0", Static: true},
			{MAC: a, VLAN: 20, Port: "eth0"},
		}, l.sw().Addresses())
	})
}

func TestFlushOfAPortSparesTheOthersAndWhatIsConfigured(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		nested(vm).sendAs(stranger(1), vm[1].mac, "nested")
		wire.send(vm[1].mac, "hello")
		require.NoError(t, l.sw().AddAddress(stranger(2), 0, "vm0"))
		l.settle()
		require.NoError(t, l.sw().FlushPort("vm0"))
		require.False(t, isKnown(vm[1], stranger(1)))
		require.True(t, isKnown(vm[1], stranger(2)))
		require.True(t, isKnown(vm[1], vm[0].mac))
		require.True(t, isKnown(vm[1], wire.mac))

		err := l.sw().FlushPort("vm7")
		require.ErrorIs(t, err, vswitch.ErrNotFound)
		require.EqualError(t, err, `switch "lab": port "vm7": not found`)
	})
}

func TestStaticAddressesNeitherAgeNorMove(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 3)
		a := stranger(1)
		require.NoError(t, l.sw().AddAddress(a, 0, "vm2"))
		time.Sleep(time.Hour)
		vm[1].send(a, "to the static one")
		l.everyoneGot([]string{"to the static one"}, vm[2])
		l.nobodyGot(vm[0], wire)

		nested(vm).sendAs(a, vm[1].mac, "I have moved")
		wire.sendAs(a, vm[1].mac, "I have moved")
		l.nobodyGot(vm[1])
		require.Equal(t, drops{vswitch.DropSourceElsewhere: 1}, vm[0].drops())
		require.Equal(t, drops{vswitch.DropSourceElsewhere: 1}, wire.drops())
		require.True(t, isKnown(vm[1], a))

		require.NoError(t, l.sw().RemoveAddress(a, 0))
		require.False(t, isKnown(vm[1], a))
		require.ErrorIs(t, l.sw().RemoveAddress(a, 0), vswitch.ErrNotFound)

		require.NoError(t, l.sw().AddAddress(a, 0, "vm2"))
		vm[2].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "" })
		require.False(t, isKnown(vm[1], a), "it goes with its port")
	})
}

func TestAStaticAddressTakesThePlaceOfALearnedOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		wire.send(vm[0].mac, "hello")
		l.settle()
		require.NoError(t, l.sw().AddAddress(wire.mac, 0, "vm1"))
		vm[0].send(wire.mac, "redirected")
		l.everyoneGot([]string{"redirected"}, vm[1])
		l.nobodyGot(wire)

		require.NoError(t, l.sw().AddAddress(stranger(1), 7, "eth0"))
		require.Contains(t, l.sw().Addresses(), vswitch.Address{MAC: stranger(1), VLAN: 7, Port: "eth0", Static: true})
	})
}

func TestImpossibleStaticAddressesAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _, vm := externalLab(t, 2)
		for _, c := range []struct {
			mac  ports.MAC
			vlan uint16
			port string
			is   error
			says string
		}{
			{stranger(1), 0, "vm9", vswitch.ErrNotFound, `switch "lab": static address 0a:00:00:00:00:01: port "vm9": not found`},
			{ports.Broadcast, 0, "vm0", vswitch.ErrInvalid, "is not the address of one station"},
			{ports.MAC{}, 0, "vm0", vswitch.ErrInvalid, "is not the address of one station"},
			{stranger(1), 4095, "eth0", vswitch.ErrInvalid, "VLAN 4095 is out of 0–4094"},
			{stranger(1), 5, "vm0", vswitch.ErrInvalid, `port "vm0" is not in VLAN 5`},
			{vm[1].mac, 0, "vm0", vswitch.ErrInUse, `is that of vNIC "vm1"`},
			{vm[1].mac, 0, "eth0", vswitch.ErrInUse, `is that of vNIC "vm1"`},
		} {
			err := l.sw().AddAddress(c.mac, c.vlan, c.port)
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.says)
		}
		require.ErrorIs(t, l.sw().RemoveAddress(vm[1].mac, 0), vswitch.ErrInUse)
		require.ErrorIs(t, l.sw().RemoveAddress(stranger(1), 4095), vswitch.ErrNotFound)
		require.Equal(t, 2, l.sw().Stats().Addresses)
	})
}

func TestAStationThatMovesIsFollowed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		a := stranger(1)
		wire.sendAs(a, vm[1].mac, "from outside")
		l.settle()
		nested(vm).sendAs(a, vm[1].mac, "from inside")
		l.settle()
		drain(vm[1])
		vm[1].send(a, "follow")
		l.everyoneGot([]string{"follow"}, vm[0])
		l.nobodyGot(wire)
		require.EqualValues(t, 1, l.sw().Stats().Moved)
		require.Contains(t, l.sw().Addresses(), vswitch.Address{MAC: a, Port: "vm0", Moves: 1})
	})
}

func TestAStationThatMovesTooOftenIsNotFollowed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		a, calm := stranger(1), stranger(2)
		guest := nested(vm)
		for range 50 {
			wire.sendAs(a, vm[1].mac, "here")
			l.settle()
			guest.sendAs(a, vm[1].mac, "no, here")
			l.settle()
		}
		s := l.sw().Stats()
		require.EqualValues(t, 5, s.Moved)
		require.EqualValues(t, 47, s.Damped, "from then on one of the two is always elsewhere")
		require.Len(t, vm[1].got(), 100, "damping loses no frame")

		wire.sendAs(calm, vm[1].mac, "here")
		l.settle()
		guest.sendAs(calm, vm[1].mac, "now here")
		l.settle()
		drain(guest, wire)
		vm[1].send(calm, "another station is still followed")
		l.everyoneGot([]string{"another station is still followed"}, guest)

		time.Sleep(5 * time.Second)
		for _, s := range []*station{wire, guest, wire} {
			s.sendAs(a, vm[1].mac, "here")
			l.settle()
			vm[1].send(a, "found")
			l.everyoneGot([]string{"found"}, s)
		}
	})
}

// learned counts the addresses learned at each port.
func learned(sw *vswitch.Switch) map[string]int {
	n := map[string]int{}
	for _, a := range sw.Addresses() {
		if !a.Static {
			n[a.Port]++
		}
	}
	return n
}

// speakAs sends a frame from each of n addresses, from stranger(first) on.
func speakAs(s *station, first, n int, to *station) {
	for i := range n {
		s.sendAs(stranger(first+i), to.mac, fmt.Sprint(i))
		if i%64 == 63 {
			s.lab.settle()
			drain(to)
		}
	}
	s.lab.settle()
	drain(to)
}

func TestAPortHoldsNoMoreAddressesThanItsLimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _, vm := externalLab(t, 2)
		guest := nested(vm)
		guest.reconfigure(func(c *vswitch.VNICConfig) { c.MaxAddresses = 10 })
		speakAs(guest, 0, 100, vm[1])
		require.Equal(t, map[string]int{"vm0": 10}, learned(l.sw()))
		require.EqualValues(t, 90, l.sw().Stats().Evicted)
		require.True(t, isKnown(vm[1], stranger(99)), "the newest has a place")

		guest.reconfigure(func(c *vswitch.VNICConfig) { c.MaxAddresses = 3 })
		require.Equal(t, map[string]int{"vm0": 3}, learned(l.sw()))
		guest.reconfigure(func(c *vswitch.VNICConfig) { c.MaxAddresses = 0 })
		speakAs(guest, 0, 2000, vm[1])
		require.Equal(t, map[string]int{"vm0": 1024}, learned(l.sw()))
	})
}

func TestOneGuestCannotPushOutTheAddressesOfOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 3)
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.MaxAddresses = 100 })
		hostile := nested(vm)
		hostile.reconfigure(func(c *vswitch.VNICConfig) { c.MaxAddresses = 1 << 20 })
		vm[2].reconfigure(func(c *vswitch.VNICConfig) { c.AllowSpoofing = true })

		speakAs(wire, 0, 30, vm[1])
		speakAs(vm[2], 100, 20, vm[1])
		speakAs(hostile, 1000, 5000, vm[1])
		require.Equal(t, map[string]int{"eth0": 30, "vm2": 20, "vm0": 50}, learned(l.sw()))
		for i := range 30 {
			require.True(t, isKnown(vm[1], stranger(i)))
		}

		speakAs(wire, 0, 60, vm[1])
		n := learned(l.sw())
		require.Equal(t, 20, n["vm2"])
		require.InDelta(t, n["vm0"], n["eth0"], 2, "who came late gets the same share")

		l.reconfigure(func(c *vswitch.SwitchConfig) { c.MaxAddresses = 48 })
		n = learned(l.sw())
		require.InDelta(t, 16, n["eth0"], 1)
		require.InDelta(t, 16, n["vm0"], 1)
		require.InDelta(t, 16, n["vm2"], 1)
	})
}

func TestTheTableGrowsAndStaysWhole(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 1)
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.MaxAddresses = 1 << 16 })
		const stations = 20_000
		speakAs(wire, 0, stations, vm[0])
		require.Equal(t, stations, learned(l.sw())["eth0"])
		seen := map[ports.MAC]bool{}
		for _, a := range l.sw().Addresses() {
			require.False(t, seen[a.MAC], "%s is there twice", a.MAC)
			seen[a.MAC] = true
		}
		require.EqualValues(t, stations, l.sw().Stats().Learned)

		time.Sleep(400 * time.Second)
		require.Equal(t, 1, l.sw().Stats().Addresses)
		require.EqualValues(t, stations, l.sw().Stats().Aged)
	})
}

func TestAddressesOfAPortAreForgottenWhenItsLinkGoesDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		wire.sendAs(stranger(1), vm[0].mac, "here I am")
		require.Equal(t, []string{"here I am"}, vm[0].got())
		require.Equal(t, 3, l.sw().Stats().Addresses)
		wire.end.SetLink(false)
		l.settle()
		require.Equal(t, 2, l.sw().Stats().Addresses, "those of the vNICs are configured")
		vm[1].end.SetLink(false)
		l.settle()
		require.Equal(t, 2, l.sw().Stats().Addresses)
		wire.end.SetLink(true)
		vm[0].send(stranger(1), "where are you?")
		require.Equal(t, []string{"where are you?"}, wire.got())
	})
}
