package vswitch_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
	"github.com/hvswitch/hvswitch/vswitch"
)

// teamed are two vNICs of one guest and a third one of another.
func teamed(t *testing.T) (l *lab, a, b, other *station) {
	l = newLab(t)
	l.newSwitch("lab", vswitch.SwitchConfig{})
	cfg := vswitch.VNICConfig{Switch: "lab", GuestTeam: "bond0"}
	return l, l.guest("a", cfg), l.guest("b", cfg), l.guest("other", vswitch.VNICConfig{Switch: "lab"})
}

func TestAGuestSendsFromTheAddressesOfItsTeam(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, a, b, other := teamed(t)
		a.sendAs(b.mac, other.mac, "b by a")
		require.Equal(t, []string{"b by a"}, other.got())
		b.sendAs(a.mac, other.mac, "a by b")
		require.Equal(t, []string{"a by b"}, other.got())
		other.send(a.mac, "to a")
		other.send(b.mac, "to b")
		require.Equal(t, []string{"to b"}, a.got(), "where the address was used last")
		require.Equal(t, []string{"to a"}, b.got())
		a.send(other.mac, "a again")
		require.Equal(t, []string{"a again"}, other.got())
		other.send(a.mac, "back to a")
		require.Equal(t, []string{"back to a"}, a.got())

		a.sendAs(other.mac, b.mac, "not of the team")
		a.sendAs(stranger(1), b.mac, "nobody's")
		a.sendAs(ports.Broadcast, b.mac, "no address")
		l.nobodyGot(b, other)
		require.Equal(t, drops{vswitch.DropSpoofedSource: 2, vswitch.DropInvalidSource: 1}, a.drops())
		other.sendAs(a.mac, b.mac, "of another guest")
		l.nobodyGot(b)
		require.Equal(t, drops{vswitch.DropSpoofedSource: 1}, other.drops())
	})
}

func TestATeamOfAGuestChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, a, b, other := teamed(t)
		passes := func(from *station, src ports.MAC, want bool) {
			t.Helper()
			from.sendAs(src, other.mac, "x")
			require.Equal(t, want, len(other.got()) == 1)
		}
		passes(a, b.mac, true)
		was := b.mac
		b.reconfigure(func(c *vswitch.VNICConfig) { c.MAC = stranger(7) })
		passes(a, was, false)
		passes(a, stranger(7), true)
		b.mac = stranger(7)

		c := b.vnic.Config()
		c.GuestTeam, c.StormLimit, c.MaxAddresses = "bond1", 1, -1
		require.Error(t, b.vnic.SetConfig(c))
		passes(a, b.mac, true)
		passes(b, a.mac, true)
		b.reconfigure(func(c *vswitch.VNICConfig) { c.GuestTeam = "bond1" })
		passes(a, b.mac, false)
		passes(b, a.mac, false)
		b.reconfigure(func(c *vswitch.VNICConfig) { c.GuestTeam = "" })
		other.send(b.mac, "configured again")
		require.Equal(t, []string{"configured again"}, b.got())
		l.nobodyGot(a)
		b.reconfigure(func(c *vswitch.VNICConfig) { c.GuestTeam = "bond0" })
		passes(a, b.mac, true)
		require.NoError(t, b.vnic.Close())
		passes(a, b.mac, false)

		for want, change := range map[string]func(c *vswitch.VNICConfig){
			"a name has at most 255 bytes":     func(c *vswitch.VNICConfig) { c.GuestTeam = strings.Repeat("x", 256) },
			"VSID 5001 has the address of its": func(c *vswitch.VNICConfig) { c.Switch, c.VSID = "", 5001 },
		} {
			c := a.vnic.Config()
			change(&c)
			err := a.vnic.SetConfig(c)
			require.ErrorIs(t, err, vswitch.ErrInvalid)
			require.ErrorContains(t, err, want)
		}
	})
}

// The guest here is package team over the other ends of the cables of its vNICs.
func TestATeamOfAGuestFailsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, a, b, other := teamed(t)
		bond, err := team.New([]team.Member{{Name: "a", Backend: a.end, MAC: a.mac}, {Name: "b", Backend: b.end, MAC: b.mac}},
			&team.Config{Distribution: team.HyperVPort, MAC: a.mac, UpDelay: -1})
		require.NoError(t, err)
		t.Cleanup(func() { bond.Close() })
		time.Sleep(time.Second)
		talk := func(text string) {
			t.Helper()
			n, err := bond.Tx(0).Send([]*ports.Frame{newFrame(frame(other.mac, a.mac, text))})
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Contains(t, other.got(), text)
			other.send(a.mac, "re: "+text)
			other.lab.settle()
			var heard []string
			for i := range bond.Info().RxQueues {
				batch := ports.NewBatch(8)
				require.NoError(t, bond.Rx(i).Recv(batch))
				for _, f := range batch.Frames() {
					heard = append(heard, string(f.Head()[14:]))
				}
				batch.Reset()
				bond.Rx(i).Release()
			}
			require.Equal(t, []string{"re: " + text}, heard)
		}
		talk("by both")
		for _, down := range []*station{a, b} {
			down.end.SetLink(false)
			time.Sleep(time.Second)
			talk("without " + down.end.Info().Name)
			down.end.SetLink(true)
			time.Sleep(time.Second)
			talk("with all again")
		}
	})
}
