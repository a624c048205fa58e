package vswitch_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

func TestMemoryThatIsGoneOnItsWayThroughTheOverlay(t *testing.T) {
	file, body := memory(t)
	inBubble(t, func(t *testing.T) {
		c, n := wiredNode(t, 0)
		c.subnet(red, 5001, "10.0.0.0/24")
		a, b := c.vm(0, "a", 5001, "10.0.0.11"), c.vm(0, "b", 5001, "10.0.0.12")
		seen := new(witness)
		n.reconfigure(func(c *vswitch.SwitchConfig) {
			c.Extensions = []extension.Binding{{Name: "witness", Extension: seen}}
		})
		mac := stranger(5)
		near, far := n.pipe(ports.PipeConfig{Name: "sharer"})
		v, err := n.host.NewVNIC("sharer", &sharing{near, body[:100]}, &vswitch.VNICConfig{Switch: "lab", VSID: 5001, MAC: mac})
		require.NoError(t, err)
		sharer := &member{&station{lab: n.lab, end: far, vnic: v, mac: mac}, 5001, addr("10.0.0.13")}
		c.record(5001, mac, sharer.ca, 0)
		c.record(5001, stranger(6), addr("10.0.0.14"), 1)
		c.introduce(0)
		away := &member{&station{mac: stranger(6)}, 5001, addr("10.0.0.14")}

		sharer.says(a, "hello")
		require.Len(t, a.received(), 1)
		sharer.says(away, "hello")
		require.Len(t, n.wire.received(), 1)
		require.NoError(t, unix.Ftruncate(file, 0))
		sharer.says(a, "gone")
		n.settle()
		sharer.says(away, "gone too")
		n.settle()
		sharer.sendRaw(packet(ports.Broadcast, mac, sharer.ca, addr("255.255.255.255"), "gone to all"))
		n.settle()
		for range 3 {
			sharer.sendRaw(packet(away.mac, mac, sharer.ca, away.ca, "gone"), packet(a.mac, mac, sharer.ca, a.ca, "gone"))
		}
		require.Empty(t, a.received())
		require.Empty(t, b.received())
		require.Empty(t, n.wire.received())
		n.requireLogged("memory of frames is gone", "sharer")
		require.Equal(t, seen.frames.Load(), seen.fates.Load(), "the fate of each is told")

		a.says(b, "one")
		b.says(a, "another")
		require.Equal(t, []string{"one"}, b.hears())
		require.Equal(t, []string{"another"}, a.hears())
		n.wire.sendRaw(n.tunnel(t, paOf(2), 5001, packet(a.mac, stranger(6), away.ca, a.ca, "from there")))
		require.Equal(t, []string{"from there"}, a.hears())
	})
}
